/** What the commands need from the daemon they run in. */
import type { ContainerRuntime } from '../container/types.ts';
import type { Spec } from '../oci/types.ts';

export interface DaemonStatus {
  /** Of keel, in its own pid namespace. */
  pid: number;
  /** Containers whose init keel watches. */
  registered: number;
  players: number;
  connections: number;
  startedAt: Date;
}

/** What `launch` asks for; limits are texts as typed, checked where they are understood. */
export interface LaunchRequest {
  id: string;
  hostname: string;
  args: string[];
  env: string[];
  cwd: string;
  user: string | undefined;
  terminal: boolean;
  /** root.path: absolute, or relative to the bundle. */
  rootfs: string;
  readonly: boolean;
  memory: string | undefined;
  cpus: string | undefined;
  pids: string | undefined;
  network: 'none' | 'host';
}

export interface CliDependencies {
  runtime: ContainerRuntime;
  paths: { runDir: string };
  /** Builds as each part tells its own; `wherry` is the release. */
  versions: { wherry: string; wherryd: string; keel: string; node: string; libseccomp(): string };
  daemon: {
    status(): Promise<DaemonStatus>;
    /** failed-precondition while containers run, unless forced. Resolves when keel has taken the order. */
    stop(force: boolean): Promise<void>;
  };
  oci: {
    /** invalid-argument with every problem and its field. */
    parseConfig(bytes: Uint8Array | string): { config: Spec; warnings: string[] };
    defaultSpec(rootless: boolean): object;
    launchSpec(request: LaunchRequest): Spec;
  };
  /** The set-up of a bundle as text. */
  explain(bundle: string, id: string): Promise<string>;
  log: {
    debug(message: string, fields?: Record<string, unknown>): void;
    warn(message: string, fields?: Record<string, unknown>): void;
    error(message: string, fields?: Record<string, unknown>): void;
  };
}
