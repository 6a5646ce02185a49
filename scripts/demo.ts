/**
 * `npm run demo`: a real containerd runs a container on Wherry. Everything lives in a private folder and ends with the demo; of the
 * machine only the kernel is used, and containerd where one is installed.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buf } from '../test/support/buf.ts';
import { Containerd } from '../test/support/containerd.ts';
import { type ContainerdVersion, peers } from '../test/support/debs.ts';
import { imageName } from '../test/support/image.ts';
import { LeakCheck } from '../test/support/leaks.ts';
import { markVariable, wherryBinary } from '../test/support/paths.ts';
import { eventually, must } from '../test/support/run.ts';
import { buildAll } from './build.ts';
import { fail, say } from './tools.ts';

const runtime = 'io.containerd.wherry.v1';

if (process.getuid?.() !== 0) fail('the demo makes containers: run it as root');
heading('Build');
await buildAll();
const { version, binaries } = await findContainerd();
await peers(binaries === undefined ? [] : ['bookworm']);

const start = performance.now();
const mark = randomBytes(8).toString('hex');
process.env[markVariable] = mark;
const leaks = new LeakCheck(mark, true);
await show();
const left = await leaks.leftovers();
if (left.length > 0) fail(`left behind:\n${left.join('\n')}`);
say(
  `\nEverything is gone again: no process, mount, cgroup, socket or file is left. ${seconds(start)} s after the downloads.`,
);

async function show(): Promise<void> {
  heading('Start a private containerd');
  await using containerd = await Containerd.start(version, binaries === undefined ? {} : { binaries });
  say((await must(join(containerd.ctrPath, '../containerd'), ['--version'])).stdout.trim());
  const ctr = ['ctr', ...containerd.globalFlags].join(' ');

  heading('Run a container on Wherry');
  const hello = [
    'run',
    '--rm',
    '--runtime',
    runtime,
    imageName,
    'hello',
    '/bin/sh',
    '-c',
    'echo "hello from process $$ of $(hostname)"; exit 3',
  ];
  say(`$ ${ctr} ${hello.map(quoted).join(' ')}`);
  const result = await containerd.ctr(hello);
  say(`${result.stdout}${result.stderr}exit code ${result.code}`);
  if (result.code !== 3) fail(`expected exit code 3\n${containerd.tail()}`);

  heading('Live stats of a busy container, by gRPC with reflection');
  const busy = [
    'run',
    '-d',
    '--memory-limit',
    '67108864',
    '--runtime',
    runtime,
    imageName,
    'busy',
    '/bin/sh',
    '-c',
    'while :; do :; done',
  ];
  say(`$ ${ctr} ${busy.map(quoted).join(' ')}`);
  await containerd.mustCtr(busy);
  await stats(containerd);

  heading('Kill it');
  say(`$ ${ctr} task kill --signal SIGKILL busy`);
  await containerd.mustCtr(['task', 'kill', '--signal', 'SIGKILL', 'busy']);
  const stopped = await eventually('the task has stopped', async () => {
    const listed = await containerd.mustCtr(['task', 'ls']);
    return listed.includes('STOPPED') ? listed : undefined;
  });
  say(stopped.trim());

  heading('How it was set up: the steps that `wherry explain` lists, two of them with their system calls');
  const bundle = join(containerd.folder, 'state/io.containerd.runtime.v2.task', containerd.namespace, 'busy');
  const env = { PATH: process.env['PATH'], WHERRY_RUN_DIR: containerd.runDir };
  const explained = await must(wherryBinary, ['explain', bundle], { env });
  say(steps(explained.stdout, ['mounts[0]', 'root.path']));

  heading('Remove it');
  const removed = await containerd.ctr(['task', 'rm', 'busy']);
  say((removed.stdout + removed.stderr).trim());
  await containerd.mustCtr(['container', 'rm', 'busy']);
}

/** A containerd that is installed, else Debian's. */
async function findContainerd(): Promise<{ version: ContainerdVersion; binaries: string | undefined }> {
  for (const folder of ['/usr/local/bin', '/usr/bin']) {
    if (!existsSync(join(folder, 'containerd')) || !existsSync(join(folder, 'ctr'))) continue;
    const text = (await must(join(folder, 'containerd'), ['--version'])).stdout;
    const [, major, minor] = /\bv?(\d+)\.(\d+)\.\d+/.exec(text) ?? [];
    const version = Number(major) >= 2 ? '2.1' : minor === '7' ? '1.7' : '1.6';
    return { version, binaries: folder };
  }
  return { version: '1.7', binaries: undefined };
}

/** Five messages of the stream, one line each. */
async function stats(containerd: Containerd): Promise<void> {
  const request = JSON.stringify({ id: 'busy', namespace: containerd.namespace, interval: '0.5s' });
  const socket = join(containerd.runDir, 'grpc.sock');
  const url = 'http://localhost/wherry.v1.Runtime/StreamStats';
  say(
    `$ buf curl --protocol grpc --http2-prior-knowledge --unix-socket ${socket} \\\n    -d '${request}' ${url}`,
  );
  const child = spawn(
    buf,
    ['curl', '--protocol', 'grpc', '--http2-prior-knowledge', '--unix-socket', socket, '-d', request, url],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let message = '';
  let count = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    message += line;
    if (line !== '}') continue;
    say(row(JSON.parse(message) as Sample));
    message = '';
    count += 1;
    if (count === 5) break;
  }
  child.kill();
  await ended;
  if (count < 5) fail(`the stream ended after ${count} messages\n${containerd.tail()}`);
}

/** The parts of wherry.v1.StreamStatsResponse that are shown, in the JSON form of protobuf; v1 and v2 metrics differ. */
interface Sample {
  sequence: string;
  stats: {
    cpu?: { usage?: { total?: string }; usageUsec?: string };
    memory?: { usage?: { usage?: string; limit?: string } | string; usageLimit?: string };
    pids?: { current?: string };
  };
}

function row({ sequence, stats: { cpu, memory, pids } }: Sample): string {
  const milliseconds =
    cpu?.usageUsec === undefined ? Number(cpu?.usage?.total ?? 0) / 1e6 : Number(cpu.usageUsec) / 1e3;
  const used = typeof memory?.usage === 'object' ? memory.usage.usage : memory?.usage;
  const limit = typeof memory?.usage === 'object' ? memory.usage.limit : memory?.usageLimit;
  const kib = (bytes: string | undefined): string => `${Math.round(Number(bytes ?? 0) / 1024)} KiB`;
  return `  #${sequence}  cpu ${milliseconds.toFixed(1).padStart(7)} ms   memory ${kib(used)} of ${kib(limit)}   processes ${pids?.current ?? '?'}`;
}

/** Headlines of all steps; the calls only of those whose field is named. */
function steps(text: string, detailed: readonly string[]): string {
  let shown = false;
  let calls = 0;
  const lines = text.split('\n').filter((line) => {
    if (line.startsWith(' ')) calls += 1;
    else shown = detailed.some((field) => line.endsWith(`[${field}]`));
    return line !== '' && (shown || !line.startsWith(' '));
  });
  return `${lines.join('\n')}\n(${lines.filter((line) => !line.startsWith(' ')).length} steps, ${calls} instructions)`;
}

function heading(text: string): void {
  say(`\n=== ${text}`);
}

function quoted(word: string): string {
  return /^[\w./:=-]+$/.test(word) ? word : `'${word}'`;
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}
