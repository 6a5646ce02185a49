/**
 * containerd's sandbox service (shim contract section 10): a pod's sandbox made by the shim, for handlers with sandboxer = "shim". The
 * sandbox is a container like others of its group; here requests become calls of the runtime core.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ContainerKey, ContainerState, ExitInfo } from '../../src/container/types.ts';
import { WherryError } from '../../src/errors.ts';
import { SIGKILL } from '../../src/linux/constants.ts';
import * as sandbox from '../gen/containerd/runtime/sandbox/v1/sandbox.ts';
import type { ShimRuntime } from '../runtime.ts';
import { encodeMetrics } from '../task/metrics.ts';
import { requireName } from '../task/names.ts';
import type { TaskGroups } from '../task/service.ts';
import { type CallContext, type MethodTable, unary } from '../ttrpc/service.ts';
import { podFolders, removePodFiles, writePodFiles } from './pod-files.ts';
import { planSandbox } from './spec.ts';
import { checkJoined, ofJoin } from './user.ts';

/** Wherry's own programs lie beside the Node that runs it. */
const PAUSE = join(dirname(process.execPath), 'pause');
/** Where containerd gives no root filesystem. */
const OWN_ROOT = 'sandbox';
const NO_STREAMS = { stdin: '', stdout: '', stderr: '', terminal: false };
/** GOARCH by Node's name. */
const architectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

export interface SandboxServiceOptions {
  runtime: ShimRuntime;
  groups: TaskGroups;
}

