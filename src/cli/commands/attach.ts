/** `attach`: the caller's terminal and a detached container's streams, until either ends or the keys that go away are typed. */
import { WherryError } from '../../errors.ts';
import type { CommandContext } from '../context.ts';
import { namedContainer } from '../names.ts';
import { shown } from '../parse.ts';
import { aborted, keptConsole } from './logs.ts';

const DETACH_KEYS = 'ctrl-p,ctrl-q';

export async function attachCommand(context: CommandContext): Promise<number> {
  const { session, deps, flags, args, operation } = context;
  const keys = detachKeys(flags.text('detach-keys') ?? DETACH_KEYS);
  const state = namedContainer(context, args[0] ?? '');
  const { key } = state;
  const console = keptConsole(deps, state);
  if (state.status === 'stopped') {
    throw new WherryError('failed-precondition', `container ${key.id} has ended`, {
      hint: `what it wrote: wherry logs ${key.id}`,
    });
  }
  const { terminal } = state.stdio;
  const left = Promise.withResolvers<'left'>();
  const stop = await console.log.follow(0, ({ stream, bytes }) =>
    session.out(stream === 'stdout' ? 1 : 2, bytes),
  );
  const gone = new AbortController();
  const given = state.stdio.stdin !== '' && !flags.on('no-stdin');
  sayHowToLeave(context, given && terminal);
  try {
    if (given) {
      const watch = new DetachKeys(keys);
      session.relay(terminal && session.request.isTerminal[0], {
        input(bytes) {
          if (bytes === undefined) return;
          const { rest, detached } = watch.take(bytes);
          if (rest.length > 0) void console.write(rest);
          if (detached) left.resolve('left');
        },
        resized(rows, cols) {
          if (terminal) deps.runtime.resize(key, undefined, rows, cols).catch(() => {});
        },
      });
    }
    const end = deps.runtime.wait(key, { ...operation, signal: gone.signal }).then(async (exit) => {
      await console.ended;
      return exit.exitStatus;
    });
    const caller = aborted(session.signal).then(() => 'left' as const);
    const first = await Promise.race([end, left.promise, caller]);
    if (first !== 'left') return first;
    end.catch(() => {});
    session.out(2, terminal ? '\r\n' : '');
    return 0;
  } finally {
    gone.abort();
    stop();
  }
}

/** Only the keys of a terminal in raw mode are seen one by one; elsewhere Ctrl-C ends this command and nothing else. */
function sayHowToLeave({ session, flags }: CommandContext, byKeys: boolean): void {
  const { isTerminal } = session.request;
  if (!isTerminal[0] || !isTerminal[2]) return;
  const keys = byKeys ? (flags.text('detach-keys') ?? DETACH_KEYS) : 'ctrl-c';
  session.out(2, `[${keys.replaceAll(',', ' ')} leaves it running]${byKeys ? '\r' : ''}\n`);
}

/** `ctrl-p,ctrl-q`, `a,b` → the bytes that they send. */
export function detachKeys(text: string): Buffer {
  const bytes = text.split(',').map((word) => {
    const control = /^ctrl-([a-z@[\\\]^_])$/i.exec(word)?.[1];
    if (control !== undefined) return control.toUpperCase().charCodeAt(0) & 0x1f;
    return word.length === 1 && word >= ' ' && word <= '~' ? word.charCodeAt(0) : -1;
  });
  if (!bytes.includes(-1)) return Buffer.from(bytes);
  throw new WherryError('invalid-argument', `invalid value "${shown(text)}" for flag --detach-keys`, {
    path: '--detach-keys',
    hint: 'write letters and ctrl-LETTER with commas between them, such as ctrl-p,ctrl-q',
  });
}

/** Finds the keys in what is typed, also when they come in several reads. What only begins like them is handed on when it goes on differently. */
export class DetachKeys {
  readonly #keys: Buffer;
  #matched = 0;

  constructor(keys: Buffer) {
    this.#keys = keys;
  }

  take(bytes: Buffer): { rest: Buffer; detached: boolean } {
    const rest: number[] = [];
    for (const byte of bytes) {
      if (byte !== this.#keys[this.#matched]) {
        rest.push(...this.#keys.subarray(0, this.#matched));
        this.#matched = 0;
      }
      if (byte !== this.#keys[this.#matched]) {
        rest.push(byte);
        continue;
      }
      this.#matched += 1;
      if (this.#matched < this.#keys.length) continue;
      return { rest: Buffer.from(rest), detached: true };
    }
    return { rest: Buffer.from(rest), detached: false };
  }
}
