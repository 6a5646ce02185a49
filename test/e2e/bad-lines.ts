/**
 * Command lines that cannot be, for bad-arguments.test.ts. ID stands for a bad id, BUNDLE for a good bundle, LIVE for a container that
 * runs. Wherry's exit code is runc's unless `otherwise` says what it is and why.
 */
export interface Line {
  words: readonly string[];
  /** Only Wherry has it. */
  own?: boolean;
  otherwise?: readonly [code: number, why: string];
}

const runc = (...words: string[]): Line => ({ words });
const own = (...words: string[]): Line => ({ words, own: true });
const differs = (code: number, why: string, ...words: string[]): Line => ({ words, otherwise: [code, why] });

/** Every command that takes an id. */
export const commands: readonly Line[] = [
  runc('create', '-b', 'BUNDLE', 'ID'),
  runc('run', '-b', 'BUNDLE', 'ID'),
  runc('restore', '-b', 'BUNDLE', '--image-path', '/proc/nowhere', 'ID'),
  runc('start', 'ID'),
  runc('state', 'ID'),
  runc('kill', 'ID'),
  runc('delete', 'ID'),
  runc('exec', 'ID', 'true'),
  runc('ps', 'ID'),
  runc('pause', 'ID'),
  runc('resume', 'ID'),
  runc('update', '--pids-limit', '5', 'ID'),
  runc('events', '--stats', 'ID'),
  runc('checkpoint', 'ID'),
  own('stop', 'ID'),
  own('wait', 'ID'),
  own('rm', 'ID'),
  own('logs', 'ID'),
  own('attach', 'ID'),
  own('inspect', 'ID'),
  own('stats', '--no-stream', 'ID'),
  own('mounts', 'add', 'ID', '/dev/null'),
  own('mounts', 'remove', 'ID', '/dev/null'),
];

export const ids: Readonly<Record<string, string>> = {
  empty: '',
  'of 1,025 characters': 'x'.repeat(1025),
  'of a parent folder': '../x',
  'of two folders': 'a/b',
  'that is a folder': '..',
  'with a newline': 'a\nb',
  'with an escape': 'a\u001b[31mb',
  'of another script': 'ποτάμι',
  'with a blank': 'a b',
  'that is a flag': '-x',
};

const without = ({ words, ...rest }: Line): Line => ({
  words: words.filter((word) => !word.endsWith('ID')),
  ...rest,
});

const bundles = ['create', 'run'].flatMap((command): Line[] => [
  runc(command, '-b', '/dev/null', 'x'),
  runc(command, '-b', '/etc/hostname', 'x'),
  runc(command, '-b', '/proc/nowhere', 'x'),
  runc(command, '-b', '/etc', 'x'),
  runc(command, '-b', 'BUNDLE/rootfs', 'x'),
  runc(command, '--bundle'),
  runc(command, '--no-such', '-b', 'BUNDLE', 'x'),
  runc(command, '--pid-file', '/proc/nowhere/pid', '-b', 'BUNDLE', 'x'),
  runc(command, '--console-socket', '/proc/nowhere/s', '-b', 'BUNDLE', 'x'),
  runc(command, '--preserve-fds', 'many', '-b', 'BUNDLE', 'x'),
  runc(command, '--preserve-fds', '99999999999999999999', '-b', 'BUNDLE', 'x'),
  runc(command, '--preserve-fds', '9', '-b', 'BUNDLE', 'x'),
  runc(command, '--no-pivot=perhaps', '-b', 'BUNDLE', 'x'),
]);

const limits = [
  ...['--memory', '--memory-swap', '--memory-reservation'].flatMap((flag) =>
    ['much', '-5', '5x', '1e9', '0x10', '99999999999999999999'].map((value) =>
      runc('update', flag, value, 'LIVE'),
    ),
  ),
  ...['period', 'quota', 'share', 'burst', 'rt-period', 'rt-runtime'].flatMap((flag) =>
    ['much', '1.5', '99999999999999999999'].map((value) => runc('update', `--cpu-${flag}`, value, 'LIVE')),
  ),
  runc('update', '--cpu-period', '-5', 'LIVE'),
  runc('update', '--cpu-quota', '1', 'LIVE'),
  runc('update', '--cpu-period', '1', 'LIVE'),
  runc('update', '--cpu-share', '-5', 'LIVE'),
  runc('update', '--cpu-idle', '7', 'LIVE'),
  runc('update', '--cpu-idle', 'x', 'LIVE'),
  runc('update', '--cpuset-cpus', '9999', 'LIVE'),
  runc('update', '--cpuset-cpus', 'all', 'LIVE'),
  runc('update', '--cpuset-mems', '9999', 'LIVE'),
  runc('update', '--pids-limit', 'many', 'LIVE'),
  runc('update', '--pids-limit', '99999999999999999999', 'LIVE'),
  differs(1, 'runc says nothing where the kernel has no such file', 'update', '--blkio-weight', '5', 'LIVE'),
  runc('update', '--blkio-weight', '99999', 'LIVE'),
  runc('update', '--blkio-weight', 'x', 'LIVE'),
  runc('update', '-r', '/proc/nowhere', 'LIVE'),
  runc('update', '-r', '/etc', 'LIVE'),
  runc('update', '-r', '/etc/hostname', 'LIVE'),
  runc('update', '-r', '-', 'LIVE'),
];

