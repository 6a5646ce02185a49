/** linux.intelRdt on a tape: the player makes the container's group of resctrl and fills it, the init enters it. */
import { AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH } from '../../linux/constants.ts';
import type { ResctrlPlan } from '../resctrl.ts';
import type { Program } from './program.ts';

export function makeResctrlGroup(program: Program, plan: ResctrlPlan | undefined): void {
  if (plan === undefined) return;
  const { tape } = program;
  const make = (folder: string, field: string): void => {
    program.step(field, `make the group ${folder}`);
    const there = tape.label('there');
    tape.syscall('mkdirat', [AT_FDCWD, folder, 0o755], { on: { EEXIST: there } });
    tape.place(there);
  };
  if (plan.given) {
    program.step('linux.intelRdt.closID', `look for the group ${plan.group}`);
    const flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    program.close(tape.syscall('openat', [AT_FDCWD, plan.group, flags, 0]));
  } else {
    make(plan.group, 'linux.intelRdt');
  }
  if (plan.schemata !== '') program.writeFile(`${plan.group}/schemata`, plan.schemata, 'linux.intelRdt');
  if (plan.monitor !== undefined) make(plan.monitor, 'linux.intelRdt.enableMonitoring');
}

export function enterResctrl(program: Program, plan: ResctrlPlan | undefined): void {
  for (const file of plan?.tasks ?? []) program.writeFile(file, '0', 'linux.intelRdt');
}
