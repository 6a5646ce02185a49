/**
 * Where things are, for tests, scripts and benchmarks. What lives in test/support: helpers that start real programs and
 * clean up after them. What may not: stand-ins for the kernel, for containerd or for Wherry.
 */
import { mkdtempSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const root = resolve(import.meta.dirname, '../..');
export const dist = join(root, 'dist');
export const bin = join(dist, 'bin');
export const wherryBinary = join(bin, 'wherry');
/** Downloads and what is made of them; safe to delete. */
export const cache = join(root, '.cache');

/** Names the run of a suite; scripts set it, and every process of the suite inherits it. */
export const markVariable = 'WHERRY_TEST_MARK';
const mark = (): string => process.env[markVariable] ?? 'x';

/** Every container id and containerd namespace of a test starts with this, so that a leftover says whose it is. */
export const testPrefix = 'wt-';
/** The same, of one run. */
export const runPrefix = (mark: string): string => `${testPrefix}${mark.slice(0, 6)}-`;
/** Start of the name of every temporary folder, of one run. */
export const folderPrefix = (mark: string): string => `/tmp/wherry-t${mark.slice(0, 6)}-`;

let counter = 0;
/** An id no other test on this machine uses at the same time. */
export function uniqueId(name: string): string {
  counter += 1;
  return `${runPrefix(mark())}${process.pid.toString(36)}-${counter}-${name}`;
}

/** A new folder with a short name: unix socket paths end at 107 bytes. The caller removes it. */
export function temporaryFolder(): string {
  return mkdtempSync(folderPrefix(mark()));
}
