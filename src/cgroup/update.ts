/**
 * Limits of a running container changed: what is to be written, and what stood in those files before, so that a change that
 * is refused half-way can be taken back. Nothing is written here.
 */
import { WherryError } from '../errors.ts';
import type { LinuxResources } from '../oci/types.ts';
import { allowingProgram, deviceProgram } from './device-program.ts';
import { deviceChange } from './devices-update.ts';
import type { CgroupHost } from './hierarchy.ts';
import { limitsV1 } from './limits-v1.ts';
import { limitsV2 } from './limits-v2.ts';
import { factsV2 } from './plan.ts';
import { type CgroupProbe, realProbe } from './probe.ts';
import { type CgroupWrite, checkResources, FIELD, isSet, type Setting } from './setting.ts';

export interface UpdatePlan {
  writes: CgroupWrite[];
  /** The values before, in the order in which they are to be written back; failures of these are none. */
  before: CgroupWrite[];
  /** v2: the device program that takes the place of the one that is there. */
  deviceProgram?: Uint8Array;
  warnings: string[];
}

/** `paths` are those of the container's CgroupPlan. Throws as planCgroup does, and when a new limit is below the usage. */
export function planUpdate(
  host: CgroupHost,
  paths: Readonly<Record<string, string>>,
  given: LinuxResources,
  probe: CgroupProbe = realProbe,
): UpdatePlan {
  const v2 = host.mode === 'v2';
  const read = (controller: string, file: string) => {
    const directory = paths[v2 ? '' : controller];
    return directory === undefined ? undefined : probe.read(`${directory}/${file}`);
  };
  const resources = completed(given, v2, read);
  checkResources(resources);
  checkUsage(resources, v2, read);
  const bfq = () => read('blkio', 'blkio.bfq.weight') !== undefined;
  const { settings, warnings } = v2
    ? limitsV2(resources, factsV2(host, false, probe))
    : limitsV1(resources, { fresh: false, bfq });
  if (!v2 && Object.keys(resources.unified ?? {}).length > 0) {
    const path = `${FIELD}.unified`;
    throw new WherryError(
      'failed-precondition',
      `${path}: this host has cgroup v1 controllers, which have no such files`,
      {
        path,
      },
    );
  }
  const rules = resources.devices ?? [];
  const devices =
    rules.length > 0 && !v2 ? deviceChange(read('devices', 'devices.list') ?? '', rules) : undefined;
  if (devices !== undefined) settings.push(...devices.settings);
  const located = ({ controller, file, value, field, mayFail }: Setting): CgroupWrite => {
    const directory = paths[v2 ? '' : controller];
    if (directory === undefined) {
      throw new WherryError('failed-precondition', `${field}: the container has no ${controller} cgroup`, {
        path: field,
      });
    }
    return { file: `${directory}/${file}`, value, field, ...(mayFail && { mayFail }) };
  };
  const writes = settings.map(located);
  const back = (devices?.back ?? []).map((setting) => ({ ...located(setting), mayFail: ['any'] }));
  return {
    writes,
    before: [...back, ...writes.flatMap((write) => previous(write, probe)).reverse()],
    ...(rules.length > 0 && v2 && { deviceProgram: deviceProgram(rules) ?? allowingProgram() }),
    warnings,
  };
}

/** What the kernel or the check needs beside what was given: the other half of a pair, as it is now. */
export function completed(
  given: LinuxResources,
  v2: boolean,
  read: (controller: string, file: string) => string | undefined,
): LinuxResources {
  const { memory, cpu } = given;
  const result = { ...given };
  if (isSet(memory?.swap) && memory.swap > 0 && !isSet(memory.limit)) {
    const now = read('memory', v2 ? 'memory.max' : 'memory.limit_in_bytes');
    if (now !== undefined && /^\d+$/.test(now)) result.memory = { ...memory, limit: BigInt(now) };
  }
  if (v2 && isSet(cpu?.period) && !isSet(cpu.quota)) {
    // cpu.max holds both; without a quota the write would lift the one that is there.
    const [quota] = (read('cpu', 'cpu.max') ?? '').split(' ');
    if (quota !== undefined && /^\d+$/.test(quota)) result.cpu = { ...cpu, quota: Number(quota) };
  }
  return result;
}

/** memory.checkBeforeUpdate: v2 takes a limit below the usage and then kills; who asked for the check wants a refusal. */
function checkUsage(
  { memory }: LinuxResources,
  v2: boolean,
  read: (controller: string, file: string) => string | undefined,
): void {
  const limit = memory?.limit;
  if (memory?.checkBeforeUpdate !== true || !isSet(limit) || limit < 0) return;
  const usage = read('memory', v2 ? 'memory.current' : 'memory.usage_in_bytes');
  if (usage === undefined || BigInt(usage) <= BigInt(limit)) return;
  throw new WherryError('failed-precondition', `rejecting memory limit ${limit} < usage ${usage}`, {
    path: `${FIELD}.memory.limit`,
  });
}

/** The write that restores a file; none for files that cannot be read (or are not there). */
function previous({ file, value, field }: CgroupWrite, probe: CgroupProbe): CgroupWrite[] {
  const text = probe.read(file);
  if (text === undefined || text === '') return [];
  const mayFail = ['any'];
  const device = /^\d+:\d+(?= )/.exec(value)?.[0];
  if (device !== undefined) {
    const line = text.split('\n').find((entry) => entry.startsWith(`${device} `));
    const none = file.endsWith('/io.max')
      ? `${device} rbps=max wbps=max riops=max wiops=max`
      : `${device} ${file.includes('weight') ? 'default' : '0'}`;
    return [{ file, value: line ?? none, field, mayFail }];
  }
  const first = text.split('\n')[0] ?? '';
  return [{ file, value: first.replace(/^oom_kill_disable /, ''), field, mayFail }];
}
