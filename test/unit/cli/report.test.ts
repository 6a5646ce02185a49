import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { call, configText } from './support.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'wherry-cli-log-'));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('errors', () => {
  it('with --log, the file has the line and standard error the plain text', async () => {
    const argv = ['--log', 'log.json', '--log-format', 'json', 'state', 'nope'];
    const { code, err } = await call(argv, { cwd: folder });
    assert.deepEqual([code, err], [1, 'container does not exist\n']);
    const line = await readFile(join(folder, 'log.json'), 'utf8');
    assert.match(
      line,
      /^\{"level":"error","msg":"container does not exist","time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"\}\n$/,
    );
  });

  it('the text form is logfmt', async () => {
    await call(['--log', 'log', 'state', ''], { cwd: folder });
    const line = await readFile(join(folder, 'log'), 'utf8');
    assert.match(
      line,
      /^time="[^"]+" level=error msg="container id cannot be empty \(ID\); give it a name"\n$/,
    );
  });

  it('without --log, JSON goes to standard error', async () => {
    const { err } = await call(['--log-format', 'json', 'state', 'nope']);
    assert.equal(JSON.parse(err).msg, 'container does not exist');
  });

  it('unknown flags and arguments are logged, too', async () => {
    await call(['--log', 'usage', '--log-format=json', 'state'], { cwd: folder });
    assert.match(
      JSON.parse(await readFile(join(folder, 'usage'), 'utf8')).msg,
      /^"state" requires exactly 1 argument/,
    );
  });

  it('a failed command adds one line, whatever was warned of', async () => {
    const config = JSON.parse(configText({ terminal: true }));
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, unheardOf: 1 }));
    await call(['--log', 'one', '--log-format', 'json', 'create', 'x'], { cwd: folder });
    assert.match(
      JSON.parse(await readFile(join(folder, 'one'), 'utf8')).msg,
      /^wherry create failed: cannot allocate tty/,
    );
  });

  it('warnings of a command that succeeds are logged', async () => {
    await writeFile(
      join(folder, 'config.json'),
      JSON.stringify({ ...JSON.parse(configText()), unheardOf: 1 }),
    );
    const { code, err } = await call(['--log', 'warned', '--log-format', 'json', 'create', 'x'], {
      cwd: folder,
    });
    assert.deepEqual([code, err], [0, '']);
    const { level, msg } = JSON.parse(await readFile(join(folder, 'warned'), 'utf8'));
    assert.equal(level, 'warning');
    assert.match(msg, /unheardOf/);
    assert.match((await call(['create', 'x'], { cwd: folder })).err, /^wherry: warning: .*unheardOf/);
  });

  it('a log that cannot be written is told', async () => {
    const { code, err } = await call(['--log', '/nowhere/log', 'state', 'nope']);
    assert.equal(code, 1);
    assert.match(err, /^container does not exist\nwherry: cannot write to --log \/nowhere\/log: ENOENT/);
  });

  it('status 3 and a suggestion for an unknown command, 1 for an unknown flag', async () => {
    const unknown = await call(['strat', 'x']);
    assert.deepEqual(
      [unknown.code, unknown.err],
      [3, 'wherry: unknown command "strat"; did you mean "wherry start"?\n'],
    );
    const missing = await call(['checkpoint', 'x']);
    assert.deepEqual([missing.code, missing.err], [1, 'wherry: container does not exist\n']);
    const flag = await call(['--frob', 'list']);
    assert.deepEqual(
      [flag.code, flag.err],
      [1, 'wherry: flag provided but not defined: --frob; "wherry --help" lists the flags\n'],
    );
    assert.equal((await call(['--log-format', 'xml', 'list'])).code, 1);
  });

  it('an unexpected failure is one line, and the call ends', async () => {
    const explode = () => {
      throw new TypeError('a bug');
    };
    const { code, err } = await call(['daemon', 'status'], {
      deps: { daemon: { status: explode, stop: explode, upgrade: explode } },
    });
    assert.deepEqual([code, err], [1, 'wherry: a bug\n']);
  });
});
