/**
 * A whole Debian trixie with docker 26 and podman 5, whose daemons do not start on bookworm: made once by mmdebstrap into .cache/trixie/KEY, and
 * entered as a mount namespace of which it is the root. /proc, /sys, /dev, /tmp and this repository are the machine's, under the same paths.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { aptFor, machineMirror } from './debs.ts';
import { cache, root } from './paths.ts';
import { eventually, must, stop } from './run.ts';

const suite = 'trixie';
/** Callers, and what they and Wherry start or load. */
const packages = [
  ...['docker.io', 'docker-cli', 'containerd', 'podman', 'conmon', 'buildah', 'uidmap'],
  ...['mount', 'procps', 'iproute2', 'libseccomp2', 'libstdc++6'],
];
/** Large, and started by nothing here. */
const unused = [
  'usr/bin/containerd-shim',
  'usr/bin/containerd-shim-runc-v1',
  'usr/libexec/buildah',
  'usr/libexec/podman/podman-testing',
  'usr/lib/podman/quadlet',
  'var/lib/dpkg/info',
];

/** Below /usr/share. */
const excluded = ['doc', 'man', 'locale', 'info', 'i18n', 'bash-completion'];
const path = '/usr/sbin:/usr/bin:/sbin:/bin';

/** Milliseconds for a suite that may have to make the tree, on a slow machine. */
export const firstTime = 900_000;

/** The tree's folder; the first time it takes a minute and the network. */
async function trixieTree(): Promise<string> {
  const inputs = JSON.stringify([suite, process.arch, packages, excluded, unused]);
  const folder = join(cache, suite, createHash('sha256').update(inputs).digest('hex').slice(0, 16));
  if (!existsSync(folder)) await build(folder);
  return folder;
}

async function build(folder: string): Promise<void> {
  process.stderr.write(`Making a Debian ${suite} in ${folder}\n`);
  const work = `${folder}.${process.pid}`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  try {
    await installMmdebstrap(folder);
    const { keyring } = await aptFor(suite, join(work, 'apt'));
    const options = [
      ...['--mode=root', '--variant=essential', `--include=${packages.join(',')}`, `--keyring=${keyring}`],
      ...excluded.map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
      ...['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'],
      '--aptopt=Acquire::Retries "3"',
    ];
    const tree = join(work, 'tree');
    const make = ['mmdebstrap', ...options, suite, tree, machineMirror()];
    const held = [join(folder, '../lock'), '/bin/sh', '-c', settle, 'sh', folder, tree, unused.join(' ')];
    await must('flock', ['--close', ...held, ...make], { timeout: 1_200_000 });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** $1: where the tree shall be, $2: where it is made, $3: what it needs not have; then the command that makes it. Trees of other inputs go. */
const settle = `set -e
folder=$1 tree=$2 unused=$3
shift 3
[ ! -e "$folder" ] || exit 0
"$@"
cd "$tree"
rm -rf $unused
cd "$folder/.."
for old in [0-9a-f]???????????????; do
  [ ! -d "$old" ] || rm -rf "$old"
done
mv "$tree" "$folder"
`;

async function installMmdebstrap(folder: string): Promise<void> {
  if (existsSync('/usr/bin/mmdebstrap')) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const script =
    '[ -e /usr/bin/mmdebstrap ] || { apt-get -q update && apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends mmdebstrap; }';
  await must('flock', ['--close', join(folder, '../lock'), '/bin/sh', '-c', script], {
    env,
    timeout: 600_000,
  });
}

/**
 * $1: the tree, $2: an empty folder outside it, $3: this repository. Writes go to a tmpfs, so the tree never changes and nothing is left.
 * The machine's /run is not there: two dockers do not meet.
 */
const enter = `set -e
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
cd "$2/root"
for path in /proc /sys /dev /tmp "$3"; do
  mkdir -p ".$path"
  mount --rbind "$path" ".$path"
done
mkdir old
pivot_root . old
umount -l /old
umount -l "$2" 2>/dev/null || true
rmdir /old
echo entered
exec sleep 1000000
`;

export class Trixie implements AsyncDisposable {
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
  }

  /** `folder`: a private one below /tmp, for the mount point. */
  static async enter(folder: string): Promise<Trixie> {
    const tree = await trixieTree();
    const place = join(folder, 'trixie');
    mkdirSync(place);
    const flags = ['--mount', '--propagation', 'private', '/bin/sh', '-c', enter, 'sh', tree, place, root];
    // It ends with the test, however that ends.
    const holder = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', ...flags], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, PATH: path },
    });
    let said = '';
    holder.stdout.on('data', (chunk: Buffer) => {
      said += chunk;
    });
    const trixie = new Trixie(holder);
    try {
      await eventually('the tree is entered', () => {
        if (holder.exitCode !== null) throw new Error(`the tree of ${suite} cannot be entered`);
        return said.includes('entered') || undefined;
      });
    } catch (error) {
      await trixie[Symbol.asyncDispose]();
      throw error;
    }
    return trixie;
  }

  /** A script at `place` that becomes `program` of the tree, with these variables and all arguments. */
  script(place: string, program: string, env: Record<string, string> = {}): string {
    const variables = Object.entries(env).map(([name, value]) => `export ${name}='${value}'\n`);
    const inside = `nsenter --mount=/proc/${this.#holder.pid}/ns/mnt --`;
    writeFileSync(place, `#!/bin/sh\n${variables.join('')}exec ${inside} '${program}' "$@"\n`);
    chmodSync(place, 0o755);
    return place;
  }

  /** The namespace and its mounts go with the last process in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await stop(this.#holder);
  }
}
