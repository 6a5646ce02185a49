/** What the commands need, made of what the daemon has. */
import type { CliDependencies } from '../cli/dependencies.ts';
import type { Launches } from '../cli/launched/launches.ts';
import type { ClientRequest } from '../cli/session.ts';
import type { Runtime } from '../container/runtime.ts';
import { WherryError } from '../errors.ts';
import { errnoNumbers } from '../linux/errno.ts';
import { libseccompVersion } from '../linux/seccomp.ts';
import type { KeelLink } from './keel-link.ts';
import type { WherrydLogger } from './log.ts';
import { upgrade } from './upgrade.ts';

export function cliDependencies(parts: {
  runtime: Runtime;
  launches: Launches;
  keel: KeelLink;
  /** The client's, and what it asked. */
  connection: bigint;
  request: ClientRequest;
  runDir: string;
  cgroupVersion: 1 | 2;
  log: WherrydLogger;
  versions: { wherry: string; wherryd: string; keel: string };
}): CliDependencies {
  const { runtime, launches, keel, connection, request, runDir, cgroupVersion, log, versions } = parts;
  return {
    runtime,
    launches,
    cgroupVersion,
    paths: { runDir },
    versions: { ...versions, node: process.version, libseccomp: libseccompVersion },
    acting: (soon) => keel.acting(connection, soon),
    daemon: {
      upgrade: () => upgrade(keel, connection, request),
      status: () => keel.status(),
      async stop(force) {
        if (force) await runtime.deleteAll({ requestId: 'daemon stop' });
        const result = await keel.stop(force);
        if (result === -errnoNumbers.EBUSY) {
          throw new WherryError('failed-precondition', 'containers are running', {
            hint: 'end them, or use `wherry daemon stop --force`, which kills them',
          });
        }
      },
    },
    explain: (bundle, id) => runtime.explain(bundle, id),
    log,
  };
}
