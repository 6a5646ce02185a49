/** A call under way, over whichever transport. */
import type { WherryError } from '../../src/errors.ts';
import type { CallContext } from './service.ts';

export type Caller = Pick<CallContext, 'namespace' | 'scope' | 'listenerId'>;

/** Few handlers ask for its signal, and an AbortController costs more than most calls do: so does an error's stack. */
export class Call implements CallContext {
  readonly namespace: string;
  readonly scope: string;
  readonly listenerId: bigint;
  readonly requestId: string;
  #controller: AbortController | undefined;
  #aborted: (() => WherryError) | undefined;

  constructor({ namespace, scope, listenerId }: Caller, requestId: string) {
    this.namespace = namespace;
    this.scope = scope;
    this.listenerId = listenerId;
    this.requestId = requestId;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#aborted !== undefined) this.#controller.abort(this.#aborted());
    return this.#controller.signal;
  }

  /** `reason` is only made when somebody has asked for the signal. */
  abort(reason: () => WherryError): void {
    this.#aborted = reason;
    this.#controller?.abort(reason());
  }
}
