/** `stop`, `wait` and `rm`: the ends of containers, for people. Every container is tried; what went wrong is told at the end. */
import { readFile } from 'node:fs/promises';
import { notStopped } from '../../container/refusals.ts';
import type { ContainerState } from '../../container/types.ts';
import { WherryError } from '../../errors.ts';
import { SIGKILL, SIGTERM } from '../../linux/constants.ts';
import type { CommandContext } from '../context.ts';
import { namedContainer } from '../names.ts';
import { sentence } from '../report.ts';

const DEFAULT_SECONDS = 10;

export function stopCommand(context: CommandContext): Promise<number> {
  const { flags } = context;
  const seconds = flags.integer('time') ?? DEFAULT_SECONDS;
  return forEach(context, async (state) => {
    if (state.status !== 'stopped') await stop(context, state, seconds * 1000);
    context.print(`${state.key.id}\n`);
  });
}

export function waitCommand(context: CommandContext): Promise<number> {
  const { deps, operation, session, flags } = context;
  const json = flags.text('format') === 'json';
  return forEach(context, async ({ key }) => {
    const { exitStatus } = await deps.runtime.wait(key, { ...operation, signal: session.signal });
    context.print(`${json ? JSON.stringify({ id: key.id, status: exitStatus }) : exitStatus}\n`);
  });
}

export function rmCommand(context: CommandContext): Promise<number> {
  const { deps, operation, flags } = context;
  const force = flags.on('force');
  return forEach(context, async ({ key, status }) => {
    if (!force && (status === 'running' || status === 'paused')) {
      const hint = `end it first: wherry stop ${key.id}, or at once: wherry rm -f ${key.id}`;
      throw notStopped(key.id, status, hint);
    }
    await deps.runtime.delete(key, force, operation);
    context.print(`${key.id}\n`);
  });
}

async function stop({ deps, operation }: CommandContext, state: ContainerState, ms: number): Promise<void> {
  const { runtime } = deps;
  const kill = (signal: number) =>
    runtime.kill(state.key, signal, false, operation).catch((error: unknown) => {
      if (runtime.find(state.key)?.exit === undefined) throw error;
    });
  if (state.status === 'paused') await runtime.resume(state.key, operation);
  const late = new AbortController();
  const ended = runtime.wait(state.key, { ...operation, signal: late.signal }).then(
    () => true,
    // Deleted at its end, or the time is over.
    () => runtime.find(state.key) === undefined,
  );
  const timer = setTimeout(() => late.abort(), ms);
  try {
    const heeds = state.status !== 'created' && (await handles(state.pid, SIGTERM));
    if (heeds) await kill(SIGTERM);
    if (heeds && (await ended)) return;
    await kill(SIGKILL);
    await runtime.wait(state.key, operation).catch((error: unknown) => {
      if (runtime.find(state.key) !== undefined) throw error;
    });
  } finally {
    clearTimeout(timer);
    late.abort();
  }
}

/** The kernel shields the init of a pid namespace from every signal that it has no handler for. SigBlk, SigIgn, SigCgt: proc_pid_status(5). */
async function handles(pid: number, signal: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return ['SigBlk', 'SigCgt'].some((name) => {
    const mask = new RegExp(`^${name}:\\s*([0-9a-f]+)`, 'm').exec(status)?.[1] ?? '0';
    return (BigInt(`0x${mask}`) >> BigInt(signal - 1)) % 2n === 1n;
  });
}

async function forEach(
  context: CommandContext,
  act: (state: ContainerState) => Promise<void>,
): Promise<number> {
  const names = [...new Set(context.args)];
  const problems: WherryError[] = [];
  for (const name of names) {
    try {
      await act(namedContainer(context, name));
    } catch (error) {
      problems.push(WherryError.from(error));
    }
  }
  const [first, ...more] = problems;
  if (first === undefined) return 0;
  throw more.length === 0 ? first : new WherryError(first.kind, problems.map(sentence).join('\n'));
}
