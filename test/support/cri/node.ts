/**
 * A node without kubelet: containerd with its CRI plugin, pods' network by CNI inside a network namespace of the test's own, images made
 * here. The machine's network is not touched: what CNI does on the host's side is done in that namespace.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { allCgroups } from '../cgroups.ts';
import { Containerd } from '../containerd.ts';
import { type ContainerdVersion, unpackedDebs } from '../debs.ts';
import { writeImageOf } from '../image.ts';
import { bin, cache, uniqueId } from '../paths.ts';
import { eventually, must, stop } from '../run.ts';
import { Cri, type NamespaceOption, type PodConfig } from './client.ts';

export const cniPackages: readonly string[] = ['containernetworking-plugins'];
const pauseImage = 'wherry.test/pause:latest';

/** How a pod's runtime is configured in containerd. */
export const handlers = {
  /** By its own type: what deploy/containerd says. */
  wherry: { type: 'io.containerd.wherry.v1' },
  /** By the path of our program under the Go shim's type. */
  path: { type: 'io.containerd.runc.v2', path: join(bin, 'containerd-shim-wherry-v1') },
  /** The Go shim with runc. */
  runc: { type: 'io.containerd.runc.v2' },
  /** The sandbox service, from containerd 2.0 on. */
  sandbox: { type: 'io.containerd.wherry.v1', sandboxer: 'shim' },
} as const satisfies Record<string, { type: string; path?: string; sandboxer?: string }>;
export type Handler = keyof typeof handlers;
export type Handlers = Readonly<
  Record<string, { type: string; path?: string; sandboxer?: string; systemd?: boolean }>
>;

/** Where a kubelet's cgroup driver is systemd; containerd 1.7 and later hand options to every type. */
export const systemdHandlers = {
  wherry: { ...handlers.wherry, systemd: true },
  runc: { ...handlers.runc, systemd: true },
} as const satisfies Handlers;

export interface Restart {
  /** Done while there is no containerd. */
  meanwhile?: () => Promise<void> | void;
  version?: ContainerdVersion;
  handlers?: Handlers;
}

export class CriNode implements AsyncDisposable {
  readonly containerd: Containerd;
  readonly cri: Cri;
  /** Parent of the pods' cgroups; a slice without its ending where systemd makes them. */
  readonly cgroup: string;
  readonly #systemd: boolean;
  readonly #network: ChildProcess;

  private constructor(containerd: Containerd, cgroup: string, network: ChildProcess, systemd: boolean) {
    this.containerd = containerd;
    this.cgroup = cgroup;
    this.#systemd = systemd;
    this.#network = network;
    this.cri = new Cri(containerd.address);
  }

  static async start(version: ContainerdVersion, { systemd = false } = {}): Promise<CriNode> {
    const plugins = join(await unpackedDebs('bookworm', cniPackages), 'usr/lib/cni');
    const cgroup = systemd ? uniqueId('pods').replaceAll('-', '') : uniqueId('pods');
    // Lives until it is ended; its namespace is the "host" of the pods' network.
    const network = spawn('unshare', ['--net', 'sleep', '100000'], { stdio: 'ignore' });
    try {
      const cri = (folder: string): string => {
        writeNetwork(folder, plugins, network.pid ?? 0);
        return configuration(version, folder, systemd ? systemdHandlers : handlers);
      };
      const containerd = await Containerd.start(version, { cri });
      const node = new CriNode(containerd, cgroup, network, systemd);
      await node.#ready();
      return node;
    } catch (error) {
      await stop(network);
      throw error;
    }
  }

  async #ready(): Promise<void> {
    const image = join(this.containerd.folder, 'pause.tar');
    const content = readFileSync(await pauseProgram());
    writeImageOf(pauseImage, [{ name: 'pause', mode: 0o755, content }], ['/pause'], image);
    await this.containerd.mustCtr(['image', 'import', image]);
    await eventually('CRI is ready', async () => {
      const { status } = await this.cri.call<{ status: { conditions: { type: string; status: boolean }[] } }>(
        'Status',
      );
      const good = status.conditions.filter(({ type }) => /^(Runtime|Network)Ready$/.test(type));
      return (good.length === 2 && good.every((one) => one.status)) || undefined;
    });
  }

  podConfig(name: string, namespaces: NamespaceOption = {}): PodConfig {
    const log = join(this.containerd.folder, 'logs', name);
    rmSync(log, { recursive: true, force: true });
    mkdirSync(log, { recursive: true });
    return {
      metadata: { name, uid: `${name}-uid`, namespace: 'default', attempt: 0 },
      hostname: name,
      log_directory: log,
      linux: {
        cgroup_parent: this.#systemd
          ? `/${this.cgroup}.slice/${this.cgroup}-${name}.slice`
          : `/${this.cgroup}/${name}`,
        // As a kubelet does for an ordinary pod.
        security_context: { namespace_options: { pid: 'CONTAINER', ...namespaces } },
      },
    };
  }

  /** Ends containerd and starts it again, perhaps in another version or with other handlers. */
  async restart(signal: 'SIGTERM' | 'SIGKILL', how: Restart = {}): Promise<void> {
    await this.containerd.end(signal);
    await how.meanwhile?.();
    const version = how.version ?? this.containerd.version;
    const changed = how.version !== undefined || how.handlers !== undefined;
    await this.containerd.again(
      changed ? { version, cri: (folder) => configuration(version, folder, how.handlers) } : undefined,
    );
    await eventually('CRI answers', async () => {
      await this.cri.call('ListPodSandbox');
      return true;
    });
  }

  /** Pods that are left are removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const { id } of await this.cri.pods()) await this.cri.removePod(id);
    } finally {
      this.cri[Symbol.dispose]();
      await this.containerd.stop();
      await stop(this.#network);
      if (this.#systemd) await must('systemctl', ['stop', `${this.cgroup}.slice`]);
      this.#removeCgroups();
    }
  }

  /** A kubelet's part: the cgroups that pods lie in. */
  #removeCgroups(): void {
    const own = allCgroups().filter((path) => path.includes(`/${this.cgroup}`));
    for (const path of own.reverse()) rmdirSync(path);
  }
}

