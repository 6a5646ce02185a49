/**
 * Further processes in containers: recorded, started, waited for, forgotten. Order of what is told: added, started, exited
 * of one exec; and the container's own exit only after those of all its started execs.
 */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { WherryError } from '../errors.ts';
import { unsupported } from '../oci/supported.ts';
import type { Spec } from '../oci/types.ts';
import { playError, readPage } from '../tape/outcome.ts';
import { compileExec, type ExecInput } from './compile/exec.ts';
import { execCgroup } from './exec-cgroup.ts';
import { type ExecContext, loadExecContext } from './exec-context.ts';
import { ExecRecord } from './exec-record.ts';
import { withHome } from './home.ts';
import type { Keel, ProcessExit, Registration } from './keel.ts';
import type { Loggers } from './loggers.ts';
import type { ContainerRecord } from './record.ts';
import { planStdio, type StdioPlan } from './stdio.ts';
import { DRAIN_MS } from './streams.ts';
import type { ExecRequest, ExecState, ExitInfo, OperationContext, RuntimeEvent } from './types.ts';

const ESRCH = 3;
const SIGKILL = 9;
/** A set-up that takes longer hangs on something: keel kills it and the error names the step. */
const START_DEADLINE_MS = 120_000;
/** Of a start that failed, as in the Go shim. */
const FAILED_STATUS = 255;

export interface ExecDependencies {
  keel: Keel;
  loggers: Loggers;
  cgroups: CgroupHost;
  nextToken(): bigint;
  emit(event: RuntimeEvent): void;
  /** All started execs of a container have ended. */
  onIdle(record: ContainerRecord): void;
}

export class Execs {
  readonly #deps: ExecDependencies;
  readonly #byToken = new Map<bigint, ExecRecord>();

  constructor(dependencies: ExecDependencies) {
    this.#deps = dependencies;
  }

