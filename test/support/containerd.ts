/** A containerd of our own: private root, state, sockets and Wherry run folder; everything of it ends with stop(). */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mounts, removeCgroup } from './cgroups.ts';
import { type ContainerdVersion, peers, suiteOf } from './debs.ts';
import { imageName, writeImage } from './image.ts';
import { bin, temporaryFolder, uniqueId } from './paths.ts';
import { eventually, must, type RunOptions, type RunResult, run, stop } from './run.ts';
import { type DaemonPids, daemonOf, stopWherry } from './wherry.ts';

export interface ContainerdOptions {
  /** Written to config.json of the private Wherry run folder. */
  wherryConfig?: Record<string, unknown>;
  env?: NodeJS.ProcessEnv;
  /** Before dist/bin on the PATH of containerd. */
  path?: string[];
  /** Folder of another containerd and ctr than Debian's, of the same series as `version`. */
  binaries?: string;
  /** With CRI: its part of the configuration, made of this instance's folder. CRI's namespace is k8s.io. */
  cri?: (folder: string) => string;
  /** Its log tells of every event that it is given. */
  debug?: boolean;
}

export interface Task {
  pid: number;
  status: string;
}

/** What `ctr task ls` printed, by id. */
export function parseTasks(text: string): Map<string, Task> {
  const rows = text.trim().split('\n').slice(1);
  const words = rows.map((row) => row.split(/\s+/));
  return new Map(words.map(([id = '', pid, status = '']) => [id, { pid: Number(pid), status }]));
}

export class Containerd implements AsyncDisposable {
  #version: ContainerdVersion;
  readonly folder: string;
  readonly address: string;
  readonly namespace: string;
  /** WHERRY_RUN_DIR of this instance. */
  readonly runDir: string;
  #binaries: string;
  readonly #env: NodeJS.ProcessEnv;
  /** Where the runc is that containerd's own shim executes. */
  runcFolder = '';
  readonly #flags: readonly string[];
  #child: ChildProcess;

  private constructor(
    version: ContainerdVersion,
    folder: string,
    binaries: string,
    env: NodeJS.ProcessEnv,
    namespace: string,
    flags: readonly string[],
  ) {
    this.#version = version;
    this.folder = folder;
    this.namespace = namespace;
    this.address = join(folder, 'c.sock');
    this.runDir = join(folder, 'w');
    this.#binaries = binaries;
    this.#env = env;
    this.#flags = flags;
    this.#child = this.#spawn();
  }

  /** Resolves when containerd answers and has the busybox image. */
  static async start(version: ContainerdVersion, options: ContainerdOptions = {}): Promise<Containerd> {
    const all = await peers(options.binaries === undefined ? [suiteOf[version]] : []);
    const folder = temporaryFolder();
    const runDir = join(folder, 'w');
    mkdirSync(runDir, { mode: 0o700 });
    if (options.wherryConfig !== undefined) {
      writeFileSync(join(runDir, 'config.json'), JSON.stringify(options.wherryConfig), { mode: 0o600 });
    }
    const configured = configuration(version, folder, options.cri?.(folder));
    writeFileSync(join(folder, 'config.toml'), configured);
    const binaries = options.binaries ?? all.containerd(version);
    // runc comes from bookworm for every containerd: the newer ones' runc needs a newer libc.
    const path = [
      ...(options.path ?? []),
      bin,
      binaries,
      join(all.runc, '..'),
      '/usr/sbin:/usr/bin:/sbin:/bin',
    ];
    const env = { HOME: '/root', ...options.env, PATH: path.join(':'), WHERRY_RUN_DIR: runDir };
    const namespace = options.cri === undefined ? uniqueId('ns') : 'k8s.io';
    const flags = options.debug === true ? ['--log-level', 'trace'] : [];
    const containerd = new Containerd(version, folder, binaries, env, namespace, flags);
    containerd.runcFolder = join(all.runc, '..');
    try {
      await containerd.#answers();
      await containerd.#importImage(all.busybox);
    } catch (error) {
      const log = containerd.log();
      await containerd.stop();
      throw new Error(`containerd ${version} did not start:\n${log}`, { cause: error });
    }
    return containerd;
  }

  #spawn(): ChildProcess {
    const log = openSync(join(this.folder, 'containerd.log'), 'a');
    const child = spawn(
      join(this.#binaries, 'containerd'),
      ['--config', join(this.folder, 'config.toml'), ...this.#flags],
      {
        env: this.#env,
        stdio: ['ignore', log, log],
        detached: true,
      },
    );
    closeSync(log);
    return child;
  }

  async #answers(): Promise<void> {
    await eventually('containerd answers', async () => {
      if (this.#child.exitCode !== null) throw new Error(`containerd ended: ${this.log()}`);
      return (await this.ctr(['version'])).code === 0 || undefined;
    });
  }

  /** Ends containerd, by SIGTERM or by SIGKILL; what it has started goes on. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (signal === 'SIGTERM') return stop(this.#child);
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.kill('SIGKILL');
    await ended;
  }

  /** Starts containerd again after its end, with the same folders; another version or configuration of CRI if given. */
  async again(as?: { version: ContainerdVersion; cri?: (folder: string) => string }): Promise<void> {
    if (as !== undefined) {
      const all = await peers([suiteOf[as.version]]);
      this.#version = as.version;
      this.#binaries = all.containerd(as.version);
      const configured = configuration(as.version, this.folder, as.cri?.(this.folder));
      writeFileSync(join(this.folder, 'config.toml'), configured);
      // Its own shim comes with it.
      this.#env['PATH'] = `${bin}:${this.#binaries}:${this.#env['PATH']}`;
    }
    this.#child = this.#spawn();
    await this.#answers();
  }

  get version(): ContainerdVersion {
    return this.#version;
  }

  async #importImage(busybox: string): Promise<void> {
    const image = join(this.folder, 'busybox.tar');
    await writeImage(busybox, image);
    await must(this.ctrPath, [...this.globalFlags, 'image', 'import', image], { timeout: 120_000 });
    rmSync(image);
  }

