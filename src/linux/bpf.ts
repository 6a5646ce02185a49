/** bpf(2) as far as device programs need it: commands and union bpf_attr, whose members begin anew for each command. */
import type { EncodedStruct } from './structs.ts';

export const BPF_PROG_LOAD = 5;
export const BPF_PROG_ATTACH = 8;
export const BPF_PROG_GET_FD_BY_ID = 13;
export const BPF_PROG_QUERY = 16;
export const BPF_PROG_TYPE_CGROUP_DEVICE = 15;
/** enum bpf_attach_type */
export const BPF_CGROUP_DEVICE = 6;
export const BPF_F_ALLOW_MULTI = 2;
/** Linux 5.6: the new program takes the place of another without a moment in between. */
export const BPF_F_REPLACE = 4;

/** Bytes of one instruction. */
export const BPF_INSTRUCTION = 8;

/** Offsets in union bpf_attr of what a tape fills in or reads. */
export const bpfFields = {
  /** Of an attach. */
  targetFd: 0,
  attachProgramFd: 4,
  replaceProgramFd: 16,
  /** Of a query: how many there are, after the call. */
  queryCount: 24,
  /** Of BPF_PROG_GET_FD_BY_ID. */
  programId: 0,
} as const;

/** BPF_PROG_LOAD. `instructions` is the place of the program's bytes. */
export function programLoad<Ref>(parts: {
  type: number;
  count: number;
  instructions: Ref;
  license: Ref;
}): EncodedStruct<Ref> {
  const bytes = Buffer.alloc(64);
  bytes.writeUInt32LE(parts.type, 0);
  bytes.writeUInt32LE(parts.count, 4);
  bytes.write('wherry_devices', 48);
  return {
    bytes,
    pointers: [
      { offset: 8, to: parts.instructions },
      { offset: 16, to: parts.license },
    ],
  };
}

/** BPF_PROG_ATTACH to a cgroup; the descriptors are stored by the caller. */
export function programAttach(flags: number): EncodedStruct<never> {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt32LE(BPF_CGROUP_DEVICE, 8);
  bytes.writeUInt32LE(flags, 12);
  return { bytes, pointers: [] };
}

/** BPF_PROG_QUERY of a cgroup's own device programs: their ids (u32) go to `ids`. */
export function programQuery<Ref>(ids: Ref, room: number): EncodedStruct<Ref> {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32LE(BPF_CGROUP_DEVICE, 4);
  bytes.writeUInt32LE(room, 24);
  return { bytes, pointers: [{ offset: 16, to: ids }] };
}

/** BPF_PROG_GET_FD_BY_ID; the id is stored by the caller. */
export function programById(): EncodedStruct<never> {
  return { bytes: Buffer.alloc(12), pointers: [] };
}
