/** Numbers as people write them on a command line. Each error names the flag and shows a value that is right. */
import { WherryError } from '../errors.ts';

function refuse(flag: string, expected: string, found: string): WherryError {
  return new WherryError(
    'invalid-argument',
    `${flag}: expected ${expected}, found ${JSON.stringify(found)}`,
    {
      path: flag,
    },
  );
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
};
/** docker's least, below which a container's own start is killed. */
const LEAST_MEMORY = 6 * 2 ** 20;

/** `64m`, `1.5g`, `1073741824`, `64MiB` → bytes; units are powers of 1024. */
export function parseMemory(text: string, flag = '--memory'): number {
  const parts = /^(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?$/i.exec(text.trim());
  const bytes = parts === null ? NaN : Math.floor(Number(parts[1]) * (UNITS[parts[2]!.toLowerCase()] ?? NaN));
  if (!Number.isSafeInteger(bytes)) throw refuse(flag, 'a size such as 64m or 1.5g', text);
  if (bytes < LEAST_MEMORY) throw refuse(flag, 'at least 6m', text);
  return bytes;
}

/** `1.5`, `0.25` → processors. */
export function parseCpus(text: string, flag = '--cpus'): number {
  const cpus = /^\d*\.?\d+$|^\d+\.$/.test(text.trim()) ? Number(text) : NaN;
  if (!(cpus >= 0.01 && cpus <= 65_536)) {
    throw refuse(flag, 'a number of processors such as 1.5, at least 0.01', text);
  }
  return cpus;
}

/** `100` → tasks; the kernel's own highest is 4194304 (PID_MAX_LIMIT). */
export function parsePids(text: string, flag = '--pids'): number {
  const pids = /^\d+$/.test(text.trim()) ? Number(text) : NaN;
  if (!(pids >= 1 && pids <= 4_194_304)) throw refuse(flag, 'a number of processes from 1 to 4194304', text);
  return pids;
}
