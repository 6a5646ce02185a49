/** podman as an ordinary user, who is known in a copy of /etc only, which stands over the machine's own in a private mount namespace. */
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { peers } from '../../support/debs.ts';
import { imageName, writeImage } from '../../support/image.ts';
import { temporaryFolder, wherryBinary } from '../../support/paths.ts';
import { must, type RunOptions, type RunResult, run } from '../../support/run.ts';
import { CallerPrograms, loadImage, mark } from './packages.ts';

const ID = 4242;

export class RootlessPodman implements AsyncDisposable {
  readonly folder: string;
  readonly #command: readonly string[];
  readonly #env: NodeJS.ProcessEnv;

  private constructor(folder: string, programs: CallerPrograms) {
    this.folder = folder;
    for (const name of ['home', 'xdg', 'root', 'run', 'tmp', 'bin'])
      mkdirSync(join(folder, name), { mode: 0o755 });
    cpSync('/etc', join(folder, 'etc'), {
      recursive: true,
      verbatimSymlinks: true,
      preserveTimestamps: true,
    });
    const entry = (name: string, line: string) => appendFileSync(join(folder, 'etc', name), `${line}\n`);
    entry('passwd', `sailor:x:${ID}:${ID}::${folder}/home:/bin/sh`);
    entry('group', `sailor:x:${ID}:`);
    for (const name of ['subuid', 'subgid'])
      writeFileSync(join(folder, 'etc', name), 'sailor:300000:65536\n');
    // They are allowed more than their caller; the copy must be, too.
    for (const name of ['newuidmap', 'newgidmap']) {
      copyFileSync(programs.path(name), join(folder, 'bin', name));
      chmodSync(join(folder, 'bin', name), 0o4755);
    }
    const conmon = programs.script(join(folder, 'bin/conmon'), programs.path('conmon'), {});
    const podman = programs.script(join(folder, 'bin/podman'), programs.path('podman'), {});
    writeFileSync(
      join(folder, 'containers.conf'),
      [
        '[containers]',
        'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]',
        'netns = "host"',
        'log_driver = "k8s-file"',
        '[engine]',
        `conmon_path = ["${conmon}"]`,
        'events_logger = "file"',
        'lock_type = "file"',
        'cgroup_manager = "cgroupfs"',
      ].join('\n'),
    );
    writeFileSync(
      join(folder, 'storage.conf'),
      `[storage]\ndriver = "vfs"\ngraphroot = "${folder}/root"\nrunroot = "${folder}/run"\nrootless_storage_path = "${folder}/root"\n`,
    );
    writeFileSync(join(folder, 'policy.json'), '{"default": [{"type": "insecureAcceptAnything"}]}');
    const script = `mount --bind '${folder}/etc' /etc && exec "$@"`;
    this.#command = [
      ...['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'],
      ...['setpriv', '--reuid', String(ID), '--regid', String(ID), '--clear-groups'],
      ...[
        podman,
        '--root',
        join(folder, 'root'),
        '--runroot',
        join(folder, 'run'),
        '--tmpdir',
        join(folder, 'tmp'),
      ],
      ...['--runtime', process.env['CALLERS_RUNTIME'] ?? wherryBinary],
    ];
    this.#env = {
      PATH: `${folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: join(folder, 'home'),
      USER: 'sailor',
      XDG_RUNTIME_DIR: join(folder, 'xdg'),
      CONTAINERS_CONF: join(folder, 'containers.conf'),
      CONTAINERS_STORAGE_CONF: join(folder, 'storage.conf'),
      ...mark(),
    };
  }

  /** With the busybox image loaded. */
  static async start(): Promise<RootlessPodman> {
    const podman = new RootlessPodman(temporaryFolder(), await CallerPrograms.open());
    const { folder } = podman;
    await writeImage((await peers(['bookworm'])).busybox, join(folder, 'image.tar'));
    chmodSync(folder, 0o755);
    for (const name of ['home', 'xdg', 'root', 'run', 'tmp'])
      await must('chown', [`${ID}:${ID}`, join(folder, name)]);
    chmodSync(join(folder, 'xdg'), 0o700);
    await podman.must(loadImage(folder));
    return podman;
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run('unshare', [...this.#command, ...args], { env: this.#env, ...options });
  }

  async must(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.run(args, options);
    if (result.code !== 0)
      throw new Error(`podman ${args.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}`);
    return result.stdout.trimEnd();
  }

  container(flags: readonly string[], command: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.run(['run', ...flags, imageName, ...command], options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run(['rm', '--all', '--force', '--time', '0']);
    // It keeps the user namespace for the next call.
    const keeper = join(this.folder, 'tmp/pause.pid');
    if (existsSync(keeper)) {
      const pid = Number(readFileSync(keeper, 'utf8'));
      if (readFileSync(`/proc/${pid}/environ`, 'utf8').includes(this.folder)) process.kill(pid, 'SIGKILL');
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
