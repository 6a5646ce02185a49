/** The few questions that planning asks the cgroup filesystems, so that plans for other hosts can be made in tests. */
import { existsSync } from 'node:fs';
import { readShortFile } from '../linux/short-file.ts';

export interface CgroupProbe {
  exists(path: string): boolean;
  /** The file's text without the final newline, undefined when it cannot be read. */
  read(path: string): string | undefined;
}

export const realProbe: CgroupProbe = {
  exists: existsSync,
  read: (path) => readShortFile(path)?.trimEnd(),
};
