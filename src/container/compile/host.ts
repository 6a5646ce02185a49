/** The player's own part of a create tape: what is done on the host before the init is cloned. */
import type { CgroupHost } from '../../cgroup/hierarchy.ts';
import type { CgroupPlan } from '../../cgroup/plan.ts';
import type { CgroupWrite } from '../../cgroup/setting.ts';
import { AT_FDCWD, O_CLOEXEC, O_RDWR, O_WRONLY, S_IFIFO } from '../../linux/constants.ts';
import { setDeviceProgram } from './cgroup-v2.ts';
import type { Program } from './program.ts';

/** Modes given below are meant as they stand. Signals are the player's own business: it resets all of them before it plays (hazards A3). */
export function resetProcess(program: Program): void {
  program.step('', 'reset the umask');
  program.tape.perform('umask', [0]);
}

/** The gate between created and started: an open of this FIFO for reading needs no living partner. */
export function makeStartGate(program: Program, stateDir: string): void {
  const { tape } = program;
  program.step('', 'make the exec FIFO');
  tape.syscall('mknodat', [AT_FDCWD, `${stateDir}/exec.fifo`, S_IFIFO | 0o644, 0]);
}

export function createCgroup(program: Program, plan: CgroupPlan, host?: CgroupHost): void {
  for (let index = 0; index < plan.create.length; index++) {
    const directory = plan.create[index]!;
    program.step('linux.cgroupsPath', `make the cgroup ${directory}`);
    const parent = above(directory);
    if (isMount(host, parent)) makeFolder(program, directory);
    else makeBelow(program, parent, directory, isMount(host, above(parent)));
  }
  for (let index = 0; index < plan.writes.length; ) {
    const { file, above: ancestors } = plan.writes[index]!;
    if (ancestors !== undefined) {
      writeInherited(program, plan.writes[index++]!, ancestors);
      continue;
    }
    // Writes to one file stand together: it is opened once.
    const values: { value: string; field: string; mayFail?: readonly string[] }[] = [];
    for (; plan.writes[index]?.file === file; index++) values.push(plan.writes[index]!);
    program.writeValues(file, values);
  }
  if (plan.deviceProgram !== undefined && plan.paths[''] !== undefined)
    setDeviceProgram(program, plan.paths[''], plan.deviceProgram);
  if (plan.owner !== undefined) giveCgroup(program, plan.owner);
}

/** The parent was there when this was planned: it may have gone with the last container of somebody else. */
function makeBelow(program: Program, parent: string, directory: string, belowMount: boolean): void {
  const { tape } = program;
  const there = tape.label('there');
  const orphaned = tape.label('parent_gone');
  tape.perform('mkdirat', [AT_FDCWD, directory, 0o755], { EEXIST: there, ENOENT: orphaned });
  tape.jump(there);
  tape.place(orphaned);
  if (!belowMount) makeFolder(program, above(parent));
  makeFolder(program, parent);
  makeFolder(program, directory);
  tape.place(there);
}

/** It goes with nobody. */
function isMount(host: CgroupHost | undefined, directory: string): boolean {
  if (host === undefined) return false;
  const { unified, hierarchies } = host;
  return unified?.mountPoint === directory || hierarchies.some(({ mountPoint }) => mountPoint === directory);
}

function makeFolder({ tape }: Program, folder: string): void {
  const made = tape.label('made');
  tape.perform('mkdirat', [AT_FDCWD, folder, 0o755], { EEXIST: made });
  tape.place(made);
}

/** Of an absolute path without needless slashes. */
function above(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 1));
}

/**
 * cpusets.rst: EACCES where the parent does not have it all. It has nothing where its folder went with the last container of somebody
 * else since this was planned, and was made again.
 */
function writeInherited(
  program: Program,
  { file, value, field }: CgroupWrite,
  ancestors: readonly string[],
): void {
  const { tape } = program;
  program.step(field, `write ${value} to ${file}`);
  const written = tape.label('written');
  const refused = tape.label('refused');
  const open = (path: string, access: number) =>
    tape.syscall('openat', [AT_FDCWD, path, access | O_CLOEXEC, 0]);
  const descriptor = open(file, O_WRONLY);
  program.write(descriptor, value, { EACCES: refused });
  tape.jump(written);
  tape.place(refused);
  const text = tape.space(8);
  for (const path of ancestors) {
    const parent = open(path, O_RDWR);
    const [empty, filled] = [tape.label('empty'), tape.label('filled')];
    tape.syscall('pread64', [parent, text, 4, 0]);
    tape.jumpIf(tape.load(text, 4), 0xff, '\n'.charCodeAt(0), empty);
    tape.jump(filled);
    tape.place(empty);
    program.write(parent, value);
    tape.place(filled);
    program.close(parent);
  }
  program.write(descriptor, value);
  tape.place(written);
  program.close(descriptor);
}

function giveCgroup(program: Program, { uid, directory, files }: NonNullable<CgroupPlan['owner']>): void {
  const { tape } = program;
  program.step('linux.uidMappings', `give the cgroup ${directory} to user ${uid}`);
  tape.syscall('fchownat', [AT_FDCWD, directory, uid, -1, 0]);
  for (const file of files) {
    // Files of controllers that this cgroup has not.
    const missing = tape.label('missing');
    tape.syscall('fchownat', [AT_FDCWD, `${directory}/${file}`, uid, -1, 0], { on: { ENOENT: missing } });
    tape.place(missing);
  }
}
