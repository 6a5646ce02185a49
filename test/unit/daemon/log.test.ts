import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { createLogger } from '../../../src/daemon/log.ts';
import { LogFifo } from '../../../src/daemon/log-fifo.ts';
import { formatLine, type LogEntry } from '../../../src/daemon/log-format.ts';
import { winstonSink } from '../../../src/daemon/log-winston.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'wherry-test-log-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function bundle(name: string): string {
  mkdirSync(join(folder, name));
  execFileSync('mkfifo', [join(folder, name, 'log')]);
  return join(folder, name);
}
const { O_RDONLY, O_NONBLOCK, O_WRONLY, O_CREAT, O_APPEND } = constants;
const reader = (path: string) => openSync(path, O_RDONLY | O_NONBLOCK);

/** Everything that waits in a FIFO now. */
function drain(descriptor: number): string {
  const buffer = Buffer.alloc(1 << 20);
  try {
    return buffer.toString('utf8', 0, readSync(descriptor, buffer));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return '';
    throw error;
  }
}

const entry: LogEntry = { time: new Date(0), level: 'warn', message: 'hello there', fields: { id: 'c1' } };

/** A logger whose lines go nowhere but to FIFOs. */
const quiet = () => createLogger({ logLevel: 'info', logFormat: 'json', load: async () => ({ write() {} }) });

test("a container's lines go to its own bundle's FIFO and to no other", () => {
  const log = quiet();
  const [one, two] = [bundle('one'), bundle('two')];
  const [first, second] = [reader(`${one}/log`), reader(`${two}/log`)];
  const stop = log.follow({ namespace: 'n', id: 'c1' }, one);
  log.follow({ namespace: 'n', id: 'c2' }, two);
  log.child({ namespace: 'n' }).info('started', { id: 'c1', request: 'r1' });
  log.info('something else');
  log.info('same id elsewhere', { namespace: 'm', id: 'c1' });
  log.debug('too fine', { namespace: 'n', id: 'c1' });
  assert.match(drain(first), /^time="[^"]+" level=info msg=started namespace=n id=c1 request=r1\n$/);
  assert.equal(drain(second), '');
  stop();
  log.info('after delete', { namespace: 'n', id: 'c1' });
  assert.equal(drain(first), '');
  closeSync(first);
  closeSync(second);
});

test('a FIFO that nobody reads, that is full, or whose reader left: lines are dropped, later ones arrive', () => {
  const path = `${bundle('b')}/log`;
  const fifo = new LogFifo(path);
  assert.equal(fifo.write('nobody reads'), false);
  let descriptor = reader(path);
  assert.equal(fifo.write('first'), true);
  assert.equal(drain(descriptor), 'first\n');
  let written = 0;
  while (fifo.write('x'.repeat(1000))) written++;
  assert.ok(written > 10 && written < 100);
  drain(descriptor);
  assert.equal(fifo.write('after full'), true);
  closeSync(descriptor);
  assert.equal(fifo.write('no reader any more'), false);
  descriptor = reader(path);
  assert.equal(fifo.write('a new reader'), true);
  assert.equal(drain(descriptor), 'a new reader\n');
  fifo.close();
  assert.equal(fifo.write('closed'), false);
  closeSync(descriptor);
});

test('a long line is cut, so that it is written whole or not at all', () => {
  const path = `${bundle('b')}/log`;
  const descriptor = reader(path);
  const fifo = new LogFifo(path);
  assert.equal(fifo.write('é'.repeat(10_000)), true);
  const text = drain(descriptor);
  assert.ok(text.endsWith('…\n'));
  assert.ok(Buffer.byteLength(text) <= 4100);
  fifo.close();
  closeSync(descriptor);
});

test('what is not a FIFO is left alone', () => {
  const path = join(folder, 'log');
  writeFileSync(path, 'mine');
  assert.equal(new LogFifo(path).write('x'), false);
  assert.equal(readFileSync(path, 'utf8'), 'mine');
  assert.equal(new LogFifo(join(folder, 'none')).write('x'), false);
});

for (const format of ['json', 'logfmt'] as const) {
  test(`winston writes our ${format} lines`, () => {
    const path = join(folder, 'out');
    const output = openSync(path, O_WRONLY | O_CREAT | O_APPEND, 0o600);
    const sink = winstonSink(format, output);
    sink.write(entry);
    sink.write({
      ...entry,
      message: 'format %s',
      level: 'debug',
      fields: { message: 'not joined', level: 'x' },
    });
    closeSync(output);
    const lines = readFileSync(path, 'utf8').split('\n');
    assert.equal(lines[0], formatLine(entry, format));
    assert.match(lines[1] ?? '', /"?msg"?[:=]"format %s"/);
    assert.equal(lines.length, 3);
  });
}

const logModule = new URL('../../../src/daemon/log.ts', import.meta.url).href;
function run(body: string) {
  const script = `import { createLogger } from ${JSON.stringify(logModule)};\n${body}`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
}

test('lines logged before winston is there are written when the process ends', () => {
  const { stderr, status } = run(`
    const log = createLogger({ logLevel: 'info', logFormat: 'logfmt' });
    log.error('the last words', { id: 'c1' });
    process.exit(3);`);
  assert.equal(status, 3);
  assert.match(stderr, /^time="[^"]+" level=error msg="the last words" id=c1\n$/);
});

test('all lines arrive once and in order, before and after winston is loaded', () => {
  const path = join(folder, 'out');
  const winston = new URL('../../../src/daemon/log-winston.ts', import.meta.url).href;
  run(`
    import { openSync } from 'node:fs';
    let waiting = true;
    const log = createLogger({
      logLevel: 'info',
      logFormat: 'json',
      output: openSync(${JSON.stringify(path)}, 'a'),
      load: async (format, output) => {
        const { winstonSink } = await import(${JSON.stringify(winston)});
        waiting = false;
        return winstonSink(format, output);
      },
    });
    for (let n = 0; n < 1500; n++) log.info('early', { n });
    const timer = setInterval(() => {
      if (waiting) return;
      clearInterval(timer);
      setImmediate(() => { for (let n = 1500; n < 1600; n++) log.info('late', { n }); });
    }, 5);`);
  const numbers = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { n: number }).n);
  assert.deepEqual(
    numbers,
    Array.from({ length: 1600 }, (_, n) => n),
  );
});

test('the log goes on without winston', () => {
  const { stderr } = run(`
    const log = createLogger({ logLevel: 'info', logFormat: 'logfmt', load: async () => { throw new Error('no such module'); } });
    log.info('one');
    setTimeout(() => log.info('two'), 600);`);
  assert.match(
    stderr,
    /msg="winston cannot be loaded[^\n]*error="no such module"\n[^\n]*msg=one\n[^\n]*msg=two\n$/,
  );
});

test('an output that cannot be written does not throw', () => {
  const { status, stderr } = run(`
    const log = createLogger({ logLevel: 'info', logFormat: 'json', output: 99 });
    log.info('lost');
    setTimeout(() => log.info('lost too'), 600);`);
  assert.deepEqual([status, stderr], [0, '']);
});
