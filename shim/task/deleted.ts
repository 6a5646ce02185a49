/**
 * Answers of Delete, kept for a while: containerd may give up waiting and ask again, and must then get the same exit data
 * instead of leaking the task.
 */
import type { ExitInfo } from '../../src/container/types.ts';

const KEEP_MS = 60_000;
const MAX_ENTRIES = 1024;

export class DeletedTasks {
  private readonly running = new Map<string, Promise<ExitInfo>>();
  private readonly done = new Map<string, { exit: ExitInfo; until: number }>();

  /** The answer of an earlier Delete, or of one under way, or else of `remove`. A failure is not kept. */
  async once(name: string, remove: () => Promise<ExitInfo>): Promise<ExitInfo> {
    const before = this.running.get(name) ?? this.get(name);
    if (before !== undefined) return before;
    const removal = remove();
    this.running.set(name, removal);
    try {
      const exit = await removal;
      this.done.set(name, { exit, until: Date.now() + KEEP_MS });
      this.trim();
      return exit;
    } finally {
      this.running.delete(name);
    }
  }

  get(name: string): ExitInfo | undefined {
    const entry = this.done.get(name);
    return entry !== undefined && entry.until > Date.now() ? entry.exit : undefined;
  }

  /** From before this wherryd. */
  restore(name: string, exit: ExitInfo): void {
    this.done.set(name, { exit, until: Date.now() + KEEP_MS });
  }

  /** The name is used anew. */
  forget(name: string): void {
    this.done.delete(name);
  }

  private trim(): void {
    const now = Date.now();
    // In order of insertion, so the first that stays ends the search.
    for (const [name, { until }] of this.done) {
      if (until > now && this.done.size <= MAX_ENTRIES) break;
      this.done.delete(name);
    }
  }
}
