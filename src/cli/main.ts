/**
 * The command line, inside wherryd: parses what a client was called with, runs the command, reports errors as runc does.
 * Lives here and below: grammar, parsing, help, output formats, one file a command. Not here: how containers are made
 * (src/container), frames and sockets (src/daemon), the client itself (native/).
 */
import { WherryError } from '../errors.ts';
import { attachCommand } from './commands/attach.ts';
import { checkpointCommand } from './commands/checkpoint.ts';
import { completionCommand } from './commands/completion.ts';
import { createCommand } from './commands/create.ts';
import { daemonStart, daemonStatus, daemonStop } from './commands/daemon.ts';
import { deleteCommand } from './commands/delete.ts';
import { eventsCommand } from './commands/events.ts';
import { execCommand } from './commands/exec.ts';
import { explainCommand } from './commands/explain.ts';
import { featuresCommand } from './commands/features.ts';
import { inspectCommand } from './commands/inspect.ts';
import { killCommand } from './commands/kill.ts';
import { launchCommand, launchExitCode } from './commands/launch.ts';
import { listCommand } from './commands/list.ts';
import { logsCommand } from './commands/logs.ts';
import { mountsAddCommand, mountsRemoveCommand } from './commands/mounts.ts';
import { pauseCommand } from './commands/pause.ts';
import { psCommand } from './commands/ps.ts';
import { restoreCommand } from './commands/restore.ts';
import { resumeCommand } from './commands/resume.ts';
import { runCommand } from './commands/run.ts';
import { specCommand } from './commands/spec.ts';
import { startCommand } from './commands/start.ts';
import { stateCommand } from './commands/state.ts';
import { statsCommand } from './commands/stats.ts';
import { rmCommand, stopCommand, waitCommand } from './commands/stop.ts';
import { updateCommand } from './commands/update.ts';
import { upgradeCommand } from './commands/upgrade.ts';
import { versionCommand, versionText } from './commands/version.ts';
import type { CommandCode, CommandContext } from './context.ts';
import type { CliDependencies } from './dependencies.ts';
import type { FlagValues } from './flags.ts';
import type { CommandSpec } from './grammar.ts';
import { renderCommand, renderOverview } from './help.ts';
import { type Invocation, parseCommand, parseGlobals, programName } from './parse.ts';
import { Report } from './report.ts';
import type { ClientSession } from './session.ts';

/** The code of every command of the grammar. */
export const commandCode: Readonly<Record<string, CommandCode>> = {
  create: createCommand,
  start: startCommand,
  run: runCommand,
  state: stateCommand,
  kill: killCommand,
  delete: deleteCommand,
  list: listCommand,
  spec: specCommand,
  exec: execCommand,
  ps: psCommand,
  pause: pauseCommand,
  resume: resumeCommand,
  update: updateCommand,
  events: eventsCommand,
  checkpoint: checkpointCommand,
  restore: restoreCommand,
  features: featuresCommand,
  'mounts add': mountsAddCommand,
  'mounts remove': mountsRemoveCommand,
  launch: launchCommand,
  logs: logsCommand,
  attach: attachCommand,
  stop: stopCommand,
  wait: waitCommand,
  stats: statsCommand,
  rm: rmCommand,
  inspect: inspectCommand,
  completion: completionCommand,
  explain: explainCommand,
  'daemon start': daemonStart,
  'daemon status': daemonStatus,
  'daemon stop': daemonStop,
  upgrade: upgradeCommand,
  version: versionCommand,
};

/** runc's status for a command that it does not know. */
const UNKNOWN_COMMAND = 3;
/** runc's status for an exec that did not come to run. */
const EXEC_FAILED = 255;

let calls = 0;

/** Serves one call of the client to its end; never rejects. */
export async function runCli(session: ClientSession, deps: CliDependencies): Promise<void> {
  const report = new Report(session, programName(session.request.argv));
  let code: number;
  try {
    code = await dispatch(session, deps, report);
  } catch (thrown) {
    await tell(thrown, '', report, deps);
    code = 1;
  }
  await report.close();
  session.exit(code);
}

async function dispatch(session: ClientSession, deps: CliDependencies, report: Report): Promise<number> {
  const { program } = report;
  const print = (text: string) => session.out(1, text);
  const { globals, help, rest } = parseGlobals(session.request.argv, program);
  report.configure(globals);
  if (globals.on('version')) {
    print(versionText(session, deps));
    return 0;
  }
  let statusOf = rest[0] === 'launch' ? launchExitCode : () => 1;
  let prefix = '';
  try {
    const invocation: Invocation = help ? { kind: 'help' } : parseCommand(rest, program);
    if (invocation.kind === 'unknown') {
      await report.error(invocation.error);
      return UNKNOWN_COMMAND;
    }
    if (invocation.kind === 'help') {
      print(helpText(invocation, program));
      return 0;
    }
    const { command, flags, args } = invocation;
    if (command.name !== 'upgrade') deps.acting(playsSoon(command.name, flags));
    if (prefixed.has(command.name)) prefix = `${program} ${command.name} failed: `;
    if (command.name === 'exec') {
      prefix = 'exec failed: ';
      statusOf = () => EXEC_FAILED;
    }
    const operation = { requestId: `cli-${++calls}`, signal: session.signal, host: session };
    const warn = (text: string) => report.warning(text);
    const context: CommandContext = { session, deps, program, globals, flags, args, operation, print, warn };
    return await commandCode[command.name]!(context);
  } catch (thrown) {
    return statusOf(await tell(thrown, prefix, report, deps));
  }
}

/** Mostly without a terminal and further descriptors: then the client's player can be started before there is a tape. */
function playsSoon(command: string, flags: FlagValues): boolean {
  if (command === 'exec') return !flags.on('tty');
  return command === 'run' || command === 'create';
}

/** Commands whose errors begin with a sentence, as in runc. */
const prefixed = new Set(['create', 'run', 'launch', 'restore']);

async function tell(
  thrown: unknown,
  prefix: string,
  report: Report,
  deps: CliDependencies,
): Promise<WherryError> {
  const error = WherryError.from(thrown);
  if (!(thrown instanceof WherryError)) {
    const stack = thrown instanceof Error ? thrown.stack : undefined;
    deps.log.error('a command failed unexpectedly', { program: report.program, stack });
  }
  // A step of the tape failed: runc's sentence for it, which comes after its first.
  const started = prefix !== '' && error.details.step !== undefined;
  await report.error(error, started ? `${prefix}unable to start container process: ` : prefix);
  return error;
}

function helpText({ command, group }: { command?: CommandSpec; group?: string }, program: string): string {
  return command === undefined ? renderOverview(program, group) : renderCommand(command, program);
}
