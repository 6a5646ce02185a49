/**
 * A restore's tape: what a create tape does on the host (cgroups, streams, the places of mounts), then criu, which makes the
 * processes. The restored init becomes the child of whoever spawned the player, as a created one does.
 */
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  CLONE_NEWNS,
  MS_BIND,
  MS_PRIVATE,
  MS_REC,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
} from '../../linux/constants.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import type { Reg } from '../../tape/refs.ts';
import { openImageFolders } from './checkpoint.ts';
import { openConsoleChannel, sendTerminal } from './console.ts';
import { writePidFile, writeText } from './create.ts';
import { converse } from './criu.ts';
import { runHooksOnHost } from './hook-points.ts';
import { createCgroup, resetProcess } from './host.ts';
import type { CreateInput } from './input.ts';
import { parseMountOptions } from './mount-options.ts';
import { ensureLike } from './mounts.ts';
import { components, Program } from './program.ts';
import { registerOther } from './register.ts';
import { mountRootfs } from './rootfs-mounts.ts';
import { sourcePath } from './sources.ts';
import { openStreams } from './streams.ts';

export interface RestoreInput {
  program: string;
  request: Uint8Array;
  imagesDir: string;
  workDir: string | undefined;
  /** Namespaces (by path) that criu gets under these numbers. */
  namespaces: ReadonlyMap<number, string>;
  /** Folder in the state directory where criu finds the root; the request names it. */
  root: string;
}

/** What a create that leaves the processes to `start` does at once: others look into the root filesystem and the bundle before that. */
export function compileBeforeRestore(
  input: Pick<CreateInput, 'rootfsMounts' | 'bundle' | 'files'>,
): AssembledTape {
  const program = new Program();
  resetProcess(program);
  mountRootfs(program, input.rootfsMounts, `${input.bundle}/rootfs`, 'rootfs');
  for (const file of input.files ?? []) writeText(program, file);
  program.tape.halt(0);
  return program.tape.assemble();
}

export function compileRestore(input: CreateInput, restore: RestoreInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  const { spec, caller } = input;
  resetProcess(program);
  mountRootfs(program, input.rootfsMounts, `${input.bundle}/rootfs`, 'rootfs');
  createCgroup(program, input.cgroup, input.cgroups);
  for (const file of input.files ?? []) writeText(program, file);
  const streams = openStreams(program, input);
  const descriptors = new Map<number, Reg>();
  streams.forEach(({ container }, number) => {
    if (container !== undefined) descriptors.set(number, container);
  });
  for (const [number, path] of restore.namespaces) {
    program.step('linux.namespaces', `open the namespace ${path}`);
    descriptors.set(number, tape.syscall('openat', [AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0]));
  }
  const channel =
    spec.process.terminal === true && input.stdio.kind !== 'terminal'
      ? openConsoleChannel(program, input)
      : undefined;
  makePlaces(program, input);
  program.step('', 'make the folder where criu finds the root');
  const there = tape.label('root_there');
  tape.syscall('mkdirat', [AT_FDCWD, restore.root, 0o755], { on: { EEXIST: there } });
  tape.place(there);
  // criu wants a root that is a mount of its own; in a mount namespace of their own nothing of that stays behind.
  program.step('root.path', `show criu the root filesystem ${input.rootfs}`);
  tape.syscall('unshare', [CLONE_NEWNS]);
  tape.syscall('mount', ['none', '/', 'none', MS_REC | MS_PRIVATE, 0]);
  tape.syscall('mount', [input.rootfs, restore.root, 'none', MS_BIND | MS_REC, 0]);
  // Only now: criu mounts below its folder, which must be one of its own mount namespace.
  openImageFolders(program, restore, false);

  const master = tape.reg('master');
  const init = tape.reg('init');
  converse(program, {
    program: restore.program,
    request: restore.request,
    sibling: true,
    descriptors,
    prepare() {
      for (const file of input.cgroup.procs) program.writeFile(file, '0', 'linux.cgroupsPath');
    },
    on: {
      namespaces: (pid) => runHooksOnHost(program, input, pid),
      restored(pid) {
        tape.set(pid, init);
        tape.store(pid, tape.slot(0), 8);
        registerOther(
          program,
          input.token,
          streams,
          pid,
          spec.process.terminal === true && channel === undefined ? master : undefined,
        );
      },
      ...(spec.process.terminal === true && {
        terminal(received) {
          if (channel === undefined) tape.set(received, master);
          else sendTerminal(program, input, channel, received);
        },
      }),
    },
  });
  program.step('', 'remove the folder where criu found the root');
  const kept = tape.label('root_kept');
  tape.syscall('unlinkat', [AT_FDCWD, restore.root, AT_REMOVEDIR], { on: { any: kept } });
  tape.place(kept);
  const pidFile = input.pidFile ?? caller?.pidFile;
  if (pidFile !== undefined) {
    const failed = tape.label('not_restored');
    tape.jumpIfEqual(init, 0, failed);
    writePidFile(program, init, pidFile);
    tape.place(failed);
  }
  tape.halt(0);
  return tape.assemble();
}

/** The places of mounts, as create makes them: criu only mounts. What lies on a tmpfs comes with the image. */
function makePlaces(program: Program, input: CreateInput): void {
  const { tape } = program;
  const mounts = input.spec.mounts ?? [];
  const covered = mounts.filter(({ type }) => type === 'tmpfs').map(({ destination }) => pathOf(destination));
  program.step('root.path', `open the root filesystem ${input.rootfs}`);
  tape.syscall('openat', [AT_FDCWD, input.rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC, 0], {
    into: program.root,
  });
  mounts.forEach((mount, index) => {
    const path = `mounts[${index}]`;
    const place = pathOf(mount.destination);
    // Folders of procfs and sysfs, and what a bind mount shows, are there.
    const below = mounts.some(
      (other) =>
        other !== mount && place.startsWith(`${pathOf(other.destination)}/`) && other.type !== 'tmpfs',
    );
    if (below || covered.some((folder) => place.startsWith(`${folder}/`))) return;
    program.step(path, `make the place ${mount.destination}`);
    const options = parseMountOptions(mount.options ?? []);
    if (options.bind || mount.type === 'bind') {
      const source = tape.syscall('openat', [
        AT_FDCWD,
        sourcePath(input, mount.source ?? ''),
        O_PATH | O_CLOEXEC,
        0,
      ]);
      program.close(ensureLike(program, source, mount.destination));
      program.close(source);
    } else program.close(program.ensure(program.root, mount.destination, 'folder'));
  });
  program.close(program.root);
}

function pathOf(destination: string): string {
  return `/${components(destination).join('/')}`;
}
