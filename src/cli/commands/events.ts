/** `events`: samples of a container's cgroup and its out-of-memory events, one JSON object a line, until it ends. */
import { keyName } from '../../container/key.ts';
import type { ContainerKey, RuntimeEvent } from '../../container/types.ts';
import { WherryError } from '../../errors.ts';
import { type CommandContext, keyOf } from '../context.ts';
import { parseDuration } from '../duration.ts';
import { exactGoJson } from '../format.ts';
import { checkId } from '../ids.ts';
import { shown } from '../parse.ts';
import { statsData } from '../stats-event.ts';

const DEFAULT_INTERVAL_MS = 5000;
/** setTimeout's longest. */
const LONGEST_MS = 2 ** 31 - 1;

export async function eventsCommand(context: CommandContext): Promise<number> {
  const { deps, flags, args } = context;
  const key = keyOf(context, checkId(args[0] ?? ''));
  const interval = intervalOf(flags.text('interval'));
  if (deps.runtime.state(key).status === 'stopped') {
    throw new WherryError('failed-precondition', `container with id ${key.id} is not running`);
  }
  if (flags.on('stats')) {
    await printSample(context, key);
    return 0;
  }
  await follow(context, key, interval);
  return 0;
}

function intervalOf(text: string | undefined): number {
  if (text === undefined) return DEFAULT_INTERVAL_MS;
  const interval = parseDuration(text);
  if (interval === undefined) {
    throw new WherryError(
      'invalid-argument',
      `invalid value "${shown(text)}" for flag --interval: parse error`,
      {
        path: '--interval',
        hint: 'write a time such as 500ms or 5s',
      },
    );
  }
  if (interval < 1) {
    throw new WherryError('invalid-argument', 'duration interval must be greater than 0', {
      path: '--interval',
    });
  }
  return Math.min(interval, LONGEST_MS);
}

async function printSample({ deps, print }: CommandContext, key: ContainerKey): Promise<void> {
  const stats = await deps.runtime.stats(key);
  print(`${exactGoJson({ type: 'stats', id: key.id, data: statsData(stats) })}\n`);
}

/** As runc: the first sample comes after the first interval. */
async function follow(context: CommandContext, key: ContainerKey, interval: number): Promise<void> {
  const { deps, session, print } = context;
  const over = Promise.withResolvers<void>();
  const told = (event: RuntimeEvent) => {
    if (keyName(event.state.key) !== keyName(key)) return;
    const { id } = key;
    if (event.type === 'oom') {
      const { oomKills, oomCgroup } = event.state;
      print(`${exactGoJson({ type: 'oom', id, data: { kills: oomKills, cgroup: oomCgroup } })}\n`);
    } else if (event.type === 'exited' || event.type === 'deleted') over.resolve();
  };
  const unsubscribe = deps.runtime.onEvent(told);
  session.signal.addEventListener('abort', () => over.resolve(), { once: true });
  // A sample that cannot be taken is the end of the container, which is told by itself.
  const timer = setInterval(() => void printSample(context, key).catch(() => {}), interval);
  try {
    await over.promise;
  } finally {
    clearInterval(timer);
    unsubscribe();
  }
}
