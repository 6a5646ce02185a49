import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { components, relative } from '../../../src/container/compile/program.ts';
import '../../support/property-seed.ts';

/** As config.md has paths: absolute from the root, where '..' leads nowhere. */
function resolved(path: string): string[] {
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return names;
}

test('a path in a root has the names that are left when dots and slashes are resolved', () => {
  const part = fc.constantFrom('/', '/', '.', '..', 'a', 'dev', '.b', '...', 'c.d');
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const path = parts.join('');
      const names = resolved(path);
      assert.deepEqual(components(path), names, path);
      assert.equal(relative(path), names.length === 0 ? '.' : names.join('/'), path);
    }),
    { numRuns: 2000 },
  );
});
