/** Flags that checkpoint and restore have in common. */
import type { CgroupsModeName, NetworkLockName } from '../container/criu/message.ts';
import type { RestoreOptions } from '../container/criu/options.ts';
import { WherryError } from '../errors.ts';
import { CLONE_NEWNET } from '../linux/constants.ts';
import { type CommandContext, callerPath } from './context.ts';

export function imageOptions(context: CommandContext): RestoreOptions {
  const { flags, globals, session } = context;
  const work = flags.text('work-path');
  const criu = globals.text('criu') ?? session.request.env['WHERRY_CRIU'];
  const mode = flags.text('manage-cgroups-mode');
  const lock = flags.text('network-lock');
  return {
    imagesDir: callerPath(context, flags.text('image-path') ?? 'checkpoint'),
    ...(work !== undefined && { workDir: callerPath(context, work) }),
    tcpEstablished: flags.on('tcp-established'),
    tcpClose: flags.on('tcp-close'),
    extUnixSk: flags.on('ext-unix-sk'),
    shellJob: flags.on('shell-job'),
    fileLocks: flags.on('file-locks'),
    autoDedup: flags.on('auto-dedup'),
    lazyPages: flags.on('lazy-pages'),
    // The grammar lets nothing else through.
    ...(mode !== undefined && { cgroupsMode: mode as CgroupsModeName }),
    ...(lock !== undefined && { networkLock: lock as NetworkLockName }),
    emptyNamespaces: emptyNamespaces(flags.list('empty-ns')),
    ...(criu !== undefined &&
      criu !== '' && { criu: criu.includes('/') ? callerPath(context, criu) : undefined }),
    searchPath: session.request.env['PATH'] ?? '',
  };
}

function emptyNamespaces(names: readonly string[]): number {
  for (const name of names) {
    if (name === 'network') continue;
    throw new WherryError('invalid-argument', `namespace "${name}" is not supported by --empty-ns`, {
      path: '--empty-ns',
      hint: 'only network is',
    });
  }
  return names.length === 0 ? 0 : CLONE_NEWNET;
}
