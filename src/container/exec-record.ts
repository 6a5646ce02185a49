/** One further process of a container, as wherryd remembers it. */
import type { WherryError } from '../errors.ts';
import type { ContainerRecord } from './record.ts';
import type { ExecRequest, ExecState, ExitInfo } from './types.ts';

export class ExecRecord {
  readonly container: ContainerRecord;
  readonly request: ExecRequest;
  readonly token: bigint;
  status: ExecState['status'] = 'created';
  pid = 0;
  /** A start runs or has failed: there is no second one. */
  startTried = false;
  exit: ExitInfo | undefined;
  /** Token of its logger (binary://). */
  logger: bigint | undefined;
  /** While the start runs: an exit must not be told before it. */
  exitHeld = false;
  exitTold = false;
  /** The call that added it. */
  addedBy = '';
  /** Its start was told. */
  startTold = false;
  /** Left by an earlier wherryd: a call of which everything was done but the answer may come again. */
  adopted = false;
  /** How its start failed under an earlier wherryd. */
  failure: WherryError | undefined;
  /** Settles when it is known what has become of it; undefined: it is known. */
  unsettled: PromiseWithResolvers<void> | undefined;
  /** Its start may be undone: closes the streams that are kept for the next one, which may come at any time. */
  letGo: (() => void) | undefined;
  readonly #exited = Promise.withResolvers<ExitInfo>();
  readonly #registered = Promise.withResolvers<void>();

  constructor(container: ContainerRecord, request: ExecRequest, token: bigint) {
    this.container = container;
    this.request = request;
    this.token = token;
  }

  /** Between the order to start and the exit: the container's own exit is told after it. */
  get active(): boolean {
    return this.status === 'running' || this.exitHeld;
  }

  /** Its caller is not another program that ends with its command. */
  get outlives(): boolean {
    return this.request.caller === undefined;
  }

  get exited(): Promise<ExitInfo> {
    return this.#exited.promise;
  }

  get registered(): Promise<void> {
    return this.#registered.promise;
  }

  noteRegistered(pid: number): void {
    this.pid = pid;
    this.#registered.resolve();
  }

  noteExit(exit: ExitInfo): void {
    this.exit = exit;
    this.status = 'stopped';
    this.#exited.resolve(exit);
  }

  /** The start failed: who waits is answered at once, and it counts as never started. */
  noteFailure(exit: ExitInfo): void {
    this.pid = 0;
    this.status = 'created';
    // That of the half-made process is nobody's.
    this.exit = undefined;
    this.#exited.resolve(exit);
  }

  snapshot(): ExecState {
    const { key, execId, stdio } = this.request;
    return {
      key,
      execId,
      status: this.status,
      pid: this.pid,
      terminal: this.request.process.terminal === true,
      stdio,
      exit: this.exit,
    };
  }
}
