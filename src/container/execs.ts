/**
 * Further processes in containers: recorded, started, waited for, forgotten. Order of what is told: added, started, exited
 * of one exec; and the container's own exit only after those of all its started execs.
 */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import { SIGKILL } from '../linux/constants.ts';
import { errnoNumbers } from '../linux/errno.ts';
import { unsupported } from '../oci/supported.ts';
import { enteringInit } from './entering.ts';
import { loadExecs, noteExec, removeExecFile, saveExec } from './exec-files.ts';
import { playExec } from './exec-play.ts';
import { ExecRecord } from './exec-record.ts';
import type { Keel, ProcessExit, Registration } from './keel.ts';
import { keepStreams } from './kept-streams.ts';
import type { Loggers } from './loggers.ts';
import type { ContainerRecord } from './record.ts';
import { assertAlive, assertSent, execInStopped } from './refusals.ts';
import { isRepeated, repeatedAs } from './repeats.ts';
import { DRAIN_MS } from './streams.ts';
import type { ExecRequest, ExecState, ExitInfo, OperationContext, RuntimeEvent } from './types.ts';

/** Of a start that failed, as in the Go shim. */
const FAILED_STATUS = 255;

export interface ExecDependencies {
  keel: Keel;
  loggers: Loggers;
  cgroups: CgroupHost;
  nextToken(): bigint;
  emit(event: RuntimeEvent): void;
  /** Which life of keel this is. */
  boot(): bigint;
  /** All started execs of a container have ended. */
  onIdle(record: ContainerRecord): void;
}

export class Execs {
  readonly #deps: ExecDependencies;
  readonly #byToken = new Map<bigint, ExecRecord>();
  /** Of an earlier wherryd, not settled yet. */
  readonly #adopted: ExecRecord[] = [];

  constructor(dependencies: ExecDependencies) {
    this.#deps = dependencies;
  }

