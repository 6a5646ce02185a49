/**
 * Drives containers by a real containerd while wherryd is killed: at named points (src/fault.ts), or at random. Tells per container what
 * arrived. Used by `npm run fault` and by a small test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { FaultAct, FaultPoint } from '../../src/fault.ts';
import { allCgroups, mounts } from '../support/cgroups.ts';
import { Containerd, parseTasks } from '../support/containerd.ts';
import type { ContainerdVersion } from '../support/debs.ts';
import { imageName } from '../support/image.ts';
import { dist, uniqueId } from '../support/paths.ts';
import { eventually, stop } from '../support/run.ts';
import { handlesTerm } from '../support/signals.ts';
import { LIMIT, PROGRAM, RUNTIME } from './life.ts';
import { EventLines, LifeLog } from './lines.ts';
import { stepNames } from './points.ts';

export class FaultHarness implements AsyncDisposable {
  readonly containerd: Containerd;
  readonly #points: string;
  readonly #keel: ChildProcess;
  readonly #events: ChildProcess;
  readonly #seen = new EventLines();
  readonly #life: LifeLog;

  /** Commands that have ended: a call over which five wherryds die is given up by keel, so whoever kills waits for these. */
  done = 0;

  private constructor(containerd: Containerd, points: string, keel: ChildProcess) {
    this.containerd = containerd;
    this.#points = points;
    this.#keel = keel;
    this.#life = new LifeLog(join(containerd.runDir, 'wherryd.log'));
    this.#events = spawn(containerd.ctrPath, [...containerd.globalFlags, 'events'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#events.stdout?.on('data', (chunk: Buffer) => {
      this.#seen.add(String(chunk));
    });
  }

  static async start(version: ContainerdVersion): Promise<FaultHarness> {
    const containerd = await Containerd.start(version);
    const points = join(containerd.folder, 'points');
    mkdirSync(points);
    const libexec = join(dist, 'libexec/wherry');
    const log = openSync(join(containerd.runDir, 'wherryd.log'), 'a', 0o600);
    const keel = spawn(
      join(libexec, 'keel'),
      [
        ...[
          '--run-dir',
          containerd.runDir,
          '--player',
          join(libexec, 'player'),
          '--service',
          '--fault',
          '--',
        ],
        ...[join(libexec, 'node'), '--max-old-space-size=256', join(libexec, 'wherryd.mjs')],
      ],
      {
        env: { ...process.env, WHERRY_FAULT: points, WHERRY_LOG_LEVEL: 'debug' },
        stdio: ['ignore', log, log],
      },
    );
    closeSync(log);
    const harness = new FaultHarness(containerd, points, keel);
    await harness.#subscribe();
    return harness;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stop(this.#events);
    await this.containerd.stop();
    await stop(this.#keel);
  }

  arm(point: FaultPoint): void {
    writeFileSync(join(this.#points, point), '');
  }

  /** Not reached yet. */
  armed(point: FaultPoint): boolean {
    return existsSync(join(this.#points, point));
  }

  /** What is to be done at the n-th boundary from now, and at those after it; n = 0: boundaries are only noted. */
  armSteps(...steps: readonly { n: number; act: FaultAct }[]): void {
    for (const name of ['passed', 'struck']) rmSync(join(this.#points, name), { force: true });
    const text = steps.map(({ n, act }) => `${n} ${act}\n`).join('');
    // As a whole: it is looked for at every boundary.
    writeFileSync(join(this.#points, '.armed'), text);
    renameSync(join(this.#points, '.armed'), join(this.#points, 'next'));
  }

  /** Boundaries that were passed since, and those at which something was done. */
  disarmSteps(): { passed: string[]; struck: string[] } {
    rmSync(join(this.#points, 'next'), { force: true });
    return { passed: stepNames(this.#read('passed')), struck: this.struck() };
  }

  struck(): string[] {
    return stepNames(this.#read('struck'));
  }

  #read(name: string): string {
    const path = join(this.#points, name);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** The pid of wherryd: keel's child that is named as it; undefined until it is ready. */
  wherryd(): number | undefined {
    return this.#life.look().ready ? this.child() : undefined;
  }

  /** The pid of a wherryd, ready or not; 0: there is none. */
  child(): number {
    const children = readFileSync(`/proc/${this.#keel.pid}/task/${this.#keel.pid}/children`, 'latin1');
    const pids = children.trim().split(' ').map(Number);
    return pids.find((pid) => pid > 0 && commandOf(pid).includes('wherryd.mjs')) ?? 0;
  }

  /** How many wherryds have died. */
  get deaths(): number {
    return this.#life.look().deaths;
  }

  /** Of keel and wherryd: resident memory in KiB and open descriptors. */
  load(): { keel: Load; wherryd: Load | undefined } {
    const wherryd = this.wherryd();
    return {
      keel: loadOf(this.#keel.pid ?? 0),
      wherryd: wherryd === undefined ? undefined : loadOf(wherryd),
    };
  }

  /** containerd 2.1 says the same of every shim whose last task was deleted: before that it is a loss. */
  disconnected(id: string): string | undefined {
    return this.containerd
      .log()
      .split('\n')
      .find((line) => line.includes(id) && /shim disconnected|dead shim|ttrpc: closed/.test(line));
  }

  /** A container that outlives all kills; its end is checked by the function that is returned. */
  async lasting(): Promise<() => Promise<string[]>> {
    const id = uniqueId('l');
    await this.containerd.mustCtr(
      ['run', '-d', '--runtime', RUNTIME, imageName, id, '/bin/sh', '-c', PROGRAM],
      { timeout: LIMIT },
    );
    const [pid] = await this.task(id);
    await handlesTerm(() => pid);
    const started = startTime(pid);
    return async () => {
      const wrong: string[] = [];
      const [now, status] = await this.task(id);
      if (now !== pid || status !== 'RUNNING' || startTime(pid) !== started)
        wrong.push(`${id}: pid ${pid} is ${now} now, ${status}`);
      await this.containerd.ctr(['task', 'kill', '-s', 'SIGTERM', id], { timeout: LIMIT });
      await eventually('its exit is told', () => this.own(id).includes('exit') || undefined, LIMIT);
      const removed = await this.containerd.ctr(['task', 'rm', id], { timeout: LIMIT });
      if (!removed.stderr.includes('exit code 7')) wrong.push(`${id}: delete: ${removed.stderr.trim()}`);
      await this.containerd.mustCtr(['container', 'rm', id]);
      return [...wrong, ...this.leftovers(id)];
    };
  }

  /** Of it and of its execs, in order. */
  topics(id: string): string[] {
    return this.lines(id).map(topicOf);
  }

  /** Of its init. */
  own(id: string): string[] {
    return this.lines(id)
      .filter((line) => !line.includes('/tasks/exec-') && (!line.includes('/tasks/exit') || ofInit(line, id)))
      .map(topicOf);
  }

  /** Topics of one exec, in order. */
  events(id: string, exec: string): string[] {
    return this.lines(id)
      .filter((line) => line.includes(`"${exec}"`))
      .map(topicOf);
  }

  lines(id: string): string[] {
    return this.#seen.of(id).filter((line) => line.includes('/tasks/'));
  }

  async task(id: string): Promise<[number, string]> {
    const { stdout } = await this.containerd.ctr(['task', 'ls']);
    const { pid, status } = parseTasks(stdout).get(id) ?? { pid: 0, status: 'gone' };
    return [pid, status];
  }

  leftovers(id: string): string[] {
    const { runDir, namespace } = this.containerd;
    const folders = join(runDir, 'containers');
    // One by one: others come and go meanwhile.
    const states = (existsSync(folders) ? readdirSync(folders) : [])
      .map((scope) => join(folders, scope, namespace, id))
      .filter((path) => existsSync(path));
    return [
      ...mounts().filter((path) => path.includes(id)),
      ...allCgroups().filter((path) => path.includes(id)),
      ...states,
    ].map((what) => `left: ${what}`);
  }

  async #subscribe(): Promise<void> {
    const probe = uniqueId('probe');
    await this.containerd.mustCtr(['container', 'create', '--runtime', RUNTIME, imageName, probe]);
    await eventually('the subscription is up', async () => {
      await this.containerd.mustCtr(['container', 'label', probe, 'probe=1']);
      return this.#seen.of(probe).length > 0 || undefined;
    });
    await this.containerd.mustCtr(['container', 'rm', probe]);
  }
}

function topicOf(line: string): string {
  return /\/tasks\/([a-z-]+)/.exec(line)?.[1] ?? '';
}

/** Not an exec's. */
function ofInit(line: string, id: string): boolean {
  return /"id":\s*"([^"]*)"/.exec(line)?.[1] === id;
}

export interface Load {
  rss: number;
  descriptors: number;
}

function loadOf(pid: number): Load {
  const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0);
  return { rss, descriptors: readdirSync(`/proc/${pid}/fd`).length };
}

/** Field 22 of /proc/PID/stat; '': there is none. */
function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}
