/**
 * process.apparmorProfile and process.selinuxLabel: what the kernel is to call the program once it is executed. It is written to a
 * file of /proc that is opened early and below a procfs of our own: nothing in the root filesystem can stand in its place
 * (CVE-2019-16884, CVE-2025-52881), and after setresuid it could not be opened any more.
 */
import { O_CLOEXEC, O_NOFOLLOW, O_WRONLY } from '../../linux/constants.ts';
import type { Process } from '../../oci/types.ts';
import type { SyscallOptions } from '../../tape/tape.ts';
import { newFilesystem } from './filesystem.ts';
import type { Program } from './program.ts';

/**
 * Must be called in the container's pid namespace and before the user changes, no_new_privs and the seccomp filter. Whatever is
 * executed next gets the labels: hooks that run in the container too, as with runc.
 */
export function setLabels(program: Program, process: Process): void {
  const { apparmorProfile = '', selinuxLabel = '' } = process;
  const confined = apparmorProfile !== '' && apparmorProfile !== 'unconfined';
  if (!confined && selinuxLabel === '') return;
  const { tape } = program;
  program.step('process', 'open a procfs of our own for the security labels');
  const proc = newFilesystem(program, 'proc', 'proc', { parameters: [], attrSet: 0 }, 'process');
  const file = tape.reg('attr');
  const open = (name: string, options: SyscallOptions = {}): void => {
    const flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW;
    tape.syscall('openat', [proc, `thread-self/attr/${name}`, flags, 0], { into: file, ...options });
  };
  const write = (text: string): void => {
    tape.syscall('write', [file, text, Buffer.byteLength(text)]);
    program.close(file);
  };
  if (selinuxLabel !== '') {
    program.step('process.selinuxLabel', `execute the program as ${selinuxLabel}`);
    open('exec');
    write(selinuxLabel);
  }
  if (confined) {
    program.step('process.apparmorProfile', `execute the program under the profile ${apparmorProfile}`);
    // Its own folder since Linux 5.8; where that is not there AppArmor has the common file for itself.
    const common = tape.label('common');
    const opened = tape.label('opened');
    open('apparmor/exec', { on: { ENOENT: common } });
    tape.jump(opened);
    tape.place(common);
    open('exec');
    tape.place(opened);
    write(`exec ${apparmorProfile}`);
  }
  program.close(proc);
}
