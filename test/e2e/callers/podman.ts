/** podman with a storage, configuration and Wherry of its own: 4.3 of bookworm, or 5.4 of trixie in a tree of its own. */
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { cgroupRoots, mounts, removeCgroup } from '../../support/cgroups.ts';
import { peers } from '../../support/debs.ts';
import { imageName, writeImage } from '../../support/image.ts';
import { temporaryFolder, uniqueId, wherryBinary } from '../../support/paths.ts';
import { eventually, must, type RunOptions, type RunResult, run } from '../../support/run.ts';
import { Trixie } from '../../support/trixie.ts';
import { stopWherry } from '../../support/wherry.ts';
import { CallerPrograms, loadImage, mark, runtimeScript } from './packages.ts';

export interface PodmanOptions {
  suite?: 'bookworm' | 'trixie';
  /** Installs Wherry under this name. */
  installedAs?: string;
  /** Another runtime instead of Wherry: shows that the tests ask what is so. */
  runtime?: string | undefined;
  /** The program criu; its folder comes first on the PATH. */
  criu?: string;
  /** Containers are systemd's units. */
  systemd?: boolean;
}

/** Where the programs of one of the two are. */
interface Programs {
  podman: string;
  conmon: string;
  /** A path in podman's own namespaces → one that does the same in the test's. */
  outside(program: string): string;
  end(): Promise<void>;
}

export class Podman implements AsyncDisposable {
  readonly folder: string;
  readonly runDir: string;
  readonly runtime: string;
  readonly #programs: Programs;
  /** The runtime where podman is. */
  readonly #runtimeOutside: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #slice: string | undefined;
  /** Every container's cgroup lies below it. */
  readonly cgroupParent: string;

  private constructor(folder: string, programs: Programs, options: PodmanOptions) {
    this.folder = folder;
    this.#programs = programs;
    this.runDir = join(folder, 'w');
    const parent = uniqueId('podman');
    this.#slice = options.systemd === true ? `${parent.replaceAll('-', '')}.slice` : undefined;
    this.cgroupParent = this.#slice ?? `/${parent}`;
    for (const name of ['w', 'root', 'run', 'tmp']) mkdirSync(join(folder, name), { mode: 0o700 });
    let program = wherryBinary;
    if (options.installedAs !== undefined) {
      program = join(folder, options.installedAs);
      symlinkSync(wherryBinary, program);
    }
    this.runtime = options.runtime ?? runtimeScript(folder, this.runDir, program);
    this.#runtimeOutside = programs.outside(this.runtime);
    this.#env = {
      PATH: `${options.criu === undefined ? '' : `${dirname(options.criu)}:`}/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: folder,
      CONTAINERS_CONF: join(folder, 'containers.conf'),
      CONTAINERS_STORAGE_CONF: join(folder, 'storage.conf'),
      PODMAN_IGNORE_CGROUPSV1_WARNING: '1',
      ...mark(),
    };
    writeFileSync(
      join(folder, 'containers.conf'),
      [
        '[containers]',
        // The machine may not allow to raise what podman would like to raise.
        'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]',
        'netns = "host"',
        'log_driver = "k8s-file"',
        '[engine]',
        `conmon_path = ["${programs.conmon}"]`,
        'events_logger = "file"',
        'lock_type = "file"',
        `cgroup_manager = "${options.systemd === true ? 'systemd' : 'cgroupfs'}"`,
        `runtime_supports_nocgroup = ["${basename(this.runtime)}"]`,
      ].join('\n'),
    );
    writeFileSync(
      join(folder, 'storage.conf'),
      `[storage]\ndriver = "vfs"\ngraphroot = "${folder}/root"\nrunroot = "${folder}/run"\n`,
    );
    writeFileSync(join(folder, 'policy.json'), '{"default": [{"type": "insecureAcceptAnything"}]}');
  }

  /** With the busybox image loaded. */
  static async start(options: PodmanOptions = {}): Promise<Podman> {
    const folder = temporaryFolder();
    const programs = await (options.suite === 'trixie' ? ofTrixie(folder) : ofBookworm(folder));
    const podman = new Podman(folder, programs, options);
    try {
      await writeImage((await peers(['bookworm'])).busybox, join(podman.folder, 'image.tar'));
      await podman.must(loadImage(podman.folder));
      return podman;
    } catch (error) {
      await podman[Symbol.asyncDispose]();
      throw error;
    }
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const { folder, runtime } = this;
    const globals = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run')];
    globals.push('--tmpdir', join(folder, 'tmp'), '--runtime', runtime);
    return run(this.#programs.podman, [...globals, ...args], { env: this.#env, ...options });
  }

  /** stdout without the last newline, of a command that must succeed. */
  async must(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.run(args, options);
    if (result.code !== 0)
      throw new Error(`podman ${args.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}`);
    return result.stdout.trimEnd();
  }

  /** `podman run` of the image. */
  container(flags: readonly string[], command: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.run(['run', '--cgroup-parent', this.cgroupParent, ...flags, imageName, ...command], options);
  }

  /** `podman run -d`; its id. */
  async detached(name: string, command: readonly string[], flags: readonly string[] = []): Promise<string> {
    const result = await this.container(['-d', '--name', name, ...flags], command);
    if (result.code !== 0) throw new Error(`podman run -d: exit code ${result.code}\n${result.stderr}`);
    return result.stdout.trim();
  }

  inspect(name: string, format: string): Promise<string> {
    return this.must(['inspect', '--format', format, name]);
  }

  /** What the runtime itself still knows; podman's containers must all be removed before. */
  async runtimeList(): Promise<string> {
    return (await run(this.#runtimeOutside, ['list', '-q'])).stdout;
  }

  /** The next command starts it anew. */
  stopDaemon(): Promise<void> {
    return stopWherry(this.runDir, this.#programs.outside(wherryBinary));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run(['rm', '--all', '--force', '--time', '0']);
    await this.stopDaemon();
    for (const path of mounts().reverse())
      if (path.startsWith(`${this.folder}/`)) await run('umount', ['--lazy', path]);
    if (this.#slice !== undefined) await must('systemctl', ['stop', this.#slice]);
    // A conmon ends a moment after it has told podman of the exit.
    await eventually(`${this.cgroupParent} is empty`, () => {
      for (const name of ['/conmon', '']) removeCgroup(this.cgroupParent + name);
      return !cgroupRoots().some((root) => existsSync(join(root, this.cgroupParent))) || undefined;
    });
    await this.#programs.end();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function ofBookworm(folder: string): Promise<Programs> {
  const programs = await CallerPrograms.open();
  return {
    podman: programs.script(join(folder, 'podman'), programs.path('podman'), {}),
    conmon: programs.script(join(folder, 'conmon'), programs.path('conmon'), {}),
    outside: (program) => program,
    async end() {},
  };
}

async function ofTrixie(folder: string): Promise<Programs> {
  const trixie = await Trixie.enter(folder);
  return {
    podman: trixie.script(join(folder, 'podman'), '/usr/bin/podman'),
    conmon: '/usr/bin/conmon',
    outside: (program) => trixie.script(join(folder, `${basename(program)}-outside`), program),
    end: () => trixie[Symbol.asyncDispose](),
  };
}
