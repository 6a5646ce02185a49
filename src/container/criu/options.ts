/** What a caller may say about a checkpoint and about a restore; one name for what runc, crun and containerd each call their way. */
import { WherryError } from '../../errors.ts';
import { findProgram, isProgram, USUAL_PATH } from '../../linux/program-path.ts';
import type { CgroupsModeName, NetworkLockName } from './message.ts';

interface ImageOptions {
  /** Absolute folder of the image. */
  imagesDir: string;
  /** Absolute folder for logs and what else criu writes; default: the image's. */
  workDir?: string;
  tcpEstablished?: boolean;
  tcpClose?: boolean;
  extUnixSk?: boolean;
  shellJob?: boolean;
  fileLocks?: boolean;
  autoDedup?: boolean;
  lazyPages?: boolean;
  cgroupsMode?: CgroupsModeName;
  /** CLONE_NEW* of namespaces that are dumped and restored without what is in them. */
  emptyNamespaces?: number;
  networkLock?: NetworkLockName;
  /** Absolute path of criu; default: found on `searchPath`. */
  criu?: string;
  /** Like PATH; default: wherryd's own. */
  searchPath?: string;
}

export interface CheckpointOptions extends ImageOptions {
  /** Folder of an earlier image, relative to this one. */
  parentPath?: string;
  leaveRunning?: boolean;
  tcpSkipInFlight?: boolean;
  linkRemap?: boolean;
  /** Memory only, and the container runs on. */
  preDump?: boolean;
  pageServer?: { address: string; port: number };
  /** The caller's descriptor, 3 or more; only where a caller's client plays. */
  statusFd?: number;
}

export interface RestoreOptions extends ImageOptions {
  lsmProfile?: string;
  lsmMountContext?: string;
}

/** Absolute path of criu. failed-precondition where there is none. */
export async function findCriu({
  criu,
  searchPath,
}: Pick<ImageOptions, 'criu' | 'searchPath'>): Promise<string> {
  if (criu !== undefined) {
    if (await isProgram(criu)) return criu;
    throw new WherryError('failed-precondition', `${criu} is no program`, {
      path: '--criu',
      hint: '--criu and WHERRY_CRIU name the program criu by its absolute path',
    });
  }
  const found = await findProgram('criu', `${searchPath ?? process.env['PATH'] ?? ''}:${USUAL_PATH}`);
  if (found !== undefined) return found;
  throw new WherryError('failed-precondition', 'criu is not installed: it makes and restores checkpoints', {
    hint: 'install criu (4.0 or newer for a new kernel), or name it by --criu or WHERRY_CRIU',
  });
}

/** criu would find it. */
export async function hasProgram(name: string): Promise<boolean> {
  return (await findProgram(name, USUAL_PATH)) !== undefined;
}

const DEFAULT_CONFIG = '/etc/criu/runc.conf';

/** criu's configuration file: what the annotation says ('' is none), else runc's, which criu passes over where it is missing. */
export function criuConfigFile(annotations: Readonly<Record<string, string>>): string | undefined {
  const named = annotations['org.criu.config'];
  return named === undefined ? DEFAULT_CONFIG : named === '' ? undefined : named;
}
