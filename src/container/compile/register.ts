/** The message by which a process tells keel who it is, and gives it the ends of its streams (docs/internals.md). */
import { MSG_NOSIGNAL } from '../../linux/constants.ts';
import { iovecs, msghdr, scmCredentials, scmRights, scmRightsOffset } from '../../linux/structs.ts';
import type { Reg } from '../../tape/refs.ts';
import { type CreateInput, PlayerDescriptor } from './input.ts';
import type { Program } from './program.ts';
import type { OpenStream } from './streams.ts';

/** Kinds of descriptors; the twin of StreamEnd in native/wire.h. */
export const EndKind = {
  pidfd: 1,
  stdinWriter: 2,
  stdoutReader: 3,
  stdoutWriter: 4,
  stderrReader: 5,
  stderrWriter: 6,
  master: 7,
  stdinReader: 8,
  stdoutPipe: 9,
  stderrPipe: 10,
} as const;

type End = [kind: number, descriptor: Reg | undefined];

/** Who we are, told to keel before anything else, with the stream ends that it keeps; here they are closed. */
export function register(
  program: Program,
  input: Pick<CreateInput, 'token'>,
  { streams }: { streams: readonly OpenStream[] },
): void {
  const { tape } = program;
  program.step('', 'register with keel');
  const pid = tape.syscall('getpid', []);
  const pidfd = tape.syscall('pidfd_open', [pid, 0]);
  const [, stdout, stderr] = streams;
  const ends = endsOf(streams);
  giveToKeel(program, input.token, [[EndKind.pidfd, pidfd], ...ends]);
  for (const [, descriptor] of ends) {
    if (descriptor !== undefined && descriptor !== stdout?.container && descriptor !== stderr?.container)
      program.close(descriptor);
  }
  program.close(pidfd);
}

/**
 * The same in the name of another process, which cannot do so itself: the kernel takes the word of a privileged sender (unix(7),
 * SCM_CREDENTIALS). `master`: of its terminal.
 */
export function registerOther(
  program: Program,
  token: bigint,
  streams: readonly OpenStream[],
  pid: Reg,
  master: Reg | undefined,
): void {
  const { tape } = program;
  program.step('', 'tell keel of the restored process');
  const pidfd = tape.syscall('pidfd_open', [pid, 0]);
  giveToKeel(program, token, [[EndKind.pidfd, pidfd], ...endsOf(streams), [EndKind.master, master]], pid);
  program.close(pidfd);
}

function endsOf(streams: readonly OpenStream[]): End[] {
  if (streams.length === 0) return [];
  const [stdin, stdout, stderr] = streams;
  return [
    [EndKind.stdinWriter, stdin?.writer],
    [EndKind.stdinReader, stdin?.source],
    [EndKind.stdoutReader, stdout?.reader],
    [EndKind.stdoutWriter, stdout?.writer],
    [EndKind.stdoutPipe, stdout?.source],
    [EndKind.stderrReader, stderr?.reader],
    [EndKind.stderrWriter, stderr?.writer],
    [EndKind.stderrPipe, stderr?.source],
  ];
}

/** One message on the registration socket; descriptors that are undefined are left out. `sender`: in whose name. */
export function giveToKeel(program: Program, token: bigint, all: readonly End[], sender?: Reg): void {
  const { tape } = program;
  const ends = all.filter((end): end is [number, Reg] => end[1] !== undefined);
  const body = new Uint8Array(32);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, token, true);
  body[8] = ends.length;
  const rights = scmRights(ends.map(() => 0)).bytes;
  const credentials = sender === undefined ? undefined : scmCredentials().bytes;
  const length = rights.length + (credentials?.length ?? 0);
  const whole = new Uint8Array(length);
  whole.set(rights);
  if (credentials !== undefined) whole.set(credentials, rights.length);
  const control = tape.bytes(whole);
  if (sender !== undefined) tape.store(sender, control.at(scmRightsOffset(0) + rights.length, 4), 4);
  for (let index = 0; index < ends.length; index++) {
    const [kind, descriptor] = ends[index]!;
    body[16 + index] = kind;
    tape.store(descriptor, control.at(scmRightsOffset(index), 4), 4);
  }
  const message = tape.struct(
    msghdr({
      iov: tape.struct(iovecs([{ at: tape.bytes(body), length: body.length }])),
      iovCount: 1,
      control: { at: control, length },
    }),
  );
  tape.perform('sendmsg', [PlayerDescriptor.REGISTRATION, message, MSG_NOSIGNAL]);
}
