/** /dev of the container: the devices and links of config-linux.md ("Default Devices") and linux.devices. */
import { WherryError } from '../../errors.ts';
import {
  AT_FDCWD,
  O_DIRECTORY,
  O_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
} from '../../linux/constants.ts';
import { isBindMount } from '../../oci/mounts.ts';
import type { LinuxDevice, Mount, Spec } from '../../oci/types.ts';
import type { Label, Reg } from '../../tape/refs.ts';
import type { SyscallOptions } from '../../tape/tape.ts';
import { components, type Program, relative } from './program.ts';
import { inUserNamespace } from './user-namespace.ts';

const defaultDevices = [
  ['null', 1, 3],
  ['zero', 1, 5],
  ['full', 1, 7],
  ['random', 1, 8],
  ['urandom', 1, 9],
  ['tty', 5, 0],
] as const;

const links = [
  ['/proc/self/fd', 'fd'],
  ['/proc/self/fd/0', 'stdin'],
  ['/proc/self/fd/1', 'stdout'],
  ['/proc/self/fd/2', 'stderr'],
  ['pts/ptmx', 'ptmx'],
] as const;

const isDev = ({ destination }: Mount): boolean => relative(destination) === 'dev';

/** /dev is a filesystem that is mounted anew. */
export function ownsDev(spec: Spec): boolean {
  return (spec.mounts ?? []).some((mount) => isDev(mount) && !isBindMount(mount));
}

/** A /dev that is bound in whole is somebody else's and is not filled, as runc has it. */
function bindsDev(spec: Spec): boolean {
  return (spec.mounts ?? []).some((mount) => isDev(mount) && isBindMount(mount));
}

export function makeDevices(program: Program, spec: Spec, bind = false): void {
  if (bindsDev(spec)) return;
  const binds = bind || inUserNamespace(spec);
  if (ownsDev(spec)) makeDefaults(program, binds);
  else if (!binds) completeDev(program);
  (spec.linux?.devices ?? []).forEach((device, index) => {
    makeDevice(program, device, `linux.devices[${index}]`, binds);
  });
}

function makeDefaults(program: Program, binds: boolean): void {
  program.step('linux.devices', 'make the default devices');
  const dev = program.openInRoot(program.root, 'dev', O_PATH | O_DIRECTORY);
  if (binds) for (const [name] of defaultDevices) bindDevice(program, `/dev/${name}`);
  else makeNodes(program, dev, 'EEXIST');
  program.step('', 'link /dev/fd and the standard streams');
  makeLinks(program, dev, 'EEXIST');
  program.close(dev);
}

/** The image's own /dev gets what it lacks, if it can be written to. */
function completeDev(program: Program): void {
  const { tape } = program;
  program.step('linux.devices', "complete the image's /dev");
  // As runc has it, there is one; where it cannot be made, it is not.
  const made = tape.label('made');
  tape.syscall('mkdirat', [program.root, 'dev', 0o755], { on: { any: made } });
  tape.place(made);
  const none = tape.label('no_dev');
  const dev = program.openInRoot(program.root, 'dev', O_PATH | O_DIRECTORY, { on: { any: none } });
  makeNodes(program, dev, 'any');
  makeLinks(program, dev, 'any');
  program.close(dev);
  tape.place(none);
}

/** What may be in the way of one: then it is left out. */
type Obstacle = 'EEXIST' | 'any';
const labels = { EEXIST: 'there', any: 'next' } as const;

function makeNodes({ tape }: Program, dev: Reg, obstacle: Obstacle): void {
  for (let index = 0; index < defaultDevices.length; index++) {
    const device = defaultDevices[index]!;
    const next = tape.label(labels[obstacle]);
    const args = [dev, device[0], S_IFCHR | 0o666, deviceNumber(device[1], device[2])];
    tape.perform('mknodat', args, unless(obstacle, next));
    tape.place(next);
  }
}

function makeLinks({ tape }: Program, dev: Reg, obstacle: Obstacle): void {
  for (let index = 0; index < links.length; index++) {
    const link = links[index]!;
    const next = tape.label(labels[obstacle]);
    tape.perform('symlinkat', [link[0], dev, link[1]], unless(obstacle, next));
    tape.place(next);
  }
}

function unless(obstacle: Obstacle, next: Label): SyscallOptions['on'] {
  return obstacle === 'any' ? { any: next } : { EEXIST: next };
}

/** mknod(2) of a device is nothing that a user namespace's root may do: the host's node is bound instead, as runc does. */
function bindDevice(program: Program, path: string): void {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  const node = program.tape.syscall('open_tree', [AT_FDCWD, path, flags]);
  const place = program.ensure(program.root, path, 'file');
  program.attach(node, place);
  program.close(node);
  program.close(place);
}

const types: Record<string, number> = { c: S_IFCHR, u: S_IFCHR, b: S_IFBLK, p: S_IFIFO };

function makeDevice(program: Program, device: LinuxDevice, path: string, binds: boolean): void {
  const { tape } = program;
  const names = components(device.path);
  const name = names.pop();
  if (name === undefined) {
    throw new WherryError('invalid-argument', `${path}.path: ${device.path} names no file`, {
      path: `${path}.path`,
    });
  }
  program.step(path, `make the device ${device.path}`);
  if (binds && device.type !== 'p') {
    bindDevice(program, device.path);
    return;
  }
  const folder: Reg = program.ensure(program.root, names.join('/'), 'folder');
  const mode = (types[device.type] ?? S_IFCHR) | (device.fileMode ?? 0o666);
  const number = device.type === 'p' ? 0 : deviceNumber(Number(device.major ?? 0), Number(device.minor ?? 0));
  const there = tape.label('there');
  tape.syscall('mknodat', [folder, name, mode, number], { on: { EEXIST: there } });
  if ((device.uid ?? 0) !== 0 || (device.gid ?? 0) !== 0) {
    tape.syscall('fchownat', [folder, name, device.uid ?? 0, device.gid ?? 0, 0]);
  }
  tape.place(there);
  program.close(folder);
}

/** The kernel's 32-bit encoding of a device number (new_encode_dev, linux/kdev_t.h). */
export function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
