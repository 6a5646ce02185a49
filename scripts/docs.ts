/**
 * Writes docs/cli.md, which is the help of every command, and docs/how-a-container-starts.md: the story is here, the tape in it is the real
 * one, compiled from a fixed configuration for a fixed host, so that the page is the same on every machine. Unit tests compare both pages
 * with this output.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeCgroups } from '../src/cgroup/hierarchy.ts';
import { planCgroup } from '../src/cgroup/plan.ts';
import { renderCliDocs } from '../src/cli/help.ts';
import { compileCreate } from '../src/container/compile/create.ts';
import { checkConfig } from '../src/oci/config.ts';
import { defaultSpec } from '../src/oci/defaults.ts';
import { disassemble } from '../src/tape/disassemble.ts';

/** A host as Debian 12 boots it: cgroup v2 only. */
const host = describeCgroups({
  mountinfo: '30 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw\n',
  cgroups: '',
  own: '0::/system.slice/wherry.service\n',
  controllers: () => 'cpuset cpu io memory pids\n',
});
/** Nothing of the container's cgroup exists yet. */
const nothing = {
  exists: (path: string) => path === '/sys/fs/cgroup' || path === '/sys/fs/cgroup/wherry',
  read: () => 'cpuset cpu io memory pids',
};

const chapters: readonly { title: string; begins: RegExp; text: string }[] = [
  {
    title: 'The player begins',
    begins: /^/,
    text: `keel has copied the tape into a memory file and started the player from its sealed copy. The player has set every signal to its default. What
follows up to the clone is done by the player itself, on the host.`,
  },
  {
    title: 'The gate between create and start',
    begins: /^make the exec FIFO/,
    text: `\`create\` and \`start\` are two calls, perhaps hours apart. In between the finished container waits in \`open\` of this FIFO: the kernel holds it there until
somebody opens the other end. No process has to live for that, so a crash of the runtime does not matter.`,
  },
  {
    title: 'The cgroup',
    begins: /^(make the cgroup|write)/,
    text: `A cgroup is a folder. Limits are numbers written into its files, before anything runs in it.`,
  },
  {
    title: 'The standard streams',
    begins: /^open .* for std/,
    text: `containerd gave three FIFOs. The container gets them directly: nobody copies its output. The player opens a reader of its own before the writer, which
makes the writer's open return at once, and keel keeps that reader, so that the container neither blocks nor dies when containerd is away.`,
  },
  {
    title: 'The clone',
    begins: /^make the ready pipe/,
    text: `From here on nobody may trace this process, nor the one that it makes, or reach the host through its descriptors. One \`clone3\` makes the container's init with all its new namespaces. \`CLONE_PARENT\` makes keel its parent, not the player, which is about to
end. The player then waits for one byte: "created". If the init dies before it, the read ends without a byte, and the shared page tells at which step.`,
  },
  {
    title: 'The init enters its cgroup and says who it is',
    begins: /^(write 0 to|make the cgroup namespace|register with keel)/,
    text: `From here on everything is done by the new process. It was born in its cgroup (on cgroup v1 it writes "0", which means "me", into
the files of each), and sends keel a descriptor of itself (a pidfd) together with the
stream ends. A pidfd never means another process, however often the number is used again.`,
  },
  {
    title: 'Cut off from the host',
    begins: /^lead a session/,
    text: `It leads a session of its own, and what it mounts does not travel back to the host.`,
  },
  {
    title: 'The root filesystem',
    begins: /^attach the root/,
    text: `The root filesystem becomes a mount of its own. All that follows is reached from this one descriptor with \`RESOLVE_IN_ROOT\`: a symlink in the image can
lead nowhere else, whatever another process changes meanwhile.`,
  },
  {
    title: 'Mounts',
    begins: /^mount .* on|^bind /,
    text: `Each mount is made where nobody can see it (\`fsopen\`, \`fsmount\`), then attached to a descriptor of its place (\`move_mount\`). Missing places are made folder by folder.`,
  },
  {
    title: 'Devices',
    begins: /^make the default devices/,
    text: `Six device nodes and five links are what every program expects of /dev.`,
  },
  {
    title: 'Names and network',
    begins: /^set the hostname/,
    text: `A host name of its own; a new network namespace has one interface, the loopback, and it is down.`,
  },
  {
    title: 'What must not be seen or changed',
    begins: /^make the empty folder that hides/,
    text: `Some files of /proc and /sys tell about the host or steer it. Files are covered with /dev/null, folders with an empty read-only tmpfs, others are made read-only.`,
  },
  {
    title: 'The root becomes /',
    begins: /^make the root filesystem read-only|^make it the root/,
    text: `\`pivot_root\` swaps the root of the mount namespace; the old one is detached, and with it the last path to the host.`,
  },
  {
    title: 'Descriptors and limits',
    begins: /^join a new session keyring/,
    text: `Everything is closed but the standard streams, the state folder (for the FIFO) and the ready pipe.`,
  },
  {
    title: 'Privileges',
    begins: /^drop what is not in the bounding set/,
    text: `First what may ever be had (the bounding set), then the user, then what is had (the capability sets), and no way back (\`no_new_privs\`).`,
  },
  {
    title: 'The program is found',
    begins: /^chdir to/,
    text: `Found before "created" is told, so that a wrong name is an error of \`create\` and not of \`start\`.`,
  },
  {
    title: 'Created, and started',
    begins: /^tell the player/,
    text: `The byte goes to the player, which ends with 0; keel reports that; wherryd answers containerd's Create with the pid. At Start keel opens the FIFO, the init's open returns, and it
becomes the program.`,
  },
];

