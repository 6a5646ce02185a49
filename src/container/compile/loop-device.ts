/** A file as a block device (loop(4)): taken free, filled, and given back by the kernel when the filesystem on it is unmounted. */
import { AT_FDCWD, O_CLOEXEC, O_RDONLY, O_RDWR } from '../../linux/constants.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LO_FLAGS_READ_ONLY = 1;
const LO_FLAGS_AUTOCLEAR = 4;
const LO_FLAGS_DIRECT_IO = 16;
/** struct loop_config, linux/loop.h: fd at 0, info.lo_flags at 60, info.lo_file_name at 64. */
const CONFIG_BYTES = 304;
const FLAGS_AT = 60;
const NAME_AT = 64;
const NAME_BYTES = 63;
/** Somebody else may take the device that is free: then another one is asked for. */
const TRIES = 8;

/** The device's path as text, and the descriptor that holds it until it is mounted. */
export interface LoopDevice {
  path: DataRef;
  held: Reg;
}

export function openLoopDevice(
  program: Program,
  file: string,
  { readonly, direct, path }: { readonly: boolean; direct: boolean; path: string },
): LoopDevice {
  const { tape } = program;
  program.step(path, `make a loop device of ${file}`);
  const mode = (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  const backing = tape.syscall('openat', [AT_FDCWD, file, mode, 0]);
  const config = Buffer.alloc(CONFIG_BYTES);
  config.writeUInt32LE(
    LO_FLAGS_AUTOCLEAR | (readonly ? LO_FLAGS_READ_ONLY : 0) | (direct ? LO_FLAGS_DIRECT_IO : 0),
    FLAGS_AT,
  );
  config.write(file.slice(0, NAME_BYTES), NAME_AT, NAME_BYTES, 'latin1');
  const encoded = tape.bytes(config);
  tape.store(backing, encoded.at(0, 4), 4);
  const control = tape.syscall('openat', [AT_FDCWD, '/dev/loop-control', O_RDWR | O_CLOEXEC, 0]);
  const prefix = Buffer.from('/dev/loop');
  const name = tape.bytes(Buffer.concat([prefix, Buffer.alloc(24)]));
  const held = tape.reg('loop');
  const ready = tape.label('loop_ready');
  for (let left = TRIES; left > 0; left--) {
    const number = tape.syscall('ioctl', [control, LOOP_CTL_GET_FREE, 0]);
    tape.decimal(number, name.at(prefix.length));
    tape.syscall('openat', [AT_FDCWD, name, mode, 0], { into: held });
    const taken = tape.label('taken');
    tape.syscall('ioctl', [held, LOOP_CONFIGURE, encoded], left === 1 ? {} : { on: { EBUSY: taken } });
    tape.jump(ready);
    tape.place(taken);
    program.close(held);
  }
  tape.place(ready);
  program.close(control);
  program.close(backing);
  return { path: name, held };
}
