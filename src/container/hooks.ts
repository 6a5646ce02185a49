/** Hooks as the core sees them: what became of them, and those that have tapes of their own. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../errors.ts';
import { errnoText } from '../linux/errno.ts';
import type { Hook, Hooks } from '../oci/types.ts';
import { SLOTS_OFFSET } from '../tape/format.ts';
import { playError, readSlot } from '../tape/outcome.ts';
import { compileHooks, START_RESULT } from './compile/hook-points.ts';
import {
  HOOK_OUTPUT_BYTES,
  HOOK_REPORT_BYTES,
  type HookKind,
  HookSlot,
  hooksDeadline,
} from './compile/hooks.ts';
import type { PlayHost } from './play.ts';
import type { ContainerRecord } from './record.ts';
import { sleep } from './waiting.ts';

/** Hooks that run after create: they hold although config.json may have changed (runtime.md, "Lifecycle"). */
export interface LaterHooks {
  poststart: readonly Hook[];
  poststop: readonly Hook[];
  /** There are startContainer hooks: `start` waits for their outcome. */
  startContainer: boolean;
}

/** undefined: none of them. */
export function laterHooks(hooks: Hooks | undefined): LaterHooks | undefined {
  const { poststart = [], poststop = [], startContainer = [] } = hooks ?? {};
  if (poststart.length + poststop.length + startContainer.length === 0) return undefined;
  return { poststart, poststop, startContainer: startContainer.length > 0 };
}

/** `limit` and the time of the hooks that a create runs; 0 where one of them may take for ever. */
export function createDeadline(hooks: Hooks | undefined, limit: number): number {
  const all = [hooks?.prestart, hooks?.createRuntime, hooks?.createContainer, hooks?.startContainer].flatMap(
    (kind) => kind ?? [],
  );
  if (all.length === 0) return limit;
  const time = hooksDeadline(all);
  return time === 0 ? 0 : limit + time;
}

const SLOT_BYTES = 8;

/** The error of a play in the words of the hook that failed; any other error as it is. */
export function explainHookError(error: WherryError, page: Uint8Array): WherryError {
  const kind = /^hooks\.(\w+)\[\d+\]$/.exec(error.details.path ?? '')?.[1];
  if (kind === undefined) return error;
  const start = SLOTS_OFFSET + HookSlot.STATUS * SLOT_BYTES;
  return hookError(kind as HookKind, page.subarray(start, start + HOOK_REPORT_BYTES)) ?? error;
}

/** From the slots of a hook's failure. */
function hookError(kind: HookKind, report: Uint8Array): WherryError | undefined {
  const failure = failureOf(report);
  if (failure === undefined) return undefined;
  const { index, late, how, output } = failure;
  const path = `hooks.${kind}[${index}]`;
  const said = output === '' ? '' : `: ${output}`;
  return new WherryError(late ? 'deadline-exceeded' : 'failed-precondition', `${path}: ${how}${said}`, {
    path,
  });
}

/** How a program that the player ran has failed; undefined: none has. */
export function playedFailure(page: Uint8Array): { how: string; output: string } | undefined {
  const start = SLOTS_OFFSET + HookSlot.STATUS * SLOT_BYTES;
  return failureOf(page.subarray(start, start + HOOK_REPORT_BYTES));
}

function failureOf(
  report: Uint8Array,
): { index: number; late: boolean; how: string; output: string } | undefined {
  const view = Buffer.from(report.buffer, report.byteOffset, report.byteLength);
  const slot = (number: number): number =>
    Number(view.readBigInt64LE((number - HookSlot.STATUS) * SLOT_BYTES));
  const status = slot(HookSlot.STATUS);
  if (status === 0) return undefined;
  const from = (HookSlot.OUTPUT - HookSlot.STATUS) * SLOT_BYTES;
  const length = Math.min(Math.max(slot(HookSlot.LENGTH), 0), HOOK_OUTPUT_BYTES, report.length - from);
  const output = view.toString('utf8', from, from + length).trim();
  const late = slot(HookSlot.LATE) === 1;
  return { index: slot(HookSlot.INDEX), late, how: how(), output };

  function how(): string {
    const errno = -slot(HookSlot.EXEC);
    if (late) return 'timed out and was killed';
    if (errno !== 0) return `cannot be executed: ${errnoText(errno)}`;
    const signal = status & 0x7f;
    return signal === 0 ? `exit status ${(status >> 8) & 0xff}` : `killed by signal ${signal}`;
  }
}

/** poststart (the init's pid is told) or poststop. Rejects with the hook that failed; poststop runs them all before. */
export async function playHooks(
  host: PlayHost,
  token: bigint,
  record: ContainerRecord,
  kind: 'poststart' | 'poststop',
): Promise<void> {
  const hooks = record.hooks?.[kind] ?? [];
  if (hooks.length === 0) return;
  const { key, bundle, annotations, ociVersion } = record;
  const running = kind === 'poststart';
  const state = {
    ociVersion,
    id: key.id,
    status: running ? 'running' : 'stopped',
    bundle,
    annotations,
  } as const;
  const tape = compileHooks(kind, hooks, state, running ? record.pid : undefined);
  const result = await host.play(token, tape.image, { deadline: hooksDeadline(hooks) });
  const error = playError(tape, result);
  if (error === undefined) return;
  // A later hook of poststop may have succeeded after the one that failed: the slots are the failed one's.
  const failed = readSlot(result.page, HookSlot.STATUS);
  const located = new WherryError(error.kind, error.message, { ...error.details, path: `hooks.${kind}[0]` });
  throw failed === 0n ? error : explainHookError(located, result.page);
}

/** After the go: resolves when the program is executed, rejects with the startContainer hook that failed. */
export async function startHooksEnd(record: ContainerRecord): Promise<void> {
  if (record.hooks?.startContainer !== true) return;
  const file = join(record.dir, START_RESULT);
  for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
    const ended = record.exit !== undefined;
    const report = await readFile(file).catch(() => Buffer.alloc(0));
    if (report.length === 1) return;
    if (report.length > 1) {
      const error = hookError('startContainer', report);
      if (error !== undefined) throw error;
    }
    if (ended) {
      throw new WherryError(
        'failed-precondition',
        'hooks.startContainer: the container ended before they did',
        {
          path: 'hooks.startContainer',
        },
      );
    }
    await sleep(wait);
  }
}