  add(record: ContainerRecord, request: ExecRequest, context: OperationContext): ExecState {
    const { execId } = request;
    const earlier = record.execs.get(execId);
    // The call of which the last wherryd did everything but answer.
    if (earlier !== undefined && isRepeated(earlier, earlier.addedBy, context)) return earlier.snapshot();
    assertAlive(record);
    if (execId === '')
      throw new WherryError('invalid-argument', 'exec_id: must not be empty', { path: 'exec_id' });
    if (earlier !== undefined || execId === record.key.id) {
      throw new WherryError('already-exists', `process with id ${execId} already exists`, {
        path: 'exec_id',
      });
    }
    refuseUnsupported(request);
    const exec = new ExecRecord(record, request, this.#deps.nextToken());
    exec.addedBy = repeatedAs(context);
    record.execs.set(execId, exec);
    this.#deps.emit({ type: 'execAdded', state: record.snapshot(), exec: exec.snapshot() });
    this.#save(exec);
    fault('exec.recorded');
    return exec.snapshot();
  }

  #save(exec: ExecRecord): void {
    if (!exec.outlives) return;
    try {
      saveExec(exec, this.#deps.boot());
    } catch (cause) {
      exec.container.execs.delete(exec.request.execId);
      throw new WherryError('resource-exhausted', `cannot write down the exec: ${(cause as Error).message}`, {
        path: 'exec_id',
        hint: 'make room in the run folder',
        cause,
      });
    }
  }

  async start(record: ContainerRecord, execId: string, context: OperationContext): Promise<ExecState> {
    const exec = this.#get(record, execId);
    await exec.unsettled?.promise;
    if (exec.adopted && exec.startTried) {
      exec.adopted = false;
      if (exec.failure !== undefined) throw exec.failure;
      return exec.snapshot();
    }
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
    fault('exec.begun');
    try {
      exec.pid = await enteringInit(record, () => playExec(record, exec, context, this.#deps));
      fault('exec.played');
      this.#tellStarted(exec);
      fault('exec.told');
    } catch (thrown) {
      const error = asExecError(thrown);
      await this.#fail(exec);
      if (exec.outlives) noteExec(exec, { failed: { kind: error.kind, message: error.message } });
      exec.exitHeld = false;
      if (exec.request.autoDelete === true) await this.#forget(exec);
      this.#idle(record);
      throw error;
    } finally {
      exec.letGo?.();
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
    await exec.unsettled?.promise;
    if (exec.exit !== undefined) throw finished();
    if (!exec.startTried) {
      throw new WherryError('failed-precondition', `process ${execId} has not been started`);
    }
    if (exec.exitHeld) await exec.registered;
    assertSent(await this.#deps.keel.signal(exec.token, signal), signal, finished);
  }

  async delete(record: ContainerRecord, execId: string): Promise<ExitInfo> {
    const exec = this.#get(record, execId);
    await exec.unsettled?.promise;
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
    // Acknowledged when it is forgotten: until then keel tells it to a later wherryd.
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

  /** What an earlier wherryd left of a container's execs; `settle` says what became of them. */
  takeUp(record: ContainerRecord): void {
    for (const stored of loadExecs(record.dir)) {
      const exec = new ExecRecord(record, { key: record.key, ...stored.request }, BigInt(stored.token));
      exec.adopted = true;
      exec.addedBy = stored.boot === String(this.#deps.boot()) ? stored.addedBy : '';
      if (stored.logger !== undefined) exec.logger = BigInt(stored.logger);
      exec.exitTold = stored.ended !== undefined;
      record.execs.set(exec.request.execId, exec);
      if (stored.failed !== undefined) {
        exec.startTried = true;
        exec.failure = new WherryError(stored.failed.kind, stored.failed.message);
        exec.noteFailure({ pid: 0, exitStatus: FAILED_STATUS, exitedAt: new Date() });
        continue;
      }
      exec.startTold = stored.started === true;
      if (exec.startTold) exec.status = 'running';
      if (typeof stored.ended === 'object') {
        exec.pid = stored.ended.pid;
        exec.noteExit({ ...stored.ended, exitedAt: new Date(stored.ended.exitedAt) });
      }
      exec.exitHeld = true;
      exec.unsettled = Promise.withResolvers();
      this.#byToken.set(exec.token, exec);
      this.#adopted.push(exec);
    }
  }

  /** After keel has told who lives and who has ended. Never rejects. */
  async settle(): Promise<void> {
    await Promise.all(this.#adopted.splice(0).map((exec) => this.#settleOne(exec)));
  }

  async #settleOne(exec: ExecRecord): Promise<void> {
    // Its start may be under way; a start that is not known to have made a process is begun anew, by the call that comes again.
    if (exec.pid === 0 && !exec.startTold) {
      exec.letGo = await keepStreams(exec.request.stdio);
      await this.#deps.keel.cancel(exec.token);
    }
    if (exec.pid !== 0) {
      exec.startTried = true;
      if (!exec.startTold) this.#tellStarted(exec);
    } else if (exec.startTold) {
      // Of an earlier keel, with which everything ended.
      exec.startTried = true;
      this.#noteExit(exec, FAILED_STATUS, new Date());
    } else this.#byToken.delete(exec.token);
    exec.exitHeld = false;
    exec.unsettled?.resolve();
    exec.unsettled = undefined;
    this.#announce(exec);
    this.#idle(exec.container);
  }

  #tellStarted(exec: ExecRecord): void {
    if (exec.exit === undefined) exec.status = 'running';
    const started = { ...exec.snapshot(), status: 'running' as const, exit: undefined };
    this.#deps.emit({ type: 'execStarted', state: exec.container.snapshot(), exec: started });
    exec.startTold = true;
    if (exec.outlives)
      noteExec(exec, { started: true, ...(exec.logger !== undefined && { logger: String(exec.logger) }) });
  }

  /** What was opened for it is closed, so that clients see the end of its streams. */
  async #fail(exec: ExecRecord): Promise<void> {
    // A play that nobody waits for any more ends, too.
    if (exec.request.caller === undefined) await this.#deps.keel.cancel(exec.token);
    else await this.#deps.keel.signal(exec.token, SIGKILL);
    if (exec.logger !== undefined) await this.#deps.loggers.kill(exec.logger);
    await this.#deps.keel.release(exec.token);
    this.#byToken.delete(exec.token);
    exec.noteFailure({ pid: 0, exitStatus: FAILED_STATUS, exitedAt: new Date() });
  }

  async #forget(exec: ExecRecord): Promise<void> {
    exec.letGo?.();
    exec.container.execs.delete(exec.request.execId);
    this.#byToken.delete(exec.token);
    await this.#deps.keel.release(exec.token, exec.container.settings.drainMs ?? DRAIN_MS);
    this.#deps.keel.acknowledgeExit(exec.token);
    if (exec.outlives) removeExecFile(exec);
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
    if (exec.outlives && exec.request.autoDelete !== true)
      noteExec(exec, {
        ended: { pid: told.pid, exitStatus: told.exitStatus, exitedAt: told.exitedAt.toISOString() },
      });
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

/** The init died between the look and the act: it cannot be found, or has no namespaces any more. */
function asExecError(thrown: unknown): WherryError {
  const error = WherryError.from(thrown);
  const { errno, syscall } = error.details;
  const gone =
    errno === errnoNumbers.ESRCH &&
    (syscall === undefined || syscall === 'pidfd_open' || syscall === 'setns');
  return gone ? execInStopped() : error;
}

function finished(): WherryError {
  return new WherryError('not-found', 'process already finished');
}

export function unknownExec(execId: string): WherryError {
  return new WherryError('not-found', `process does not exist ${execId}`, { path: 'exec_id' });
}
