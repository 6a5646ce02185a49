/** `logs`: what a detached container has written, and with --follow what it writes. */
import type { ContainerState } from '../../container/types.ts';
import { sleep } from '../../container/waiting.ts';
import { WherryError } from '../../errors.ts';
import type { CommandContext } from '../context.ts';
import type { CliDependencies } from '../dependencies.ts';
import type { Console } from '../launched/console.ts';
import type { LogRecord } from '../launched/log-store.ts';
import { namedContainer } from '../names.ts';

export async function logsCommand(context: CommandContext): Promise<number> {
  const { session, deps, flags, args } = context;
  const state = namedContainer(context, args[0] ?? '');
  const console = keptConsole(deps, state);
  const print = printer(context, flags.text('format') === 'json', flags.on('timestamps'));
  // What its last process wrote may be on its way; one that still holds the streams does not keep the caller.
  if (state.status === 'stopped') await Promise.race([console.ended, soon()]);
  const stop = await console.log.follow(flags.integer('tail'), print);
  try {
    if (!flags.on('follow')) return 0;
    await Promise.race([console.ended, aborted(session.signal)]);
    return 0;
  } finally {
    stop();
  }
}

const soon = (): Promise<void> => sleep(500);

/** failed-precondition where nobody keeps the container's output. */
export function keptConsole({ launches }: CliDependencies, state: ContainerState): Console {
  if (launches !== undefined) return launches.console(state);
  throw new WherryError(
    'failed-precondition',
    'output is kept by wherryd, and this command is served without it',
    {
      hint: 'unset WHERRY_DAEMON, and call from the namespaces of wherryd',
    },
  );
}

/** Resolves when the caller has gone. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

function printer({ session }: CommandContext, json: boolean, timestamps: boolean) {
  const begins = { stdout: true, stderr: true };
  return ({ time, stream, bytes }: LogRecord): void => {
    if (json) {
      session.out(1, `${JSON.stringify({ time, stream, text: bytes.toString('utf8') })}\n`);
      return;
    }
    const descriptor = stream === 'stdout' ? 1 : 2;
    // Within a line the time stands only before its first part.
    const head = timestamps && begins[stream] ? Buffer.from(`${time} `) : Buffer.alloc(0);
    begins[stream] = bytes.at(-1) === 10;
    session.out(descriptor, Buffer.concat([head, bytes]));
  };
}
