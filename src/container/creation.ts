/** How a planned container comes to be: the compiler's input out of request and plan, its tape, and who plays it. */
import { dirname } from 'node:path';
import { type CgroupHost, noCgroups } from '../cgroup/hierarchy.ts';
import type { Spec } from '../oci/types.ts';
import { playError, readSlot } from '../tape/outcome.ts';
import { compileCreate } from './compile/create.ts';
import type { CreateInput } from './compile/input.ts';
import { hasNewNamespace } from './compile/namespaces.ts';
import { compileBeforeRestore } from './compile/restore.ts';
import { planRestore } from './criu/restore.ts';
import { hasOwnPidNamespace } from './exec-context.ts';
import { folderName } from './folder-name.ts';
import { createDeadline, explainHookError } from './hooks.ts';
import { entriesOf } from './host-entries.ts';
import type { Keel } from './keel.ts';
import { planNetDevices } from './net-devices.ts';
import { listenForReady, prepareNotify } from './notify.ts';
import type { CreatePlan } from './planning.ts';
import type { PlayOptions } from './play.ts';
import type { ContainerRecord } from './record.ts';
import type { Removal } from './removal.ts';
import { planResctrl } from './resctrl.ts';
import { explainIdError, rootIsUser } from './rootless.ts';
import { planStdio, type StdioPlan, type StreamLooks } from './stdio.ts';
import type { UserIds } from './subordinate-ids.ts';
import type { CreateRequest, RootfsOverlay } from './types.ts';

/** Wherry's own programs lie beside the Node that runs it. */
export const LIBEXEC = dirname(process.execPath);
/** A set-up that takes longer hangs on something: keel kills it and the error names the step. */
const DEADLINE_MS = 120_000;
/** An image may be as large as memory is. */
const RESTORE_DEADLINE_MS = 1_800_000;

export interface CreationDependencies {
  keel: Keel;
  cgroups: CgroupHost;
  /** Not root: whose containers these are. */
  user: UserIds | undefined;
  /** This process is root of a user namespace only. */
  inUserNamespace: boolean;
  removal: Removal;
  nextToken(): bigint;
}

export class Creation {
  readonly #keel: Keel;
  readonly #cgroups: CgroupHost;
  readonly #user: UserIds | undefined;
  readonly #inUserNamespace: boolean;
  readonly #removal: Removal;
  readonly #nextToken: () => bigint;

  constructor({ keel, cgroups, user, inUserNamespace, removal, nextToken }: CreationDependencies) {
    this.#keel = keel;
    this.#cgroups = cgroups;
    this.#user = user;
    this.#inUserNamespace = inUserNamespace;
    this.#removal = removal;
    this.#nextToken = nextToken;
  }