export function renderStory(): string {
  const spec = defaultSpec({ cgroupVersion: 2 });
  const { config } = checkConfig(
    JSON.parse(
      JSON.stringify({
        ...spec,
        process: { ...spec.process, terminal: false, args: ['sh', '-c', 'echo hello'] },
      }),
    ),
  );
  const stream = (name: string) => ({ type: 'fifo' as const, path: `/run/containerd/fifo/1/hello-${name}` });
  const tape = compileCreate({
    token: 1n,
    id: 'hello',
    spec: config,
    bundle: '/run/containerd/io.containerd.runtime.v2.task/default/hello',
    rootfs: '/run/containerd/io.containerd.runtime.v2.task/default/hello/rootfs',
    rootfsMounts: [],
    stateDir: '/run/wherry/containers/1f3c8f2a0b7d6e55/default/hello',
    libexec: '/usr/libexec/wherry',
    stdio: { kind: 'paths', stdin: stream('stdin'), stdout: stream('stdout'), stderr: stream('stderr') },
    cgroup: planCgroup(
      host,
      { cgroupsPath: '/wherry/hello', id: 'hello', resources: config.linux?.resources },
      nothing,
    ),
    cgroups: host,
    seccomp: undefined,
  });
  return page(disassemble(tape));
}

/** Steps of the listing go to the chapter that has begun; a chapter that never begins is an error. */
function page(listing: string): string {
  const steps: string[][] = [];
  for (const line of listing.trimEnd().split('\n')) {
    if (!line.startsWith(' ')) steps.push([]);
    steps.at(-1)?.push(line);
  }
  const out = [head];
  let next = 0;
  let open = false;
  for (const step of steps) {
    const title = step[0] ?? '';
    const chapter = chapters[next];
    if (chapter?.begins.test(title)) {
      if (open) out.push('```', '');
      out.push(`## ${chapter.title}`, '', chapter.text, '', '```');
      open = true;
      next++;
    }
    out.push(...step);
  }
  out.push('```', '', tail);
  const missing = chapters[next];
  if (missing !== undefined) throw new Error(`chapter "${missing.title}" finds no step in the tape`);
  return out.join('\n');
}

const head = `# How a container starts

One container, from containerd's \`Create\` to its exit. The lists are the real tape: the system calls that make the container, in their order, as
\`wherry explain BUNDLE\` prints them. Each group is headed by what it does and, in brackets, by the field of \`config.json\` that asked for it. \`r1\` is a register: the
result of one call that another call uses.

1. containerd executes \`containerd-shim-wherry-v1 start\` (native/client.c). It asks wherryd, through keel, for a socket, prints its address and is gone after a millisecond.
2. containerd sends \`Create\` to that socket. keel (native/keel.c), which owns the socket, hands the frame on to wherryd (shim/task).
3. wherryd reads \`config.json\` (src/oci), plans the cgroup (src/cgroup) and compiles the tape (src/container/compile). No container has been touched yet.
4. keel starts the player (native/player.c), which plays the tape:
`;

const tail = `## The end

The program ends; keel, its parent, reaps it and tells wherryd the status, again and again until wherryd has written it down. wherryd publishes the exit, answers
\`Wait\`, and at \`Delete\` has a second, short tape played: unmount, remove the cgroup. keel lets go of the FIFOs as soon as somebody reads them, so that the reader sees the
end.

Where to read on: each chapter above is one file of src/container/compile; docs/internals.md has the borders between the processes, docs/adr the reasons.
`;

if (import.meta.main) {
  const docs = join(import.meta.dirname, '../docs');
  writeFileSync(join(docs, 'how-a-container-starts.md'), renderStory());
  writeFileSync(join(docs, 'cli.md'), renderCliDocs());
}
