/** What containerd publishes about tasks, by `ctr events`. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Containerd } from '../containerd.ts';
import { imageName } from '../image.ts';
import { uniqueId } from '../paths.ts';
import { eventually, stop } from '../run.ts';

export class TaskEvents {
  readonly #containerd: Containerd;
  readonly #child: ChildProcess;
  #seen = '';

  private constructor(containerd: Containerd) {
    this.#containerd = containerd;
    this.#child = spawn(containerd.ctrPath, [...containerd.globalFlags, 'events'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.#seen += String(chunk);
    });
  }

  /** Resolves when it hears everything from now on. */
  static async start(containerd: Containerd): Promise<TaskEvents> {
    const events = new TaskEvents(containerd);
    await events.#heard();
    return events;
  }

  /** Resolves when all that was published before has been heard. */
  async #heard(): Promise<void> {
    const probe = uniqueId('probe');
    await this.#containerd.mustCtr(['container', 'create', imageName, probe]);
    await eventually('events are heard', async () => {
      await this.#containerd.mustCtr(['container', 'label', probe, `probe=${Math.random()}`]);
      return this.#seen.includes(probe) || undefined;
    });
    await this.#containerd.mustCtr(['container', 'rm', probe]);
  }

  /** A shim's events take a way of their own to containerd: what `#heard` waits for says nothing about them. */
  async until(topic: string, container: string): Promise<void> {
    await eventually(
      `${topic} of ${container}`,
      () => this.of(container).some((event) => event.startsWith(`${topic} `)) || undefined,
    );
  }

  /** Resolves when the end of every exec that was started in it is told. */
  async settled(container: string): Promise<void> {
    await eventually(`the execs in ${container} are told`, () => {
      const count = (topic: string) =>
        this.of(container).filter((event) => event.startsWith(`/tasks/${topic} `)).length;
      return count('exec-started') > 0 && count('exec-started') === count('exit') ? true : undefined;
    });
  }

  async end(): Promise<this> {
    await this.#heard();
    await stop(this.#child);
    return this;
  }

  /** Topic and content of each event of one container, in order. */
  of(container: string): string[] {
    return this.#seen
      .split('\n')
      .slice(0, -1) // What follows the last end of a line is not whole yet.
      .filter((line) => line.includes(`"container_id":"${container}"`) && line.includes(' /tasks/'))
      .map((line) => line.slice(line.indexOf('/tasks/')));
  }
}