export function createSandboxService({ runtime, groups }: SandboxServiceOptions): MethodTable {
  function lookup(request: { sandboxId: string }, context: CallContext): ContainerState {
    const key = keyOf(request, context);
    const found = runtime.find(key);
    if (found === undefined || found.status === 'creating') throw unknown(key.id);
    return found;
  }

  async function create(
    request: sandbox.CreateSandboxRequest,
    context: CallContext,
  ): Promise<sandbox.CreateSandboxResponse> {
    const key = keyOf(request, context);
    const bundle = request.bundlePath;
    if (!bundle.startsWith('/')) {
      throw new WherryError(
        'invalid-argument',
        `bundle_path: ${JSON.stringify(bundle)} is not an absolute path`,
        {
          path: 'bundle_path',
        },
      );
    }
    const { options, netnsPath } = request;
    // containerd takes away the rootfs folder of a bundle by rmdir, which wants it empty; one of ours goes with the bundle.
    const root = request.rootfs.length > 0 ? 'rootfs' : OWN_ROOT;
    const plan = planSandbox({ id: key.id, options, netnsPath, root, pause: PAUSE });
    const folders = await podFolders(bundle, key.id);
    groups.joined(context, key.id);
    try {
      if (folders !== undefined) await writePodFiles(folders, plan.pod);
      await mkdir(join(bundle, root), { recursive: true, mode: 0o711 });
      // Root of a user namespace may not make it in a folder of ours.
      if (root === OWN_ROOT) await writeFile(join(bundle, root, 'pause'), '', { mode: 0o444 });
      const { pid } = await runtime.create(
        {
          key,
          bundle,
          rootfsMounts: request.rootfs,
          stdio: NO_STREAMS,
          config: plan.config,
          systemdCgroup: plan.systemdCgroup,
          joinOwner: plan.user?.joinOwner,
          pidFile: join(bundle, 'init.pid'),
        },
        operation(context),
      );
      if (plan.user?.joinOwner === true) {
        await checkJoined(pid, plan.user).catch(async (thrown) => {
          await runtime.delete(key, true, { requestId: context.requestId });
          throw thrown;
        });
      }
    } catch (thrown) {
      groups.failed(context, key.id);
      if (folders !== undefined) await removePodFiles(folders);
      throw plan.user?.joinOwner === true ? ofJoin(thrown) : thrown;
    }
    return {};
  }

  async function start(
    request: sandbox.StartSandboxRequest,
    context: CallContext,
  ): Promise<sandbox.StartSandboxResponse> {
    const { pid, createdAt } = await runtime.start(lookup(request, context).key, operation(context));
    return { pid, createdAt };
  }

  /** Ends the process; what is ended, or was never there, is fine: containerd asks more than once. */
  async function stop(
    request: sandbox.StopSandboxRequest,
    context: CallContext,
  ): Promise<sandbox.StopSandboxResponse> {
    const found = runtime.find(keyOf(request, context));
    if (found === undefined || found.status === 'stopped') return {};
    const ended = runtime.wait(found.key, operation(context));
    try {
      // It sleeps and has nothing to tidy up.
      await runtime.kill(found.key, SIGKILL, false, operation(context));
    } catch (thrown) {
      if (runtime.find(found.key)?.status !== 'stopped') throw thrown;
    }
    await ended;
    return {};
  }

  async function wait(
    request: sandbox.WaitSandboxRequest,
    context: CallContext,
  ): Promise<sandbox.WaitSandboxResponse> {
    const { exitStatus, exitedAt }: ExitInfo = await runtime.wait(
      lookup(request, context).key,
      operation(context),
    );
    return { exitStatus, exitedAt };
  }

  async function status(
    request: sandbox.SandboxStatusRequest,
    context: CallContext,
  ): Promise<sandbox.SandboxStatusResponse> {
    const found = lookup(request, context);
    return {
      sandboxId: found.key.id,
      pid: found.pid,
      state: found.status === 'stopped' ? 'SANDBOX_NOTREADY' : 'SANDBOX_READY',
      info: request.verbose ? { info: JSON.stringify({ pid: found.pid, bundle: found.bundle }) } : {},
      createdAt: found.createdAt,
      exitedAt: found.exit?.exitedAt,
      extra: undefined,
    };
  }

  async function ping(request: sandbox.PingRequest, context: CallContext): Promise<sandbox.PingResponse> {
    lookup(request, context);
    return {};
  }

  async function shutdown(
    request: sandbox.ShutdownSandboxRequest,
    context: CallContext,
  ): Promise<sandbox.ShutdownSandboxResponse> {
    const key = keyOf(request, context);
    const found = runtime.find(key);
    if (found !== undefined) {
      await runtime.delete(key, true, { requestId: context.requestId });
      const folders = await podFolders(found.bundle, key.id);
      if (folders !== undefined) await removePodFiles(folders);
    }
    groups.shutdown(context.listenerId);
    return {};
  }

  async function metrics(
    request: sandbox.SandboxMetricsRequest,
    context: CallContext,
  ): Promise<sandbox.SandboxMetricsResponse> {
    const { key } = lookup(request, context);
    return { metrics: { id: key.id, timestamp: new Date(), data: encodeMetrics(await runtime.stats(key)) } };
  }

  async function platform(): Promise<sandbox.PlatformResponse> {
    const architecture = architectures[process.arch] ?? process.arch;
    return { platform: { os: 'linux', architecture, variant: '', osVersion: '' } };
  }

  return {
    CreateSandbox: unary({
      request: sandbox.CreateSandboxRequest,
      response: sandbox.CreateSandboxResponse,
      handle: create,
    }),
    StartSandbox: unary({
      request: sandbox.StartSandboxRequest,
      response: sandbox.StartSandboxResponse,
      handle: start,
    }),
    Platform: unary({
      request: sandbox.PlatformRequest,
      response: sandbox.PlatformResponse,
      handle: platform,
    }),
    StopSandbox: unary({
      request: sandbox.StopSandboxRequest,
      response: sandbox.StopSandboxResponse,
      handle: stop,
    }),
    WaitSandbox: unary({
      request: sandbox.WaitSandboxRequest,
      response: sandbox.WaitSandboxResponse,
      handle: wait,
    }),
    SandboxStatus: unary({
      request: sandbox.SandboxStatusRequest,
      response: sandbox.SandboxStatusResponse,
      handle: status,
    }),
    PingSandbox: unary({ request: sandbox.PingRequest, response: sandbox.PingResponse, handle: ping }),
    ShutdownSandbox: unary({
      request: sandbox.ShutdownSandboxRequest,
      response: sandbox.ShutdownSandboxResponse,
      handle: shutdown,
    }),
    SandboxMetrics: unary({
      request: sandbox.SandboxMetricsRequest,
      response: sandbox.SandboxMetricsResponse,
      handle: metrics,
    }),
  };
}

function keyOf(request: { sandboxId: string }, context: CallContext): ContainerKey {
  return {
    scope: context.scope,
    namespace: requireName('namespace', context.namespace),
    id: requireName('sandbox_id', request.sandboxId),
  };
}

function operation(context: CallContext): { requestId: string; signal: AbortSignal } {
  return { requestId: context.requestId, signal: context.signal };
}

function unknown(id: string): WherryError {
  return new WherryError('not-found', `sandbox_id ${JSON.stringify(id)}: no such sandbox`, {
    path: 'sandbox_id',
  });
}
