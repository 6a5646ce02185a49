/** `launch`: a command in a container, without a bundle of the caller's. */
import type { CreateRequest } from '../../container/types.ts';
import { lookUpUser } from '../../container/users.ts';
import { WaitFlags } from '../../daemon/wire.ts';
import { WherryError } from '../../errors.ts';
import { currentArch } from '../../linux/arch.ts';
import { checkConfig } from '../../oci/config.ts';
import { dockerCapabilities, launchSpec } from '../../oci/launch.ts';
import { parseCpus, parseMemory, parsePids } from '../../oci/limits.ts';
import type { Spec } from '../../oci/types.ts';
import { assertFolder } from '../bundle.ts';
import { type CommandContext, callerPath, keyOf, stateDirOf } from '../context.ts';
import { callerContext, cgroupManager } from '../create-request.ts';
import { runInForeground } from '../foreground.ts';
import { checkId, makeId } from '../ids.ts';
import { type LaunchFolder, makeLaunchFolder, removeLaunchFolder } from '../launch-folder.ts';
import { FOLDER, type Launches, REMOVE } from '../launched/launches.ts';
import { explainPasta, findPasta, networkFiles, pastaHooks } from '../launched/network.ts';
import { capabilities, environment, volumes } from '../launched/options.ts';
import { assertSameView } from '../namespaces.ts';
import { notifyRequest } from '../notify-socket.ts';
import { invalidValue } from '../parse.ts';

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
  const detached = flags.on('detach');
  if (terminal && !detached && !session.request.isTerminal.includes(true)) {
    throw new WherryError('invalid-argument', 'cannot allocate tty: the caller has no terminal', {
      path: '--tty',
      hint: 'leave it out, or call from a terminal',
    });
  }
  const rootfs = await rootfsOf(context);
  const launches = detached ? detachable(context) : undefined;
  const folder = await makeLaunchFolder(deps.paths.runDir, rootfs === undefined);
  let left = false;
  try {
    const config = await launchConfig(context, id, rootfs, folder.path);
    const request: CreateRequest = {
      key: keyOf(context, id),
      bundle: folder.path,
      rootfsMounts: [],
      rootfsOverlay: folder.view ? { lower: '/' } : undefined,
      stdio: { stdin: '', stdout: '', stderr: '', terminal },
      ...cgroupManager(context.globals),
      stateDir: stateDirOf(context, id),
      dockerStatus: true,
      config,
    };
    if (launches !== undefined) {
      const input = terminal || flags.on('interactive');
      const stdio = launches.prepare(request.key, folder.path, { terminal, input });
      await deps.runtime
        .create({ ...request, stdio, startAtOnce: true }, context.operation)
        .catch((error) => {
          launches.discard(request.key);
          throw error;
        });
      left = true;
      context.print(`${id}\n`);
      return 0;
    }
    const waitFlags = terminal ? 0 : WaitFlags.KILL_IF_UNHANDLED;
    const notify = notifyRequest(context);
    const caller = { ...callerContext(session), relayConsole: terminal, ...(notify && { notify }) };
    return await runInForeground(context, { ...request, caller }, { waitFlags, keep: false });
  } catch (error) {
    throw flags.text('network') === 'pasta' ? explainPasta(error) : error;
  } finally {
    if (!left) await leaveNothing(context, id, folder);
  }
}

/** What keeps a container that nobody waits for: not there where this process ends with the command. */
function detachable({ deps }: CommandContext): Launches {
  if (deps.launches !== undefined) return deps.launches;
  throw new WherryError(
    'failed-precondition',
    'a detached container needs wherryd, and this command is served without it',
    {
      path: '--detach',
      hint: 'leave --detach out, or unset WHERRY_DAEMON and call from the namespaces of wherryd',
    },
  );
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
    await removeLaunchFolder(folder.path);
  } catch (error) {
    deps.log.warn('launch left a folder behind', { folder: folder.path, error: String(error) });
  }
}

function nameOf(context: CommandContext): string {
  const given = context.flags.text('name');
  if (given !== undefined) {
    const id = checkId(given, '--name');
    if (id.startsWith('-'))
      throw invalidValue('--name', id, 'a name that begins with a dash would be a flag');
    if (context.deps.runtime.find(keyOf(context, id)) === undefined) return id;
    throw new WherryError('already-exists', 'container with given ID already exists', {
      path: '--name',
      hint: `take another name, or remove it: wherry rm ${id}`,
    });
  }
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

async function launchConfig(
  context: CommandContext,
  id: string,
  rootfs: string | undefined,
  folder: string,
): Promise<Spec> {
  const { session, flags, args } = context;
  const terminal = flags.on('tty');
  const user = flags.text('user');
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
    env: await environment(context, terminal),
    capabilities: capabilities(context, dockerCapabilities),
    cwd: workdir(flags.text('workdir')),
    ...(user !== undefined && { user: await lookUpUser(rootfs ?? '/', user, '--user') }),
    hostname: hostname(flags.text('hostname')),
    memory: limit('memory', parseMemory),
    cpus: limit('cpus', parseCpus),
    pids: limit('pids', parsePids),
  });
  const network = flags.text('network') ?? 'none';
  const mounts = await volumes(context);
  if (network === 'host') {
    spec.linux!.namespaces = spec.linux!.namespaces?.filter(({ type }) => type !== 'network');
  }
  if (network === 'pasta') {
    const path = session.request.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin';
    spec.hooks = pastaHooks(await findPasta(path), path, folder);
  }
  // The view of the host has the host's own files already, which the host's network needs.
  if (network === 'pasta' || (network === 'host' && rootfs !== undefined))
    mounts.unshift(...(await networkFiles(folder, spec.hostname ?? id, network)));
  spec.mounts = [...(spec.mounts ?? []), ...mounts];
  if (flags.on('detach'))
    spec.annotations = { [FOLDER]: folder, ...(flags.on('rm') && { [REMOVE]: 'true' }) };
  return checkConfig(spec, 'launch').config;
}

function hostname(given: string | undefined): string | undefined {
  if (given === undefined || Buffer.byteLength(given) <= HOSTNAME_MAX) return given;
  throw invalidValue('--hostname', given, `expected at most ${HOSTNAME_MAX} bytes`);
}

function workdir(given: string | undefined): string | undefined {
  if (given === undefined || given.startsWith('/')) return given;
  throw invalidValue('--workdir', given, 'expected an absolute path');
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
