/**
 * One script of a node's life for any runtime handler, and everything that CRI said in it as named fields: pods of two containers, logs,
 * exec probes, stats, an out-of-memory kill, a restart of containerd in the middle, stop, removal.
 */
import { readFileSync } from 'node:fs';
import type { ContainerConfig, NamespaceOption, PodConfig } from '../../support/cri/client.ts';
import { TaskEvents } from '../../support/cri/events.ts';
import type { CriNode, Handler } from '../../support/cri/node.ts';
import { imageName } from '../../support/image.ts';
import { eventually } from '../../support/run.ts';
import { withoutDifferences } from './allowed-differences.ts';

export type Fields = Record<string, string>;

/** What a pod's containers share, in turn. */
const sharing: readonly NamespaceOption[] = [
  { pid: 'CONTAINER' },
  { pid: 'POD' },
  { pid: 'CONTAINER', ipc: 'NODE' },
  { pid: 'NODE' },
];

const MIB = 1024 * 1024;
/** Pods that are worked on at the same time. */
const PARALLEL = 4;
const server = 'trap "echo bye; exit 7" TERM; echo out; echo err >&2; sleep 100000 & wait';

export function container(name: string, script: string, namespaces: NamespaceOption = {}): ContainerConfig {
  return {
    metadata: { name, attempt: 0 },
    image: { image: imageName },
    command: ['/bin/sh', '-c', script],
    envs: [{ key: 'WHO', value: name }],
    labels: { app: name },
    annotations: { colour: 'blue' },
    log_path: `${name}.log`,
    linux: {
      resources: { memory_limit_in_bytes: 64 * MIB, cpu_shares: 512 },
      security_context: { namespace_options: { pid: 'CONTAINER', ...namespaces } },
    },
  };
}

interface Pod {
  index: number;
  config: PodConfig;
  id: string;
  server: string;
  job: string;
}

