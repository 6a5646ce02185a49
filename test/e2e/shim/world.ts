/** What every file of behaviours is given: a containerd, and somebody who calls the shim as it does. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import { Containerd } from '../../support/containerd.ts';
import type { ContainerdVersion } from '../../support/debs.ts';
import { wherryBinary } from '../../support/paths.ts';
import { run } from '../../support/run.ts';
import { ShimCaller } from '../../support/shim-caller.ts';

export interface World {
  readonly version: ContainerdVersion;
  readonly grpc: boolean;
  /** Set while tests run. */
  readonly containerd: Containerd;
  readonly caller: ShimCaller;
  keelPid(): Promise<number>;
}

export type Behaviours = (world: World) => void;

/** Numbers and texts are those of docs/shim-behaviours.md. */
export function behavioursOf(
  version: ContainerdVersion,
  { grpc = false }: { grpc?: boolean },
  parts: readonly Behaviours[],
): void {
  describe(`the shim under containerd ${version} over ${grpc ? 'gRPC' : 'ttrpc'}`, () => {
    let containerd: Containerd;
    let caller: ShimCaller;
    before(async () => {
      containerd = await Containerd.start(version, {
        debug: true,
        ...(grpc && { wherryConfig: { protocol: 'grpc' } }),
      });
      caller = await new ShimCaller(containerd, { grpc }).subscribed();
    });
    after(async () => {
      await caller?.[Symbol.asyncDispose]();
      await containerd?.stop();
    });
    const world: World = {
      version,
      grpc,
      get containerd() {
        return containerd;
      },
      get caller() {
        return caller;
      },
      async keelPid() {
        const env = { ...process.env, WHERRY_RUN_DIR: containerd.runDir };
        const { stdout } = await run(wherryBinary, ['daemon', 'status'], { env });
        return Number(/keel:\s+pid (\d+)/.exec(stdout)?.[1]);
      },
    };
    for (const part of parts) part(world);
  });
}

/** pid and command line of every child of a process. */
export function childrenOf(pid: number): { pid: number; state: string; command: string }[] {
  return readdirSync(`/proc/${pid}/task`)
    .flatMap((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').trim().split(' '))
    .filter((text) => text !== '')
    .flatMap((child) => {
      try {
        const stat = readFileSync(join('/proc', child, 'stat'), 'utf8');
        const command = readFileSync(join('/proc', child, 'cmdline'), 'utf8')
          .replaceAll('\0', ' ')
          .trim();
        return [{ pid: Number(child), state: stat.slice(stat.lastIndexOf(')') + 2)[0] ?? '', command }];
      } catch {
        return [];
      }
    });
}
