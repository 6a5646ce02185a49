/** dockerd with a storage, a containerd, a socket and a Wherry of its own; no network but the host's and none. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupRoots, mounts, removeCgroup } from '../../support/cgroups.ts';
import { peers } from '../../support/debs.ts';
import { writeRootfs } from '../../support/image.ts';
import { temporaryFolder, uniqueId } from '../../support/paths.ts';
import { eventually, must, type RunOptions, type RunResult, run, stop } from '../../support/run.ts';
import { stopWherry } from '../../support/wherry.ts';
import { CallerPrograms, mark, runtimeScript } from './packages.ts';

export class Docker implements AsyncDisposable {
  readonly folder: string;
  readonly runDir: string;
  readonly cgroupParent = `/${uniqueId('docker')}`;
  readonly #programs: CallerPrograms;
  #daemon: ChildProcess | undefined;

  private constructor(folder: string, programs: CallerPrograms) {
    this.folder = folder;
    this.runDir = join(folder, 'w');
    this.#programs = programs;
    for (const name of ['w', 'rootfs']) mkdirSync(join(folder, name), { mode: 0o700 });
  }

  /** With the image `busybox`. `runtime`: another one instead of Wherry. */
  static async start(runtime?: string): Promise<Docker> {
    const docker = new Docker(temporaryFolder(), await CallerPrograms.open());
    try {
      await docker.#start(runtime);
    } catch (error) {
      await docker[Symbol.asyncDispose]();
      throw error;
    }
    return docker;
  }

  async #start(runtime: string | undefined): Promise<void> {
    const { folder, runDir } = this;
    const peer = await peers(['bookworm']);
    const daemon = this.#programs.path('dockerd');
    const options = [
      ...[
        '--data-root',
        join(folder, 'data'),
        '--exec-root',
        join(folder, 'exec'),
        '--pidfile',
        join(folder, 'pid'),
      ],
      ...['--host', `unix://${folder}/sock`, '--storage-driver', 'vfs', '--cgroup-parent', this.cgroupParent],
      ...['--iptables=false', '--ip6tables=false', '--bridge=none', '--default-runtime', 'tried'],
      ...['--add-runtime', `tried=${runtime ?? runtimeScript(folder, runDir)}`],
    ];
    const log = openSync(join(folder, 'log'), 'a');
    this.#daemon = spawn(daemon, options, {
      env: {
        // It starts a containerd of its own, by name.
        PATH: `${peer.containerd('1.6')}:${join(daemon, '..')}:/usr/sbin:/usr/bin:/sbin:/bin`,
        LD_LIBRARY_PATH: this.#programs.libraries,
        HOME: folder,
        TMPDIR: folder,
        ...mark(),
      },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    await eventually(
      'dockerd answers',
      async () => (await this.run(['version'])).code === 0 || undefined,
      60_000,
    );
    await writeRootfs(peer.busybox, join(folder, 'rootfs'));
    await must('tar', ['-C', join(folder, 'rootfs'), '-cf', join(folder, 'rootfs.tar'), '.']);
    await this.must(['import', join(folder, 'rootfs.tar'), 'busybox']);
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: this.folder, ...mark() };
    return run(this.#programs.path('docker'), ['--host', `unix://${this.folder}/sock`, ...args], {
      env,
      ...options,
    });
  }

  /** stdout without the last newline, of a command that must succeed. */
  async must(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.run(args, options);
    if (result.code !== 0)
      throw new Error(
        `docker ${args.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}${this.log()}`,
      );
    return result.stdout.trimEnd();
  }

  container(flags: readonly string[], command: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.run(['run', '--network', 'none', ...flags, 'busybox', ...command], options);
  }

  log(): string {
    return readFileSync(join(this.folder, 'log'), 'utf8').split('\n').slice(-20).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { folder } = this;
    if (this.#daemon !== undefined) {
      const left = (await this.run(['ps', '-a', '-q'])).stdout.split('\n').filter((id) => id !== '');
      if (left.length > 0) await this.run(['rm', '--force', ...left]);
      await stop(this.#daemon, 20_000);
    }
    await stopWherry(this.runDir);
    for (const path of mounts().reverse())
      if (path.startsWith(`${folder}/`)) await run('umount', ['--lazy', path]);
    await eventually(`${this.cgroupParent} is empty`, () => {
      removeCgroup(this.cgroupParent);
      return !cgroupRoots().some((root) => existsSync(join(root, this.cgroupParent))) || undefined;
    });
    rmSync(folder, { recursive: true, force: true });
  }
}
