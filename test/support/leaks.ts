/**
 * What a suite left behind: processes, mounts, cgroups, namespaces, sockets and files that were not there before it.
 * On a machine that others use at the same time, WHERRY_TEST_SHARED=1 looks only at what carries the mark of this run.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { below } from './below.ts';
import { allCgroups, mounts } from './cgroups.ts';
import { cache, dist, folderPrefix, markVariable, runPrefix, testPrefix } from './paths.ts';

interface Snapshot {
  processes: Map<string, string>;
  mounts: string[];
  cgroups: string[];
  files: string[];
  sockets: string[];
}

export class LeakCheck {
  readonly #before: Snapshot;
  readonly #mark: string;
  readonly #shared: boolean;

  /** Remembers the state of the machine; `mark` is the value of WHERRY_TEST_MARK in what runs next. `shared`: see above. */
  constructor(mark: string, shared = process.env['WHERRY_TEST_SHARED'] === '1') {
    this.#mark = mark;
    this.#shared = shared;
    this.#before = this.#look();
  }

  /** What is new, one sentence each. The kernel tears some things down late, so it looks again for at most 10 s. */
  async leftovers(): Promise<string[]> {
    if (!this.#shared) sweepContainerd();
    const end = performance.now() + 10_000;
    for (;;) {
      const found = this.#compare(this.#look());
      if (found.length === 0 || performance.now() > end) return found;
      await new Promise((wake) => setTimeout(wake, 100));
    }
  }

  #compare(now: Snapshot): string[] {
    const before = this.#before;
    const added = (what: string, old: readonly string[], current: readonly string[]): string[] => {
      const known = new Set(old);
      return current.filter((name) => !known.has(name)).map((name) => `${what}: ${name}`);
    };
    const processes = [...now.processes].filter(([key]) => !before.processes.has(key));
    return [
      ...processes.map(([key, text]) => `process: ${key.split('@')[0]} ${text}`),
      ...added('mount', before.mounts, now.mounts),
      ...added(
        'cgroup',
        before.cgroups,
        now.cgroups.filter((path) => !isForeign(path, now.processes)),
      ),
      ...added('socket', before.sockets, now.sockets),
      ...added('file', before.files, now.files),
    ];
  }

  #look(): Snapshot {
    const cgroups = allCgroups();
    return {
      processes: this.#processes(),
      mounts: mounts().filter((path) => !this.#shared || path.startsWith(folderPrefix(this.#mark))),
      cgroups: this.#shared ? cgroups.filter((path) => path.includes(runPrefix(this.#mark))) : cgroups,
      sockets: unixSockets().filter(
        (path) =>
          /wherry|containerd/.test(path) && (!this.#shared || path.startsWith(folderPrefix(this.#mark))),
      ),
      files: this.#files(),
    };
  }

  /** pid@start time → command line, of processes that can be ours. Their namespaces live as long as they do. */
  #processes(): Map<string, string> {
    const found = new Map<string, string>();
    const parents = new Map<number, number>();
    const own = ancestors(process.pid);
    const candidates: { pid: number; start: string; text: string; marked: boolean }[] = [];
    for (const name of readdirSync('/proc')) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || own.has(pid)) continue;
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        // A zombie of process 1 is its to reap; in a container it may never do so.
        if (fields[0] === 'Z' && fields[1] === '1') continue;
        parents.set(pid, Number(fields[1]));
        const text = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        const start = fields[19] ?? '';
        candidates.push({
          pid,
          start,
          text: text || `[${stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'))}]`,
          marked: this.#isOurs(name),
        });
      } catch {
        // Ended while we looked.
      }
    }
    const marked = new Set(candidates.filter((one) => one.marked).map((one) => one.pid));
    for (const one of candidates) {
      let pid: number | undefined = one.pid;
      while (pid !== undefined && pid > 1 && !marked.has(pid)) pid = parents.get(pid);
      if (pid !== undefined && marked.has(pid)) found.set(`${one.pid}@${one.start}`, one.text);
    }
    return found;
  }

  #isOurs(pid: string): boolean {
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    if (environment.includes(`${markVariable}=${this.#mark}`)) return true;
    const prefix = this.#shared ? runPrefix(this.#mark) : testPrefix;
    if (readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/${prefix}`)) return true;
    if (this.#shared) return false;
    const program = link(`/proc/${pid}/exe`);
    if (program.startsWith(`${dist}/`) || program.startsWith(`${cache}/`)) return true;
    return program !== '' && link(`/proc/${pid}/ns/pid`) !== link('/proc/self/ns/pid');
  }

  #files(): string[] {
    const found: string[] = [];
    for (const name of list('/tmp')) if (/^wherry-/.test(name)) found.push(`/tmp/${name}`);
    if (this.#shared) return found.filter((path) => path.startsWith(folderPrefix(this.#mark)));
    for (const name of list('/run')) if (/^(wherry|crun|netns)/.test(name)) found.push(`/run/${name}`);
    for (const folder of ['/run/containerd/runc', '/run/runc', '/run/crun', '/run/netns']) {
      for (const name of list(folder)) found.push(`${folder}/${name}`);
    }
    for (const name of list('/dev/shm')) found.push(`/dev/shm/${name}`);
    return found;
  }
}

/**
 * What a killed shim (Go's as well) or a killed ctr cannot take away itself: files of sockets that nobody listens on, and folders of FIFOs. Tests
 * kill many of them. A socket that lives is told by its own name.
 */
function sweepContainerd(): void {
  const alive = new Set(unixSockets());
  for (const name of list('/run/containerd/s')) {
    const path = `/run/containerd/s/${name}`;
    if (!alive.has(path)) rmSync(path, { force: true });
  }
  for (const name of list('/run/containerd/fifo'))
    rmSync(`/run/containerd/fifo/${name}`, { recursive: true, force: true });
}

/**
 * A cgroup that holds processes, none of which is ours, was made by somebody else meanwhile: a session or a service of the machine's. What
 * is ours is told as a process.
 */
function isForeign(cgroup: string, ours: ReadonlyMap<string, string>): boolean {
  const pids = new Set([...ours.keys()].map((key) => key.split('@')[0]));
  const members = [cgroup, ...below(cgroup)].flatMap((path) => {
    try {
      return basename(path) === 'cgroup.procs' ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
    } catch {
      return [];
    }
  });
  return members.length > 0 && !members.some((pid) => pids.has(pid));
}

function ancestors(pid: number): Set<number> {
  const found = new Set<number>();
  for (let one = pid; one > 0 && !found.has(one); ) {
    found.add(one);
    const stat = readFileSync(`/proc/${one}/stat`, 'utf8');
    one = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  }
  return found;
}

function unixSockets(): string[] {
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n').slice(1);
  return [...new Set(lines.map((line) => line.split(/\s+/)[7] ?? '').filter((path) => path !== ''))];
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
