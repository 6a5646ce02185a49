/** A CRI client: what a kubelet says to containerd over its socket. */
import { join } from 'node:path';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

export interface PodConfig {
  metadata: { name: string; uid: string; namespace: string; attempt: number };
  hostname: string;
  log_directory: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  linux: { cgroup_parent: string; security_context: { namespace_options: NamespaceOption } };
}

export interface IdMapping {
  host_id: number;
  container_id: number;
  length: number;
}

type Mode = 'POD' | 'CONTAINER' | 'NODE' | 'TARGET';

export interface NamespaceOption {
  network?: Mode;
  pid?: Mode;
  ipc?: Mode;
  target_id?: string;
  userns_options?: { mode: Mode; uids: IdMapping[]; gids: IdMapping[] };
}

export interface Mount {
  container_path: string;
  host_path: string;
  readonly?: boolean;
  recursive_read_only?: boolean;
  uidMappings?: IdMapping[];
  gidMappings?: IdMapping[];
}

export interface ContainerConfig {
  metadata: { name: string; attempt: number };
  image: { image: string };
  command: string[];
  args?: string[];
  envs?: { key: string; value: string }[];
  mounts?: Mount[];
  log_path?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  tty?: boolean;
  linux?: {
    resources?: Record<string, number>;
    security_context?: {
      namespace_options?: NamespaceOption;
      run_as_user?: { value: number };
      readonly_rootfs?: boolean;
    };
  };
}

export interface ContainerStatus {
  id: string;
  state: 'CONTAINER_CREATED' | 'CONTAINER_RUNNING' | 'CONTAINER_EXITED' | 'CONTAINER_UNKNOWN';
  exit_code: number;
  reason: string;
  message: string;
  started_at: number;
  finished_at: number;
  log_path: string;
}

interface Value {
  value: number;
}

export interface CpuAndMemory {
  attributes: { metadata: { name: string } };
  cpu: { usage_core_nano_seconds: Value | null } | null;
  memory: { working_set_bytes: Value | null; usage_bytes: Value | null } | null;
}

export interface PodStats extends Omit<CpuAndMemory, 'attributes'> {
  network: { default_interface: { name: string } | null } | null;
  process: { process_count: Value | null } | null;
  containers: CpuAndMemory[];
}

export interface ExecResult {
  stdout: string;
  stderr: string;
  code: number;
}

export interface Listed {
  id: string;
  state: string;
  metadata: { name: string };
}

const methods = loadSync(join(import.meta.dirname, 'cri.proto'), {
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
})['runtime.v1.RuntimeService'] as unknown as Record<
  string,
  { path: string; requestSerialize(value: object): Buffer; responseDeserialize(bytes: Buffer): object }
>;

export class Cri implements Disposable {
  readonly #client: Client;

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.min_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 200,
    });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  /** Rejects with the server's text. `seconds` is its deadline. */
  call<Response extends object>(name: string, request: object = {}, seconds = 60): Promise<Response> {
    const method = methods[name];
    if (method === undefined) throw new Error(`cri.proto has no ${name}`);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize as (bytes: Buffer) => Response,
        request,
        { deadline: Date.now() + seconds * 1000, waitForReady: true } as never,
        (error: ServiceError | null, response?: Response) => {
          if (response === undefined) reject(new Error(`${name}: ${error?.details ?? 'no answer'}`));
          else resolve(response);
        },
      );
    });
  }

  async runPod(config: PodConfig, handler: string): Promise<string> {
    const request = { config, runtime_handler: handler };
    return (await this.call<{ pod_sandbox_id: string }>('RunPodSandbox', request)).pod_sandbox_id;
  }

  async podStatus(pod: string): Promise<{ state: string; ip: string; info: Record<string, string> }> {
    const { status, info } = await this.call<{
      status: { state: string; network: { ip: string } | null };
      info: Record<string, string>;
    }>('PodSandboxStatus', { pod_sandbox_id: pod, verbose: true });
    return { state: status.state, ip: status.network?.ip ?? '', info };
  }

  async removePod(pod: string): Promise<void> {
    await this.call('StopPodSandbox', { pod_sandbox_id: pod });
    await this.call('RemovePodSandbox', { pod_sandbox_id: pod });
  }

  async create(pod: string, config: ContainerConfig, podConfig: PodConfig): Promise<string> {
    const request = { pod_sandbox_id: pod, config, sandbox_config: podConfig };
    return (await this.call<{ container_id: string }>('CreateContainer', request)).container_id;
  }

  async start(container: string): Promise<void> {
    await this.call('StartContainer', { container_id: container });
  }

  async run(pod: string, config: ContainerConfig, podConfig: PodConfig): Promise<string> {
    const id = await this.create(pod, config, podConfig);
    await this.start(id);
    return id;
  }

  async stop(container: string, seconds: number): Promise<void> {
    await this.call('StopContainer', { container_id: container, timeout: seconds });
  }

  async remove(container: string): Promise<void> {
    await this.call('RemoveContainer', { container_id: container });
  }

  async status(container: string): Promise<ContainerStatus> {
    return (await this.call<{ status: ContainerStatus }>('ContainerStatus', { container_id: container }))
      .status;
  }

  /** The host's number of its init. */
  async pid(container: string): Promise<number> {
    const request = { container_id: container, verbose: true };
    const { info } = await this.call<{ info: Record<string, string> }>('ContainerStatus', request);
    return (JSON.parse(info['info'] ?? '{}') as { pid?: number }).pid ?? 0;
  }

  async execSync(container: string, command: readonly string[], timeout = 10): Promise<ExecResult> {
    const request = { container_id: container, cmd: command, timeout };
    const answer = await this.call<{ stdout: Buffer; stderr: Buffer; exit_code: number }>(
      'ExecSync',
      request,
    );
    return { stdout: String(answer.stdout), stderr: String(answer.stderr), code: answer.exit_code };
  }

  async stats(container: string): Promise<CpuAndMemory> {
    return (await this.call<{ stats: CpuAndMemory }>('ContainerStats', { container_id: container })).stats;
  }

  async podStats(pod: string): Promise<PodStats> {
    const { stats } = await this.call<{ stats: { linux: PodStats } }>('PodSandboxStats', {
      pod_sandbox_id: pod,
    });
    return stats.linux;
  }

  async pods(): Promise<(Listed & { runtime_handler: string })[]> {
    return (await this.call<{ items: (Listed & { runtime_handler: string })[] }>('ListPodSandbox')).items;
  }

  async containers(): Promise<(Listed & { pod_sandbox_id: string })[]> {
    return (await this.call<{ containers: (Listed & { pod_sandbox_id: string })[] }>('ListContainers'))
      .containers;
  }
}
