/** What became of a play: the shared page read back, and the one error that a person should see. */
import { type ErrorKind, WherryError } from '../errors.ts';
import { PR_SET_SECCOMP, SIGKILL, SIGSYS } from '../linux/constants.ts';
import { type ErrnoName, errnoName, errnoText } from '../linux/errno.ts';
import { syscallName } from '../linux/syscalls.ts';
import type { AssembledTape, Step } from './assemble.ts';
import { LANE_BYTES, LANES, LaneState, Op, REPORT_BYTES, SLOTS, SLOTS_OFFSET } from './format.ts';
import { type Image, readImage } from './image.ts';
import { signalTable } from './names.ts';
import { TapeError } from './refs.ts';

export interface Lane {
  /** Its own number, 0-3; 0 is the first process's. */
  lane: number;
  /** Id in the tape's steps; 0: before the first. */
  step: number;
  /** Number of the instruction that ran last. */
  pc: number;
  /** Positive; 0: none. */
  errno: number;
  state: 'unused' | 'running' | 'halted' | 'failed';
  /** The failed call's result, or HALT's code. */
  value: bigint;
  /** Of failures: 1 for the lane that failed first. 0: the player refused the tape, or no failure. */
  order: number;
}

export interface Page {
  lanes: readonly Lane[];
  slots: readonly bigint[];
}

/** Throws TapeError if there are fewer than REPORT_BYTES. */
export function readPage(page: Uint8Array): Page {
  if (page.length < REPORT_BYTES) throw new TapeError(`shared page of ${page.length} bytes`);
  const view = Buffer.from(page.buffer, page.byteOffset, page.byteLength);
  const states = {
    [LaneState.RUNNING]: 'running',
    [LaneState.HALTED]: 'halted',
    [LaneState.FAILED]: 'failed',
  } as const;
  const lanes = Array.from({ length: LANES }, (_, index): Lane => {
    const at = index * LANE_BYTES;
    const state = view.readUInt32LE(at + 12) as keyof typeof states;
    return {
      lane: index,
      step: view.readUInt32LE(at),
      pc: view.readUInt32LE(at + 4),
      errno: view.readInt32LE(at + 8),
      state: states[state] ?? 'unused',
      value: view.readBigInt64LE(at + 16),
      order: Number(view.readBigUInt64LE(at + 24)),
    };
  });
  const slots = Array.from({ length: SLOTS }, (_, index) => view.readBigUInt64LE(SLOTS_OFFSET + index * 8));
  return { lanes, slots };
}

/** One result slot alone: most plays have one, or none. Throws TapeError where the page is too short. */
export function readSlot(page: Uint8Array, slot: number): bigint {
  const at = SLOTS_OFFSET + slot * 8;
  if (page.length < at + 8) throw new TapeError(`shared page of ${page.length} bytes`);
  return Buffer.from(page.buffer, page.byteOffset, page.byteLength).readBigUInt64LE(at);
}

export interface PlayOutcome {
  /** Wait status of the player, as waitpid(2) gives it. */
  waitStatus: number;
  /** At least the first 1024 bytes of the shared page. */
  page: Uint8Array;
  /** Wait status of the process that the tape cloned last, where it is known. */
  childStatus?: number;
}

/**
 * The error of a play; undefined if the player exited with 0. Where one process's end made another one fail, the cause
 * is told: the lane that failed first, or the clone that vanished.
 */
export function playError(tape: AssembledTape, outcome: PlayOutcome): WherryError | undefined {
  const { waitStatus } = outcome;
  if (waitStatus === 0) return undefined;
  const { lanes } = readPage(outcome.page);
  const failures = lanes.filter(({ state }) => state === 'failed');
  const first = failures.sort((a, b) => a.order - b.order || b.lane - a.lane)[0];
  if (first?.order === 0)
    return new WherryError('internal', `the player refused the tape at instruction ${first.pc}`, {
      errno: first.errno,
    });
  const vanished = lanes.findLast(({ state }) => state === 'running');
  const image = readImage(tape.image);
  if (
    first !== undefined &&
    (vanished === undefined || vanished.lane < first.lane || !blamesAnother(image, first))
  )
    return callFailed(tape, image, first);
  if (vanished !== undefined) return cutShort(tape, image, vanished, outcome);
  const how = signalOf(waitStatus) ?? `exit code ${waitStatus >> 8}`;
  if (lanes[0]?.state === 'halted') return new WherryError('unknown', `the play ended with ${how}`);
  return new WherryError('internal', `the player did not begin to play (${how})`);
}

const partnerGone: ReadonlySet<string | undefined> = new Set(['ECANCELED', 'ECONNREFUSED', 'EPROTO']);