const processes = [
  differs(0, 'a shell', 'exec', 'LIVE'),
  runc('exec', 'LIVE', ''),
  runc('exec', 'LIVE', '/nowhere'),
  runc('exec', 'LIVE', 'nosuch'),
  runc('exec', 'LIVE', '/etc'),
  runc('exec', 'LIVE', '/etc/passwd'),
  runc('exec', 'LIVE', 'x'.repeat(5000)),
  runc('exec', '--no-such', 'LIVE', 'true'),
  runc('exec', '--cwd', 'relative', 'LIVE', 'true'),
  runc('exec', '--cwd', '/proc/nowhere', 'LIVE', 'true'),
  runc('exec', '--cwd', '/etc/passwd', 'LIVE', 'true'),
  runc('exec', '--user', 'x:y', 'LIVE', 'true'),
  runc('exec', '--user', '-1', 'LIVE', 'true'),
  differs(255, 'runc takes it for root', 'exec', '--user', '4294967296', 'LIVE', 'true'),
  runc('exec', '--user', '1:x', 'LIVE', 'true'),
  differs(
    255,
    'as for every exec that did not come to run',
    'exec',
    '--additional-gids',
    'x',
    'LIVE',
    'true',
  ),
  differs(255, 'runc leaves it out with a warning', 'exec', '--cap', 'CAP_NONE', 'LIVE', 'true'),
  runc('exec', '--preserve-fds', 'x', 'LIVE', 'true'),
  runc('exec', '--preserve-fds', '9', 'LIVE', 'true'),
  runc('exec', '--process', '/proc/nowhere', 'LIVE'),
  runc('exec', '--process', '/etc', 'LIVE'),
  runc('exec', '--process', '/etc/hostname', 'LIVE'),
  runc('exec', '--pid-file', '/proc/nowhere/pid', 'LIVE', 'true'),
  runc('exec', '-t', '-d', 'LIVE', 'true'),
  runc('exec', '-t', '-d', '--console-socket', '/proc/nowhere/s', 'LIVE', 'true'),
  runc('exec', '--console-socket', '/proc/nowhere/s', 'LIVE', 'true'),
  runc('exec', '--cgroup', '../..', 'LIVE', 'true'),
  runc('exec', '--cgroup', 'nosuch', 'LIVE', 'true'),
  runc('exec', '--cgroup', 'weather:x', 'LIVE', 'true'),
  runc('exec', '--env', 'NOVALUE', 'LIVE', 'true'),
  runc('exec', '--env', '=x', 'LIVE', 'true'),
];

const signals = [
  'NOSUCH',
  'SIG',
  'SIGNOSUCH',
  '-5',
  '-1',
  '1e3',
  '9.5',
  ' 9',
  '99999999999999999999',
  '999',
  '65',
  '0',
];

const launches: readonly (readonly string[])[] = [
  ['--memory', 'much'],
  ['--memory', '-5'],
  ['--memory', '0'],
  ['--cpus', '0'],
  ['--cpus', '-1'],
  ['--cpus', 'all'],
  ['--pids', 'many'],
  ['--pids', '-7'],
  ['--hostname', 'x'.repeat(65)],
  ['--env-file', '/proc/nowhere'],
  ['--env-file', '/etc'],
  ['--volume', ''],
  ['--volume', ':'],
  ['--volume', '/proc/nowhere:/x'],
  ['--volume', '/etc:relative'],
  ['--volume', '/etc:/x:perhaps'],
  ['--cap-add', 'NONE'],
  ['--cap-drop', 'NONE'],
  ['--user', 'nosuchuser'],
  ['--user', '-1'],
  ['--user', '1:2:3'],
  ['--workdir', 'relative'],
  ['--network', 'weather'],
  ['--rootfs', '/proc/nowhere'],
  ['--rootfs', '/etc/hostname'],
  ['--rm', '--no-such'],
  ['--name', 'LIVE'],
  ...Object.values(ids)
    .filter((id) => id !== '')
    .map((id) => [`--name=${id}`]),
];

