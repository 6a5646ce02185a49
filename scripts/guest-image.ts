/**
 * The guest's system: a small Debian with systemd and the cloud kernel, bootstrapped from the machine's own mirror into .cache/guest/.
 * What is tested is not in it (guest-payload.ts), so it is made once.
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { machineMirror } from '../test/support/debs.ts';
import { cache, root as repository } from '../test/support/paths.ts';
import { makeInitrd } from './guest-initrd.ts';
import { capture, say, show } from './tools.ts';

const suite = 'bookworm';
const packages = [
  ...['systemd', 'systemd-sysv', 'dbus', 'dbus-user-session', 'libpam-systemd', 'udev', 'kmod'],
  ...[
    'busybox-static',
    'libseccomp2',
    'util-linux',
    'mount',
    'iproute2',
    'procps',
    'strace',
    'linux-image-cloud-amd64',
  ],
  // Security modules: what compiles and loads the profile and the policy of the tests.
  ...['apparmor', 'checkpolicy'],
  // An ordinary user's ranges of ids.
  'uidmap',
  // What podman's conmon needs.
  'libglib2.0-0',
];
/** Host packages that this script runs, and a file that shows each is there. */
const tools = [
  ['qemu-system-x86', '/usr/bin/qemu-system-x86_64'],
  ['mmdebstrap', '/usr/bin/mmdebstrap'],
  ['e2fsprogs', '/sbin/mke2fs'],
] as const;
/** Do nothing for a test and cost seconds of an emulated processor. */
const masked = [
  ...[
    'getty@tty1.service',
    'serial-getty@ttyS0.service',
    'getty-static.service',
    'systemd-update-utmp.service',
  ],
  ...[
    'systemd-timesyncd.service',
    'systemd-networkd.service',
    'systemd-resolved.service',
    'systemd-pstore.service',
  ],
  ...[
    'apt-daily.timer',
    'apt-daily-upgrade.timer',
    'dpkg-db-backup.timer',
    'e2scrub_all.timer',
    'e2scrub_reap.service',
  ],
  ...['fstrim.timer', 'systemd-tmpfiles-clean.timer', 'systemd-random-seed.service', 'modprobe@drm.service'],
  ...['systemd-journal-flush.service', 'systemd-machine-id-commit.service', 'systemd-firstboot.service'],
  'apparmor.service',
  ...['systemd-update-utmp-runlevel.service', 'ldconfig.service', 'systemd-hwdb-update.service'],
];
/** A user of the guest with a manager of its own, to which systemd delegates controllers. */
export const guestUser = { name: 'guest', uid: 1000 };
export const portName = 'wherry.tests';

export interface GuestImage {
  kernel: string;
  initrd: string;
  /** ext4; booted as a snapshot, so it never changes. */
  disk: string;
  /** Package versions in it, one a line. */
  packages: string;
}

/** What is missing is made, which takes two minutes and the network. */
export function ensureGuestImage(): GuestImage {
  const folder = join(cache, 'guest', key());
  if (!existsSync(folder)) {
    installTools();
    say(`Making the guest's system in ${folder}`);
    build(folder);
  }
  const at = (name: string): string => join(folder, name);
  return { kernel: at('vmlinuz'), initrd: at('initrd'), disk: at('disk.ext4'), packages: at('packages') };
}

/** All that decides what is in the image, this file included. */
function key(): string {
  const sources = ['guest-image.ts', 'guest-initrd.ts'].map((name) =>
    readFileSync(join(import.meta.dirname, name)),
  );
  const hash = createHash('sha256');
  for (const text of [...sources, suite, ...packages]) hash.update(text);
  return hash.digest('hex').slice(0, 16);
}

export function installTools(): void {
  const missing = tools.filter(([, file]) => !existsSync(file)).map(([name]) => name);
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    throw new Error(
      `missing on this machine: ${missing.join(' ')}; install them (on Debian, as root: apt-get install)`,
    );
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  say(`Installing Debian packages: ${missing.join(' ')}`);
  if (
    show('apt-get', ['-q', 'update'], { env }) !== 0 ||
    show('apt-get', ['-q', 'install', '-y', '--no-install-recommends', ...missing], { env }) !== 0
  ) {
    throw new Error(`apt-get install ${missing.join(' ')} failed`);
  }
}

