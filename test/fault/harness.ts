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
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { FaultPoint } from '../../src/fault.ts';
import { allCgroups, mounts } from '../support/cgroups.ts';
import { Containerd, parseTasks } from '../support/containerd.ts';
import type { ContainerdVersion } from '../support/debs.ts';
import { imageName } from '../support/image.ts';
import { dist, uniqueId } from '../support/paths.ts';
import { eventually, type RunResult, stop } from '../support/run.ts';
import { handlesTerm } from '../support/signals.ts';
import { EventLines, LifeLog } from './lines.ts';

const RUNTIME = 'io.containerd.wherry.v1';
/** Ends with 7 on SIGTERM, so that a status which is right is no accident. */
const PROGRAM = 'trap "exit 7" TERM; echo up; sleep 1000 & wait';

/** ms; for a machine that does more than this. */
const LIMIT = 60_000;

export interface Outcome {
  point: string;
  id: string;
  /** Wherryds that died over it. */
  deaths: number;
  /** Events that came a second time: wherryd died between their sending and containerd's answer. */
  twice: number;
  /** What is wrong, one sentence each; empty: as it should be. */
  wrong: string[];
}

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

  /** The pid of wherryd: keel's child that is named as it; undefined until it is ready. */
  wherryd(): number | undefined {
    if (!this.#life.look().ready) return undefined;
    const children = readFileSync(`/proc/${this.#keel.pid}/task/${this.#keel.pid}/children`, 'latin1');
    return children
      .trim()
      .split(' ')
      .map(Number)
      .find((pid) => pid > 0 && commandOf(pid).includes('wherryd.mjs'));
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

  /** One container from create to delete; `before` is told what comes next. */
  async life(
    point: string,
    before: (act: 'run' | 'kill' | 'delete') => void = () => {},
    withExec = false,
  ): Promise<Outcome> {
    const { containerd } = this;
    const id = uniqueId('f');
    const deaths = this.deaths;
    const wrong: string[] = [];
    let twice = 0;
    const check = (what: string, result: RunResult): void => {
      this.done++;
      if (result.code !== 0) wrong.push(`${what}: exit code ${result.code}: ${result.stderr.trim()}`);
    };
    try {
      before('run');
      check(
        'run',
        await containerd.ctr(['run', '-d', '--runtime', RUNTIME, imageName, id, '/bin/sh', '-c', PROGRAM], {
          timeout: LIMIT,
        }),
      );
      const [pid, status] = await this.#task(id);
      if (status !== 'RUNNING') wrong.push(`after run it is ${status}`);
      if (pid > 0 && !existsSync(`/proc/${pid}`)) wrong.push(`its pid ${pid} is not there`);
      if (withExec) wrong.push(...(await this.#exec(id)));
      await handlesTerm(() => pid);
      before('kill');
      check('kill', await containerd.ctr(['task', 'kill', '-s', 'SIGTERM', id]));
      await eventually('its exit is told', () => this.#own(id).includes('exit') || undefined, LIMIT);
      // Not at the first look: containerd waits for State two seconds only, and says UNKNOWN then.
      await eventually(
        'it is stopped',
        async () => (await this.#task(id))[1] === 'STOPPED' || undefined,
        LIMIT,
      );
      const lost = this.#disconnected(id);
      if (lost !== undefined) wrong.push(`containerd lost its connection: ${lost}`);
      before('delete');
      const removed = await containerd.ctr(['task', 'rm', id]);
      if (removed.code !== 0 || !removed.stderr.includes('exit code 7'))
        wrong.push(`delete: exit code ${removed.code}: ${removed.stderr.trim()}`);
      check('container rm', await containerd.ctr(['container', 'rm', id]));
      await eventually('its deletion is told', () => this.#own(id).includes('delete') || undefined, LIMIT);
      const topics = this.#own(id);
      const once = topics.filter((topic, index) => topic !== topics[index - 1]);
      if (once.join(' ') !== 'create start exit delete') wrong.push(`events: ${topics.join(' ')}`);
      twice = topics.length - once.length;
      const status7 = /exit_status"?:\s*7\b/;
      if (!this.#lines(id).some((line) => line.includes('/tasks/exit') && status7.test(line)))
        wrong.push('the exit event has another status');
    } catch (error) {
      wrong.push((error as Error).message.split('\n')[0] ?? '');
    }
    wrong.push(...this.#leftovers(id));
    return { point, id, deaths: this.deaths - deaths, twice, wrong };
  }

  /** containerd 2.1 says the same of every shim whose last task was deleted: before that it is a loss. */
  #disconnected(id: string): string | undefined {
    return this.containerd
      .log()
      .split('\n')
      .find((line) => line.includes(id) && /shim disconnected|dead shim|ttrpc: closed/.test(line));
  }

  /** One that waits, streams and ends with a status of its own. */
  async #exec(id: string): Promise<string[]> {
    const name = uniqueId('x');
    const wrong: string[] = [];
    const { code, stdout, stderr } = await this.containerd.ctr(
      ['task', 'exec', '--exec-id', name, id, '/bin/sh', '-c', 'echo one; sleep 0.1; echo two; exit 5'],
      { timeout: LIMIT },
    );
    if (code !== 5 || stdout !== 'one\ntwo\n')
      wrong.push(`exec: exit code ${code}, output ${JSON.stringify(stdout)}: ${stderr.trim()}`);
    await eventually(
      "an exec's exit is told",
      () => this.events(id, name).includes('exit') || undefined,
      LIMIT,
    );
    const once = this.events(id, name).filter((topic, index, all) => topic !== all[index - 1]);
    if (once.join(' ') !== 'exec-added exec-started exit')
      wrong.push(`events of the exec: ${this.events(id, name).join(' ')}`);
    return wrong;
  }

  /** A container that outlives all kills; its end is checked by the function that is returned. */
  async lasting(): Promise<() => Promise<string[]>> {
    const id = uniqueId('l');
    await this.containerd.mustCtr(
      ['run', '-d', '--runtime', RUNTIME, imageName, id, '/bin/sh', '-c', PROGRAM],
      { timeout: LIMIT },
    );
    const [pid] = await this.#task(id);
    await handlesTerm(() => pid);
    const started = startTime(pid);
    return async () => {
      const wrong: string[] = [];
      const [now, status] = await this.#task(id);
      if (now !== pid || status !== 'RUNNING' || startTime(pid) !== started)
        wrong.push(`${id}: pid ${pid} is ${now} now, ${status}`);
      await this.containerd.ctr(['task', 'kill', '-s', 'SIGTERM', id], { timeout: LIMIT });
      await eventually('its exit is told', () => this.#own(id).includes('exit') || undefined, LIMIT);
      const removed = await this.containerd.ctr(['task', 'rm', id], { timeout: LIMIT });
      if (!removed.stderr.includes('exit code 7')) wrong.push(`${id}: delete: ${removed.stderr.trim()}`);
      await this.containerd.mustCtr(['container', 'rm', id]);
      return [...wrong, ...this.#leftovers(id)];
    };
  }

  /** Of it and of its execs, in order. */
  topics(id: string): string[] {
    return this.#lines(id).map(topicOf);
  }

  /** Of its init. */
  #own(id: string): string[] {
    return this.#lines(id)
      .filter((line) => !line.includes('/tasks/exec-') && (!line.includes('/tasks/exit') || ofInit(line, id)))
      .map(topicOf);
  }

  /** Topics of one exec, in order. */
  events(id: string, exec: string): string[] {
    return this.#lines(id)
      .filter((line) => line.includes(`"${exec}"`))
      .map(topicOf);
  }

  #lines(id: string): string[] {
    return this.#seen.of(id).filter((line) => line.includes('/tasks/'));
  }

  async #task(id: string): Promise<[number, string]> {
    const { stdout } = await this.containerd.ctr(['task', 'ls']);
    const { pid, status } = parseTasks(stdout).get(id) ?? { pid: 0, status: 'gone' };
    return [pid, status];
  }

  #leftovers(id: string): string[] {
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
