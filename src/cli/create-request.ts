/** Flags of create and run → CreateRequest, with runc's checks of the terminal. */
import type { CallerContext, CreateRequest } from '../container/types.ts';
import { WherryError } from '../errors.ts';
import type { Spec } from '../oci/types.ts';
import type { Bundle } from './bundle.ts';
import { type CommandContext, callerPath, keyOf, stateDirOf } from './context.ts';
import type { FlagValues } from './flags.ts';
import { notifyRequest } from './notify-socket.ts';
import type { ClientSession } from './session.ts';

/** What the caller's process hands on to a container whose tape it plays. */
export function callerContext(session: ClientSession): CallerContext {
  const { pid, umask, rlimits, oomScoreAdj, nice, rows, cols, namespaces } = session.request;
  const size = rows > 0 && cols > 0 ? { rows, cols } : undefined;
  const { net: network } = namespaces;
  const own = { umask, rlimits, oomScoreAdj, nice, network };
  return { host: session, pid, ...own, preserveFds: 0, consoleSize: size };
}

export function createRequest(
  context: CommandContext,
  id: string,
  bundle: Bundle,
  detached: boolean,
): CreateRequest {
  const { session, flags, globals } = context;
  const terminal = bundle.config.process.terminal === true;
  const socket = flags.text('console-socket');
  checkTerminal(context, {
    terminal,
    detached,
    socket: socket !== undefined,
    field: 'process.terminal',
  });
  const pidFile = flags.text('pid-file');
  const pidfdSocket = flags.text('pidfd-socket');
  const listening = listeningDescriptors(session);
  const notify = notifyRequest(context);
  return {
    key: keyOf(context, id),
    bundle: bundle.path,
    rootfsMounts: [],
    stdio: { stdin: '', stdout: '', stderr: '', terminal },
    noPivotRoot: flags.on('no-pivot'),
    noNewKeyring: flags.on('no-new-keyring'),
    ...cgroupManager(globals),
    stateDir: stateDirOf(context, id),
    config: listening === 0 ? bundle.config : withListening(bundle.config, listening),
    caller: {
      ...callerContext(session),
      ...(pidFile !== undefined && { pidFile: callerPath(context, pidFile) }),
      ...(socket !== undefined && { consoleSocket: callerPath(context, socket) }),
      ...(notify !== undefined && { notify }),
      ...(pidfdSocket !== undefined && { pidfdSocket: callerPath(context, pidfdSocket) }),
      relayConsole: terminal && !detached,
      preserveFds: (flags.integer('preserve-fds') ?? 0) + listening,
    },
  };
}

/** runc's flag or crun's. */
export function cgroupManager(globals: FlagValues): Pick<CreateRequest, 'systemdCgroup' | 'noCgroup'> {
  const manager = globals.text('cgroup-manager');
  if (manager !== undefined && manager !== 'systemd' && globals.on('systemd-cgroup')) {
    throw new WherryError('invalid-argument', `--cgroup-manager ${manager} contradicts --systemd-cgroup`, {
      path: '--cgroup-manager',
      hint: 'give one of the two',
    });
  }
  return {
    systemdCgroup: globals.on('systemd-cgroup') || manager === 'systemd',
    ...(manager === 'disabled' && { noCgroup: true }),
  };
}

export interface TerminalRequest {
  terminal: boolean;
  detached: boolean;
  /** --console-socket was given. */
  socket: boolean;
  /** What asks for the terminal: a field of config.json or a flag. */
  field: string;
}

/** The sentences are runc's, with the flag that helps. */
export function checkTerminal(
  { program, session }: CommandContext,
  { terminal, detached, socket, field }: TerminalRequest,
): void {
  const leave = field.startsWith('--') ? `leave out ${field}` : `set ${field} to false`;
  if (detached && terminal && !socket) {
    throw new WherryError(
      'invalid-argument',
      `cannot allocate tty if ${program} will detach without setting console socket`,
      { path: field, hint: `give --console-socket, or ${leave}` },
    );
  }
  if (socket && (!detached || !terminal)) {
    throw new WherryError(
      'invalid-argument',
      `cannot use console socket if ${program} will not detach or allocate tty`,
      {
        path: '--console-socket',
        hint: terminal
          ? 'give --detach too'
          : `leave it out, or set ${field}${field.startsWith('--') ? '' : ' to true'}`,
      },
    );
  }
  if (terminal && !detached && !session.request.isTerminal.includes(true)) {
    throw new WherryError('invalid-argument', 'cannot allocate tty: the caller has no terminal', {
      path: field,
      hint: `${field.startsWith('--') ? 'leave it out' : 'set it to false in config.json'}, or call from a terminal`,
    });
  }
}

/** Descriptors that a service manager passed to the caller (sd_listen_fds(3)): they come before those of --preserve-fds. */
function listeningDescriptors(session: ClientSession): number {
  const { env, pid } = session.request;
  const count = Number(env['LISTEN_FDS'] ?? 0);
  return env['LISTEN_PID'] === String(pid) && Number.isInteger(count) && count > 0 ? count : 0;
}

function withListening(config: Spec, count: number): Spec {
  const env = [...(config.process.env ?? []), `LISTEN_FDS=${count}`, 'LISTEN_PID=1'];
  return { ...config, process: { ...config.process, env } };
}
