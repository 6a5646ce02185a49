/** `exec`: a further process in a container, in the foreground or detached. */
import { randomBytes } from 'node:crypto';
import { exitStatusOf } from '../../container/exit-reason.ts';
import type { CallerContext, ContainerKey, ExecRequest } from '../../container/types.ts';
import { lookUpUser } from '../../container/users.ts';
import { WaitFlags } from '../../daemon/wire.ts';
import { WherryError } from '../../errors.ts';
import { capabilityNumbers } from '../../oci/names.ts';
import { checkProcess, parseProcess } from '../../oci/parts.ts';
import type { Capabilities, Process, User } from '../../oci/types.ts';
import { readCallerFile } from '../caller-file.ts';
import { type CommandContext, callerPath, keyOf } from '../context.ts';
import { callerContext, checkTerminal } from '../create-request.ts';
import { checkId } from '../ids.ts';
import { invalidValue, shown } from '../parse.ts';

export async function execCommand(context: CommandContext): Promise<number> {
  const { session, deps, flags, args, operation } = context;
  const { runtime } = deps;
  const key = keyOf(context, checkId(args[0] ?? ''));
  // As in runc, an unknown container is told before anything that is wrong with the process.
  runtime.state(key);
  const detached = flags.on('detach');
  const process = await processOf(context, key);
  const socket = flags.text('console-socket');
  const terminal = process.terminal === true;
  checkTerminal(context, { terminal, detached, socket: socket !== undefined, field: '--tty' });
  const request: ExecRequest = {
    key,
    execId: `cli-${randomBytes(8).toString('hex')}`,
    process,
    stdio: { stdin: '', stdout: '', stderr: '', terminal },
    ignorePaused: flags.on('ignore-paused'),
    cgroups: cgroupsOf(flags.list('cgroup')),
    autoDelete: true,
    caller: callerOf(context, terminal && !detached && socket === undefined),
  };
  await runtime.exec(request, operation);
  const { pid } = await runtime.startExec(key, request.execId, operation);
  if (detached) return 0;
  session.signal.throwIfAborted();
  const waitStatus = await session.wait(
    pid,
    request.caller?.relayConsole === true ? WaitFlags.RELAY_TERMINAL : 0,
  );
  runtime.noteExecExit(key, request.execId, waitStatus);
  return exitStatusOf(waitStatus);
}

function callerOf(context: CommandContext, relayConsole: boolean): CallerContext {
  const { session, flags } = context;
  const pidFile = flags.text('pid-file');
  const socket = flags.text('console-socket');
  const pidfdSocket = flags.text('pidfd-socket');
  return {
    ...callerContext(session),
    ...(pidFile !== undefined && { pidFile: callerPath(context, pidFile) }),
    ...(socket !== undefined && { consoleSocket: callerPath(context, socket) }),
    ...(pidfdSocket !== undefined && { pidfdSocket: callerPath(context, pidfdSocket) }),
    relayConsole,
    preserveFds: flags.integer('preserve-fds') ?? 0,
  };
}

/** From --process alone, or the container's own process with what the flags and arguments change. */
async function processOf(context: CommandContext, key: ContainerKey): Promise<Process> {
  const { flags, program } = context;
  if (program === 'runc' && flags.on('interactive')) {
    throw new WherryError('invalid-argument', 'flag provided but not defined: -i', { path: '-i' });
  }
  const file = flags.text('process');
  return file === undefined ? await changedProcess(context, key) : await readProcess(context, file);
}

async function readProcess(context: CommandContext, file: string): Promise<Process> {
  const { process, warnings } = parseProcess(await readCallerFile(context, file, '--process'), file);
  for (const warning of warnings) context.warn(warning);
  return process;
}

