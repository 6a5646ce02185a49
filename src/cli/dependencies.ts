/** What the commands need from the daemon they run in. */
import type { ContainerRuntime } from '../container/types.ts';
import type { Launches } from './launched/launches.ts';

export interface DaemonStatus {
  /** Of keel, in its own pid namespace. */
  pid: number;
  /** Containers whose init keel watches. */
  registered: number;
  players: number;
  connections: number;
  startedAt: Date;
}

export interface CliDependencies {
  runtime: ContainerRuntime;
  /** Detached containers of `launch`; undefined: this process serves one command only. */
  launches?: Launches;
  paths: { runDir: string };
  /** Builds as each part tells its own; `wherry` is the release. */
  versions: { wherry: string; wherryd: string; keel: string; node: string; libseccomp(): string };
  /** The command acts from here on: it must not be begun again by the next wherryd when this one dies. `soon`: it will have a tape played. */
  acting(soon: boolean): void;
  daemon: {
    status(): Promise<DaemonStatus>;
    /** failed-precondition while containers run, unless forced. Resolves when keel has taken the order. */
    stop(force: boolean): Promise<void>;
    /**
     * keel and wherryd of the installation that the client is of take the place of those that run. Where it begins it does not
     * resolve: this process ends, and the next is asked the same, for which it then resolves. Rejects when the old ones are back.
     */
    upgrade(): Promise<void>;
  };
  /** 2 on a pure cgroup v2 host. */
  cgroupVersion: 1 | 2;
  /** The set-up of a bundle as text. */
  explain(bundle: string, id: string): Promise<string>;
  log: {
    debug(message: string, fields?: Record<string, unknown>): void;
    warn(message: string, fields?: Record<string, unknown>): void;
    error(message: string, fields?: Record<string, unknown>): void;
  };
}
