import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { loadConfig } from '../../../src/daemon/config.ts';
import '../../support/property-seed.ts';

const usual = {
  logLevel: 'info',
  logFormat: 'json',
  idleSeconds: 60,
  protocol: 'ttrpc',
  cgroupParent: '/wherry',
};
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'wherry-test-config-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const put = (name: string, content: unknown) => {
  writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  return join(folder, name);
};
const load = (env: Record<string, string> = {}) => loadConfig(folder, env, join(folder, 'system.json'));

test('without any file there are defaults and no problem', () => {
  assert.deepEqual(load(), { config: usual, source: undefined, problem: undefined });
});

test('the first file that exists counts, the others do not', () => {
  put('system.json', { idleSeconds: 1, logLevel: 'debug' });
  assert.equal(load().config.idleSeconds, 1);
  const run = put('config.json', { idleSeconds: 2 });
  assert.deepEqual(load(), { config: { ...usual, idleSeconds: 2 }, source: run, problem: undefined });
  const named = put('named.json', { idleSeconds: 3 });
  assert.equal(load({ WHERRY_CONFIG: named }).config.idleSeconds, 3);
});

test('the environment wins over the file', () => {
  put('config.json', { idleSeconds: 2, logLevel: 'warn', logFormat: 'json' });
  const { config, problem } = load({
    WHERRY_IDLE_SECONDS: '0',
    WHERRY_LOG_LEVEL: 'debug',
    WHERRY_LOG_FORMAT: 'logfmt',
  });
  assert.deepEqual(config, { ...usual, idleSeconds: 0, logLevel: 'debug', logFormat: 'logfmt' });
  assert.equal(problem, undefined);
});

test('a mistake names file and field, keeps the default, and leaves the other settings alone', () => {
  const path = put('config.json', { idleSeconds: 'x', logLevel: 'debug', cgroupParent: '/a/../b', typo: 1 });
  const { config, problem } = load({ WHERRY_LOG_FORMAT: 'xml' });
  assert.deepEqual(config, { ...usual, logLevel: 'debug' });
  assert.equal(problem?.kind, 'invalid-argument');
  assert.deepEqual(problem?.message.split('; ').length, 5);
  assert.match(
    problem?.message ?? '',
    new RegExp(`^${path}: idleSeconds: expected a whole number .*, found "x"`),
  );
  assert.match(problem?.message ?? '', /cgroupParent: expected an absolute path/);
  assert.match(problem?.message ?? '', /typo: unknown setting; there are logLevel/);
  assert.match(problem?.message ?? '', /WHERRY_LOG_FORMAT: expected one of "json", "logfmt", found "xml"/);
});

for (const [content, expected] of [
  ['{"idleSeconds": 1,}', /not JSON: .*position/],
  ['[]', /expected an object of settings, found \[\]/],
  ['null', /expected an object of settings, found null/],
  ['', /not JSON/],
] as const) {
  test(`a file of ${JSON.stringify(content)} gives defaults and a problem`, () => {
    put('config.json', content);
    const { config, problem } = load();
    assert.deepEqual(config, usual);
    assert.match(problem?.message ?? '', expected);
  });
}

test('a named file that is missing and a file that cannot be read are told', () => {
  const missing = join(folder, 'missing.json');
  assert.match(
    load({ WHERRY_CONFIG: missing }).problem?.message ?? '',
    /missing\.json: cannot be read: ENOENT/,
  );
  mkdirSync(join(folder, 'config.json'));
  assert.match(load().problem?.message ?? '', /config\.json: cannot be read: EISDIR/);
});

test('names of Object.prototype are unknown settings', () => {
  put('config.json', '{"constructor": 1, "__proto__": {"idleSeconds": 5}}');
  assert.deepEqual(load().config, usual);
});

test('no file whatever makes it throw', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.json(),
        fc.string(),
        fc
          .dictionary(fc.constantFrom(...Object.keys(usual)), fc.jsonValue())
          .map((value) => JSON.stringify(value)),
      ),
      (content) => {
        put('config.json', content);
        const { config } = load();
        assert.deepEqual(Object.keys(config).sort(), Object.keys(usual).sort());
      },
    ),
    { numRuns: 60 },
  );
});