  get ctrPath(): string {
    return join(this.#binaries, 'ctr');
  }

  /** What comes before every ctr command. */
  get globalFlags(): string[] {
    return ['--address', this.address, '--namespace', this.namespace];
  }

  /** One ctr command in this instance's namespace. */
  ctr(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(this.ctrPath, [...this.globalFlags, ...args], { timeout: 60_000, ...options });
  }

  /** ctr that must succeed; returns its stdout. */
  async mustCtr(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.ctr(args, options);
    if (result.code !== 0) {
      throw new Error(
        `ctr ${args.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}\n${this.tail()}`,
      );
    }
    return result.stdout;
  }

  /** `ctr run` of the busybox image under a runtime. */
  runContainer(
    runtime: string,
    flags: readonly string[],
    id: string,
    command: readonly string[],
  ): Promise<RunResult> {
    return this.ctr(['run', '--runtime', runtime, ...flags, imageName, id, ...command]);
  }

  /** Of its shim, which must have been started. */
  daemon(): Promise<DaemonPids> {
    return daemonOf(this.runDir);
  }

  async tasks(options: RunOptions = {}): Promise<Map<string, Task>> {
    return parseTasks(await this.mustCtr(['task', 'ls'], options));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  log(): string {
    return readFileSync(join(this.folder, 'containerd.log'), 'utf8');
  }

  /** The last lines of containerd's and wherryd's logs, for a failure's message; why containerd has crashed, if it has. */
  tail(): string {
    const wherryd = join(this.runDir, 'wherryd.log');
    const last = (text: string): string => {
      const crash = text.search(/^(panic|fatal error):/m);
      return crash < 0
        ? text.split('\n').slice(-15).join('\n')
        : text.slice(crash).split('\n').slice(0, 40).join('\n');
    };
    const own = existsSync(wherryd) ? `--- wherryd.log\n${last(readFileSync(wherryd, 'utf8'))}` : '';
    return `--- containerd.log\n${last(this.log())}\n${own}`;
  }

  /** Removes what tests left in containerd, ends it, ends Wherry's daemon and removes every file. */
  async stop(): Promise<void> {
    try {
      await this.#removeAll();
    } finally {
      await stop(this.#child);
      await stopWherry(this.runDir);
      await unmountBelow(this.folder);
      if (this.namespace !== 'k8s.io') {
        removeCgroup(this.namespace);
        // The Go shim leaves runc's folder of the namespace, empty.
        rmSync(join('/run/containerd/runc', this.namespace), { recursive: true, force: true });
      }
      rmSync(this.folder, { recursive: true, force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #removeAll(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const list = async (what: string): Promise<string[]> =>
      (await this.ctr([what, 'ls', '-q'])).stdout.split('\n').filter((line) => line !== '');
    for (const id of await list('task')) await this.ctr(['task', 'rm', '--force', id]);
    for (const id of await list('container')) await this.ctr(['container', 'rm', id]);
  }
}

async function unmountBelow(folder: string): Promise<void> {
  const points = mounts().filter((point) => point.startsWith(`${folder}/`));
  for (const point of points.reverse()) await run('umount', [point]);
}

/**
 * containerd's own, 2 to 5 s, are for a machine that has time: on a busy one a task whose shim answers later is UNKNOWN in a list, and a shim that
 * is slow to answer a containerd that starts is taken for dead.
 */
const timeouts = `[timeouts]
  "io.containerd.timeout.shim.load" = "60s"
  "io.containerd.timeout.shim.cleanup" = "60s"
  "io.containerd.timeout.task.state" = "60s"
  "io.containerd.timeout.metrics.shimstats" = "60s"`;

function configuration(version: ContainerdVersion, folder: string, cri: string | undefined): string {
  const disabled = [
    ...(cri === undefined ? ['grpc.v1.cri', 'cri.v1.images', 'cri.v1.runtime', 'nri.v1.nri'] : []),
    'internal.v1.opt',
    ...['tracing.processor.v1.otlp', 'internal.v1.tracing'],
    ...['aufs', 'btrfs', 'devmapper', 'zfs', 'blockfile', 'erofs'].map((name) => `snapshotter.v1.${name}`),
  ];
  return `version = ${version === '2.1' ? 3 : 2}
root = "${join(folder, 'root')}"
state = "${join(folder, 'state')}"
oom_score = 0
disabled_plugins = [${disabled.map((name) => `"io.containerd.${name}"`).join(', ')}]
[grpc]
  address = "${join(folder, 'c.sock')}"
[debug]
  level = "info"
${timeouts}
${cri ?? ''}`;
}
