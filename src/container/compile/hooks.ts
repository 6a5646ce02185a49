/**
 * Hooks of config.json (config.md, "POSIX-platform Hooks") as part of a tape: clone3, execve with the container's state on stdin,
 * a time limit by the pidfd, the exit status. A hook's output goes to a memfd; of a failing one its end lands in the shared page.
 */
import {
  CLONE_PIDFD,
  MFD_CLOEXEC,
  POLLIN,
  PR_SET_PDEATHSIG,
  SEEK_END,
  SEEK_SET,
  SIGCHLD,
  SIGKILL,
} from '../../linux/constants.ts';
import { encode } from '../../linux/structs.ts';
import type { Hook, Hooks } from '../../oci/types.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

export type HookKind = keyof Hooks;

/** Result slots that a failing hook fills (docs/internals.md). */
export const HookSlot = {
  /** Wait status of the hook, as wait4(2) writes it. */
  STATUS: 40,
  /** -errno of its execve; 0: it was executed. */
  EXEC: 41,
  /** 1: it was killed because its time had passed. */
  LATE: 42,
  /** Which hook of its kind it was. */
  INDEX: 43,
  /** Bytes of output that follow. */
  LENGTH: 44,
  OUTPUT: 45,
} as const;
/** As much of the output as the error shows; the slots from OUTPUT on hold it. */
export const HOOK_OUTPUT_BYTES = 512;
/** All slots of a hook, first to last, as one stretch of bytes. */
export const HOOK_REPORT_BYTES = (HookSlot.OUTPUT - HookSlot.STATUS) * 8 + HOOK_OUTPUT_BYTES;

/** memfd_create(2), MFD_NOEXEC_SEAL: the only kind where vm.memfd_noexec is 2; unknown before Linux 6.3. */
const MFD_NOEXEC_SEAL = 8;
/** pidfd_send_signal(2): the hook's children too. Unknown before Linux 6.9. */
const PIDFD_SIGNAL_PROCESS_GROUP = 4;
const UMASK = 0o022;
const DECIMAL_ROOM = 24;

/** What a hook reads on its stdin, but for the pid (runtime.md, "State"). */
export interface HookState {
  ociVersion: string;
  id: string;
  status: 'creating' | 'created' | 'running' | 'stopped';
  bundle: string;
  annotations: Readonly<Record<string, string>>;
}

export interface HookPlan {
  kind: HookKind;
  hooks: readonly Hook[];
  state: HookState;
  /** Numbers in the pid namespace that the hooks run in; absent: the container is stopped. */
  pid?: Reg | number;
  /** Folder that hooks start in. */
  cwd: string;
  /** A later hook still runs after one that failed, and the failure is told at the end (poststop). */
  all?: boolean;
  /** Appended where a hook failed, under its step, and must end the process; default: FAIL. */
  fail?: () => void;
}

/** Runs the hooks of one kind, one after the other. */
export function runHooks(program: Program, plan: HookPlan): void {
  if (plan.hooks.length === 0) return;
  const { tape } = program;
  program.step(`hooks.${plan.kind}`, 'write down the state for the hooks');
  const state = stateText(program, plan);
  const failed = plan.all === true ? tape.reg('failed_hooks') : undefined;
  plan.hooks.forEach((hook, index) => {
    runHook(program, plan, hook, index, state, failed);
  });
  if (failed === undefined) return;
  const fine = tape.label('hooks_fine');
  tape.jumpIfEqual(failed, 0, fine);
  program.step(`hooks.${plan.kind}`, 'a hook failed');
  tape.fail('ECANCELED');
  tape.place(fine);
}

/** The longest that these hooks may take, in ms; 0: there is one without a limit. */
export function hooksDeadline(hooks: readonly Hook[]): number {
  if (hooks.some(({ timeout }) => timeout === undefined)) return 0;
  return hooks.reduce((sum, { timeout = 0 }) => sum + timeout * 1000, 0);
}

/** JSON with blanks behind the pid: it is not known before the clone, and blanks mean nothing there. */
function stateText(program: Program, plan: HookPlan): { text: DataRef; length: number } {
  const { tape } = program;
  const { ociVersion, id, status, bundle, annotations } = plan.state;
  const head = `{"ociVersion":${JSON.stringify(ociVersion)},"id":${JSON.stringify(id)},"status":"${status}"`;
  const tail = `"bundle":${JSON.stringify(bundle)},"annotations":${JSON.stringify(annotations)}}`;
  if (plan.pid === undefined) {
    const bytes = Buffer.from(`${head},${tail}`);
    return { text: tape.bytes(bytes), length: bytes.length };
  }
  const start = `${head},"pid":`;
  const bytes = Buffer.from(`${start}${' '.repeat(DECIMAL_ROOM)},${tail}`);
  const text = tape.bytes(bytes);
  const pid = typeof plan.pid === 'number' ? tape.set(plan.pid) : plan.pid;
  tape.decimal(pid, text.at(Buffer.byteLength(start), DECIMAL_ROOM));
  return { text, length: bytes.length };
}

