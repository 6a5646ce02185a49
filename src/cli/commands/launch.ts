/** `launch`: a command in a container, without a bundle of the caller's. */
import type { CreateRequest } from '../../container/types.ts';
import { WaitFlags } from '../../daemon/wire.ts';
import { WherryError } from '../../errors.ts';
import { assertFolder } from '../bundle.ts';
import { type CommandContext, callerPath, keyOf, stateDirOf } from '../context.ts';
import { callerContext } from '../create-request.ts';
import type { LaunchRequest } from '../dependencies.ts';
import { runInForeground } from '../foreground.ts';
import { checkId, makeId } from '../ids.ts';
import { type LaunchFolder, makeLaunchFolder, removeLaunchFolder } from '../launch-folder.ts';
import { assertSameView } from '../namespaces.ts';

/** docker's statuses for what is not the command's own. */
const NOT_MADE = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;

/** What sethostname(2) takes. */
const HOSTNAME_MAX = 64;

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export async function launchCommand(context: CommandContext): Promise<number> {
  const { session, deps, flags } = context;
  const id = nameOf(context);
  const terminal = flags.on('tty');
  if (terminal && !session.request.isTerminal.includes(true)) {
    throw new WherryError('invalid-argument', 'cannot allocate tty: the caller has no terminal', {
      path: '--tty',
      hint: 'leave it out, or call from a terminal',
    });
  }
  const rootfs = await rootfsOf(context);
  const folder = await makeLaunchFolder(deps.paths.runDir, rootfs === undefined);
  try {
    const config = deps.oci.launchSpec(launchRequest(context, id, rootfs ?? 'rootfs', terminal));
    const request: CreateRequest = {
      key: keyOf(context, id),
      bundle: folder.path,
      rootfsMounts: folder.rootfsMounts,
      stdio: { stdin: '', stdout: '', stderr: '', terminal },
      systemdCgroup: context.globals.on('systemd-cgroup'),
      stateDir: stateDirOf(context, id),
      config,
      caller: { ...callerContext(session), relayConsole: terminal },
    };
    const waitFlags = terminal ? 0 : WaitFlags.KILL_IF_UNHANDLED;
    return await runInForeground(context, request, { waitFlags, keep: false });
  } finally {
    await leaveNothing(context, id, folder);
  }
}

/** The caller may have been killed: then the container is still there, and nobody knows its name. */
async function leaveNothing(context: CommandContext, id: string, folder: LaunchFolder): Promise<void> {
  const { deps, operation } = context;
  const key = keyOf(context, id);
  try {
    const left = deps.runtime.find(key);
    // Another container's bundle under that name is not ours to remove.
    if (left?.bundle === folder.path)
      await deps.runtime.delete(key, true, { requestId: operation.requestId });
    await removeLaunchFolder(folder);
  } catch (error) {
    deps.log.warn('launch left a folder behind', { folder: folder.path, error: String(error) });
  }
}

function nameOf(context: CommandContext): string {
  const given = context.flags.text('name');
  if (given !== undefined) return checkId(given, '--name');
  return makeId((id) => context.deps.runtime.find(keyOf(context, id)) !== undefined);
}

async function rootfsOf(context: CommandContext): Promise<string | undefined> {
  const named = context.flags.text('rootfs');
  if (named === undefined) {
    await assertSameView(context.session, '/', '--rootfs');
    return undefined;
  }
  const path = callerPath(context, named);
  await assertSameView(context.session, path, '--rootfs');
  await assertFolder(path, named, '--rootfs', 'name the folder that is to be "/" inside');
  return path;
}

function launchRequest(
  context: CommandContext,
  id: string,
  rootfs: string,
  terminal: boolean,
): LaunchRequest {
  const { session, flags, args } = context;
  const hostname = flags.text('hostname') ?? id.slice(0, HOSTNAME_MAX);
  if (Buffer.byteLength(hostname) > HOSTNAME_MAX) {
    throw new WherryError(
      'invalid-argument',
      `invalid value for flag --hostname: ${hostname.length} characters`,
      {
        path: '--hostname',
        hint: `at most ${HOSTNAME_MAX} are allowed`,
      },
    );
  }
  return {
    id,
    hostname,
    args: [...args],
    env: environment(flags.list('env'), session.request.env, terminal),
    cwd: flags.text('workdir') ?? '/',
    user: flags.text('user'),
    terminal,
    rootfs,
    readonly: flags.on('read-only'),
    memory: flags.text('memory'),
    cpus: flags.text('cpus'),
    pids: flags.text('pids'),
    network: flags.text('network') === 'host' ? 'host' : 'none',
  };
}

/** PATH, the terminal's name, and what --env says; the last one of a name counts. */
function environment(
  given: readonly string[],
  callers: Readonly<Record<string, string>>,
  terminal: boolean,
): string[] {
  const variables = new Map([['PATH', PATH]]);
  if (terminal) variables.set('TERM', callers['TERM'] || 'xterm');
  for (const entry of given) {
    const equals = entry.indexOf('=');
    const name = equals < 0 ? entry : entry.slice(0, equals);
    if (name === '') {
      throw new WherryError(
        'invalid-argument',
        `invalid value "${entry}" for flag --env: the name is empty`,
        {
          path: '--env',
          hint: 'write KEY=VALUE, or KEY to hand on the value that the caller has',
        },
      );
    }
    const value = equals < 0 ? callers[name] : entry.slice(equals + 1);
    // As in docker: a variable that the caller does not have is not set.
    if (value !== undefined) variables.set(name, value);
  }
  return [...variables].map(([name, value]) => `${name}=${value}`);
}

/** As docker tells them apart, by the texts that runc made the field's own. */
export function launchExitCode(error: WherryError): number {
  const { message, details } = error;
  const ofProgram =
    details.path?.startsWith('process.args') === true ||
    details.syscall?.startsWith('execve') === true ||
    /\bexec:|executable file/.test(message);
  if (!ofProgram || error.kind === 'invalid-argument') return NOT_MADE;
  if (/executable file not found|no such file or directory|not a directory/i.test(message)) return NOT_FOUND;
  if (/permission denied|is a directory|exec format error/i.test(message)) return NOT_EXECUTABLE;
  return NOT_MADE;
}
