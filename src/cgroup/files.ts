/** Open files of one cgroup folder, read again and again from the start into one buffer that all share. */
import { closeSync, constants, openSync, readdirSync, readSync } from 'node:fs';
import type { Text } from './parse.ts';

/** memory.stat is 2 to 3 KB; io.stat and percpu files grow with the machine. */
let buffer = Buffer.allocUnsafeSlow(16 * 1024);
const SHORT = 2048;
const LARGEST = 4 * 1024 * 1024;
/** A file that was missing may come: containerd enables controllers after the container was made. */
const RETRY_AFTER = 16;

export class CgroupFiles {
  readonly #directory: string;
  readonly #descriptors = new Map<string, number>();
  /** How many more times a missing file is not looked for. */
  readonly #missing = new Map<string, number>();
  #names: string[] | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * The file's text now, valid until the next call of any reader; undefined when there is no such file, no such
   * controller, no such cgroup any more, or the kernel refuses (PSI switched off: EOPNOTSUPP).
   */
  text(name: string): Text | undefined {
    const descriptor = this.#descriptor(name);
    if (descriptor === undefined) return undefined;
    try {
      return readWhole(descriptor);
    } catch (error) {
      // A removed cgroup says ENODEV for good; one made anew under the same name needs a new descriptor.
      this.#forget(name, descriptor);
      if (isOutOfDescriptors(error)) throw error;
      return undefined;
    }
  }

  /** Sizes for which there are hugetlb files, as their names have them: 2MB. */
  hugePages(): string[] {
    this.#names ??= this.#list().flatMap(
      (name) => /^hugetlb\.([^.]+)\.(?:current|usage_in_bytes)$/.exec(name)?.[1] ?? [],
    );
    return this.#names;
  }

  close(): void {
    for (const descriptor of this.#descriptors.values()) closeSync(descriptor);
    this.#descriptors.clear();
    this.#missing.clear();
  }

  #descriptor(name: string): number | undefined {
    const known = this.#descriptors.get(name);
    if (known !== undefined) return known;
    const wait = this.#missing.get(name) ?? 0;
    if (wait > 0) {
      this.#missing.set(name, wait - 1);
      return undefined;
    }
    try {
      const descriptor = openSync(`${this.#directory}/${name}`, constants.O_RDONLY | constants.O_NOFOLLOW);
      this.#descriptors.set(name, descriptor);
      return descriptor;
    } catch (error) {
      if (isOutOfDescriptors(error)) throw error;
      this.#missing.set(name, RETRY_AFTER);
      return undefined;
    }
  }

  #forget(name: string, descriptor: number): void {
    closeSync(descriptor);
    this.#descriptors.delete(name);
    this.#missing.set(name, RETRY_AFTER);
  }

  #list(): string[] {
    try {
      return readdirSync(this.#directory);
    } catch {
      return [];
    }
  }
}

/** Node opens with O_CLOEXEC and reads with pread where a position is given. */
export function readWhole(descriptor: number): Text {
  let length = 0;
  for (;;) {
    const count = readSync(descriptor, buffer, length, buffer.length - length, length);
    length += count;
    // seq_file fills at least a page, less one record, before it returns: a short first read is all there is.
    if (count === 0 || (length === count && count < SHORT)) return { bytes: buffer, length };
    if (length === buffer.length) {
      if (length >= LARGEST) return { bytes: buffer, length };
      const larger = Buffer.allocUnsafeSlow(length * 2);
      buffer.copy(larger);
      buffer = larger;
    }
  }
}

/** Ours, not the container's trouble: the only error of reading that must be told. */
function isOutOfDescriptors(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'EMFILE' || code === 'ENFILE' || code === 'ENOMEM';
}
