/** Runs Wherry's command line with a run folder of its own, and ends its daemon afterwards. */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder, wherryBinary } from './paths.ts';
import { must, type RunOptions, type RunResult, run } from './run.ts';

export interface DaemonPids {
  keel: number;
  wherryd: number;
}

/** Asked of the daemon of a run folder, which must run. */
export async function daemonOf(runDir: string): Promise<DaemonPids> {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', WHERRY_RUN_DIR: runDir };
  const status = await must(wherryBinary, ['daemon', 'status', '--format', 'json'], { env, timeout: 60_000 });
  return daemonPids(status.stdout);
}

/** Of the output of `daemon status --format json`. */
export function daemonPids(status: string): DaemonPids {
  const { keel, wherryd } = JSON.parse(status) as { keel: { pid: number }; wherryd: { pid: number } };
  return { keel: keel.pid, wherryd: wherryd.pid };
}

export class Wherry implements AsyncDisposable {
  readonly folder: string;
  /** WHERRY_RUN_DIR. */
  readonly runDir: string;
  readonly env: NodeJS.ProcessEnv;
  readonly command = wherryBinary;

  constructor(env: NodeJS.ProcessEnv = {}) {
    this.folder = temporaryFolder();
    this.runDir = join(this.folder, 'w');
    mkdirSync(this.runDir, { mode: 0o700 });
    const { HOME, TERM } = process.env;
    this.env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME, TERM, ...env, WHERRY_RUN_DIR: this.runDir };
  }

  /** One command; state directories go to the private run folder. */
  run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(wherryBinary, args, { env: this.env, ...options });
  }

  /** A command that must succeed; returns its stdout. */
  async must(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.run(args, options);
    if (result.code !== 0) {
      throw new Error(
        `wherry ${args.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}\n${this.log()}`,
      );
    }
    return result.stdout;
  }

  /** Of the daemon, which must run. */
  async daemon(): Promise<DaemonPids> {
    return daemonPids(await this.must(['daemon', 'status', '--format', 'json']));
  }

  /** The end of wherryd's log. */
  log(): string {
    const path = join(this.runDir, 'wherryd.log');
    return existsSync(path)
      ? `--- wherryd.log\n${readFileSync(path, 'utf8').split('\n').slice(-20).join('\n')}`
      : '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stopWherry(this.runDir);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Ends the daemon of a run folder, containers included; no daemon is fine. `program`: Wherry as it is started where the daemon lives. */
export async function stopWherry(runDir: string, program = wherryBinary): Promise<void> {
  if (!existsSync(join(runDir, 'keel.sock'))) return;
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', WHERRY_RUN_DIR: runDir };
  const result = await run(program, ['daemon', 'stop', '--force'], { env });
  if (result.code !== 0 && existsSync(join(runDir, 'keel.sock'))) {
    throw new Error(`wherry daemon stop --force: exit code ${result.code}\n${result.stdout}${result.stderr}`);
  }
}
