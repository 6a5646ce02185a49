/**
 * Limits of memory that config.json has no field for, as annotations with a type: they become files of `unified`, whose values
 * are bare text. Source of the files: the kernel's Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files".
 */
import { WherryError } from '../errors.ts';
import type { LinuxResources, Spec } from '../oci/types.ts';

const PREFIX = 'org.wherry.memory.';

/** File of cgroup v2 by annotation, and what the annotation's text may be: null when it is no such thing. */
const known: Readonly<
  Record<string, { file: string; value: (text: string) => string | null; form: string }>
> = {
  high: { file: 'memory.high', value: bytes, form: 'bytes such as 67108864 or 64Mi, or max' },
  'oom.group': { file: 'memory.oom.group', value: truth, form: 'true or false' },
  'zswap.max': { file: 'memory.zswap.max', value: bytes, form: 'bytes such as 67108864 or 64Mi, or max' },
};

/**
 * The same object where there is no such annotation. Throws invalid-argument for unknown names, for values of another type
 * and where `unified` says something else; failed-precondition without cgroup v2.
 */
export function withMemoryAnnotations(spec: Spec, v2: boolean): Spec {
  const names = Object.keys(spec.annotations ?? {}).filter((name) => name.startsWith(PREFIX));
  if (names.length === 0) return spec;
  const resources: LinuxResources = spec.linux?.resources ?? {};
  const unified: Record<string, string> = { ...resources.unified };
  for (const name of names) {
    const path = `annotations["${name}"]`;
    const text = spec.annotations?.[name] ?? '';
    const entry = Object.hasOwn(known, name.slice(PREFIX.length))
      ? known[name.slice(PREFIX.length)]
      : undefined;
    if (entry === undefined) {
      const all = Object.keys(known).map((rest) => PREFIX + rest);
      throw new WherryError('invalid-argument', `${path}: there is no such annotation`, {
        path,
        hint: `use ${all.join(', ')}`,
      });
    }
    const value = entry.value(text.trim());
    if (value === null) {
      throw new WherryError('invalid-argument', `${path}: ${JSON.stringify(text)} is not ${entry.form}`, {
        path,
      });
    }
    if (!v2) {
      throw new WherryError(
        'failed-precondition',
        `${path}: this host has cgroup v1, which has no ${entry.file}`,
        {
          path,
          hint: 'remove the annotation or boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1)',
        },
      );
    }
    const other = unified[entry.file];
    if (other !== undefined && other !== value) {
      throw new WherryError(
        'invalid-argument',
        `${path}: ${value} here and ${other} in linux.resources.unified["${entry.file}"]`,
        { path, hint: 'say it in one place' },
      );
    }
    unified[entry.file] = value;
  }
  return { ...spec, linux: { ...spec.linux, resources: { ...resources, unified } } };
}

const units: Readonly<Record<string, bigint>> = {
  '': 1n,
  Ki: 1n << 10n,
  Mi: 1n << 20n,
  Gi: 1n << 30n,
  Ti: 1n << 40n,
};

function bytes(text: string): string | null {
  if (text === 'max') return text;
  const parts = /^(\d{1,18})([KMGT]i)?$/.exec(text);
  return parts === null ? null : String(BigInt(parts[1]!) * units[parts[2] ?? '']!);
}

function truth(text: string): string | null {
  if (text === 'true' || text === '1') return '1';
  return text === 'false' || text === '0' ? '0' : null;
}
