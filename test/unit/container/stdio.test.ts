/** What paths and URIs of standard streams mean. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { planStdio, type StdioContext } from '../../../src/container/stdio.ts';
import type { StdioPaths } from '../../../src/container/types.ts';

const context: StdioContext = {
  id: 'box',
  namespace: 'space',
  terminal: false,
  copied: false,
  nextToken: () => 7n,
};
const plan = (stdio: Partial<StdioPaths>, more: Partial<StdioContext> = {}) =>
  planStdio({ stdin: '', stdout: '', stderr: '', terminal: false, ...stdio }, { ...context, ...more });

describe('planStdio', () => {
  it('takes nothing for /dev/null', async () => {
    const nothing = { type: 'null' };
    assert.deepEqual(await plan({}, { copied: true }), {
      kind: 'paths',
      stdin: nothing,
      stdout: nothing,
      stderr: nothing,
      copied: true,
    });
  });

  it('gives a logger each key of its query with its first value', async () => {
    const uri = 'binary:///usr/bin/my%20logger?a=1&b=&a=2&c=x+y';
    const made = await plan({ stdout: uri, stderr: uri });
    assert.ok(made.kind === 'paths');
    assert.deepEqual(made.logger, {
      token: 7n,
      path: '/usr/bin/my logger',
      args: ['a', '1', 'b', '', 'c', 'x y'],
      env: ['CONTAINER_ID=box', 'CONTAINER_NAMESPACE=space'],
      mustReport: false,
    });
    const other = await plan({ stdout: 'binary-v2:///l', terminal: true }, { terminal: true });
    assert.ok(other.kind === 'terminal' && other.logger?.mustReport === true);
  });

  it('lets file:// take both streams', async () => {
    const made = await plan({ stdout: 'file:///a/b' });
    const file = { type: 'file', path: '/a/b', create: true };
    assert.ok(made.kind === 'paths');
    assert.deepEqual([made.stdout, made.stderr], [file, file]);
  });

  for (const [what, stdio, path, message] of [
    ['an unknown scheme', { stdout: 'http://x/y' }, 'stdout', /unknown STDIO scheme http/],
    ['a URI with a host', { stdout: 'file://a/b' }, 'stdout', /file:\/\/\/path/],
    ['a path that is not there', { stderr: '/no/such' }, 'stderr', /\/no\/such: ENOENT/],
    ['a logger for stderr alone', { stderr: 'binary:///l' }, 'stderr', /name it as stdout/],
    ['two loggers', { stdout: 'binary:///l', stderr: 'binary:///m' }, 'stderr', /same URI/],
    [
      'a terminal that config.json does not want',
      { terminal: true },
      'terminal',
      /process.terminal does not/,
    ],
  ] as const) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(plan(stdio), (error: Error & { kind?: string; details?: { path?: string } }) => {
        assert.equal(error.kind, 'invalid-argument');
        assert.equal(error.details?.path, path);
        assert.match(`${error.message} ${JSON.stringify(error.details)}`, message);
        return true;
      });
    });
  }

  it('refuses what only config.json wants, and a terminal in a file', async () => {
    await assert.rejects(plan({}, { terminal: true }), /the request does not/);
    await assert.rejects(plan({ terminal: true, stdout: 'file:///x' }, { terminal: true }), /not to files/);
  });
});