function build(folder: string): void {
  const work = `${folder}.${process.pid}`;
  const system = join(work, 'system');
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  try {
    const excluded = ['doc', 'man', 'locale', 'info', 'i18n', 'zoneinfo'].map(
      (name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`,
    );
    capture('mmdebstrap', [
      ...['--mode=root', '--variant=minbase', `--include=${packages.join(',')}`, ...excluded],
      '--aptopt=APT::Install-Recommends "false"',
      '--aptopt=Acquire::Languages "none"',
      '--aptopt=Acquire::Retries "3"',
      // The file below is there before its package.
      '--dpkgopt=force-confold',
      // The initrd is our own; making Debian's takes longer than all the rest.
      '--essential-hook=mkdir -p "$1/etc/initramfs-tools" && echo update_initramfs=no > "$1/etc/initramfs-tools/update-initramfs.conf" && echo do_initrd = no > "$1/etc/kernel-img.conf"',
      ...[suite, system, machineMirror()],
    ]);
    const list = ['-W', `--admindir=${system}/var/lib/dpkg`];
    writeFileSync(join(work, 'packages'), capture('dpkg-query', list));
    configure(system);
    const version = readdirSync(join(system, 'lib/modules'))[0] ?? '';
    renameSync(join(system, 'boot', `vmlinuz-${version}`), join(work, 'vmlinuz'));
    writeFileSync(join(work, 'initrd'), makeInitrd(system, version));
    slim(system, version);
    const disk = join(work, 'disk.ext4');
    capture('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', system, disk, '640M']);
    rmSync(system, { recursive: true });
    if (existsSync(folder)) return;
    // Guests of other versions of this script are of no more use.
    for (const old of readdirSync(dirname(folder))) {
      if (/^[0-9a-f]{16}$/.test(old)) rmSync(join(dirname(folder), old), { recursive: true });
    }
    renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * The unit that runs what the second disk says, and gives its output and status to a virtio port. The port is looked up in sysfs: udev's link to
 * it may come after the unit has begun. What goes wrong before that is told on the console.
 */
const unit = `[Unit]
Description=Run the tests of the second disk
After=dbus.service systemd-logind.service user@${guestUser.uid}.service
Wants=dbus.service systemd-logind.service
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/bin/sh /wherry-run
StandardInput=null
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/console
TimeoutStartSec=infinity
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
`;

const run = `set -eu
tries=0
until port=$(grep -lx '${portName}' /sys/class/virtio-ports/*/name 2>/dev/null) && [ -b /dev/vdb ]; do
  tries=$((tries + 1))
  [ $tries -le 600 ] || { echo 'no port or no second disk after 60 s'; ls /sys/class/virtio-ports /dev; exit 1; }
  sleep 0.1
done
device=/dev/$(basename "$(dirname "$port")")
until [ -c "$device" ]; do sleep 0.1; done
mount -t ext4 -o noatime /dev/vdb /wherry
exec >"$device" 2>&1
set +e
. /wherry/guest-command
echo "guest-exit-status: $?"
sync
`;

function configure(system: string): void {
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(system, path)), { recursive: true });
    writeFileSync(join(system, path), text);
  };
  const link = (path: string, to: string): void => {
    mkdirSync(dirname(join(system, path)), { recursive: true });
    rmSync(join(system, path), { force: true });
    symlinkSync(to, join(system, path));
  };
  mkdirSync(join(system, 'wherry'));
  put('etc/systemd/system/wherry-tests.service', unit);
  put('wherry-run', run);
  put('etc/fstab', '');
  put('etc/hostname', 'guest\n');
  // Pods get copies.
  put('etc/hosts', '127.0.0.1 localhost guest\n');
  put('etc/resolv.conf', '');
  put('etc/machine-id', `${'0123456789abcdef'.repeat(2)}\n`);
  put('etc/systemd/journald.conf.d/volatile.conf', '[Journal]\nStorage=volatile\n');
  link('etc/systemd/system/default.target', '/lib/systemd/system/multi-user.target');
  link(
    'etc/systemd/system/multi-user.target.wants/wherry-tests.service',
    '/etc/systemd/system/wherry-tests.service',
  );
  for (const name of masked) link(`etc/systemd/system/${name}`, '/dev/null');
  const { name, uid } = guestUser;
  for (const [file, line] of [
    ['passwd', `${name}:x:${uid}:${uid}::/home/${name}:/bin/sh`],
    ['group', `${name}:x:${uid}:`],
    ['shadow', `${name}:!:19000::::::`],
    ['subuid', `${name}:100000:65536`],
    ['subgid', `${name}:100000:65536`],
  ] as const) {
    const path = join(system, 'etc', file);
    writeFileSync(path, `${existsSync(path) ? readFileSync(path, 'utf8') : ''}${line}\n`);
  }
  capture('install', ['-d', '-o', String(uid), '-g', String(uid), join(system, 'home', name)]);
  put(`var/lib/systemd/linger/${name}`, '');
}

/** Nothing is installed in it any more, and most modules drive hardware that an emulator has not. */
function slim(system: string, version: string): void {
  const gone = [
    ...[
      'boot',
      'var/lib/apt/lists',
      'var/cache/apt',
      'var/lib/dpkg/info',
      'usr/lib/x86_64-linux-gnu/perl-base',
      'usr/share/perl5',
    ],
    ...[
      'net/netfilter',
      'arch',
      'sound',
      'kernel/drivers/net/ethernet',
      'kernel/drivers/infiniband',
      'kernel/drivers/scsi',
    ].map((path) => `lib/modules/${version}/${path}`),
  ];
  for (const path of gone) rmSync(join(system, path), { recursive: true, force: true });
}

if (import.meta.main) say(JSON.stringify({ ...ensureGuestImage(), repository }));
