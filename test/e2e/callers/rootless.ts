/**
 * podman as an ordinary user. 4.3 is the machine's own suite's: the user is known in a copy of /etc only, which stands over the machine's own in a
 * private mount namespace. 5.4 runs in a tree of trixie, which has the user in its own /etc.
 */
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { copyEtc } from '../../support/copy-etc.ts';
import { peers, unpackedDebs } from '../../support/debs.ts';
import { imageName, writeImage } from '../../support/image.ts';
import { temporaryFolder, wherryBinary } from '../../support/paths.ts';
import { must, type RunOptions, type RunResult, run } from '../../support/run.ts';
import { Trixie } from '../../support/trixie.ts';
import { CallerPrograms, loadImage, mark } from './packages.ts';

const ID = 4242;
const asUser = ['--reuid', String(ID), '--regid', String(ID), '--clear-groups'];
const RANGE = 'sailor:300000:65536';

export type Suite = 'bookworm' | 'trixie';

/** Where the user lives. */
interface Home {
  podman: string;
  conmon: string;
  /** Lines of containers.conf, of its part [engine]. */
  settings: readonly string[];
  /** Words that run what follows as the user. */
  words: readonly string[];
  end(): Promise<void>;
}

export class RootlessPodman implements AsyncDisposable {
  readonly folder: string;
  readonly #home: Home;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(folder: string, home: Home) {
    this.folder = folder;
    this.#home = home;
    writeFileSync(
      join(folder, 'containers.conf'),
      [
        '[containers]',
        'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]',
        'netns = "host"',
        'log_driver = "k8s-file"',
        '[engine]',
        `conmon_path = ["${home.conmon}"]`,
        ...home.settings,
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
    this.#env = {
      PATH: `${folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: join(folder, 'home'),
      USER: 'sailor',
      XDG_RUNTIME_DIR: join(folder, 'xdg'),
      CONTAINERS_CONF: join(folder, 'containers.conf'),
      CONTAINERS_STORAGE_CONF: join(folder, 'storage.conf'),
      PODMAN_IGNORE_CGROUPSV1_WARNING: '1',
      ...mark(),
    };
  }

  /** With the busybox image loaded. */
  static async start(suite: Suite): Promise<RootlessPodman> {
    const folder = temporaryFolder();
    chmodSync(folder, 0o755);
    for (const name of ['home', 'xdg', 'root', 'run', 'tmp', 'bin'])
      mkdirSync(join(folder, name), { mode: 0o755 });
    const home = await (suite === 'trixie' ? inTrixie(folder) : onBookworm(folder));
    const podman = new RootlessPodman(folder, home);
    try {
      await writeImage((await peers(['bookworm'])).busybox, join(folder, 'image.tar'));
      for (const name of ['home', 'xdg', 'root', 'run', 'tmp'])
        await must('chown', [`${ID}:${ID}`, join(folder, name)]);
      chmodSync(join(folder, 'xdg'), 0o700);
      await podman.must(loadImage(folder));
      return podman;
    } catch (error) {
      await podman[Symbol.asyncDispose]();
      throw error;
    }
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const { folder } = this;
    const [program = '', ...words] = this.#home.words;
    const own = [
      '--root',
      join(folder, 'root'),
      '--runroot',
      join(folder, 'run'),
      '--tmpdir',
      join(folder, 'tmp'),
    ];
    const runtime = ['--runtime', process.env['CALLERS_RUNTIME'] ?? wherryBinary];
    return run(program, [...words, this.#home.podman, ...own, ...runtime, ...args], {
      env: this.#env,
      ...options,
    });
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
    for (const keeper of ['tmp/pause.pid', 'xdg/libpod/tmp/pause.pid'].map((name) =>
      join(this.folder, name),
    )) {
      if (!existsSync(keeper)) continue;
      const pid = Number(readFileSync(keeper, 'utf8'));
      try {
        if (readFileSync(`/proc/${pid}/environ`, 'utf8').includes(this.folder)) process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
    await this.#home.end();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function onBookworm(folder: string): Promise<Home> {
  const programs = await CallerPrograms.open();
  await copyEtc(join(folder, 'etc'));
  const entry = (name: string, line: string) => appendFileSync(join(folder, 'etc', name), `${line}\n`);
  entry('passwd', `sailor:x:${ID}:${ID}::${folder}/home:/bin/sh`);
  entry('group', `sailor:x:${ID}:`);
  for (const name of ['subuid', 'subgid']) writeFileSync(join(folder, 'etc', name), `${RANGE}\n`);
  // They are allowed more than their caller; the copy must be, too.
  for (const name of ['newuidmap', 'newgidmap']) {
    copyFileSync(programs.path(name), join(folder, 'bin', name));
    chmodSync(join(folder, 'bin', name), 0o4755);
  }
  const script = `mount --bind '${folder}/etc' /etc && exec "$@"`;
  const own = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'];
  return {
    settings: [],
    conmon: programs.script(join(folder, 'bin/conmon'), programs.path('conmon'), {}),
    podman: programs.script(join(folder, 'bin/podman'), programs.path('podman'), {}),
    words: [...own, 'setpriv', ...asUser],
    async end() {},
  };
}

async function inTrixie(folder: string): Promise<Home> {
  const trixie = await Trixie.enter(folder);
  const shell = trixie.script(join(folder, 'shell'), '/bin/sh');
  const known = [
    `echo 'sailor:x:${ID}:${ID}::${folder}/home:/bin/sh' >> /etc/passwd`,
    `echo 'sailor:x:${ID}:' >> /etc/group`,
    `echo ${RANGE} | tee /etc/subuid > /etc/subgid`,
    // Where there is udev everybody may open it.
    `mknod -m 666 '${folder}/tun' c 10 200`,
    `{ [ ! -e /dev/net/tun ] || mount --bind '${folder}/tun' /dev/net/tun; }`,
  ];
  const pasta = join(await unpackedDebs('trixie', ['passt']), 'usr/bin');
  await must(shell, ['-c', known.join(' && ')]);
  return {
    conmon: '/usr/bin/conmon',
    settings: [`helper_binaries_dir = ["${pasta}", "/usr/lib/podman", "/usr/libexec/podman"]`],
    podman: '/usr/bin/podman',
    words: [trixie.script(join(folder, 'as-user'), '/usr/bin/setpriv'), ...asUser],
    end: () => trixie[Symbol.asyncDispose](),
  };
}