  add(record: ContainerRecord, request: ExecRequest): ExecState {
    assertAlive(record);
    const { execId } = request;
    if (execId === '')
      throw new WherryError('invalid-argument', 'exec_id: must not be empty', { path: 'exec_id' });
    if (record.execs.has(execId) || execId === record.key.id) {
      throw new WherryError('already-exists', `process with id ${execId} already exists`, {
        path: 'exec_id',
      });
    }
    refuseUnsupported(request);
    const exec = new ExecRecord(record, request, this.#deps.nextToken());
    record.execs.set(execId, exec);
    this.#deps.emit({ type: 'execAdded', state: record.snapshot(), exec: exec.snapshot() });
    return exec.snapshot();
  }

  async start(record: ContainerRecord, execId: string, context: OperationContext): Promise<ExecState> {
    const exec = this.#get(record, execId);
    if (exec.startTried) {
      throw new WherryError('failed-precondition', `process ${execId} has been started already`);
    }
    assertAlive(record);
    if ((record.status === 'paused' || record.status === 'pausing') && exec.request.ignorePaused !== true) {
      throw new WherryError(
        'failed-precondition',
        'cannot exec in a paused container (use --ignore-paused to override)',
      );
    }
    exec.startTried = true;
    exec.exitHeld = true;
    this.#byToken.set(exec.token, exec);
    try {
      exec.pid = await this.#play(record, exec, context);
      if (exec.exit === undefined) exec.status = 'running';
      const started = { ...exec.snapshot(), status: 'running' as const, exit: undefined };
      this.#deps.emit({ type: 'execStarted', state: record.snapshot(), exec: started });
    } catch (thrown) {
      await this.#fail(exec);
      exec.exitHeld = false;
      if (exec.request.autoDelete === true) await this.#forget(exec);
      this.#idle(record);
      throw asExecError(thrown);
    }
    exec.exitHeld = false;
    this.#announce(exec);
    return exec.snapshot();
  }

  state(record: ContainerRecord, execId: string): ExecState {
    return this.#get(record, execId).snapshot();
  }

  list(record: ContainerRecord): ExecState[] {
    return [...record.execs.values()].map((exec) => exec.snapshot());
  }

  exited(record: ContainerRecord, execId: string): Promise<ExitInfo> {
    return this.#get(record, execId).exited;
  }

  async kill(record: ContainerRecord, execId: string, signal: number): Promise<void> {
    const exec = this.#get(record, execId);
    if (exec.exit !== undefined) throw finished();
    if (!exec.startTried) {
      throw new WherryError('failed-precondition', `process ${execId} has not been started`);
    }
    if (exec.exitHeld) await exec.registered;
    const result = await this.#deps.keel.signal(exec.token, signal);
    if (result === -ESRCH) throw finished();
    if (result < 0) {
      throw new WherryError('invalid-argument', `cannot send signal ${signal}`, {
        errno: -result,
        syscall: 'pidfd_send_signal',
        path: 'signal',
      });
    }
  }

  async delete(record: ContainerRecord, execId: string): Promise<ExitInfo> {
    const exec = this.#get(record, execId);
    if (exec.active) {
      throw new WherryError(
        'failed-precondition',
        `cannot delete process ${execId} that is not stopped: running`,
      );
    }
    await this.#forget(exec);
    return exec.exit ?? { pid: 0, exitStatus: exec.startTried ? FAILED_STATUS : 0, exitedAt: new Date() };
  }

  async closeStdin(record: ContainerRecord, execId: string): Promise<void> {
    await this.#deps.keel.closeStdin(this.#get(record, execId).token);
  }

  /** What keel knows it by. */
  token(record: ContainerRecord, execId: string): bigint {
    return this.#get(record, execId).token;
  }

  /** From keel. True: it was one of ours. */
  onRegistered(registration: Registration): boolean {
    const exec = this.#byToken.get(registration.token);
    exec?.noteRegistered(registration.pid);
    return exec !== undefined;
  }

  /** From keel. True: it was one of ours. */
  onExit(exit: ProcessExit, exitStatus: number): boolean {
    const exec = this.#byToken.get(exit.token);
    if (exec === undefined) return false;
    this.#deps.keel.acknowledgeExit(exit.token);
    this.#noteExit(exec, exitStatus, exit.time);
    return true;
  }

  noteExit(record: ContainerRecord, execId: string, exitStatus: number): void {
    const exec = record.execs.get(execId);
    if (exec !== undefined) this.#noteExit(exec, exitStatus, new Date());
  }

  anyActive(record: ContainerRecord): boolean {
    for (const exec of record.execs.values()) if (exec.active) return true;
    return false;
  }

  /** The container goes: its execs, dead by now, go with it. */
  async forgetAll(record: ContainerRecord): Promise<void> {
    for (const exec of [...record.execs.values()]) await this.#forget(exec);
  }

  async #play(record: ContainerRecord, exec: ExecRecord, context: OperationContext): Promise<number> {
    const { request, token } = exec;
    const { caller } = request;
    await record.registered;
    record.execContext ??= await loadExecContext(record.dir);
    const settled = record.execContext;
    const spec = await withHome(specOf(request, settled), `/proc/${record.pid}/root`, []);
    const tape = compileExec({
      token,
      id: record.key.id,
      spec,
      init: { pid: record.pid, pidfdInode: record.pidfdInode },
      stdio: await this.#planStdio(exec),
      cgroup: execCgroup(this.#deps.cgroups, record, request.cgroups ?? {}),
      seccomp: settled.seccomp,
      ...supervisorOf(record, spec, settled),
      noNewKeyring: settled.noNewKeyring,
      ...(caller !== undefined && { caller }),
      settings: record.settings,
      cgroups: this.#deps.cgroups,
    });
    context.signal?.throwIfAborted();
    assertAlive(record);
    const result = await (caller?.host ?? this.#deps.keel).play(token, tape.image, {
      // In a paused container it freezes with the others until somebody resumes it.
      deadline: request.ignorePaused === true ? 0 : START_DEADLINE_MS,
      console: caller?.relayConsole === true,
      preserve: caller?.preserveFds ?? 0,
    });
    const error = playError(tape, result);
    const pid = Number(readPage(result.page).slots[0] ?? 0n);
    if (error !== undefined) {
      if (pid !== 0) await caller?.host.reap?.(pid);
      throw error;
    }
    if (caller === undefined) await exec.registered;
    return pid;
  }

