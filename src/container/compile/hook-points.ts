/**
 * Which hooks run where and when (runtime.md, "Lifecycle"; as runc places them):
 * prestart, createRuntime    by the player, on the host, once the init's mounts stand and before it changes its root
 * createContainer            by the init, in its namespaces, at the same moment, found by host paths
 * startContainer             by the init, in its root and as its user, after start and before the program
 * poststart, poststop        on the host, in a tape of their own
 */
import { AT_FDCWD, O_CLOEXEC, O_CREAT, O_EXCL, O_WRONLY, PR_SET_DUMPABLE } from '../../linux/constants.ts';
import type { Hook, Spec } from '../../oci/types.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import type { Reg } from '../../tape/refs.ts';
import { HOOK_REPORT_BYTES, type HookKind, HookSlot, type HookState, runHooks } from './hooks.ts';
import { type CreateInput, INIT_FAILED } from './input.ts';
import { Program } from './program.ts';
import { endInit, meetInit, meetPlayer, type Rendezvous, sayGo } from './rendezvous.ts';

/** In the state directory: empty until the startContainer hooks have ended, then one byte, or what a failed one left to say. */
export const START_RESULT = 'start.result';

/** The player has to run hooks while the init waits. */
export function hasHostHooks({ hooks }: Spec): boolean {
  return (hooks?.prestart ?? []).length > 0 || (hooks?.createRuntime ?? []).length > 0;
}

function stateOf(input: CreateInput, status: HookState['status']): HookState {
  const { ociVersion, annotations = {} } = input.spec;
  return { ociVersion, id: input.id, status, bundle: input.bundle, annotations };
}

/** The player's side, after the clone. */
export function runHostHooks(program: Program, input: CreateInput, meeting: Rendezvous, pid: Reg): void {
  const { tape } = program;
  meetInit(program, meeting.player, INIT_FAILED);
  const fail = () => {
    endInit(program, meeting.player, pid);
    tape.fail('ECANCELED');
  };
  for (const kind of ['prestart', 'createRuntime'] as const) {
    const hooks = input.spec.hooks?.[kind] ?? [];
    runHooks(program, { kind, hooks, state: stateOf(input, 'creating'), pid, cwd: input.bundle, fail });
  }
  program.step('', 'let the init go on');
  sayGo(program, meeting.player);
}

/** The same hooks of a restore: criu waits meanwhile, and gives up when the player does. */
export function runHooksOnHost(program: Program, input: CreateInput, pid: Reg): void {
  for (const kind of ['prestart', 'createRuntime'] as const) {
    const hooks = input.spec.hooks?.[kind] ?? [];
    runHooks(program, { kind, hooks, state: stateOf(input, 'creating'), pid, cwd: input.bundle });
  }
}

/** The init's side: its mounts stand, its root is still the host's. */
export function runCreateHooks(program: Program, input: CreateInput, meeting: Rendezvous | undefined): void {
  // Its own copy of the player's end would hide the player's death.
  if (meeting !== undefined) program.close(meeting.player);
  if (meeting !== undefined && hasHostHooks(input.spec)) {
    // No process of the container is there yet, but where it joins some.
    const alone = ['user', 'pid'].every((one) =>
      (input.spec.linux?.namespaces ?? []).every(({ type, path }) => type !== one || path === undefined),
    );
    const shown = input.unprivileged === true && alone;
    // An ordinary user's hook that is to open /proc/PID/ns/net: who is root may look anyhow.
    if (shown) setVisible(program, true);
    program.step('hooks', 'wait for the hooks on the host');
    meetPlayer(program, meeting.init);
    if (shown) setVisible(program, false);
  }
  const hooks = input.spec.hooks?.createContainer ?? [];
  if (hooks.length === 0) return;
  const pid = program.tape.syscall('getpid', []);
  const state = stateOf(input, 'creating');
  runHooks(program, { kind: 'createContainer', hooks, state, pid, cwd: input.bundle });
}

function setVisible(program: Program, visible: boolean): void {
  program.step(
    'hooks',
    visible ? 'let hooks of the user look into this process' : 'let nobody look into it any more',
  );
  program.tape.syscall('prctl', [PR_SET_DUMPABLE, visible ? 1 : 0, 0, 0, 0]);
}

/** The file for the outcome of startContainer hooks; opened on the host, where the container's user could not. */
export function openStartResult(program: Program, input: CreateInput): Reg | undefined {
  if ((input.spec.hooks?.startContainer ?? []).length === 0) return undefined;
  program.step('hooks.startContainer', 'make the file for their outcome');
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  return program.tape.syscall('openat', [AT_FDCWD, `${input.stateDir}/${START_RESULT}`, flags, 0o600]);
}

/** Nobody reads the shared page of a container that was created before: the outcome goes to the file too. */
export function runStartHooks(program: Program, input: CreateInput, result: Reg | undefined): void {
  const hooks = input.spec.hooks?.startContainer ?? [];
  if (hooks.length === 0 || result === undefined) return;
  const { tape } = program;
  const pid = tape.syscall('getpid', []);
  const fail = () => {
    tape.syscall('write', [result, tape.slot(HookSlot.STATUS), HOOK_REPORT_BYTES]);
    tape.fail('ECANCELED');
  };
  runHooks(program, { kind: 'startContainer', hooks, state: stateOf(input, 'created'), pid, cwd: '/', fail });
  tape.syscall('write', [result, 'k', 1]);
  program.close(result);
}

/** A tape with nothing but hooks on the host: poststart (pid given) and poststop. */
export function compileHooks(
  kind: HookKind,
  hooks: readonly Hook[],
  state: HookState,
  pid?: number,
): AssembledTape {
  const program = new Program();
  runHooks(program, {
    kind,
    hooks,
    state,
    cwd: state.bundle,
    all: kind === 'poststop',
    ...(pid !== undefined && { pid }),
  });
  program.tape.halt(0);
  return program.tape.assemble();
}