  /** The container stands and waits for its start, or runs (`startAtOnce`), when this resolves. */
  async play(
    request: CreateRequest,
    record: ContainerRecord,
    { spec: given, withItsHome, cgroup, filter }: CreatePlan,
    looks?: StreamLooks,
  ): Promise<void> {
    const { caller } = request;
    const notify = caller?.notify;
    const resctrl = planResctrl(given, folderName(request.key.id));
    record.resctrl = resctrl && { tasks: resctrl.tasks, remove: resctrl.remove };
    // What needs no HOME is made while that is looked for.
    const next = given.hooks?.poststart === undefined ? this.#nextOf(request, record) : undefined;
    const homed = await withItsHome;
    const spec = notify === undefined ? homed : await prepareNotify(homed, record.dir);
    const input: CreateInput = {
      token: record.token,
      id: request.key.id,
      spec,
      bundle: request.bundle,
      rootfs: record.rootfs,
      rootfsMounts: request.rootfsMounts,
      stateDir: record.dir,
      libexec: LIBEXEC,
      stdio: await this.#planStdio(request, record, spec, looks),
      cgroup,
      cgroups: cgroup.unwanted && !hasNewNamespace(spec, 'cgroup') ? noCgroups() : this.#cgroups,
      seccomp: filter,
      caller,
      netDevices: await planNetDevices(spec, caller?.network),
      resctrl,
      unprivileged: this.#user !== undefined,
      rootIsUser: this.#user !== undefined && rootIsUser(spec, this.#user),
      idHelpers: record.idHelpers,
      rootfsOverlay: await this.#viewOf(request),
      bindDevices: this.#inUserNamespace,
      joinOwner: request.joinOwner,
      noPivotRoot: request.noPivotRoot,
      noNewKeyring: request.noNewKeyring,
      startAtOnce: request.startAtOnce,
      dockerStatus: request.dockerStatus,
      pidFile: request.pidFile,
      files: request.files,
      settings: request.settings,
      schedCoreWith: request.schedCoreWith,
    };
    const restore = request.restore === undefined ? undefined : await planRestore(input, request.restore);
    const tape = restore?.tape ?? compileCreate(input);
    const host = caller?.host ?? this.#keel;
    if (notify !== undefined && request.startAtOnce === true) {
      const staying = request.foreground !== undefined;
      await listenForReady(notify, { token: record.token, stateDir: record.dir, init: 0, staying });
    }
    const result = await host.play(record.token, tape.image, {
      deadline: createDeadline(spec.hooks, restore === undefined ? DEADLINE_MS : RESTORE_DEADLINE_MS),
      console: caller?.relayConsole === true,
      preserve: caller?.preserveFds ?? 0,
      next,
    });
    const error = restore === undefined ? playError(tape, result) : await restore.failure(result);
    if (error !== undefined) throw explainHookError(explainIdError(error, result.page), result.page);
    record.cleanup = result.cleanup;
    const pid = Number(readSlot(result.page, 0));
    if (caller === undefined) await record.registered;
    else if (record.pid === 0) record.pid = pid;
  }

  /** What a restored container finds made: mounts of containerd and the files that it was given. */
  async beforeRestore(request: CreateRequest): Promise<void> {
    const tape = compileBeforeRestore(request);
    const options = { deadline: DEADLINE_MS, inProcess: true };
    const error = playError(tape, await this.#keel.play(this.#nextToken(), tape.image, options));
    if (error !== undefined) throw error;
  }

  /** Who is not the machine's root may have to show a folder piece by piece. */
  async #viewOf({ rootfsOverlay }: CreateRequest): Promise<RootfsOverlay | undefined> {
    if (rootfsOverlay === undefined || (this.#user === undefined && !this.#inUserNamespace))
      return rootfsOverlay;
    return { ...rootfsOverlay, entries: await entriesOf(rootfsOverlay.lower) };
  }

  #nextOf({ foreground }: CreateRequest, record: ContainerRecord): PlayOptions['next'] {
    if (foreground === undefined) return undefined;
    const { waitFlags, cleanUp } = foreground;
    const cleanup = cleanUp ? this.#removal.tape(record).image : undefined;
    const onGone = () => {
      record.gone = true;
    };
    return { waitFlags, cleanup, onGone: record.endsAlone ? onGone : undefined };
  }

  async #planStdio(
    request: CreateRequest,
    record: ContainerRecord,
    { process }: Spec,
    looks: StreamLooks | undefined,
  ): Promise<StdioPlan> {
    if (request.caller !== undefined) return { kind: 'inherit' };
    const { id, namespace } = request.key;
    const terminal = process.terminal === true;
    // Processes of a pid namespace that is not its own may outlive the init and hold its streams.
    const copied = record.execContext !== undefined && !hasOwnPidNamespace(record.execContext);
    const nextToken = this.#nextToken;
    const plan = await planStdio(request.stdio, { id, namespace, terminal, copied, nextToken, looks });
    if (plan.kind !== 'inherit') record.logger = plan.logger?.token;
    return plan;
  }
}
