import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { renderStory } from '../../scripts/docs.ts';

test('docs/how-a-container-starts.md shows the tape that is compiled today (npm run docs)', () => {
  const page = readFileSync(new URL('../../docs/how-a-container-starts.md', import.meta.url), 'utf8');
  assert.equal(page, renderStory());
});
