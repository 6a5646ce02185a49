/** One container's life under a real containerd, every act of it judged: by what its caller was told, by its events, by what is left. */
import { existsSync } from 'node:fs';
import { cgroupFile } from '../support/cgroups.ts';
import { imageName } from '../support/image.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, type RunResult } from '../support/run.ts';
import { handlesTerm } from '../support/signals.ts';
import type { FaultHarness } from './harness.ts';
import { updatePidsLimit } from './update.ts';

export const RUNTIME = 'io.containerd.wherry.v1';
/** Ends with 7 on SIGTERM, so that a status which is right is no accident. */
export const PROGRAM = 'trap "exit 7" TERM; echo up; sleep 1000000 & wait';
/** ms; for a machine that does more than this. */
export const LIMIT = 60_000;
const PIDS_LIMIT = 77;

export const acts = ['run', 'update', 'pause', 'resume', 'exec', 'kill', 'delete'] as const;
export type Act = (typeof acts)[number];
const SHORT: readonly Act[] = ['run', 'kill', 'delete'];

export interface LifeOptions {
  /** Run, kill and delete are never left out. */
  acts?: readonly Act[];
  /** Told what comes next. */
  before?: (act: Act) => void;
  /** An act may fail, if what its caller is told matches. It is then either done or not, but nothing of it is lost. */
  mayFail?: RegExp;
  /** It may fail so for some time; otherwise a call that comes again has no reason to. */
  lasting?: boolean;
}

export interface Outcome {
  point: string;
  id: string;
  /** Wherryds that died over it. */
  deaths: number;
  /** Events that came a second time: wherryd died between their sending and containerd's answer. */
  twice: number;
  /** Acts that failed, as they may. */
  failed: Act[];
  /** What is wrong, one sentence each; empty: as it should be. */
  wrong: string[];
}

export async function life(
  harness: FaultHarness,
  point: string,
  { acts: wanted = SHORT, before = () => {}, mayFail, lasting }: LifeOptions = {},
): Promise<Outcome> {
  const id = uniqueId('f');
  const deaths = harness.deaths;
  const one = new Life(harness, id, mayFail, lasting === true);
  try {
    await one.live(wanted, before);
  } catch (error) {
    one.wrong.push((error as Error).message.split('\n')[0] ?? '');
    await one.end().catch(() => undefined);
  }
  // What could not be undone at once is undone a moment later.
  await eventually('nothing is left', () => harness.leftovers(id).length === 0 || undefined, 5000).catch(
    () => {},
  );
  one.wrong.push(...harness.leftovers(id));
  const { twice, failed, wrong } = one;
  return { point, id, deaths: harness.deaths - deaths, twice, failed, wrong };
}

class Life {
  readonly wrong: string[] = [];
  readonly failed: Act[] = [];
  twice = 0;
  readonly #harness: FaultHarness;
  readonly #id: string;
  readonly #mayFail: RegExp | undefined;

  readonly #lasting: boolean;

  constructor(harness: FaultHarness, id: string, mayFail: RegExp | undefined, lasting: boolean) {
    this.#lasting = lasting;
    this.#harness = harness;
    this.#id = id;
    this.#mayFail = mayFail;
  }

  async live(wanted: readonly Act[], before: (act: Act) => void): Promise<void> {
    const id = this.#id;
    const { containerd } = this.#harness;
    before('run');
    const run = ['run', '-d', '--runtime', RUNTIME, imageName, id, '/bin/sh', '-c', PROGRAM];
    const runs = this.#check('run', await containerd.ctr(run, { timeout: LIMIT }));
    if (runs) {
      const pid = await this.#until('RUNNING');
      if (!existsSync(`/proc/${pid}`)) this.wrong.push(`its pid ${pid} is not there`);
      for (const act of ['update', 'pause', 'resume', 'exec'] as const) {
        if (!wanted.includes(act)) continue;
        before(act);
        await this.#middle(act, pid);
      }
      await handlesTerm(() => pid);
      before('kill');
      await this.#kill();
      before('delete');
      await this.#delete();
    } else {
      before('kill');
      before('delete');
      await this.end();
    }
    if (this.failed.length > 0) await this.end();
    await this.#judgeEvents(runs);
  }

