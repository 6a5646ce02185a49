/** NOTIFY_SOCKET: what the caller's service manager hears, from Wherry, runc and crun. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { peers } from '../../support/debs.ts';
import { temporaryFolder, uniqueId } from '../../support/paths.ts';
import { eventually, must, run } from '../../support/run.ts';
import { ServiceManager, Speaker } from '../../support/service-manager.ts';
import { Wherry } from '../../support/wherry.ts';
import { withoutUnified } from './scenario.ts';

interface Tool {
  command: readonly string[];
  env: NodeJS.ProcessEnv;
}

/** How a container comes to run; the command that waits is the last. */
const ways = {
  attached: [['run']],
  detached: [['run', '--detach']],
  'create and start': [['create'], ['start']],
} as const;
type Way = keyof typeof ways;

const speech = `'STATUS=up\\nWATCHDOG=1' 'STATUS=now\\nREADY=1\\nFOO=1' 'READY=1' 'STATUS=later'`;

/** The first `count` messages, each as `<sender> <descriptors> <text>`; process ids by who it is. */
async function heard(tool: Tool, way: Way, folder: string, count: number): Promise<string[]> {
  const id = uniqueId('notify');
  await using manager = await ServiceManager.listen(join(folder, `${id}.s`));
  const speaker = await Speaker.make(folder, id, speech);
  const env = { ...tool.env, NOTIFY_SOCKET: manager.address };
  const [program, ...before] = tool.command as [string, ...string[]];
  const make = ['--pid-file', speaker.pidFile, '--bundle', speaker.bundle];
  try {
    const calls = ways[way].map((words) => [...words, ...(words[0] === 'start' ? [] : make), id]);
    for (const words of calls.slice(0, -1))
      await must(program, [...before, ...words], { env, outputFile: speaker.output });
    const call = speaker.call(program, [...before, ...calls.at(-1)!], env);
    await eventually('the container runs', async () => {
      const { stdout } = await run(program, [...before, 'state', id], { env: tool.env });
      return JSON.parse(stdout).status === 'running' || undefined;
    });
    assert.equal(call.status, undefined, speaker.said);
    assert.equal(manager.messages.length, 0, 'before the program is ready');
    speaker.allow('ready');
    if (way !== 'attached') assert.equal(await call.end(), 0, speaker.said);
    const names = new Map([
      [call.pid, 'command'],
      [speaker.pid, 'init'],
    ]);
    await eventually('the manager was told', () => manager.messages.length >= count || undefined);
    speaker.allow('end');
    if (way === 'attached') assert.equal(await call.end(), 7, speaker.said);
    const nameOf = (pid: string | number) => names.get(Number(pid)) ?? 'another';
    return manager.messages.map(({ pid, descriptors, text }) => {
      const plain = text.replace(/(?:\\n)+$/, '').replace(/(?<==)\d{2,}$/, nameOf);
      return `${nameOf(pid)} ${descriptors} ${plain}`;
    });
  } finally {
    await run(program, [...before, 'delete', '--force', id], { env: tool.env });
  }
}

test('the manager hears the same of Wherry, with and without wherryd, of runc and of crun', async () => {
  const { runc, crun, crunLibraries } = await peers(['bookworm']);
  await using wherry = new Wherry();
  const folder = temporaryFolder();
  const place = (name: string): string => {
    mkdirSync(join(folder, name), { mode: 0o700 });
    return join(folder, name);
  };
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
  const tools: Record<string, Tool> = {
    wherry: { command: [wherry.command], env: wherry.env },
    alone: { command: [wherry.command], env: { ...wherry.env, WHERRY_DAEMON: '0' } },
    runc: { command: [runc, '--root', place('runc')], env },
    crun: {
      command: [...withoutUnified, crun, '--root', place('crun')],
      env: { ...env, LD_LIBRARY_PATH: crunLibraries },
    },
  };
  try {
    for (const way of Object.keys(ways) as Way[]) {
      const main = way === 'attached' ? 'command' : 'init';
      const all = ['command 0 READY=1', `command 0 MAINPID=${main}`, 'command 1 BARRIER=1'];
      const of = (name: string, count: number): Promise<string[]> => heard(tools[name]!, way, folder, count);
      const [ours, alone, ofRunc, ofCrun] = await Promise.all([
        of('wherry', 3),
        of('alone', 3),
        of('runc', 2),
        of('crun', 2),
      ]);
      assert.deepEqual(ours, all, way);
      assert.deepEqual(alone, all, `${way}, without wherryd`);
      // bookworm's runc has no barrier yet (1.2 has it).
      assert.deepEqual(
        ofRunc,
        all.filter((text) => !text.includes('BARRIER')),
        `runc, ${way}`,
      );
      // crun names no process, in the foreground it tells each READY=1, and detached a child of it tells.
      const anonymous = (texts: string[]) => texts.map((text) => text.replace(/^\w+ /, ''));
      assert.deepEqual(
        [...new Set(anonymous(ofCrun))],
        anonymous(all.filter((text) => !text.includes('MAINPID'))),
        `crun, ${way}`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
