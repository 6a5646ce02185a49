/** Checkpoints of a running container: the options become criu's request, a tape holds the conversation, and its end is told. */
import { statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import type { CgroupHost } from '../../cgroup/hierarchy.ts';
import { WherryError } from '../../errors.ts';
import type { NamespaceType, Spec } from '../../oci/types.ts';
import { compileCheckpoint } from '../compile/checkpoint.ts';
import { IMAGES_FD, WORK_FD } from '../compile/criu.ts';
import type { PlayHost } from '../play.ts';
import type { ContainerRecord } from '../record.ts';
import { criuFailure } from './failure.ts';
import { type CriuOptions, encodeRequest, type NetworkLockName, RequestType } from './message.ts';
import { dumpedMounts, mountPoints } from './mounts.ts';
import { type CheckpointOptions, criuConfigFile, findCriu, hasProgram } from './options.ts';
import { dumpedStreams } from './stdio.ts';

export interface CheckpointDependencies {
  cgroups: CgroupHost;
  host: PlayHost;
  nextToken(): bigint;
}

const LOG = 'dump.log';
/** criu's most talkative but for debugging: its errors only mean something with what comes before. */
export const LOG_LEVEL = 4;

/** Of namespaces that config.json joins by path: they are not dumped, a restore has to be given them. */
const externalNamespaces: Partial<Record<NamespaceType, string>> = {
  network: 'extRootNetNS',
  pid: 'extRootPidNS',
};
const nsNames: Partial<Record<NamespaceType, string>> = { network: 'net', pid: 'pid' };

/** The name of such a namespace in the image; undefined: criu joins it by its path, or makes a new one. */
export function externalName(type: NamespaceType): string | undefined {
  return externalNamespaces[type];
}

/** Resolves when the image is written. The container has been killed then, unless the options keep it. */
export async function checkpointContainer(
  record: ContainerRecord,
  spec: Spec,
  options: CheckpointOptions,
  { cgroups, host, nextToken }: CheckpointDependencies,
): Promise<void> {
  const program = await findCriu(options);
  await checkParent(options);
  const preDump = options.preDump === true;
  const { request, descriptors } = await requestOf(record, spec, options, cgroups);
  const tape = compileCheckpoint({
    program,
    request: encodeRequest(preDump ? RequestType.PRE_DUMP : RequestType.DUMP, request),
    imagesDir: options.imagesDir,
    workDir: options.workDir,
    descriptors: preDump ? undefined : descriptors,
    statusFd: options.statusFd,
  });
  const preserve = options.statusFd === undefined ? 0 : options.statusFd - 2;
  const result = await host.play(nextToken(), tape.image, { preserve });
  const error = await criuFailure(tape, result, join(options.workDir ?? options.imagesDir, LOG));
  if (error !== undefined) throw error;
}

async function requestOf(
  record: ContainerRecord,
  spec: Spec,
  options: CheckpointOptions,
  cgroups: CgroupHost,
): Promise<{ request: CriuOptions; descriptors: string }> {
  const { pid } = record;
  const points = mountPoints(pid);
  const streams = await dumpedStreams(pid, points);
  const paths = record.cgroup?.paths ?? {};
  const mounts = await dumpedMounts(
    { spec, bundle: record.bundle, cgroups, cgroupPaths: paths, root: `/proc/${pid}/root` },
    points,
  );
  const freezeCgroup = cgroups.mode === 'v2' ? paths[''] : paths['freezer'];
  const request: CriuOptions = {
    ...options,
    imagesDir: IMAGES_FD,
    workDir: options.workDir === undefined ? undefined : WORK_FD,
    pid,
    root: record.rootfs,
    logFile: LOG,
    logLevel: LOG_LEVEL,
    // Those of its caller are not the container's to make.
    cgroupsMode: options.cgroupsMode ?? (record.cgroup?.unwanted ? 'ignore' : 'default'),
    parentImage: options.parentPath,
    trackMemory: options.parentPath !== undefined,
    freezeCgroup,
    configFile: criuConfigFile(record.annotations),
    externalMounts: options.preDump === true ? [] : mounts,
    networkLock: options.networkLock ?? (await networkLock()),
    externals: [...namespaces(spec), ...streams.externals],
  };
  return { request, descriptors: streams.text };
}

/** criu uses iptables unless it is told otherwise, also where there is none. */
async function networkLock(): Promise<NetworkLockName | undefined> {
  return (await hasProgram('iptables-restore')) ? undefined : 'nftables';
}

function namespaces(spec: Spec): string[] {
  return (spec.linux?.namespaces ?? []).flatMap(({ type, path }) => {
    const name = externalName(type);
    if (path === undefined || path === '' || name === undefined) return [];
    return [`${nsNames[type]}[${statSync(path).ino}]:${name}`];
  });
}

async function checkParent({ parentPath, imagesDir }: CheckpointOptions): Promise<void> {
  if (parentPath === undefined) return;
  if (isAbsolute(parentPath)) {
    throw new WherryError('invalid-argument', `--parent-path: ${parentPath} must be relative`, {
      path: '--parent-path',
      hint: 'give the way from --image-path to the earlier image, such as ../first',
    });
  }
  const folder = resolve(imagesDir, parentPath);
  const there = await stat(folder).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (there) return;
  throw new WherryError('not-found', `--parent-path: ${folder} is no folder`, {
    path: '--parent-path',
    hint: 'it is relative to --image-path',
  });
}