/** FAIL with one of these (or HALT with a code) is how a tape ends when its partner is gone, and EPIPE how the kernel says so. */
function blamesAnother(image: Image, { pc, errno }: Lane): boolean {
  const name = errnoName(errno);
  const failed = image.instructions[pc]?.op === Op.FAIL;
  return (failed && partnerGone.has(name)) || name === 'EPIPE' || name === 'ECONNRESET';
}

function callFailed(tape: AssembledTape, image: Image, lane: Lane): WherryError {
  const step = stepOf(tape, lane);
  return new WherryError(kindOf(lane.errno), `${step.does}: ${errnoText(lane.errno)}`, {
    path: step.path === '' ? undefined : step.path,
    errno: lane.errno,
    syscall: callAt(image, lane.pc),
    step: step.does,
  });
}

/** The process of a lane ended without a word: a signal, or a deadline. */
function cutShort(tape: AssembledTape, image: Image, lane: Lane, outcome: PlayOutcome): WherryError {
  const status = lane.lane === 0 ? outcome.waitStatus : outcome.childStatus;
  const signal = status === undefined ? undefined : signalOf(status);
  const step = stepOf(tape, lane);
  const syscall = callAt(image, lane.pc);
  const details = { path: step.path === '' ? undefined : step.path, syscall, step: step.does };
  const killed = (outcome.waitStatus & 0x7f) === SIGKILL;
  const filtered = !killed && afterSeccomp(image, lane.pc);
  const call = syscall === undefined ? '' : ` at ${syscall}(2)`;
  if (signal === 'SIGSYS' || (signal === undefined && filtered)) {
    const certain = signal === undefined ? 'probably killed' : 'killed';
    return new WherryError(
      'failed-precondition',
      `${step.does}: ${certain} by the container's own seccomp filter${call}`,
      {
        ...details,
        path: 'linux.seccomp',
        hint:
          syscall === undefined
            ? undefined
            : `allow ${syscall} in linux.seccomp, or set process.noNewPrivileges`,
      },
    );
  }
  if (signal === 'SIGKILL' || (signal === undefined && killed))
    return new WherryError('deadline-exceeded', `${step.does}: killed by SIGKILL${call}`, {
      ...details,
      hint: 'the deadline passed, or the memory limit is too low for the set-up',
    });
  const how = signal === undefined ? 'the process ended unexpectedly' : `killed by ${signal}`;
  return new WherryError('unknown', `${step.does}: ${how}${call}`, details);
}

function stepOf(tape: AssembledTape, { step }: Lane): Step {
  return (
    tape.steps.find(({ id }) => id === step) ?? {
      id: step,
      path: '',
      does: step === 0 ? 'begin' : `step ${step}`,
    }
  );
}

function callAt(image: Image, pc: number): string | undefined {
  const instruction = image.instructions[pc];
  if (instruction?.op !== Op.SYSCALL) return undefined;
  return syscallName(instruction.target, image.arch) ?? `syscall ${instruction.target}`;
}

/** Whether a filter had been loaded: jumps only go forward, so its instruction has a lower number. */
function afterSeccomp(image: Image, pc: number): boolean {
  return image.instructions.slice(0, pc).some(({ op, target, args }) => {
    if (op !== Op.SYSCALL) return false;
    const name = syscallName(target, image.arch);
    return name === 'seccomp' || (name === 'prctl' && args[0]?.value === BigInt(PR_SET_SECCOMP));
  });
}

/** Name of the signal that ended a process. */
function signalOf(waitStatus: number): string | undefined {
  const signal = waitStatus & 0x7f;
  if (signal === 0) return undefined;
  if (signal === SIGSYS) return 'SIGSYS';
  return signalTable.find(([, number]) => number === BigInt(signal))?.[0] ?? `signal ${signal}`;
}

const kinds: Partial<Record<ErrnoName, ErrorKind>> = {
  EPERM: 'permission-denied',
  EACCES: 'permission-denied',
  ENOMEM: 'resource-exhausted',
  ENOSPC: 'resource-exhausted',
  EDQUOT: 'resource-exhausted',
  EMFILE: 'resource-exhausted',
  ENFILE: 'resource-exhausted',
  ENOSYS: 'unimplemented',
  EOPNOTSUPP: 'unimplemented',
  ETIMEDOUT: 'deadline-exceeded',
  ENOENT: 'failed-precondition',
  ENOTDIR: 'failed-precondition',
  ENOEXEC: 'failed-precondition',
  ELOOP: 'failed-precondition',
  EBUSY: 'failed-precondition',
  EROFS: 'failed-precondition',
};

function kindOf(errno: number): ErrorKind {
  const name = errnoName(errno);
  return (name === undefined ? undefined : kinds[name]) ?? 'unknown';
}
