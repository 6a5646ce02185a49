import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { LogLevel } from '../../../src/daemon/config.ts';
import { formatLine } from '../../../src/daemon/log-format.ts';
import '../../support/property-seed.ts';

const time = new Date('2026-02-03T04:05:06.007Z');
const entry = (message: string, fields: Record<string, unknown> = {}, level: LogLevel = 'info') => ({
  time,
  level,
  message,
  fields,
});

test('logfmt as logrus writes it', () => {
  assert.equal(
    formatLine(
      entry('shim disconnected', { namespace: 'k8s.io', id: 'a-b', n: 3n, request: 'r "1"' }, 'warn'),
      'logfmt',
    ),
    'time="2026-02-03T04:05:06.007Z" level=warning msg="shim disconnected" namespace=k8s.io id=a-b n=3 request="r \\"1\\""',
  );
});

test('JSON lines with the same keys', () => {
  assert.deepEqual(
    JSON.parse(
      formatLine(entry('x', { namespace: 'n', error: new Error('bad'), gone: undefined }, 'error'), 'json'),
    ),
    {
      time: '2026-02-03T04:05:06.007Z',
      level: 'error',
      msg: 'x',
      namespace: 'n',
      error: 'bad',
    },
  );
});

test('environment and arguments are shown at debug only, at any depth', () => {
  const fields = {
    args: ['--password=SECRET'],
    process: { env: ['TOKEN=SECRET'], cwd: '/', argv: 'SECRET' },
    Env: 'SECRET',
  };
  for (const format of ['json', 'logfmt'] as const) {
    for (const level of ['error', 'warn', 'info'] as const) {
      const line = formatLine(entry('created', fields, level), format);
      assert.ok(!line.includes('SECRET'), line);
      assert.ok(line.includes('cwd'), line);
    }
    assert.equal(formatLine(entry('created', fields, 'debug'), format).match(/SECRET/g)?.length, 4);
  }
});

test('fields cannot pass for the head', () => {
  const line = formatLine(entry('m', { time: 't', level: 'l', msg: 'x' }), 'json');
  assert.equal((JSON.parse(line) as { msg: string }).msg, 'm');
  assert.ok(line.includes('"fields.level":"l"'));
});

test('a value that refers to itself or cannot be said does not throw', () => {
  const loop: Record<string, unknown> = {};
  loop['self'] = loop;
  const fields = {
    loop,
    symbol: Symbol('s'),
    call: () => 1,
    nothing: null,
    bad: { toJSON: () => undefined },
  };
  for (const format of ['json', 'logfmt'] as const)
    assert.match(formatLine(entry('m', fields), format), /\[object Object\]/);
});

test('an entry is always one line, and JSON always JSON', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.dictionary(fc.string({ unit: 'binary' }), fc.anything()),
      (message, fields) => {
        for (const format of ['json', 'logfmt'] as const) {
          const line = formatLine(entry(message, fields), format);
          assert.ok(!/[\n\r\0]/.test(line), line);
          if (format === 'json') JSON.parse(line);
        }
      },
    ),
  );
});
