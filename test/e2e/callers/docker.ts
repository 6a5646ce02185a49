/**
 * dockerd with a storage, a containerd, a socket and a Wherry of its own; no network but the host's and none. Either docker 20.10 of bookworm under
 * the machine's own root, or docker 26 of trixie in a tree of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupRoots, mounts, removeCgroup } from '../../support/cgroups.ts';
import { peers } from '../../support/debs.ts';
import { writeRootfs } from '../../support/image.ts';
import { bin, temporaryFolder, uniqueId, wherryBinary } from '../../support/paths.ts';
import { eventually, must, type RunOptions, type RunResult, run, stop } from '../../support/run.ts';
import { Trixie } from '../../support/trixie.ts';
import { stopWherry } from '../../support/wherry.ts';
import { CallerPrograms, mark, runtimeScript } from './packages.ts';

export interface DockerOptions {
  /** Another runtime's program, or its type, instead of Wherry's: shows that the tests ask what is so. */
  runtime?: string | undefined;
  suite?: 'bookworm' | 'trixie';
  /** How Wherry is configured: by the path of its command line, which containerd's Go shim calls, or as a shim by its type. */
  as?: 'command line' | 'shim';
}

/** Where the programs of one of the two are. */
interface Programs {
  daemon: string;
  client: string;
  /** Wherry's command line, in the same namespaces. */
  wherry: string;
  /** What the daemon needs to find its own programs. */
  env: Record<string, string>;
  /** After the daemon's end. */
  [Symbol.asyncDispose](): Promise<void>;
}

export class Docker implements AsyncDisposable {
  readonly folder: string;
  readonly runDir: string;
  readonly cgroupParent = `/${uniqueId('docker')}`;
  #programs: Programs | undefined;
  #daemon: ChildProcess | undefined;

  private constructor(folder: string) {
    this.folder = folder;
    this.runDir = join(folder, 'w');
    for (const name of ['w', 'rootfs']) mkdirSync(join(folder, name), { mode: 0o700 });
  }

  /** With the image `busybox`. */
  static async start(options: DockerOptions = {}): Promise<Docker> {
    const docker = new Docker(temporaryFolder());
    try {
      await docker.#start(options);
    } catch (error) {
      await docker[Symbol.asyncDispose]();
      throw error;
    }
    return docker;
  }

  async #start({ suite, runtime, as }: DockerOptions): Promise<void> {
    const { folder, runDir } = this;
    const peer = await peers(['bookworm']);
    const programs = suite === 'trixie' ? await ofTrixie(folder) : await ofBookworm();
    this.#programs = programs;
    const tried =
      as === 'shim'
        ? { runtimeType: runtime ?? 'io.containerd.wherry.v1' }
        : { path: runtime ?? runtimeScript(folder, runDir) };
    writeFileSync(join(folder, 'daemon.json'), JSON.stringify({ runtimes: { tried } }));
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
      ...['--config-file', join(folder, 'daemon.json')],
    ];
    const log = openSync(join(folder, 'log'), 'a');
    this.#daemon = spawn(programs.daemon, options, {
      // It starts a containerd of its own, by name, and that a shim by its name.
      env: { ...programs.env, HOME: folder, TMPDIR: folder, WHERRY_RUN_DIR: runDir, ...mark() },
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
    const client = this.#programs?.client ?? '';
    return run(client, ['--host', `unix://${this.folder}/sock`, ...args], { env, ...options });
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
    await stopWherry(this.runDir, this.#programs?.wherry);
    for (const path of mounts().reverse())
      if (path.startsWith(`${folder}/`)) await run('umount', ['--lazy', path]);
    await this.#programs?.[Symbol.asyncDispose]();
    await eventually(`${this.cgroupParent} is empty`, () => {
      removeCgroup(this.cgroupParent);
      return !cgroupRoots().some((root) => existsSync(join(root, this.cgroupParent))) || undefined;
    });
    rmSync(folder, { recursive: true, force: true });
  }
}

async function ofBookworm(): Promise<Programs> {
  const programs = await CallerPrograms.open();
  const daemon = programs.path('dockerd');
  const containerd = (await peers(['bookworm'])).containerd('1.6');
  return {
    daemon,
    client: programs.path('docker'),
    wherry: wherryBinary,
    env: {
      PATH: `${containerd}:${join(daemon, '..')}:/usr/sbin:/usr/bin:/sbin:/bin`,
      LD_LIBRARY_PATH: programs.libraries,
    },
    async [Symbol.asyncDispose]() {},
  };
}

async function ofTrixie(folder: string): Promise<Programs> {
  const trixie = await Trixie.enter(folder);
  return {
    daemon: trixie.script(join(folder, 'dockerd'), '/usr/sbin/dockerd'),
    client: trixie.script(join(folder, 'docker'), '/usr/bin/docker'),
    wherry: trixie.script(join(folder, 'wherry'), wherryBinary),
    env: { PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin` },
    [Symbol.asyncDispose]: () => trixie[Symbol.asyncDispose](),
  };
}