/** CNI's configuration and programs: each program but loopback runs in the test's network namespace as its host. */
function writeNetwork(folder: string, plugins: string, holder: number): void {
  const programs = join(folder, 'cni/bin');
  const conf = join(folder, 'cni/net.d');
  mkdirSync(programs, { recursive: true });
  mkdirSync(conf, { recursive: true });
  for (const name of ['ptp', 'host-local', 'loopback']) {
    const enter = name === 'loopback' ? '' : `nsenter --net=/proc/${holder}/ns/net `;
    writeFileSync(join(programs, name), `#!/bin/sh\nexec ${enter}${join(plugins, name)}\n`);
    chmodSync(join(programs, name), 0o755);
  }
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: '10.96.0.0/16' }]],
    dataDir: join(folder, 'cni/ips'),
  };
  const list = { cniVersion: '0.4.0', name: 'wherry-test', plugins: [{ type: 'ptp', ipMasq: false, ipam }] };
  writeFileSync(join(conf, '10-wherry-test.conflist'), JSON.stringify(list));
}

/** Compiled once. */
export async function pauseProgram(): Promise<string> {
  const source = join(import.meta.dirname, 'pause.c');
  const key = createHash('sha256')
    .update(readFileSync(source))
    .update(process.arch)
    .digest('hex')
    .slice(0, 12);
  const path = join(cache, `pause-${key}`);
  if (existsSync(path)) return path;
  const made = `${path}.${process.pid}`;
  mkdirSync(cache, { recursive: true });
  await must('gcc', ['-O2', '-static', '-Wall', '-Werror', '-o', made, source], { timeout: 120_000 });
  renameSync(made, path);
  return path;
}

function configuration(version: ContainerdVersion, folder: string, configured: Handlers = handlers): string {
  const second = version === '2.1';
  const runtime = second ? 'io.containerd.cri.v1.runtime' : 'io.containerd.grpc.v1.cri';
  const own = (name: string): string => `[plugins."${runtime}"${name}]`;
  const lines = [own(''), '  netns_mounts_under_state_dir = true'];
  // Unknown to 1.6; our machine's processes may not lower their score.
  lines.push('  restrict_oom_score_adj = true');
  if (!second) lines.push(`  sandbox_image = "${pauseImage}"`, '  stream_server_address = "127.0.0.1"');
  const cni = join(folder, 'cni');
  lines.push(own('.cni'), second ? `  bin_dirs = ["${cni}/bin"]` : `  bin_dir = "${cni}/bin"`);
  lines.push(`  conf_dir = "${cni}/net.d"`);
  lines.push(own('.containerd'), '  default_runtime_name = "runc"');
  for (const [name, handler] of Object.entries(configured)) {
    if (handler.sandboxer !== undefined && !second) continue;
    lines.push(own(`.containerd.runtimes.${name}`), `  runtime_type = "${handler.type}"`);
    if (handler.path !== undefined) lines.push(`  runtime_path = "${handler.path}"`);
    if (handler.sandboxer !== undefined) lines.push(`  sandboxer = "${handler.sandboxer}"`);
    // runc's folder is ours as well, so that nothing of the machine's is used.
    const isRunc = handler === configured['runc'] && handler.type === 'io.containerd.runc.v2';
    const options = isRunc ? [`  Root = "${folder}/runc"`] : [];
    if (handler.systemd === true) options.push('  SystemdCgroup = true');
    if (options.length > 0) lines.push(own(`.containerd.runtimes.${name}.options`), ...options);
  }
  if (second)
    lines.push('[plugins."io.containerd.cri.v1.images".pinned_images]', `  sandbox = "${pauseImage}"`);
  if (version !== '1.6') lines.push('[plugins."io.containerd.nri.v1.nri"]', '  disable = true');
  return `${lines.join('\n')}\n`;
}
