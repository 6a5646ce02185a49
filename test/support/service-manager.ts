/** A service manager's side of NOTIFY_SOCKET, and containers whose program speaks to it when the test lets it. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compileProgram } from '../integration/oci-suite/host.ts';
import { makeBundle, type SpecConfig } from './bundle.ts';
import { eventually, stop } from './run.ts';

export interface Message {
  /** Of the sender, as the kernel tells it. */
  pid: number;
  /** How many came with it. */
  descriptors: number;
  text: string;
}

export const notifyProgram = (): Promise<string> => compileProgram(join(import.meta.dirname, 'notify.c'));

/** Listens as a service manager does. */
export class ServiceManager implements AsyncDisposable {
  readonly address: string;
  readonly messages: Message[] = [];
  readonly #listener: ChildProcess;

  private constructor(address: string, listener: ChildProcess) {
    this.address = address;
    this.#listener = listener;
  }

  /** `address`: a path, or @ and a name. */
  static async listen(address: string): Promise<ServiceManager> {
    const listener = spawn(await notifyProgram(), ['listen', address], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const manager = new ServiceManager(address, listener);
    let listening = false;
    createInterface({ input: listener.stdout! }).on('line', (line) => {
      const [, pid, descriptors, text] = /^(\d+) (\d+) (.*)$/.exec(line) ?? [];
      if (text === undefined) listening = true;
      else manager.messages.push({ pid: Number(pid), descriptors: Number(descriptors), text });
    });
    await eventually('the manager listens', () => listening || undefined);
    if (address.startsWith('/')) chmodSync(address, 0o777);
    return manager;
  }

  /** What has come by now, and forgets it. */
  take(): Message[] {
    return this.messages.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stop(this.#listener);
  }
}

/**
 * A container whose program waits for `allow('ready')`, says what it has to say and waits for `allow('end')`; its exit status is 7.
 * `speech`: arguments of `notify send`.
 */
export class Speaker {
  readonly bundle: string;
  /** What the program itself wrote. */
  readonly output: string;
  readonly pidFile: string;

  private constructor(bundle: string) {
    this.bundle = bundle;
    this.output = join(bundle, 'output');
    this.pidFile = join(bundle, 'pid');
  }

  static async make(
    parent: string,
    id: string,
    speech: string,
    edit: (config: SpecConfig) => void = () => {},
  ): Promise<Speaker> {
    const until = (name: string): string => `while [ ! -e /signs/${name} ]; do sleep 0.05; done`;
    const script = `${until('ready')}; /notify send ${speech}; echo "$NOTIFY_SOCKET $?"; ${until('end')}; exit 7`;
    const bundle = await makeBundle(parent, id, ['/bin/sh', '-c', script], edit);
    copyFileSync(await notifyProgram(), join(bundle, 'rootfs/notify'));
    mkdirSync(join(bundle, 'rootfs/signs'));
    const speaker = new Speaker(bundle);
    writeFileSync(speaker.output, '');
    return speaker;
  }

  allow(sign: 'ready' | 'end'): void {
    writeFileSync(join(this.bundle, 'rootfs/signs', sign), '');
  }

  get pid(): number {
    return Number(readFileSync(this.pidFile, 'utf8'));
  }

  get said(): string {
    return readFileSync(this.output, 'utf8');
  }

  /** Starts a command whose output, and the container's, goes to `output`. */
  call(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Call {
    const output = openSync(this.output, 'a');
    const child = spawn(command, args, { env, stdio: ['ignore', output, output] });
    closeSync(output);
    return new Call(child);
  }
}

/** A command that may wait. */
export class Call {
  readonly pid: number;
  /** 0-255, 'SIGINT' and the like, or undefined while it runs. */
  status: number | string | undefined;
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | string>;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.#ended = new Promise((resolve) => {
      child.on('exit', (code, signal) => {
        this.status = code ?? signal ?? 'nothing';
        resolve(this.status);
      });
    });
  }

  /** @throws when it has not ended in time */
  async end(): Promise<number | string> {
    await eventually('the command ends', () => this.status !== undefined || undefined);
    return this.#ended;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}
