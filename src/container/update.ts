/** New limits for a running container: a tape writes them, and where one is refused another writes the old ones back. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { realProbe } from '../cgroup/probe.ts';
import type { CgroupWrite } from '../cgroup/setting.ts';
import { planUpdate } from '../cgroup/update.ts';
import { WherryError } from '../errors.ts';
import { errnoNumbers } from '../linux/errno.ts';
import { parseConfig } from '../oci/config.ts';
import type { LinuxDeviceRule, LinuxResources } from '../oci/types.ts';
import type { AssembledTape } from '../tape/assemble.ts';
import { playError } from '../tape/outcome.ts';
import { setDeviceProgram } from './compile/cgroup-v2.ts';
import { Program } from './compile/program.ts';
import type { PlayHost } from './play.ts';
import type { ContainerRecord } from './record.ts';

const PLAY_DEADLINE_MS = 10_000;

export interface UpdateDependencies {
  cgroups: CgroupHost;
  host: PlayHost;
  nextToken(): bigint;
  /** What is to be written back if this does not come to its end; before the first write. */
  intend(before: CgroupWrite[]): void;
}

export interface Updated {
  /** What was asked for and has no effect on this host. */
  warnings: string[];
  /** The device rules, if they are other ones than before. */
  devices: LinuxDeviceRule[] | undefined;
}

export async function updateResources(
  record: Pick<ContainerRecord, 'cgroup' | 'bundle' | 'deviceRules'>,
  given: LinuxResources,
  { cgroups, host, nextToken, intend }: UpdateDependencies,
): Promise<Updated> {
  const paths = record.cgroup?.paths ?? {};
  const rules = given.devices === undefined ? undefined : rulesText(given.devices);
  const sameRules =
    rules !== undefined && rules === (record.deviceRules ?? (await createdWith(record.bundle)));
  const resources = sameRules ? { ...given, devices: [] } : given;
  const plan = planUpdate(cgroups, paths, resources);
  const isNew = !sameRules && given.devices?.length !== 0;
  const updated = { warnings: plan.warnings, devices: isNew ? given.devices : undefined };
  const unified = paths[''];
  const play = async (
    writes: readonly CgroupWrite[],
    devices?: Uint8Array,
  ): Promise<WherryError | undefined> => {
    const tape = compileWrites(writes, (program) => {
      // Last: it succeeds or changes nothing, so there is nothing of it to take back.
      if (devices !== undefined && unified !== undefined) setDeviceProgram(program, unified, devices);
    });
    const options = { deadline: PLAY_DEADLINE_MS, inProcess: true };
    return playError(tape, await host.play(nextToken(), tape.image, options));
  };
  const nothing = plan.writes.length === 0 && plan.deviceProgram === undefined;
  if (!nothing) intend(plan.before);
  const error = nothing ? undefined : await play(plan.writes, plan.deviceProgram);
  if (error === undefined) {
    if (rules !== undefined) record.deviceRules = rules;
    return updated;
  }
  await takeBack(plan.before, host, nextToken);
  throw explained(error, paths, resources);
}

/** Failures are none: some of it may be as it was. */
export async function takeBack(
  before: readonly CgroupWrite[],
  host: PlayHost,
  nextToken: () => bigint,
): Promise<void> {
  if (before.length === 0) return;
  // Twice: limits that bound each other may be writable in one order only.
  const { image } = compileWrites([...before, ...before]);
  await host.play(nextToken(), image, { deadline: PLAY_DEADLINE_MS, inProcess: true });
}

/**
 * The device rules of the bundle. Callers that change a limit send all that the container was created with; rules that are no
 * others are left alone, or a device that a hook has opened to the container meanwhile would be closed.
 */
async function createdWith(bundle: string): Promise<string | undefined> {
  try {
    const { config } = parseConfig(await readFile(join(bundle, 'config.json')));
    return rulesText(config.linux?.resources?.devices ?? []);
  } catch {
    // Gone or changed: then the rules are other ones.
    return undefined;
  }
}

function rulesText(rules: readonly LinuxDeviceRule[]): string {
  return JSON.stringify(rules, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}

/** One open for writes to one file that stand together. */
function compileWrites(
  writes: readonly CgroupWrite[],
  atTheEnd: (program: Program) => void = () => {},
): AssembledTape {
  const program = new Program();
  for (let index = 0; index < writes.length; ) {
    const { file } = writes[index]!;
    const values: CgroupWrite[] = [];
    for (; writes[index]?.file === file; index++) values.push(writes[index]!);
    program.writeValues(file, values);
  }
  atTheEnd(program);
  program.tape.halt(0);
  return program.tape.assemble();
}

/** A memory limit below the usage is EBUSY on v1; runc tells both numbers. */
function explained(
  error: WherryError,
  paths: Readonly<Record<string, string>>,
  { memory }: LinuxResources,
): WherryError {
  const folder = paths['memory'];
  if (error.details.errno !== errnoNumbers.EBUSY || folder === undefined || memory?.limit === undefined)
    return error;
  const usage = realProbe.read(`${folder}/memory.usage_in_bytes`) ?? '?';
  const peak = realProbe.read(`${folder}/memory.max_usage_in_bytes`) ?? '?';
  return new WherryError(
    error.kind,
    `unable to set memory limit to ${memory.limit} (current usage: ${usage}, peak usage: ${peak})`,
    { ...error.details, cause: error },
  );
}
