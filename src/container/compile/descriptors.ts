/** The descriptors that a program begins with: 0-2, then those that the caller preserves, and nothing else. */
import { F_DUPFD_CLOEXEC, O_CLOEXEC, TIOCSCTTY } from '../../linux/constants.ts';
import type { Reg } from '../../tape/refs.ts';
import { PlayerDescriptor } from './input.ts';
import type { Program } from './program.ts';
import type { OpenStream } from './streams.ts';

const MAX_DESCRIPTOR = 0xffff_ffff;

export interface Placement {
  /** How many descriptors of the caller follow 2; the player has them from PRESERVED on. */
  preserve: number;
  /** stdin, stdout, stderr; none: the caller's own 0-2. */
  streams: readonly OpenStream[];
  /** A terminal instead of the streams; it becomes the controlling one. */
  slave: Reg | undefined;
  /** The tape's own that are still needed: they move behind all others and end at the execve. */
  kept: readonly Reg[];
}

/** Gives 0-2 and the preserved ones their final places, closes all others; returns where `kept` are now. */
export function placeDescriptors(program: Program, { preserve, streams, slave, kept }: Placement): Reg[] {
  const { tape } = program;
  program.step('', 'put the descriptors in their places');
  if (slave !== undefined) {
    for (const number of [0, 1, 2]) tape.perform('dup3', [slave, number, 0]);
    tape.perform('ioctl', [0, TIOCSCTTY, 0]);
  } else {
    streams.forEach(({ container }, number) => {
      if (container !== undefined) tape.perform('dup3', [container, number, 0]);
    });
  }
  // Moved high first: one of them may lie where another is to go. The ends then stand behind the preserved ones.
  const first = 3 + preserve;
  const last = first + kept.length;
  const above = preserve === 0 ? last : PlayerDescriptor.PRESERVED + preserve;
  const moved = kept.map((descriptor) => tape.syscall('fcntl', [descriptor, F_DUPFD_CLOEXEC, above]));
  for (let index = 0; index < preserve; index++) {
    program.step(
      '--preserve-fds',
      `hand on descriptor ${3 + index} of the caller, preserved-fd ${index + 1} (of ${preserve})`,
    );
    tape.perform('dup3', [PlayerDescriptor.PRESERVED + index, 3 + index, 0]);
  }
  if (preserve > 0) program.step('', 'put the descriptors in their places');
  moved.forEach((descriptor, index) => {
    tape.perform('dup3', [descriptor, first + index, O_CLOEXEC]);
  });
  tape.perform('close_range', [last, MAX_DESCRIPTOR, 0]);
  return kept.map((_, index) => tape.set(first + index));
}
