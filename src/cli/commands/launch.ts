/** `launch`: a command in a container, without a bundle of the caller's. */
import type { CreateRequest } from '../../container/types.ts';
import { WaitFlags } from '../../daemon/wire.ts';
import { WherryError } from '../../errors.ts';
import { currentArch } from '../../linux/arch.ts';
import { checkConfig } from '../../oci/config.ts';
import { launchSpec } from '../../oci/launch.ts';
import { parseCpus, parseMemory, parsePids, parseUser } from '../../oci/limits.ts';
import type { Spec } from '../../oci/types.ts';
import { assertFolder } from '../bundle.ts';
import { type CommandContext, callerPath, keyOf, stateDirOf } from '../context.ts';
import { callerContext } from '../create-request.ts';
import { runInForeground } from '../foreground.ts';
import { checkId, makeId } from '../ids.ts';
import { type LaunchFolder, makeLaunchFolder, removeLaunchFolder } from '../launch-folder.ts';
import { assertSameView } from '../namespaces.ts';
import { shown } from '../parse.ts';

/** docker's statuses for what is not the command's own. */
const NOT_MADE = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;

/** gethostname(2): 64 with the end. */
const HOSTNAME_MAX = 63;

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
  const config = launchConfig(context, id, rootfs);
  const folder = await makeLaunchFolder(deps.paths.runDir, rootfs === undefined);
  try {
    const request: CreateRequest = {
      key: keyOf(context, id),
      bundle: folder.path,
      rootfsMounts: [],
      rootfsOverlay: folder.view ? { lower: '/' } : undefined,
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

function launchConfig(context: CommandContext, id: string, rootfs: string | undefined): Spec {
  const { session, flags, args } = context;
  const terminal = flags.on('tty');
  const limit = <T>(name: string, parse: (text: string, flag: string) => T): T | undefined => {
    const text = flags.text(name);
    return text === undefined ? undefined : parse(text, `--${name}`);
  };
  const spec = launchSpec({
    id,
    args: [...args],
    machine: currentArch(),
    rootfs,
    readonly: flags.on('read-only'),
    terminal,
    env: environment(flags.list('env'), session.request.env, terminal),
    cwd: workdir(flags.text('workdir')),
    user: limit('user', parseUser),
    hostname: hostname(flags.text('hostname')),
    memory: limit('memory', parseMemory),
    cpus: limit('cpus', parseCpus),
    pids: limit('pids', parsePids),
  });
  if (flags.text('network') === 'host') {
    spec.linux!.namespaces = spec.linux!.namespaces?.filter(({ type }) => type !== 'network');
  }
  return checkConfig(spec, 'launch').config;
}

function hostname(given: string | undefined): string | undefined {
  if (given === undefined || Buffer.byteLength(given) <= HOSTNAME_MAX) return given;
  throw invalid('--hostname', given, `expected at most ${HOSTNAME_MAX} bytes`);
}

function workdir(given: string | undefined): string | undefined {
  if (given === undefined || given.startsWith('/')) return given;
  throw invalid('--workdir', given, 'expected an absolute path');
}

/** The terminal's name, and what --env says: as in docker, a variable that the caller does not have is not set. */
function environment(
  given: readonly string[],
  callers: Readonly<Record<string, string>>,
  terminal: boolean,
): string[] {
  const variables = terminal && callers['TERM'] ? [`TERM=${callers['TERM']}`] : [];
  for (const entry of given) {
    const name = entry.split('=', 1)[0]!;
    if (name === '')
      throw invalid('--env', entry, 'expected KEY=VALUE, or KEY to hand on the value of the caller');
    if (name !== entry) variables.push(entry);
    else if (callers[name] !== undefined) variables.push(`${name}=${callers[name]}`);
  }
  return variables;
}

function invalid(flag: string, value: string, expected: string): WherryError {
  return new WherryError(
    'invalid-argument',
    `invalid value "${shown(value)}" for flag ${flag}: ${expected}`,
    {
      path: flag,
    },
  );
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
