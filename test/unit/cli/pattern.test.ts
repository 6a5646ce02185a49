import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { matching } from '../../../src/cli/pattern.ts';
import { WherryError } from '../../../src/errors.ts';

const ids = ['a', 'aab', 'ab1', 'b-2', 'web.1', 'web_2', 'WEB+3'];

describe('ids by an extended regular expression', () => {
  for (const [pattern, found] of [
    ['', ids],
    ['web', ['web.1', 'web_2']],
    ['^a+b', ['aab', 'ab1']],
    ['^a{2}', ['aab']],
    ['(^b|1$)', ['ab1', 'b-2', 'web.1']],
    ['web\\.1', ['web.1']],
    ['[[:digit:]]$', ['ab1', 'b-2', 'web.1', 'web_2', 'WEB+3']],
    ['[[:upper:]+]+3', ['WEB+3']],
    ['[^[:alnum:]]', ['b-2', 'web.1', 'web_2', 'WEB+3']],
    ['[]+_]', ['web_2', 'WEB+3']],
    ['[^]a-z]$', ['ab1', 'b-2', 'web.1', 'web_2', 'WEB+3']],
    ['[a-]2|-2', ['b-2']],
    ['[.\\]1', ['web.1']],
    ['\\<b', ['b-2']],
    ['^\\w{3}$', ['aab', 'ab1']],
    ['\\d', ['']],
  ] as const)
    it(JSON.stringify(pattern), () => assert.deepEqual(matching(pattern, ids), found[0] === '' ? [] : found));

  for (const pattern of ['(', '[a', 'a\\', '*a', '(?=a)', '[[:nothing:]]', '[[=a=]]', 'a'.repeat(2000)])
    it(`refuses ${pattern.slice(0, 20)}`, () =>
      assert.throws(
        () => matching(pattern, ids),
        (error) =>
          error instanceof WherryError &&
          error.kind === 'invalid-argument' &&
          error.details.path === '--regex',
      ));

  it('gives up on what takes too long', () => {
    assert.throws(() => matching('^(a+)+$', [`${'a'.repeat(100)}!`]), /it takes too long/);
  });
});