async function changedProcess(context: CommandContext, key: ContainerKey): Promise<Process> {
  const { deps, flags, program, session } = context;
  const defaults = await deps.runtime.execDefaults(key);
  const args = context.args.slice(1);
  if (args.length === 0) {
    if (program === 'runc') {
      throw new WherryError('invalid-argument', 'process args cannot be empty', {
        hint: 'name a command, or give --process',
      });
    }
    args.push('sh');
  }
  const terminal = flags.on('tty');
  const given = flags.text('user');
  const named = program === 'runc' ? undefined : await userByName(context, key, given);
  const env = [...(defaults.env ?? []), ...flags.list('env')];
  const own = session.request.env['TERM'];
  if (terminal && program !== 'runc' && own && !env.some((entry) => entry.startsWith('TERM='))) {
    env.push(`TERM=${own}`);
  }
  const changed: Process = {
    ...defaults,
    args,
    terminal,
    env,
    cwd: flags.text('cwd') ?? defaults.cwd,
    user: userOf(
      named ?? defaults.user,
      named === undefined ? given : undefined,
      flags.list('additional-gids'),
    ),
    capabilities: withCapabilities(defaults.capabilities, flags.list('cap')),
  };
  if (flags.on('no-new-privs')) changed.noNewPrivileges = true;
  const label = flags.text('process-label');
  if (label !== undefined) changed.selinuxLabel = label;
  const profile = flags.text('apparmor');
  if (profile !== undefined) changed.apparmorProfile = profile;
  if (!changed.cwd.startsWith('/')) {
    throw new WherryError('invalid-argument', 'Cwd must be an absolute path', {
      path: '--cwd',
      hint: 'begin it with /',
    });
  }
  return checkProcess(changed, 'exec').process;
}

/** A name is one of the container's own /etc/passwd; runc takes numbers only. */
async function userByName(
  { deps }: CommandContext,
  key: ContainerKey,
  given: string | undefined,
): Promise<User | undefined> {
  if (given === undefined || /^[\d:]*$/.test(given)) return undefined;
  const { pid } = deps.runtime.state(key);
  return lookUpUser(`/proc/${pid}/root`, given, '--user');
}

function userOf(user: User, given: string | undefined, groups: readonly string[]): User {
  const result: User = { ...user };
  if (given !== undefined) {
    const [uid = '', gid, ...more] = given.split(':');
    if (more.length > 0) throw invalidValue('--user', given, 'expected UID or UID:GID');
    result.uid = idOf('--user', uid);
    if (gid !== undefined) result.gid = idOf('--user', gid);
  }
  if (groups.length > 0) {
    result.additionalGids = [
      ...(user.additionalGids ?? []),
      ...groups.map((group) => idOf('--additional-gids', group)),
    ];
  }
  return result;
}

function idOf(flag: string, given: string): number {
  const id = /^\d{1,10}$/.test(given) ? Number(given) : Number.NaN;
  if (id < 0xffff_ffff) return id;
  throw invalidValue(flag, given, 'expected a number');
}

/** As runc: into all sets but the inheritable one; ambient only where that has something. */
function withCapabilities(
  given: Capabilities | undefined,
  added: readonly string[],
): Capabilities | undefined {
  if (added.length === 0) return given;
  const names = added.map((name) => {
    const full = name.toUpperCase().startsWith('CAP_') ? name.toUpperCase() : `CAP_${name.toUpperCase()}`;
    if (capabilityNumbers.has(full)) return full;
    throw new WherryError(
      'invalid-argument',
      `invalid value "${shown(name)}" for flag --cap: no such capability`,
      {
        path: '--cap',
        hint: 'use a name such as CAP_NET_ADMIN',
      },
    );
  });
  const plus = (set: Capabilities['bounding'] = []) => [...new Set([...set, ...names])] as typeof set;
  return {
    ...given,
    bounding: plus(given?.bounding),
    effective: plus(given?.effective),
    permitted: plus(given?.permitted),
    ...((given?.inheritable ?? []).length > 0 && { ambient: plus(given?.ambient) }),
  };
}

/** `[CONTROLLER[,CONTROLLER]:]PATH` → path by controller; '' is all. */
function cgroupsOf(given: readonly string[]): Record<string, string> {
  const result: Record<string, string> = {};
  for (const entry of given) {
    const colon = entry.indexOf(':');
    const controllers = colon < 0 ? [''] : entry.slice(0, colon).split(',');
    for (const controller of controllers) result[controller] = entry.slice(colon + 1);
  }
  return result;
}
