/** Plans on this machine's own cgroup filesystems, carried out with plain file calls instead of a tape. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';

import { setTimeout as sleep } from 'node:timers/promises';
import type { CgroupPlan } from '../../../src/cgroup/plan.ts';
import { removalOrder } from '../../../src/cgroup/tree.ts';

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code ?? '';

/** A planned cgroup that exists, with the processes that were put into it; all of it goes at the end. */
export class AppliedCgroup implements AsyncDisposable {
  readonly plan: CgroupPlan;
  readonly #children: ChildProcess[] = [];

  constructor(plan: CgroupPlan) {
    this.plan = plan;
    for (const directory of plan.create) {
      try {
        mkdirSync(directory, 0o755);
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw error;
      }
    }
    for (const { file, value, mayFail } of plan.writes) {
      try {
        writeFileSync(file, value, { flag: 'r+' });
      } catch (error) {
        if (!mayFail?.includes(codeOf(error))) throw error;
      }
    }
  }

  /** A shell that attaches itself as an init does and then runs the command. Resolves when it has attached. */
  async start(command: string): Promise<number> {
    const attach = this.plan.procs.map((file) => `echo 0 > '${file}'`).join(' && ');
    const child = spawn('/bin/sh', ['-c', `${attach} && echo attached && ${command}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    const first = await Promise.race([once(child.stdout!, 'data'), once(child, 'exit')]);
    if (!String(first[0]).startsWith('attached')) throw new Error('the child could not attach itself');
    return child.pid!;
  }

  async stop(): Promise<void> {
    for (const child of this.#children.splice(0)) {
      const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined;
      child.kill('SIGKILL');
      await ended;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    for (const directory of removalOrder(this.plan.remove)) await removeFolder(directory);
    // Parents that this plan made, deepest first.
    for (const directory of this.plan.create.toReversed()) await removeFolder(directory);
  }
}

/** EBUSY: the last process is still on its way out. */
async function removeFolder(directory: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      rmdirSync(directory);
      return;
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return;
      if (codeOf(error) !== 'EBUSY' || tries === 200) throw new Error(`${directory} stays`, { cause: error });
      await sleep(10);
    }
  }
}

/** Folders that an earlier run may have left would hide what a plan does. */
export const testPath = (name: string) => `/wherry-test-${process.pid}/${name}`;
