/** Restores: the same request as criu's, from config.json of the bundle and from what the image says of its streams. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../../errors.ts';
import type { NamespaceType } from '../../oci/types.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { FIRST_INHERITED_FD, IMAGES_FD, WORK_FD } from '../compile/criu.ts';
import type { CreateInput } from '../compile/input.ts';
import { compileRestore } from '../compile/restore.ts';
import type { PlayResult } from '../play.ts';
import { externalName, LOG_LEVEL } from './checkpoint.ts';
import { criuFailure } from './failure.ts';
import { encodeRequest, type Named, RequestType } from './message.ts';
import { restoredMounts } from './mounts.ts';
import { criuConfigFile, findCriu, type RestoreOptions } from './options.ts';
import { inheritedStreams } from './stdio.ts';

const LOG = 'restore.log';

/** The kernel's names. */
const nsFiles: Partial<Record<NamespaceType, string>> = {
  ipc: 'ipc',
  uts: 'uts',
  mount: 'mnt',
  user: 'user',
  time: 'time',
};

export interface Restore {
  tape: AssembledTape;
  /** undefined: the container runs. */
  failure(result: PlayResult): Promise<WherryError | undefined>;
}

export async function planRestore(input: CreateInput, options: RestoreOptions): Promise<Restore> {
  const program = await findCriu(options);
  await checkImages(options.imagesDir);
  const inherited: Named<number>[] = [];
  const namespaces = new Map<number, string>();
  let next = FIRST_INHERITED_FD;
  for (const { name, stream } of await inheritedStreams(options.imagesDir))
    inherited.push({ key: name, value: stream });
  const joined: Named<string>[] = [];
  for (const { type, path } of input.spec.linux?.namespaces ?? []) {
    if (path === undefined || path === '') continue;
    const name = externalName(type);
    const file = nsFiles[type];
    if (name !== undefined) {
      namespaces.set(next, path);
      inherited.push({ key: name, value: next++ });
    } else if (file !== undefined) joined.push({ key: file, value: path });
    else {
      throw new WherryError(
        'unimplemented',
        `linux.namespaces: criu cannot restore into a given ${type} namespace`,
        {
          path: 'linux.namespaces',
        },
      );
    }
  }
  const root = `${input.stateDir}/criu-root`;
  const request = encodeRequest(RequestType.RESTORE, {
    ...options,
    imagesDir: IMAGES_FD,
    workDir: options.workDir === undefined ? undefined : WORK_FD,
    root,
    logFile: LOG,
    logLevel: LOG_LEVEL,
    evasiveDevices: true,
    restoreSibling: true,
    cgroupsMode: options.cgroupsMode ?? (input.cgroup.unwanted ? 'ignore' : 'default'),
    cgroupRoots: Object.entries(input.cgroup.relative).map(([key, value]) => ({ key, value })),
    externalMounts: await restoredMounts({
      spec: input.spec,
      bundle: input.bundle,
      cgroups: input.cgroups,
      cgroupPaths: input.cgroup.paths,
      root: input.rootfs,
    }),
    inherited,
    joined,
    configFile: criuConfigFile(input.spec.annotations ?? {}),
  });
  const { imagesDir, workDir } = options;
  const tape = compileRestore(input, { program, request, imagesDir, workDir, namespaces, root });
  return { tape, failure: (result) => criuFailure(tape, result, join(workDir ?? imagesDir, LOG)) };
}

async function checkImages(folder: string): Promise<void> {
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  throw new WherryError('not-found', `--image-path: ${folder} is no folder`, {
    path: '--image-path',
    hint: 'name the folder that a checkpoint was written to',
  });
}
