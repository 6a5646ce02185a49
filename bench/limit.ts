/** The smallest limit of memory under which a static `sleep` starts, runs and ends: what each runtime itself charges to the container. */
import { editConfig, makeBundle } from '../test/support/bundle.ts';
import { uniqueId } from '../test/support/paths.ts';
import type { Goal } from './cli-run.ts';
import type { Contestant } from './contestants.ts';

const KIB = 1024;
const STEP = 4 * KIB;
const MOST = 32 * KIB * KIB;
/** So many times in a row it must work. */
const TIMES = 3;

/** KiB by name. */
export async function measureLimit(
  all: readonly Contestant[],
  folder: string,
  goals: Goal[],
): Promise<Record<string, number>> {
  const bundle = await makeBundle(folder, 'limit', ['/bin/sleep', '0.01'], (config) => {
    config.process['rlimits'] = [];
  });
  const smallest: Record<string, number> = {};
  for (const one of all) {
    const works = async (limit: number): Promise<boolean> => {
      editConfig(bundle, (config) => {
        config.linux['cgroupsPath'] = `/${uniqueId('limit')}`;
        config.linux.resources = { memory: { limit, swap: limit } };
      });
      for (let time = 0; time < TIMES; time++) {
        if ((await one.run(bundle, uniqueId('limit'))).code !== 0) return false;
      }
      return true;
    };
    let [low, high] = [0, MOST];
    if (!(await works(high))) throw new Error(`${one.name} does not start a sleep under ${MOST / KIB} KiB`);
    while (high - low > STEP) {
      const middle = Math.ceil((low + high) / 2 / STEP) * STEP;
      if (await works(middle)) high = middle;
      else low = middle;
    }
    smallest[one.name] = high / KIB;
  }
  const text = Object.entries(smallest).map(([name, kib]) => `${name} ${kib} KiB`);
  process.stdout.write(`\nsmallest memory limit of a static sleep: ${text.join(', ')}\n`);
  const ratio = (smallest['wherry'] ?? Number.NaN) / (smallest['crun'] ?? Number.NaN);
  goals.push({ what: 'smallest memory limit: wherry / crun', ratio, goal: 1 });
  return smallest;
}