function runHook(
  program: Program,
  plan: HookPlan,
  hook: Hook,
  index: number,
  state: { text: DataRef; length: number },
  failed: Reg | undefined,
): void {
  const { tape } = program;
  program.step(`hooks.${plan.kind}[${index}]`, `run the hook ${hook.path}`);
  const input = memoryFile(program, 'hook-state');
  const output = memoryFile(program, 'hook-output');
  tape.syscall('write', [input, state.text, state.length]);
  tape.syscall('lseek', [input, 0, SEEK_SET]);

  // Left from a hook before, where all are to run.
  if (index > 0) tape.store(tape.set(0), tape.slot(HookSlot.EXEC), 8);
  const pidfd = tape.space(8);
  // clone and not clone3: a filter of the container may be loaded already, and docker's refuses clone3.
  const pid = tape.syscall('clone', [CLONE_PIDFD | SIGCHLD, 0, pidfd, 0, 0]);
  const parent = tape.label('hook_runs');
  const child = tape.label('hook');
  tape.jumpIfEqual(pid, 0, child);
  tape.jump(parent);

  tape.place(child);
  become(program, plan, hook, input, output);

  tape.place(parent);
  const descriptor = tape.load(pidfd.at(0, 4), 4);
  program.close(input);
  const late = hook.timeout === undefined ? undefined : limitTime(program, descriptor, hook.timeout);
  const status = tape.space(8);
  tape.syscall('wait4', [pid, status, 0, 0]);
  program.close(descriptor);
  const result = tape.load(status.at(0, 4), 4);
  const done = tape.label('hook_done');
  const fine = tape.label('hook_fine');
  tape.jumpIfEqual(result, 0, fine);
  reportFailure(program, index, output, result, late);
  program.close(output);
  if (failed !== undefined) {
    tape.set(1, failed);
    tape.jump(done);
  } else if (plan.fail !== undefined) plan.fail();
  else tape.fail('ECANCELED');
  tape.place(fine);
  program.close(output);
  tape.place(done);
}

/** The child: from clone to execve. It has the lane of its parent, so it ends by exit_group and tells no failure there. */
function become(program: Program, plan: HookPlan, hook: Hook, input: Reg, output: Reg): void {
  const { tape } = program;
  const ended = tape.label('hook_ended');
  const error = tape.reg('hook_error');
  const call = { into: error, on: { any: ended } };
  tape.syscall('prctl', [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0], call);
  tape.syscall('setpgid', [0, 0], call);
  tape.syscall('dup3', [input, 0, 0], call);
  tape.syscall('dup3', [output, 1, 0], call);
  tape.syscall('dup3', [output, 2, 0], call);
  tape.syscall('chdir', [plan.cwd], call);
  tape.syscall('umask', [UMASK]);
  const argv = hook.args === undefined || hook.args.length === 0 ? [hook.path] : hook.args;
  const strings = (texts: readonly string[]) =>
    tape.pointers([...texts.map((text) => tape.cstr(text)), null]);
  tape.syscall('execve', [hook.path, strings(argv), strings(hook.env ?? [])], call);
  tape.place(ended);
  tape.store(error, tape.slot(HookSlot.EXEC), 8);
  tape.syscall('exit_group', [127]);
}

/** Waits for the hook's end; kills it when its time has passed. The register is 1 then. */
function limitTime(program: Program, pidfd: Reg, seconds: number): Reg {
  const { tape } = program;
  const late = tape.reg('hook_late');
  const poll = tape.struct(encode('pollfd', { events: POLLIN }));
  tape.store(pidfd, poll.at(0, 4), 4);
  // struct pollfd is i32, i16, i16: the store above leaves events alone.
  const limit = tape.struct(encode('timespec', { tv_sec: seconds }));
  const ready = tape.syscall('ppoll', [poll, 1, limit, 0, 8]);
  const ended = tape.label('hook_in_time');
  tape.jumpIfEqual(ready, 1, ended);
  tape.set(1, late);
  const gone = tape.label('hook_gone');
  const alone = tape.label('hook_alone');
  tape.syscall('pidfd_send_signal', [pidfd, SIGKILL, 0, PIDFD_SIGNAL_PROCESS_GROUP], {
    on: { ESRCH: gone, EINVAL: alone },
  });
  tape.place(alone);
  tape.syscall('pidfd_send_signal', [pidfd, SIGKILL, 0, 0], { on: { ESRCH: gone } });
  tape.place(gone);
  tape.place(ended);
  return late;
}

/** The last bytes of its output, its status and whether it was late, into the shared page. */
export function reportFailure(
  program: Program,
  index: number,
  output: Reg,
  status: Reg,
  late: Reg | undefined,
): void {
  const { tape } = program;
  tape.store(status, tape.slot(HookSlot.STATUS), 8);
  tape.store(tape.set(index), tape.slot(HookSlot.INDEX), 8);
  if (late !== undefined) tape.store(late, tape.slot(HookSlot.LATE), 8);
  const short = tape.label('short_output');
  const placed = tape.label('output_placed');
  tape.syscall('lseek', [output, -HOOK_OUTPUT_BYTES, SEEK_END], { on: { EINVAL: short } });
  tape.jump(placed);
  tape.place(short);
  tape.syscall('lseek', [output, 0, SEEK_SET]);
  tape.place(placed);
  const length = tape.syscall('read', [output, tape.slot(HookSlot.OUTPUT), HOOK_OUTPUT_BYTES]);
  tape.store(length, tape.slot(HookSlot.LENGTH), 8);
}

/** A file in memory, close-on-exec. */
export function memoryFile(program: Program, name: string): Reg {
  const { tape } = program;
  const file = tape.reg(name);
  const sealed = tape.label('sealed');
  const made = tape.label('made');
  // Not executable first: some hosts refuse every other kind, older kernels know none.
  tape.syscall('memfd_create', [name, MFD_CLOEXEC | MFD_NOEXEC_SEAL], { into: file, on: { EINVAL: sealed } });
  tape.jump(made);
  tape.place(sealed);
  tape.syscall('memfd_create', [name, MFD_CLOEXEC], { into: file });
  tape.place(made);
  return file;
}
