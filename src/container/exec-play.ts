/** How an exec comes to be: the compiler's input out of the request and its container, its tape, and who plays it. */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import type { Spec } from '../oci/types.ts';
import { playError, readSlot } from '../tape/outcome.ts';
import { compileExec, type ExecInput } from './compile/exec.ts';
import { execCgroup } from './exec-cgroup.ts';
import { type ExecContext, loadExecContext } from './exec-context.ts';
import type { ExecRecord } from './exec-record.ts';
import { withHome } from './home.ts';
import type { Keel } from './keel.ts';
import type { ContainerRecord } from './record.ts';
import { assertAlive } from './refusals.ts';
import { planStdio, type StdioPlan } from './stdio.ts';
import type { ExecRequest, OperationContext } from './types.ts';

/** A set-up that takes longer hangs on something: keel kills it and the error names the step. */
const START_DEADLINE_MS = 120_000;

export interface ExecPlayDependencies {
  keel: Keel;
  cgroups: CgroupHost;
  nextToken(): bigint;
}

/** The pid of its process, as its player saw it. Throws what failed, after which nothing of it runs. */
export async function playExec(
  record: ContainerRecord,
  exec: ExecRecord,
  context: OperationContext,
  deps: ExecPlayDependencies,
): Promise<number> {
  const { request, token } = exec;
  const { caller } = request;
  await record.registered;
  record.execContext ??= await loadExecContext(record.dir, record.execText);
  const settled = record.execContext;
  const spec = await withHome(specOf(request, settled), `/proc/${record.pid}/root`, []);
  const tape = compileExec({
    token,
    id: record.key.id,
    spec,
    init: { pid: record.pid, pidfdInode: record.pidfdInode },
    stdio: await planExecStdio(exec, deps),
    cgroup: execCgroup(deps.cgroups, record, request.cgroups ?? {}),
    seccomp: settled.seccomp,
    ...supervisorOf(record, spec, settled),
    noNewKeyring: settled.noNewKeyring,
    ...(caller !== undefined && { caller }),
    settings: record.settings,
    cgroups: deps.cgroups,
  });
  context.signal?.throwIfAborted();
  assertAlive(record);
  const result = await (caller?.host ?? deps.keel).play(token, tape.image, {
    // In a paused container it freezes with the others until somebody resumes it.
    deadline: request.ignorePaused === true ? 0 : START_DEADLINE_MS,
    console: caller?.relayConsole === true,
    preserve: caller?.preserveFds ?? 0,
  });
  const error = playError(tape, result);
  const pid = Number(readSlot(result.page, 0));
  if (error !== undefined) {
    if (pid !== 0) await caller?.host.reap?.(pid);
    throw error;
  }
  if (caller === undefined) await exec.registered;
  return pid;
}

async function planExecStdio(exec: ExecRecord, { nextToken }: ExecPlayDependencies): Promise<StdioPlan> {
  const { request, container } = exec;
  if (request.caller !== undefined) return { kind: 'inherit' };
  const terminal = request.process.terminal === true;
  const { namespace } = container.key;
  // What it leaves behind may hold its streams.
  const context = { id: request.execId, namespace, terminal, copied: true, nextToken };
  const plan = await planStdio(request.stdio, context);
  if (plan.kind !== 'inherit') exec.logger = plan.logger?.token;
  return plan;
}

/** The container's specification as far as an exec needs it, with the exec's process in it. */
function specOf({ process }: Pick<ExecRequest, 'process'>, context: ExecContext): Spec {
  const score = process.oomScoreAdj ?? context.process.oomScoreAdj;
  return {
    ociVersion: '1.0.0',
    root: { path: '/' },
    process: { ...process, ...(score !== undefined && { oomScoreAdj: score }) },
    linux: {
      namespaces: [...context.namespaces],
      personality: context.personality,
      memoryPolicy: context.memoryPolicy,
    },
  };
}

/** A process whose filter has a listener is shown to the supervisor as the container's init was. */
function supervisorOf(
  record: ContainerRecord,
  spec: Spec,
  { supervisor }: ExecContext,
): Pick<ExecInput, 'supervisor'> {
  if (supervisor === undefined) return {};
  const { ociVersion, annotations } = record;
  const seccomp = { defaultAction: 'SCMP_ACT_NOTIFY' as const, ...supervisor };
  return {
    supervisor: {
      id: record.key.id,
      bundle: record.bundle,
      spec: { ...spec, ociVersion, annotations, linux: { seccomp } },
      init: { pid: record.pid },
    },
  };
}