  async #planStdio(exec: ExecRecord): Promise<StdioPlan> {
    const { request, container } = exec;
    if (request.caller !== undefined) return { kind: 'inherit' };
    const terminal = request.process.terminal === true;
    const { namespace } = container.key;
    const { nextToken } = this.#deps;
    // What it leaves behind may hold its streams.
    const context = { id: request.execId, namespace, terminal, copied: true, nextToken };
    const plan = await planStdio(request.stdio, context);
    if (plan.kind !== 'inherit') exec.logger = plan.logger?.token;
    return plan;
  }

  /** What was opened for it is closed, so that clients see the end of its streams. */
  async #fail(exec: ExecRecord): Promise<void> {
    await this.#deps.keel.signal(exec.token, SIGKILL);
    if (exec.logger !== undefined) await this.#deps.loggers.kill(exec.logger);
    await this.#deps.keel.release(exec.token);
    this.#byToken.delete(exec.token);
    exec.noteFailure({ pid: 0, exitStatus: FAILED_STATUS, exitedAt: new Date() });
  }

  async #forget(exec: ExecRecord): Promise<void> {
    exec.container.execs.delete(exec.request.execId);
    this.#byToken.delete(exec.token);
    await this.#deps.keel.release(exec.token, exec.container.settings.drainMs ?? DRAIN_MS);
    if (exec.logger !== undefined) await this.#deps.loggers.stop(exec.logger);
  }

  #noteExit(exec: ExecRecord, exitStatus: number, exitedAt: Date): void {
    if (exec.exit !== undefined) return;
    exec.noteExit({ pid: exec.pid, exitStatus, exitedAt });
    this.#announce(exec);
  }

  #announce(exec: ExecRecord): void {
    const { exit } = exec;
    if (exit === undefined || exec.exitHeld || exec.exitTold) return;
    exec.exitTold = true;
    // The pid of an exec that ended before its play was reported.
    const told = { ...exit, pid: exec.pid };
    exec.exit = told;
    const { container } = exec;
    this.#deps.emit({ type: 'execExited', state: container.snapshot(), exec: exec.snapshot(), exit: told });
    if (exec.request.autoDelete === true) void this.#forget(exec);
    this.#idle(container);
  }

  #idle(record: ContainerRecord): void {
    if (!this.anyActive(record)) this.#deps.onIdle(record);
  }

  #get(record: ContainerRecord, execId: string): ExecRecord {
    const exec = record.execs.get(execId);
    if (exec === undefined) throw unknownExec(execId);
    return exec;
  }
}

/** The container's specification as far as an exec needs it, with the exec's process in it. */
function specOf({ process }: Pick<ExecRequest, 'process'>, context: ExecContext): Spec {
  const score = process.oomScoreAdj ?? context.process.oomScoreAdj;
  return {
    ociVersion: '1.0.0',
    root: { path: '/' },
    process: { ...process, ...(score !== undefined && { oomScoreAdj: score }) },
    linux: {
      namespaces: [...context.namespaces],
      personality: context.personality,
      memoryPolicy: context.memoryPolicy,
    },
  };
}

/** A process whose filter has a listener is shown to the supervisor as the container's init was. */
function supervisorOf(
  record: ContainerRecord,
  spec: Spec,
  { supervisor }: ExecContext,
): Pick<ExecInput, 'supervisor'> {
  if (supervisor === undefined) return {};
  const { ociVersion, annotations } = record;
  const seccomp = { defaultAction: 'SCMP_ACT_NOTIFY' as const, ...supervisor };
  return {
    supervisor: {
      id: record.key.id,
      bundle: record.bundle,
      spec: { ...spec, ociVersion, annotations, linux: { seccomp } },
      init: { pid: record.pid },
    },
  };
}

function refuseUnsupported({ process }: ExecRequest): void {
  const refused = unsupported({ ociVersion: '1.0.0', root: { path: '/' }, process }).filter(({ path }) =>
    path.startsWith('process.'),
  );
  const first = refused[0];
  if (first === undefined) return;
  throw new WherryError('unimplemented', refused.map(({ path, what }) => `${path}: ${what}`).join('; '), {
    path: first.path,
  });
}

function assertAlive(record: ContainerRecord): void {
  if (record.status === 'creating') {
    throw new WherryError('failed-precondition', 'cannot exec in a container that is being created');
  }
  if (record.exit !== undefined || record.deleting) throw stopped();
}

/** The init died between the look and the act: it cannot be found, or has no namespaces any more. */
function asExecError(thrown: unknown): WherryError {
  const error = WherryError.from(thrown);
  const { errno, syscall } = error.details;
  const gone = errno === ESRCH && (syscall === undefined || syscall === 'pidfd_open' || syscall === 'setns');
  return gone ? stopped() : error;
}

function stopped(): WherryError {
  return new WherryError('failed-precondition', 'cannot exec in a stopped container');
}

function finished(): WherryError {
  return new WherryError('not-found', 'process already finished');
}

export function unknownExec(execId: string): WherryError {
  return new WherryError('not-found', `process does not exist ${execId}`, { path: 'exec_id' });
}
