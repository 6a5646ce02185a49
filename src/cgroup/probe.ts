/** The few questions that planning asks the cgroup filesystems, so that plans for other hosts can be made in tests. */
import { existsSync, readFileSync } from 'node:fs';

export interface CgroupProbe {
  exists(path: string): boolean;
  /** The file's text without the final newline, undefined when it cannot be read. */
  read(path: string): string | undefined;
}

export const realProbe: CgroupProbe = {
  exists: existsSync,
  read(path) {
    try {
      return readFileSync(path, 'latin1').trimEnd();
    } catch {
      return undefined;
    }
  },
};
