/** What only cgroup v2 needs of a tape: birth in the cgroup by clone3, and device rules as an eBPF program. */
import {
  BPF_F_ALLOW_MULTI,
  BPF_F_REPLACE,
  BPF_INSTRUCTION,
  BPF_PROG_ATTACH,
  BPF_PROG_GET_FD_BY_ID,
  BPF_PROG_LOAD,
  BPF_PROG_QUERY,
  BPF_PROG_TYPE_CGROUP_DEVICE,
  bpfFields,
  programAttach,
  programById,
  programLoad,
  programQuery,
} from '../../linux/bpf.ts';
import { AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH, O_RDONLY } from '../../linux/constants.ts';
import type { Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

const FIELD = 'linux.resources.devices';
/** Asked for at most; a cgroup with more is somebody else's work too, and ours is among the first. */
const QUERY_ROOM = 1;

/** A descriptor of the folder for clone_args.cgroup (CLONE_INTO_CGROUP). */
export function openForClone(program: Program, folder: string): Reg {
  program.step('linux.cgroupsPath', `open the cgroup ${folder}`);
  return program.tape.syscall('openat', [AT_FDCWD, folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
}

/**
 * Attaches a device program (src/cgroup/device-program.ts) to a cgroup. One that is already there is replaced without a
 * moment in which both or none decide.
 */
export function setDeviceProgram(program: Program, folder: string, code: Uint8Array): void {
  const { tape } = program;
  program.step(FIELD, 'load the device program');
  const load = programLoad({
    type: BPF_PROG_TYPE_CGROUP_DEVICE,
    count: code.length / BPF_INSTRUCTION,
    instructions: tape.bytes(code),
    license: tape.cstr('Apache-2.0'),
  });
  const loaded = tape.syscall('bpf', [BPF_PROG_LOAD, tape.struct(load), load.bytes.length]);
  program.step(FIELD, `attach the device program to ${folder}`);
  const cgroup = tape.syscall('openat', [AT_FDCWD, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0]);
  const ids = tape.space(QUERY_ROOM * 4);
  const query = programQuery(ids, QUERY_ROOM);
  const queried = tape.struct(query);
  tape.store(cgroup, queried.at(bpfFields.targetFd, 4), 4);
  const fresh = tape.label('fresh');
  const attached = tape.label('attached');
  const full = tape.label('full');
  // ENOSPC: there are more than asked for.
  tape.syscall('bpf', [BPF_PROG_QUERY, queried, query.bytes.length], { on: { ENOSPC: full } });
  tape.jumpIfEqual(tape.load(queried.at(bpfFields.queryCount, 4), 4), 0, fresh);
  tape.place(full);
  const byId = programById();
  const wanted = tape.struct(byId);
  tape.store(tape.load(ids.at(0, 4), 4), wanted.at(bpfFields.programId, 4), 4);
  const old = tape.syscall('bpf', [BPF_PROG_GET_FD_BY_ID, wanted, byId.bytes.length]);
  attach(program, cgroup, loaded, old);
  program.close(old);
  tape.jump(attached);
  tape.place(fresh);
  attach(program, cgroup, loaded);
  tape.place(attached);
  program.close(cgroup);
  // The cgroup keeps it from here on.
  program.close(loaded);
}

function attach(program: Program, cgroup: Reg, loaded: Reg, instead?: Reg): void {
  const { tape } = program;
  const encoded = programAttach(BPF_F_ALLOW_MULTI | (instead === undefined ? 0 : BPF_F_REPLACE));
  const attr = tape.struct(encoded);
  tape.store(cgroup, attr.at(bpfFields.targetFd, 4), 4);
  tape.store(loaded, attr.at(bpfFields.attachProgramFd, 4), 4);
  if (instead !== undefined) tape.store(instead, attr.at(bpfFields.replaceProgramFd, 4), 4);
  tape.syscall('bpf', [BPF_PROG_ATTACH, attr, encoded.bytes.length]);
}
