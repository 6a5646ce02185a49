/** The two processor architectures that Wherry runs on, under the kernel's own names (`uname -m`). */
import { WherryError } from '../errors.ts';

export type Arch = 'x86_64' | 'aarch64';

export const arches: readonly Arch[] = ['x86_64', 'aarch64'];

/** The architecture of this process; throws `unimplemented` on any other. */
export function currentArch(): Arch {
  if (process.arch === 'x64') return 'x86_64';
  if (process.arch === 'arm64') return 'aarch64';
  throw new WherryError('unimplemented', `processor architecture ${process.arch} is not supported`, {
    hint: 'Wherry runs on x86_64 (x64) and aarch64 (arm64)',
  });
}

/** Index into the per-architecture pairs of `syscallNumbers` and of a few constants. */
export function archIndex(arch: Arch): 0 | 1 {
  return arch === 'x86_64' ? 0 : 1;
}