export const flags: readonly Line[] = [
  // Nobody's id.
  ...commands
    .filter(({ words }) => !/^(create|run|restore|launch)$/.test(words[0] ?? ''))
    .map(({ words, ...rest }) => ({
      words: words.map((word) => (word === 'ID' ? 'nosuch' : word)),
      ...rest,
    })),
  // How many arguments there are.
  ...commands.filter(({ words }) => words[0] !== 'ps' && words[0] !== 'stats').map(without),
  differs(0, 'all containers', 'ps'),
  runc('state', 'LIVE', 'LIVE'),
  runc('start', 'LIVE', 'LIVE'),
  runc('delete', 'LIVE', 'LIVE'),
  runc('pause', 'LIVE', 'LIVE'),
  runc('update', 'LIVE', 'LIVE'),
  runc('create', '-b', 'BUNDLE', 'LIVE', 'LIVE'),
  runc('kill', 'LIVE', 'TERM', 'TERM'),
  runc('list', 'LIVE'),
  runc('features', 'LIVE'),
  // An id that is taken.
  runc('create', '-b', 'BUNDLE', 'LIVE'),
  runc('run', '-b', 'BUNDLE', 'LIVE'),
  runc('restore', '-b', 'BUNDLE', '--image-path', 'BUNDLE', 'LIVE'),
  // The wrong state.
  runc('start', 'LIVE'),
  runc('resume', 'LIVE'),
  runc('delete', 'LIVE'),
  own('rm', 'LIVE'),
  // Flags before the command.
  runc('--no-such', 'list'),
  runc('--log-format', 'xml', 'list'),
  differs(
    0,
    'the log is opened when there is something to write to it',
    '--log',
    '/proc/nowhere/log',
    'list',
  ),
  differs(0, 'there is nothing there, so there is nothing in it', '--root', '/proc/nowhere', 'list'),
  runc('--root', '/dev/null', 'list'),
  runc('--root', '/dev/null', 'create', '-b', 'BUNDLE', 'x'),
  differs(1, 'runc looks at it only where it matters', '--rootless', 'perhaps', 'list'),
  runc('--debug=perhaps', 'list'),
  runc('nosuch', 'LIVE'),
  ...bundles,
  runc('spec', '-b', '/proc/nowhere'),
  runc('spec', '-b', '/dev/null'),
  runc('spec', '-b', 'BUNDLE'),
  ...signals.map((signal) => runc('kill', 'LIVE', '--', signal)),
  ...limits,
  ...processes,
  // What is shown.
  runc('list', '-f', 'xml'),
  runc('ps', '-f', 'xml', 'LIVE'),
  runc('ps', 'LIVE', '--no-such'),
  runc('events', '--interval', '0', 'LIVE'),
  runc('events', '--interval', '-5s', 'LIVE'),
  runc('events', '--interval', 'often', 'LIVE'),
  runc('events', '--interval', '5', 'LIVE'),
  // Images.
  runc('checkpoint', '--manage-cgroups-mode', 'perhaps', 'LIVE'),
  runc('checkpoint', '--image-path', '/dev/null', 'LIVE'),
  runc('checkpoint', '--empty-ns', 'weather', 'LIVE'),
  runc('restore', '-b', 'BUNDLE', '--image-path', '/dev/null', 'x'),
  runc('restore', '-b', 'BUNDLE', '--image-path', 'BUNDLE', 'x'),
  runc('restore', '-b', '/proc/nowhere', '--image-path', 'BUNDLE', 'x'),
  // Our own.
  ...launches.map((given) => own('launch', ...given, '--', '/bin/true')),
  own('launch'),
  own('explain', '/proc/nowhere'),
  own('stop', '--time', '-5', 'LIVE'),
  own('stop', '--time', 'soon', 'LIVE'),
  own('logs', '--tail', '-5', 'LIVE'),
  own('logs', '--tail', 'x', 'LIVE'),
  own('attach', '--detach-keys', 'ctrl-', 'LIVE'),
  own('stats', '--interval', '0', 'LIVE'),
  own('stats', '--interval', 'x', 'LIVE'),
  own('inspect', '--format', 'xml', 'LIVE'),
  own('completion', 'sh'),
  own('daemon', 'nosuch'),
  own('daemon', 'stop', '--no-such'),
  own('mounts', 'add', 'LIVE', '/proc/nowhere'),
  own('mounts', 'add', '--volume', ':', 'LIVE'),
  own('mounts', 'add', '--mount', 'type=weather', 'LIVE'),
  own('mounts', 'remove', '--target', '/proc/nowhere', 'LIVE'),
];
