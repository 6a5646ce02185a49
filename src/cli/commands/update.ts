/** `update`: new limits for a running container, from flags or from JSON. */
import { WherryError } from '../../errors.ts';
import { parseResources } from '../../oci/parts.ts';
import type { Int64, LinuxResources } from '../../oci/types.ts';
import { documentName, readDocument } from '../caller-file.ts';
import { type CommandContext, keyOf } from '../context.ts';
import type { FlagValues } from '../flags.ts';
import { checkId } from '../ids.ts';
import { shown } from '../parse.ts';

export async function updateCommand(context: CommandContext): Promise<number> {
  const { deps, flags, operation } = context;
  const key = keyOf(context, checkId(context.args[0] ?? ''));
  deps.runtime.state(key);
  const file = flags.text('resources');
  const resources = file === undefined ? fromFlags(flags) : await fromJson(context, file);
  // As in runc these go with either form.
  const resctrl = present({
    l3CacheSchema: flags.text('l3-cache-schema'),
    memBwSchema: flags.text('mem-bw-schema'),
  });
  const given = Object.keys(resctrl).length > 0 ? resctrl : undefined;
  for (const warning of await deps.runtime.update(key, resources, operation, given)) context.warn(warning);
  return 0;
}

async function fromJson(context: CommandContext, file: string): Promise<LinuxResources> {
  const document = await readDocument(context, file, '--resources');
  const { resources, warnings } = parseResources(document, documentName(file));
  for (const warning of warnings) context.warn(warning);
  return resources;
}

function fromFlags(flags: FlagValues): LinuxResources {
  const number = (name: string) => whole(flags, name);
  const bytes = (name: string) => size(flags, name);
  return present({
    memory: present({
      limit: bytes('memory'),
      reservation: bytes('memory-reservation'),
      swap: bytes('memory-swap'),
      kernel: bytes('kernel-memory'),
      kernelTCP: bytes('kernel-memory-tcp'),
    }),
    cpu: present({
      shares: number('cpu-share'),
      period: number('cpu-period'),
      quota: number('cpu-quota'),
      burst: number('cpu-burst'),
      realtimePeriod: number('cpu-rt-period'),
      realtimeRuntime: number('cpu-rt-runtime'),
      cpus: flags.text('cpuset-cpus'),
      mems: flags.text('cpuset-mems'),
      idle: idle(flags),
    }),
    pids: present({ limit: number('pids-limit') }),
    blockIO: present({ weight: number('blkio-weight') }),
  });
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without what is undefined. */
function present<T extends object>(values: T): Present<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Present<T>;
}

function whole(flags: FlagValues, name: string): number | undefined {
  const text = flags.text(name);
  if (text === undefined) return undefined;
  const value = /^[+-]?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  // 0 is "not given" for all but the number of processes: there, too, runc takes it for that.
  if (Number.isNaN(value) || value < -1) throw invalid(name, text, 'a whole number');
  return value;
}

function idle(flags: FlagValues): 0 | 1 | undefined {
  const value = whole(flags, 'cpu-idle');
  if (value === undefined || value === 0 || value === 1) return value;
  throw invalid('cpu-idle', String(value), '0 or 1');
}

const units: Readonly<Record<string, bigint>> = {
  '': 1n,
  b: 1n,
  k: 1n << 10n,
  m: 1n << 20n,
  g: 1n << 30n,
  t: 1n << 40n,
  p: 1n << 50n,
};

/** `64m`, `1.5g`, bytes, or -1 for no limit. */
function size(flags: FlagValues, name: string): Int64 | undefined {
  const text = flags.text(name);
  if (text === undefined) return undefined;
  if (text === '-1') return -1;
  const parts = /^(\d{1,18})(\.\d{1,6})? ?([bkmgtp]?)(?:i?b)?$/i.exec(text);
  const unit = units[parts?.[3]?.toLowerCase() ?? 'none'];
  if (parts === null || unit === undefined) throw invalid(name, text, 'a size such as 64m or 1.5g, or -1');
  const bytes = BigInt(parts[1]!) * unit + BigInt(Math.floor(Number(parts[2] ?? 0) * Number(unit)));
  return bytes <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(bytes) : bytes;
}

/** The first words are runc's. */
function invalid(name: string, text: string, expected: string): WherryError {
  return new WherryError(
    'invalid-argument',
    `invalid value for ${name}: "${shown(text)}", expected ${expected}`,
    {
      path: `--${name}`,
    },
  );
}
