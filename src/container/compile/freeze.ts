/** Tapes that freeze and thaw a cgroup, and one that signals processes by number. */
import { AT_FDCWD, O_CLOEXEC, O_RDONLY, O_RDWR, O_WRONLY } from '../../linux/constants.ts';
import { timespec } from '../../linux/structs.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { Program } from './program.ts';

/** Where the freezer of a container is: a folder of v1's freezer hierarchy, or of the unified one. */
export interface FreezerPlace {
  version: 1 | 2;
  directory: string;
}

/** Result slot 1: 1 when everything is frozen. */
export const FROZEN_SLOT = 1;

/** How often a tape looks, and how long it sleeps between: together some 30 ms. */
const LOOKS = 24;
const SLEEP_MS = [0.05, 0.1, 0.2, 0.5, 1, 1, 2];

/** freezer-subsystem.rst: FREEZING until the last task is; cgroup-v2.rst, cgroup.freeze: cgroup.events tells the end. */
export function compileFreeze({ version, directory }: FreezerPlace): AssembledTape {
  const program = new Program();
  const { tape } = program;
  const control = `${directory}/${version === 1 ? 'freezer.state' : 'cgroup.freeze'}`;
  program.step('', `freeze the processes: ${control}`);
  const order = version === 1 ? 'FROZEN' : '1';
  const write = tape.syscall('openat', [
    AT_FDCWD,
    control,
    (version === 1 ? O_RDWR : O_WRONLY) | O_CLOEXEC,
    0,
  ]);
  tape.syscall('write', [write, order, order.length]);
  const read =
    version === 1
      ? write
      : tape.syscall('openat', [AT_FDCWD, `${directory}/cgroup.events`, O_RDONLY | O_CLOEXEC, 0]);
  const text = tape.space(64);
  // "FROZEN", or "populated 1\nfrozen 1\n".
  const answer = version === 1 ? text.at(0, 4) : text.at(16, 4);
  const wanted = Buffer.from(version === 1 ? 'FROZ' : 'en 1').readUInt32LE();
  const frozen = tape.label('frozen');
  program.step('', 'wait until all are frozen');
  for (let look = 0; look < LOOKS; look++) {
    tape.syscall('pread64', [read, text, 64, 0]);
    tape.jumpIfEqual(tape.load(answer, 4), wanted, frozen);
    tape.syscall('nanosleep', [tape.struct(timespec(SLEEP_MS[look] ?? SLEEP_MS.at(-1)!)), 0]);
    // A task that was forked meanwhile is frozen by another order only (v1).
    if (version === 1 && look % 4 === 3) tape.syscall('write', [write, order, order.length]);
  }
  tape.halt(0);
  tape.place(frozen);
  tape.store(tape.set(1), tape.slot(FROZEN_SLOT), 8);
  tape.halt(0);
  return tape.assemble();
}

export function compileThaw({ version, directory }: FreezerPlace): AssembledTape {
  const program = new Program();
  const file = version === 1 ? 'freezer.state' : 'cgroup.freeze';
  program.writeValues(`${directory}/${file}`, [
    { value: version === 1 ? 'THAWED' : '0', field: '', mayFail: ['ENOENT', 'ENODEV'] },
  ]);
  program.tape.halt(0);
  return program.tape.assemble();
}

/** Those that are gone already are no failure. */
export function compileSignals(pids: readonly number[], signal: number): AssembledTape {
  const program = new Program();
  const { tape } = program;
  for (const pid of pids) {
    program.step('', `send signal ${signal} to process ${pid}`);
    const gone = tape.label('gone');
    tape.syscall('kill', [pid, signal], { on: { ESRCH: gone } });
    tape.place(gone);
  }
  tape.halt(0);
  return tape.assemble();
}

/** cgroup-v2.rst, cgroup.kill: SIGKILL for the whole tree, forks included. */
export function compileCgroupKill(directory: string): AssembledTape {
  const program = new Program();
  program.writeValues(`${directory}/cgroup.kill`, [{ value: '1', field: '', mayFail: ['ENOENT', 'ENODEV'] }]);
  program.tape.halt(0);
  return program.tape.assemble();
}
