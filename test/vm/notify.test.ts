/** Units of systemd with Type=notify and NotifyAccess=main: active when the container's program says so, and not before. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { giveTo } from '../integration/oci-suite/host.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, type RunResult, run } from '../support/run.ts';
import { Speaker } from '../support/service-manager.ts';
import { Wherry } from '../support/wherry.ts';
import { ManagedUser } from './managed-user.ts';

const timeout = 90_000;
const ready = `'STATUS=up' 'READY=1' 'STATUS=later'`;

/** Who has the unit: the machine's manager, or an ordinary user's own. */
interface Owner {
  folder: string;
  wherry: string;
  /** Of the unit. */
  env: NodeJS.ProcessEnv;
  as(words: readonly string[]): Promise<RunResult>;
  scope: readonly string[];
  give(bundle: string): void;
}

/** What a unit runs, of the words that make a container and the id. */
const lines = {
  run: (wherry: string, make: string[], id: string) => [wherry, 'run', ...make, id],
  'run --detach': (wherry: string, make: string[], id: string) => [wherry, 'run', '--detach', ...make, id],
  'create and start': (wherry: string, make: string[], id: string) => [
    ...['/bin/sh', '-c', '"$0" create "$@" && exec "$0" start "$3"'],
    ...[wherry, make[0]!, make[1]!, id, ...make.slice(2)],
  ],
};
type Line = keyof typeof lines;

async function shown(owner: Owner, unit: string): Promise<Record<string, string>> {
  const names = [
    'ActiveState',
    'SubState',
    'MainPID',
    'ExecMainStatus',
    'ControlGroup',
    'StatusText',
    'Result',
  ];
  const { stdout } = await owner.as(['systemctl', ...owner.scope, 'show', unit, '-p', names.join(',')]);
  return Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split('=', 2) as [string, string]),
  );
}

/** Of a process that runs. */
const programOf = (pid: string): string => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')[0]!;

async function watch(owner: Owner, line: Line): Promise<void> {
  const id = uniqueId('unit');
  const unit = `${id}.service`;
  const speaker = await Speaker.make(owner.folder, id, ready, (config) => {
    // The unit's end is the test's to see.
    delete config.linux.resources;
  });
  owner.give(speaker.bundle);
  const make = ['--bundle', speaker.bundle, '--pid-file', speaker.pidFile];
  const settings = Object.entries(owner.env).map(([name, value]) => `--setenv=${name}=${value}`);
  const words = [
    ...['systemd-run', ...owner.scope, '--unit', unit, '--service-type=notify', ...settings],
    ...['-p', 'NotifyAccess=main', '-p', 'RemainAfterExit=yes', '-p', 'TimeoutStartSec=80'],
    ...lines[line](owner.wherry, make, id),
  ];
  const env = ['env', ...Object.entries(owner.env).map(([name, value]) => `${name}=${value}`)];
  const state = async () => {
    const { stdout } = await owner.as([...env, owner.wherry, 'state', id]);
    return (JSON.parse(stdout) as { status: string }).status;
  };
  let ended = false;
  const starting = owner.as(words).finally(() => {
    ended = true;
  });
  try {
    await eventually('the container runs', async () => (await state()) === 'running' || undefined, timeout);
    assert.ok(!ended, 'the unit is not ready');
    assert.equal((await shown(owner, unit))['ActiveState'], 'activating');
    speaker.allow('ready');
    const { code, stderr } = await starting;
    assert.equal(code, 0, stderr);
    const init = String(speaker.pid);
    const active = await eventually('its main process', async () => {
      const now = await shown(owner, unit);
      return line === 'run' || now['MainPID'] === init ? now : undefined;
    });
    assert.equal(active['ActiveState'], 'active');
    assert.equal(active['SubState'], 'running');
    assert.equal(active['StatusText'], '', 'as under runc');
    if (line === 'run') assert.equal(programOf(active['MainPID']!), owner.wherry);
    speaker.allow('end');
    const last = await eventually('the end', async () => {
      const now = await shown(owner, unit);
      return now['SubState'] === 'running' ? undefined : now;
    });
    assert.equal(last['ExecMainStatus'], '7', JSON.stringify(last));
    assert.equal(last['ActiveState'], 'failed');
  } finally {
    await owner.as([...env, owner.wherry, 'delete', '--force', id]);
    await owner.as(['systemctl', ...owner.scope, 'stop', unit]);
    await owner.as(['systemctl', ...owner.scope, 'reset-failed', unit]);
    await starting.catch(() => {});
  }
}

describe('a unit with Type=notify and NotifyAccess=main', () => {
  let wherry: Wherry;
  let root: Owner;
  before(async () => {
    wherry = new Wherry();
    await wherry.must(['daemon', 'start'], { timeout });
    root = {
      folder: wherry.folder,
      wherry: wherry.command,
      env: { WHERRY_RUN_DIR: wherry.runDir },
      as: ([program, ...args]) => run(program!, args, { timeout }),
      scope: [],
      give: () => {},
    };
  });
  after(() => wherry?.[Symbol.asyncDispose]());

  for (const line of Object.keys(lines) as Line[]) {
    test(`${line}: systemctl returns when the program is ready, and the main process is the right one`, () =>
      watch(root, line));
  }

  // Each look at its state starts Node, in an emulated machine: one is enough.
  test('create and start, without wherryd', () =>
    watch({ ...root, env: { ...root.env, WHERRY_DAEMON: '0' } }, 'create and start'));

  test("run, in a unit of a user's own manager", async () => {
    await using user = await ManagedUser.open();
    await user.must(['daemon', 'start']);
    const owner: Owner = {
      folder: join(user.folder, 'home'),
      wherry: wherry.command,
      env: { XDG_RUNTIME_DIR: `/run/user/${user.uid}` },
      as: (words) => user.as(words),
      scope: ['--user'],
      give: (bundle) => giveTo(bundle, user.uid),
    };
    // Of another process than the unit's own a user's systemd takes no MAINPID=.
    await watch(owner, 'run');
  });
});
