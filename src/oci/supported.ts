/** What the specification has and this version of the runtime does not apply: refused by name, never skipped in silence. */
import type { Spec } from './types.ts';

export interface Unsupported {
  /** `process.scheduler`. */
  path: string;
  /** What is missing, in words: `schedulers`. */
  what: string;
}

/** Set to something that asks for an act: not absent, empty, zero, false or made of such. */
function asks(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === 'object' && value !== null) return Object.values(value).some(asks);
  return value !== undefined && value !== '' && value !== false && value !== 0 && value !== 0n;
}

/** Fields of a checked configuration that ask for what this version cannot do; empty: everything is applied. */
export function unsupported(config: Spec, cgroupVersion: 1 | 2 = 1): Unsupported[] {
  const result: Unsupported[] = [];
  if (cgroupVersion === 1 && asks(config.linux?.resources?.unified)) {
    result.push({ path: 'linux.resources.unified', what: 'cgroup v2 files on a cgroup v1 host' });
  }
  return result;
}
