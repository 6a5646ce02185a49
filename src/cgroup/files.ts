/** Files of cgroups, read again and again from the start into one buffer that all share. */
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { parseCount, parseKeyed, type Text } from './parse.ts';

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

/** One file of a cgroup, open from its first reading on. */
export class CgroupFile {
  readonly #path: string;
  readonly #budget: DescriptorBudget;
  #descriptor = -1;
  /** How many more times it is not looked for. */
  #wait = 0;

  constructor(path: string, budget: DescriptorBudget = shared) {
    this.#path = path;
    this.#budget = budget;
  }

  /**
   * The text now, valid until the next call of any reader; undefined when there is no such file, no such controller, no
   * such cgroup any more, or the kernel refuses (PSI switched off: EOPNOTSUPP).
   */
  text(): Text | undefined {
    let descriptor = this.#descriptor;
    let kept = descriptor !== -1;
    if (!kept) {
      descriptor = this.#open();
      if (descriptor === -1) return undefined;
      kept = this.#budget.take();
      if (kept) this.#descriptor = descriptor;
    }
    try {
      return readWhole(descriptor);
    } catch (error) {
      // A removed cgroup says ENODEV for good; one made anew under the same name needs a new descriptor.
      if (kept) this.close();
      if (isOutOfDescriptors(error)) throw error;
      this.#wait = RETRY_AFTER;
      return undefined;
    } finally {
      if (!kept) closeSync(descriptor);
    }
  }

  close(): void {
    if (this.#descriptor === -1) return;
    closeSync(this.#descriptor);
    this.#descriptor = -1;
    this.#budget.give();
  }

  #open(): number {
    if (this.#wait > 0) {
      this.#wait--;
      return -1;
    }
    try {
      // An exception costs ten times as much, and of v1's names most kernels have the half.
      if (existsSync(this.#path)) return openSync(this.#path, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if (isOutOfDescriptors(error)) throw error;
    }
    this.#wait = RETRY_AFTER;
    return -1;
  }
}

/** One number, or `max`. */
export function countOf(file: CgroupFile, max?: bigint): bigint | undefined {
  const text = file.text();
  return text === undefined ? undefined : parseCount(text, max);
}

/** `name value` lines; `names` as parseKeyed() keeps them. */
export function countersOf(file: CgroupFile, names: string[]): Record<string, bigint> | undefined {
  const text = file.text();
  return text === undefined ? undefined : parseKeyed(text, names);
}

/** Sizes for which a folder has hugetlb files, as their names have them: 2MB. */
export function hugePageSizes(directory: string): string[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch {
    return [];
  }
  return names.flatMap((name) => /^hugetlb\.([^.]+)\.(?:current|usage_in_bytes)$/.exec(name)?.[1] ?? []);
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
