/** Medians and the like of samples; all in the unit of the samples. */

/** Runs of each contestant that are not counted: what stands for weeks is measured warm, V8's compilers included; cold is measured apart. */
export const WARM_ROUNDS = 20;

export interface Summary {
  runs: number;
  median: number;
  minimum: number;
  /** Nine of ten samples are not above it. */
  p90: number;
}

export function summarize(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  const middle = sorted.length / 2;
  const median = Number.isInteger(middle) ? ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2 : at(0.5);
  return { runs: sorted.length, median, minimum: sorted[0] ?? Number.NaN, p90: at(0.9) };
}

/** Calls each of `names` once a round, starting one further on every round and every other time backwards: none always follows the same. */
export async function interleaved(
  names: readonly string[],
  rounds: number,
  once: (name: string, round: number) => Promise<void>,
): Promise<string[]> {
  const order: string[] = [];
  for (let round = 0; round < rounds; round += 1) {
    for (let place = 0; place < names.length; place += 1) {
      const step = round % 2 === 0 ? place : names.length - place;
      const name = names[(round + step) % names.length] ?? '';
      order.push(name);
      await once(name, round);
    }
  }
  return order;
}
