/** Under which name a compiled filter is remembered, in memory and on disk. */
import { hash } from 'node:crypto';
import type { SeccompProfile } from './seccomp.ts';

/** What a filter depends on besides its profile. */
export interface FilterMaker {
  /** uname(2)'s. */
  kernel: string;
  libseccomp: string;
  /** Names the instructions that we put in front: the build of the sources. */
  build: string;
}

/**
 * SHA-256, as hex. Every field that the filter depends on has its own place in the text, so two different profiles never share
 * a name, and equal ones do whatever the order of their fields and however their numbers were written. The order of
 * rules stays: libseccomp gives meaning to it. Where a listener goes is not the filter's business.
 */
export function filterKey(profile: SeccompProfile, maker: FilterMaker): string {
  const { defaultAction, defaultErrnoRet, architectures = [], flags, syscalls = [] } = profile;
  const text = JSON.stringify([
    [process.arch, maker.kernel, maker.libseccomp, maker.build],
    defaultAction,
    defaultErrnoRet ?? null,
    [...architectures].sort(),
    flags === undefined ? null : [...flags].sort(),
    syscalls.map(({ names, action, errnoRet, args = [] }) => [
      names,
      action,
      errnoRet ?? null,
      args.map(({ index, op, value, valueTwo = 0 }) => [index, op, String(value), String(valueTwo)]),
    ]),
  ]);
  return hash('sha256', text, 'hex');
}