export async function playPods(node: CriNode, handler: Handler, count: number): Promise<Fields> {
  const { cri } = node;
  const fields: Fields = {};
  const note = (name: string, value: unknown): void => flatten(fields, name, value);
  let events = await TaskEvents.start(node.containerd);
  const pods: Pod[] = [];
  const each = (act: (pod: Pod) => Promise<void>) => inParallel(pods, act);
  // containerd before 1.6.22 dies of two calls for statistics at the same time ("concurrent map read and map write").
  let last: Promise<unknown> = Promise.resolve();
  const alone = <T>(act: () => Promise<T>): Promise<T> => {
    const mine = last.then(act, act);
    last = mine;
    return mine;
  };

  await inParallel([...Array(count).keys()], async (index) => {
    const namespaces = sharing[index % sharing.length] ?? {};
    const config = node.podConfig(`pod${index}`, namespaces);
    const id = await cri.runPod(config, handler);
    const pod: Pod = { index, config, id, server: '', job: '' };
    pods.push(pod);
    pod.server = await cri.run(id, container('server', server, namespaces), config);
    pod.job = await cri.run(
      id,
      container('job', `echo "$WHO done"; exit ${index % 200}`, namespaces),
      config,
    );
  });
  pods.sort((a, b) => a.index - b.index);

  await each(async ({ index, id, server, job, config }) => {
    await eventually(
      `job ${index} ends`,
      async () => (await cri.status(job)).state === 'CONTAINER_EXITED' || undefined,
    );
    const words = () => log(config, 'server');
    await eventually(
      'the server is up',
      () => (/stderr F err/.test(words()) && /stdout F out/.test(words())) || undefined,
    );
    const name = `pod ${index}`;
    const status = await cri.call<Verbose>('PodSandboxStatus', { pod_sandbox_id: id, verbose: true });
    note(name, { status: status.status, info: JSON.parse(status.info['info'] ?? '{}') });
    for (const [which, container] of Object.entries({ server, job })) {
      const answer = await cri.call<Verbose>('ContainerStatus', { container_id: container, verbose: true });
      note(`${name}.${which}`, { status: answer.status, info: JSON.parse(answer.info['info'] ?? '{}') });
    }
    note(`${name}.server.stats`, typesOf(await alone(() => cri.stats(server))));
    const { containers, ...ofPod } = await alone(() => cri.podStats(id));
    const byName = containers.map((one) => [one.attributes.metadata.name, one]);
    note(`${name}.stats`, typesOf({ ...ofPod, containers: Object.fromEntries(byName) }));
    note(`${name}.job.log`, log(config, 'job'));
  });
  const probe = async ({ index, server }: Pod, when: string): Promise<void> => {
    const name = `pod ${index}.${when}`;
    note(`${name}.probe`, await cri.execSync(server, ['/bin/sh', '-c', 'echo "$WHO"; echo bad >&2; exit 3']));
    note(`${name}.healthy`, await cri.execSync(server, ['/bin/true']));
    note(`${name}.missing`, await outcome(cri.execSync(server, ['/no/such/program'])));
  };
  await each((pod) => probe(pod, 'before'));
  const [first] = pods;
  if (first !== undefined) {
    note('a probe out of time', await outcome(cri.execSync(first.server, ['/bin/sleep', '100'], 1)));
    const greedy = container('greedy', 'exec dd if=/dev/zero of=/dev/null bs=256M count=1');
    const id = await cri.run(first.id, greedy, first.config);
    await eventually(
      'it is killed',
      async () => (await cri.status(id)).state === 'CONTAINER_EXITED' || undefined,
    );
    note('out of memory', await cri.status(id));
    await cri.remove(id);
    note('a program that is not there', await outcome(runMissing(node, first)));
  }

  await each(async ({ server, job }) => {
    await events.until('/tasks/delete', job);
    await events.settled(server);
  });
  const told = await events.end();
  await node.restart('SIGTERM');
  events = await TaskEvents.start(node.containerd);

  await each((pod) => probe(pod, 'after a restart'));
  await each(async ({ index, id, server, job, config }) => {
    const name = `pod ${index}.after a restart`;
    note(`${name}.state`, (await cri.podStatus(id)).state);
    note(`${name}.job`, await cri.status(job));
    note(`${name}.server.stats`, typesOf(await alone(() => cri.stats(server))));
    await cri.stop(server, 20);
    note(`${name}.server`, await cri.status(server));
    // The two streams are copied by themselves: their lines are in any order.
    const lines = withoutDifferences(log(config, 'server')).split('\n');
    note(`pod ${index}.server.log`, lines.sort().join('\n'));
    note(`${name}.exec in a stopped one`, await outcome(cri.execSync(server, ['/bin/true'])));
    await cri.remove(server);
    // The job is removed with its pod.
    await cri.removePod(id);
  });
  note('pods left', (await cri.pods()).length);
  note('containers left', (await cri.containers()).length);
  // containerd's own shim may have ended before it told; Wherry tells always.
  await each(async ({ id, server }) => {
    if (handler === 'runc') return;
    for (const container of [id, server]) await events.until('/tasks/delete', container);
  });
  const later = await events.end();
  for (const { index, id, server, job } of pods) {
    for (const [which, container] of Object.entries({ sandbox: id, server, job })) {
      note(`pod ${index}.${which}.events`, [...told.of(container), ...later.of(container)]);
    }
  }
  return fields;
}

interface Verbose {
  status: object;
  info: Record<string, string>;
}

async function runMissing(node: CriNode, pod: Pod): Promise<void> {
  const config = { ...container('missing', ''), command: ['/no/such/program'] };
  const id = await node.cri.create(pod.id, config, pod.config);
  try {
    await node.cri.start(id);
  } finally {
    await node.cri.remove(id);
  }
}

function log(config: PodConfig, name: string): string {
  return readFileSync(`${config.log_directory}/${name}.log`, 'utf8');
}

async function outcome<T>(act: Promise<T>): Promise<T | string> {
  try {
    return await act;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Every number is its type: it is a measurement. */
function typesOf(value: unknown): unknown {
  if (typeof value === 'number') return 'a number';
  if (Array.isArray(value)) return value.map(typesOf);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, typesOf(one)]));
}

function flatten(fields: Fields, name: string, value: unknown): void {
  if (Buffer.isBuffer(value) || typeof value !== 'object' || value === null) {
    fields[withoutDifferences(name)] = withoutDifferences(isTime(value) ? 'TIME' : String(value));
    return;
  }
  const entries = Object.entries(value);
  if (entries.length === 0) fields[withoutDifferences(name)] = Array.isArray(value) ? '[]' : '{}';
  for (const [key, one] of entries) {
    // A process's number, whose name says so.
    if (key === 'pid' && typeof one === 'number' && one > 0) fields[`${name}.pid`] = 'PID';
    else flatten(fields, `${name}.${key}`, one);
  }
}

/** Nanoseconds are more than a number holds exactly. */
function isTime(value: unknown): boolean {
  return typeof value === 'number' && value > 1.6e18 && value < 2e18;
}

async function inParallel<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await act(item);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