  async #middle(act: 'update' | 'pause' | 'resume' | 'exec', pid: number): Promise<void> {
    const id = this.#id;
    const { containerd } = this.#harness;
    if (act === 'exec') return this.#exec();
    if (act === 'update') {
      await this.#twice(act, () => updatePidsLimit(containerd, id, PIDS_LIMIT));
      const limit = cgroupFile(pid, 'pids', 'pids.max');
      if (limit !== String(PIDS_LIMIT)) this.wrong.push(`after update pids.max is ${limit}`);
      return;
    }
    await this.#twice(act, () => containerd.ctr(['task', act, id], { timeout: LIMIT }));
    await this.#until(act === 'pause' ? 'PAUSED' : 'RUNNING');
  }

  /** Not at the first look: containerd waits for State two seconds only, and says UNKNOWN then. Resolves with the pid. */
  async #until(wanted: string): Promise<number> {
    let pid = 0;
    await eventually(
      `it is ${wanted}`,
      async () => {
        const [now, status] = await this.#harness.task(this.#id);
        pid = now;
        if (status !== wanted) throw new Error(`it is ${status}`);
        return true;
      },
      LIMIT,
    );
    return pid;
  }

  async #kill(): Promise<void> {
    const id = this.#id;
    const { containerd } = this.#harness;
    const signal = () => containerd.ctr(['task', 'kill', '-s', 'SIGTERM', id], { timeout: LIMIT });
    // Again, whatever comes of that: the signal may have been sent.
    if (!this.#check('kill', await signal())) await signal();
    await eventually('its exit is told', () => this.#topics().includes('exit') || undefined, LIMIT);
    await this.#until('STOPPED');
    const lost = this.#harness.disconnected(id);
    if (lost !== undefined) this.wrong.push(`containerd lost its connection: ${lost}`);
  }

  async #delete(): Promise<void> {
    const id = this.#id;
    const { containerd } = this.#harness;
    const remove = () => containerd.ctr(['task', 'rm', id], { timeout: LIMIT });
    let removed = await remove();
    this.#harness.done++;
    // ctr prints the task's status, which is no failure of its own.
    if (!removed.stderr.includes('exit code 7') && this.#mayFail?.test(removed.stderr) === true) {
      this.failed.push('delete');
      if (this.#lasting) await new Promise((wake) => setTimeout(wake, 2000));
      removed = await remove();
    }
    if (removed.code !== 0 || !removed.stderr.includes('exit code 7'))
      this.wrong.push(`delete: exit code ${removed.code}: ${removed.stderr.trim()}`);
    this.#check('delete', await containerd.ctr(['container', 'rm', id], { timeout: LIMIT }));
  }

  /** One that waits, streams and ends with a status of its own. */
  async #exec(): Promise<void> {
    const id = this.#id;
    const name = uniqueId('x');
    const script = 'echo one; sleep 0.1; echo two; exit 5';
    const result = await this.#harness.containerd.ctr(
      ['task', 'exec', '--exec-id', name, id, '/bin/sh', '-c', script],
      { timeout: LIMIT },
    );
    this.#harness.done++;
    const { code, stdout, stderr } = result;
    const told = () => this.#harness.events(id, name);
    if (this.#mayFail?.test(stderr) === true) {
      this.failed.push('exec');
      return;
    }
    if (code !== 5 || stdout !== 'one\ntwo\n')
      this.wrong.push(`exec: exit code ${code}, output ${JSON.stringify(stdout)}: ${stderr.trim()}`);
    await eventually("an exec's exit is told", () => told().includes('exit') || undefined, LIMIT);
    if (withoutRepeats(told()).join(' ') !== 'exec-added exec-started exit')
      this.wrong.push(`events of the exec: ${told().join(' ')}`);
  }

  /** Whatever has become of it, it can be taken away. */
  async end(): Promise<void> {
    const { containerd } = this.#harness;
    const tasks = async () => (await this.#harness.task(this.#id))[1];
    for (let tries = 0; tries < 5 && (await tasks()) !== 'gone'; tries++)
      await containerd.ctr(['task', 'rm', '-f', this.#id], { timeout: LIMIT });
    await containerd.ctr(['container', 'rm', this.#id], { timeout: LIMIT });
    if ((await tasks()) !== 'gone') this.wrong.push('it cannot be taken away');
  }

  async #judgeEvents(ran: boolean): Promise<void> {
    if (this.#topics().includes('create')) {
      await eventually('its deletion is told', () => this.#topics().includes('delete') || undefined, LIMIT);
    }
    const topics = this.#topics();
    const once = withoutRepeats(topics);
    this.twice = topics.length - once.length;
    const text = once.join(' ');
    const paused = /^create start( paused resumed)? exit delete$/;
    const broken = /^(create( start)?( paused( resumed)?)?( exit)? delete)?$/;
    if (!(this.failed.length > 0 ? broken : paused).test(text))
      this.wrong.push(`events: ${topics.join(' ')}`);
    const status7 = /exit_status"?:\s*7\b/;
    if (
      ran &&
      !this.#harness.lines(this.#id).some((line) => line.includes('/tasks/exit') && status7.test(line))
    )
      this.wrong.push('the exit event has another status');
  }

  #topics(): string[] {
    return this.#harness.own(this.#id);
  }

  /** What has failed was not done, or can be done again. */
  async #twice(act: Act, order: () => Promise<Pick<RunResult, 'code' | 'stderr'>>): Promise<void> {
    if (this.#check(act, await order()) || this.failed.at(-1) !== act) return;
    if (this.#lasting)
      await eventually(`${act} is done`, async () => (await order()).code === 0 || undefined, LIMIT);
    else this.#check(act, await order());
  }

  /** True: it was done. */
  #check(act: Act, { code, stderr }: Pick<RunResult, 'code' | 'stderr'>): boolean {
    this.#harness.done++;
    if (code === 0) return true;
    // Once: a call that comes again has no reason to fail.
    if (this.#mayFail?.test(stderr) === true && !this.failed.includes(act)) this.failed.push(act);
    else this.wrong.push(`${act}: exit code ${code}: ${stderr.trim()}`);
    return false;
  }
}

function withoutRepeats(topics: readonly string[]): string[] {
  return topics.filter((topic, index) => topic !== topics[index - 1]);
}
