/**
 * One command without keel: this process is the client's child and speaks the client link over a socket pair. What outlives
 * it is what lies in the state directories, so each command looks first at what has become of their processes.
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type CgroupHost, detectCgroups, type Hierarchy } from '../cgroup/hierarchy.ts';
import { runCli } from '../cli/main.ts';
import { parseGlobals, programName } from '../cli/parse.ts';
import type { ClientSession } from '../cli/session.ts';
import type { PlayOptions, PlayResult } from '../container/play.ts';
import { Runtime } from '../container/runtime.ts';
import { WherryError } from '../errors.ts';
import { isAlive, processStat } from '../linux/pidfd.ts';
import { filtersKept, keepFilters, libseccompVersion } from '../linux/seccomp.ts';
import { readSlot } from '../tape/outcome.ts';
import { ClientLink } from './client-link.ts';
import { loadConfig } from './config.ts';
import { BUILD, FILTERS, VERSION } from './daemon.ts';
import { DaemonlessKeel } from './daemonless-keel.ts';
import { LinkSocket } from './link-socket.ts';
import { createLogger } from './log.ts';

const CLIENT_LINK = 3;
/** Beside the containers of a wherryd with the same run folder, which knows nothing of these. */
const FOLDER = 'daemonless';
/** No create takes longer; what is still said to be in the making then has lost its maker. */
const CREATE_DEADLINE_MS = 120_000;

/** Tells who a played tape has started: there is no keel with which it could register. */
class DaemonlessClient extends ClientLink {
  readonly #onStarted: (token: bigint, pid: number) => void;

  constructor(
    send: (bytes: Uint8Array) => void,
    onRequest: (session: ClientSession) => void,
    onStarted: (token: bigint, pid: number) => void,
  ) {
    super({ pid: 0, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }, send, onRequest);
    this.#onStarted = onStarted;
  }

  override async play(token: bigint, tape: Uint8Array, options: PlayOptions): Promise<PlayResult> {
    // What this process does after the client's tape it does before its own end, and the client waits for that.
    const { next } = options;
    const result = await super.play(
      token,
      tape,
      next === undefined ? options : { ...options, next: { ...next, onGone: undefined } },
    );
    const pid = Number(readSlot(result.page, 0));
    if (options.inProcess !== true && pid > 0) this.#onStarted(token, pid);
    return result;
  }
}

/** Serves the client on descriptor 3 and ends with it. */
export function runDaemonless(): void {
  const runDir = join(process.env['WHERRY_RUN_DIR'] ?? '/run/wherry', FOLDER);
  const { config } = loadConfig(runDir);
  const log = createLogger({
    ...config,
    logLevel: process.env['WHERRY_LOG_LEVEL'] === undefined ? 'error' : config.logLevel,
  });
  keepFilters(join(runDir, FILTERS), BUILD);
  const keel = new DaemonlessKeel((exit) => runtime.onExit(exit));
  const inner = inUserNamespace();
  const cgroups = usableCgroups(inner);
  const runtime = new Runtime({
    keel,
    runDir,
    cgroups,
    cgroupParent: config.cgroupParent,
    inUserNamespace: inner,
    log,
  });

  const client = new DaemonlessClient(
    (bytes) => socket.write(bytes),
    (session) => void serve(session),
    (token, pid) => {
      const startTime = processStat(pid)?.startTime ?? 0n;
      keel.note(token, pid, startTime);
      runtime.onRegistered({ token, pid, startTime, pidfdInode: 0n });
    },
  );
  keel.client = client;
  let lost = false;
  const socket = new LinkSocket(CLIENT_LINK, {
    onData: (bytes) => client.receive(bytes),
    onLost: () => {
      if (lost) return;
      lost = true;
      client.closed();
      runtime.close();
      // What the command undoes after its client has gone is undone in the same turn.
      setImmediate(() => void filtersKept().finally(() => process.exit(0)));
    },
  });

  async function serve(session: ClientSession): Promise<void> {
    const { argv, cwd } = session.request;
    try {
      adopt(rootOf(argv, cwd));
    } catch (thrown) {
      // A mistake in the flags is told by the command line itself.
      log.debug('nothing is taken up', { error: String(thrown) });
    }
    await runCli(session, {
      runtime,
      cgroupVersion: cgroups.mode === 'v2' ? 2 : 1,
      paths: { runDir },
      versions: {
        wherry: VERSION,
        wherryd: BUILD,
        keel: 'none',
        node: process.version,
        libseccomp: libseccompVersion,
      },
      acting: () => {},
      daemon: { status: noDaemon, stop: noDaemon, upgrade: noDaemon },
      explain: (bundle, id) => runtime.explain(bundle, id),
      log,
    });
  }

  function adopt(root: string | undefined): void {
    for (const record of runtime.adopt(root)) {
      const { token, pid, startTime, status, createdAt } = record;
      keel.note(token, pid, startTime);
      const unfinished = status === 'creating' && Date.now() - createdAt.getTime() < CREATE_DEADLINE_MS;
      if (record.exit === undefined && !unfinished && !isAlive(pid, startTime))
        runtime.onExit({ token, waitStatus: 0, known: false, time: new Date() });
    }
  }
}

/** Another than the machine's own (user_namespaces(7)): there root is less than root. */
function inUserNamespace(): boolean {
  return readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/).join(' ') !== '0 0 4294967295';
}

/** In a user namespace cgroups are mostly somebody else's: then none are made, and limits are told as without effect. */
function usableCgroups(inner: boolean): CgroupHost {
  const host = detectCgroups();
  if (!inner || [...host.hierarchies, host.unified].some(isOurs)) return host;
  return { mode: 'none', hierarchies: [], unified: undefined, unifiedControllers: [] };
}

function isOurs(found: Hierarchy | undefined): boolean {
  if (found === undefined) return false;
  try {
    accessSync(`${found.mountPoint}${found.own}`, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function rootOf(argv: readonly string[], cwd: string): string | undefined {
  const root = parseGlobals(argv, programName(argv)).globals.text('root');
  return root === undefined ? undefined : resolve(cwd, root);
}

function noDaemon(): Promise<never> {
  return Promise.reject(
    new WherryError('failed-precondition', 'this command is served without wherryd', {
      hint: 'unset WHERRY_DAEMON, and call from the namespaces in which wherryd is to run',
    }),
  );
}
