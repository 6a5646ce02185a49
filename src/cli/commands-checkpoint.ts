/** The table of the commands for checkpoints; flags are runc's and crun's. */
import { bundleFlag, detachFlag, id, keepFlag, noSubreaperFlag, pidFileFlag } from './common-specs.ts';
import type { ArgumentSpec, CommandSpec, FlagSpec } from './grammar.ts';

const newId: ArgumentSpec = { name: 'ID', help: 'a name for the container; not used by another container' };

const text = (name: string, value: string, help: string, fallback?: string): FlagSpec => ({
  name,
  kind: 'text',
  value,
  help,
  ...(fallback !== undefined && { fallback }),
});
const on = (name: string, help: string): FlagSpec => ({ name, kind: 'boolean', help });

/** What checkpoint and restore have in common: both sides must be told the same. */
const both: readonly FlagSpec[] = [
  text('image-path', 'DIR', 'the folder of the image', 'checkpoint'),
  text('work-path', 'DIR', "the folder of criu's log and other files", 'that of the image'),
  on('tcp-established', 'with open TCP connections'),
  on('tcp-close', 'with open TCP connections, which are closed at restore'),
  on('ext-unix-sk', 'with unix sockets that are connected to processes outside'),
  on('shell-job', "with the caller's terminal"),
  on('file-locks', 'with file locks'),
  on('lazy-pages', 'memory comes page by page, when it is needed, from the criu that dumped it'),
  {
    name: 'manage-cgroups-mode',
    kind: 'choice',
    value: 'MODE',
    choices: ['soft', 'full', 'strict', 'ignore'],
    help: 'how much of the cgroups is restored',
    fallback: 'soft',
  },
  {
    name: 'empty-ns',
    kind: 'list',
    value: 'TYPE',
    help: 'make the namespace, but leave out what is in it: network; may be repeated',
  },
  on('auto-dedup', 'free the memory in an image that a later one replaces'),
  {
    name: 'network-lock',
    kind: 'choice',
    value: 'METHOD',
    choices: ['iptables', 'nftables', 'skip'],
    help: 'how the network stands still meanwhile',
    fallback: "criu's own choice",
  },
];

export const checkpointCommands: readonly CommandSpec[] = [
  {
    name: 'checkpoint',
    summary: 'write the processes of a container, with their memory, to a folder',
    description: [
      'The work is done by criu, which must be installed: on PATH, or named by --criu before the command',
      'or by WHERRY_CRIU.',
      'The container has ended and is deleted afterwards, unless --leave-running or --pre-dump is given.',
    ],
    flags: [
      ...both,
      text(
        'parent-path',
        'DIR',
        'an earlier image, relative to --image-path: only what has changed since is written',
      ),
      on('leave-running', 'let the container run on'),
      on('tcp-skip-in-flight', 'without TCP connections that are just being made'),
      on('link-remap', 'with open files that were deleted'),
      {
        name: 'status-fd',
        kind: 'integer',
        value: 'N',
        min: 3,
        max: 250,
        help: 'write a zero byte to this descriptor as soon as pages can be asked for (--lazy-pages)',
      },
      text('page-server', 'ADDRESS:PORT', 'send memory to the page server of another criu'),
      on('pre-dump', 'write memory only, as the parent of a later image, and let the container run on'),
    ],
    arguments: [id],
    examples: [
      { line: 'checkpoint --image-path /var/lib/images/web1 web1', says: 'write it down and end it' },
      { line: 'checkpoint --leave-running web1', says: 'write it down while it runs on' },
    ],
    runc: true,
  },
  {
    name: 'restore',
    summary: 'start a container where a checkpoint ended',
    description: [
      'The bundle must be the one of the checkpoint, or one like it. Like "run", the command stays',
      'until the end of the container and then deletes it, unless --detach is given.',
    ],
    flags: [
      ...both,
      bundleFlag,
      text('console-socket', 'SOCKET', 'send the terminal to this unix socket'),
      detachFlag,
      pidFileFlag,
      keepFlag,
      noSubreaperFlag,
      on('no-pivot', 'accepted for callers of runc; criu decides how it enters the root filesystem'),
      text('lsm-profile', 'TYPE:NAME', 'the profile that processes are restored with'),
      text('lsm-mount-context', 'CONTEXT', 'the SELinux context that mounts are restored with'),
    ],
    arguments: [newId],
    examples: [
      { line: 'restore --image-path /var/lib/images/web1 -b web web1', says: 'stay until its end' },
      {
        line: 'restore -d --image-path /var/lib/images/web1 -b web web2',
        says: 'as another container, in the background',
      },
    ],
    runc: true,
  },
];
