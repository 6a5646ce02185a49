/** Open files of one cgroup folder, read again and again from the start into one buffer that all share. */
import { closeSync, constants, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import type { Text } from './parse.ts';

/** memory.stat is 2 to 3 KB; io.stat and percpu files grow with the machine. */
let buffer = Buffer.allocUnsafeSlow(16 * 1024);
const SHORT = 2048;
const LARGEST = 4 * 1024 * 1024;
/** A file that was missing may come: containerd enables controllers after the container was made. */
const RETRY_AFTER = 16;

/** How many files may stay open between two reads: a node with thousands of containers must not run out of descriptors for it. */
export class DescriptorBudget {
  readonly #most: () => number;
  #left: number | undefined;

  /** Asked when first needed. */
  constructor(most: () => number) {
    this.#most = most;
  }

  /** False: read it and close it. */
  take(): boolean {
    this.#left ??= this.#most();
    if (this.#left <= 0) return false;
    this.#left--;
    return true;
  }

  give(): void {
    if (this.#left !== undefined) this.#left++;
  }
}

/** Half of what this process may open (proc_pid_limits(5)). */
const shared = new DescriptorBudget(() => {
  const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
  return Math.floor(Number(soft ?? 1024) / 2);
});

export class CgroupFiles {
  readonly #directory: string;
  readonly #descriptors = new Map<string, number>();
  /** How many more times a missing file is not looked for. */
  readonly #missing = new Map<string, number>();
  readonly #budget: DescriptorBudget;
  #names: string[] | undefined;

  constructor(directory: string, budget: DescriptorBudget = shared) {
    this.#directory = directory;
    this.#budget = budget;
  }

  /**
   * The file's text now, valid until the next call of any reader; undefined when there is no such file, no such
   * controller, no such cgroup any more, or the kernel refuses (PSI switched off: EOPNOTSUPP).
   */
  text(name: string): Text | undefined {
    const known = this.#descriptors.get(name);
    const descriptor = known ?? this.#opened(name);
    if (descriptor === undefined) return undefined;
    let kept = known !== undefined;
    if (!kept && this.#budget.take()) {
      this.#descriptors.set(name, descriptor);
      kept = true;
    }
    try {
      return readWhole(descriptor);
    } catch (error) {
      // A removed cgroup says ENODEV for good; one made anew under the same name needs a new descriptor.
      if (kept) this.#forget(name, descriptor);
      if (isOutOfDescriptors(error)) throw error;
      return undefined;
    } finally {
      if (!kept) closeSync(descriptor);
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
    for (const descriptor of this.#descriptors.values()) {
      closeSync(descriptor);
      this.#budget.give();
    }
    this.#descriptors.clear();
    this.#missing.clear();
  }

  #opened(name: string): number | undefined {
    const wait = this.#missing.get(name) ?? 0;
    if (wait > 0) {
      this.#missing.set(name, wait - 1);
      return undefined;
    }
    try {
      return openSync(`${this.#directory}/${name}`, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if (isOutOfDescriptors(error)) throw error;
      this.#missing.set(name, RETRY_AFTER);
      return undefined;
    }
  }

  #forget(name: string, descriptor: number): void {
    closeSync(descriptor);
    this.#budget.give();
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
