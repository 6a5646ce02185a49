/** A gRPC client that is not ours: `buf curl`, which knows nothing but what reflection tells it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { buf } from '../support/buf.ts';
import { makeBundle } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, follow, must, type RunResult, run, stop } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

const tasks = 'containerd.task.v3.Task';
const code = { invalidArgument: 3, notFound: 5, alreadyExists: 6, failedPrecondition: 9 };

describe('gRPC with buf curl', () => {
  let wherry: Wherry;
  let namespace: string;
  before(async () => {
    wherry = new Wherry();
    namespace = uniqueId('grpc');
    await wherry.must(['daemon', 'start']);
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  const flags = (): string[] => [
    ...['curl', '--protocol', 'grpc', '--http2-prior-knowledge'],
    ...['--unix-socket', join(wherry.runDir, 'grpc.sock')],
  ];
  const curl = (args: readonly string[]): Promise<RunResult> => run(buf, [...flags(), ...args], { cwd: '/' });
  const raw = (method: string, request: object, headers: readonly string[] = []): Promise<RunResult> =>
    curl([
      ...headers.flatMap((line) => ['-H', line]),
      '-d',
      JSON.stringify(request),
      `http://localhost/${method}`,
    ]);
  const call = async (method: string, request: object): Promise<Record<string, unknown>> => {
    const result = await raw(method, request, [`containerd-namespace: ${namespace}`]);
    assert.equal(result.code, 0, `${method}: ${result.stderr}\n${wherry.log()}`);
    return JSON.parse(result.stdout || '{}') as Record<string, unknown>;
  };
  /** buf curl's exit code is the gRPC code shifted by three bits. */
  const refused = async (method: string, request: object, status: number, message: RegExp): Promise<void> => {
    const result = await raw(method, request, [`containerd-namespace: ${namespace}`]);
    assert.equal(result.code >> 3, status, `${method}: ${result.stdout}${result.stderr}`);
    assert.match(result.stderr, message);
  };

  test('reflection lists the services', async () => {
    const { stdout } = await curl(['--list-services', 'http://localhost']);
    const services = stdout.trim().split('\n');
    for (const name of [tasks, 'containerd.task.v2.Task', 'wherry.v1.Runtime', 'grpc.health.v1.Health']) {
      assert.ok(services.includes(name), `${name} in ${services.join(' ')}`);
    }
  });

  test('health', async () => {
    assert.deepEqual(await call('grpc.health.v1.Health/Check', {}), { status: 'SERVING' });
  });

  test('a container from Create to Delete', async () => {
    const id = uniqueId('life');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', 'while :; do :; done'], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
    });
    const created = await call(`${tasks}/Create`, { id, bundle });
    assert.ok(Number(created['pid']) > 0);
    assert.equal((await call(`${tasks}/State`, { id }))['status'], 'CREATED');
    await refused(`${tasks}/Create`, { id, bundle }, code.alreadyExists, /already exists/);
    await call(`${tasks}/Start`, { id });
    assert.equal((await call(`${tasks}/State`, { id }))['status'], 'RUNNING');
    await refused(`${tasks}/Start`, { id }, code.failedPrecondition, /running/);

    const samples = await threeSamples(id);
    const cpu = samples.map((sample) =>
      BigInt(sample.stats.cpu.usage?.total ?? sample.stats.cpu.usageUsec ?? '0'),
    );
    assert.equal(samples[0]?.id, id);
    assert.ok(
      (cpu[0] ?? 0n) < (cpu[1] ?? 0n) && (cpu[1] ?? 0n) < (cpu[2] ?? 0n),
      `cpu time rises: ${cpu.join(' ')}`,
    );

    const stats = (await call(`${tasks}/Stats`, { id }))['stats'] as Record<string, unknown>;
    assert.match(String(stats['@type']), /io\.containerd\.cgroups\.v[12]\.Metrics$/);
    assert.ok(stats['memory'] !== undefined, 'the Any is shown decoded');

    const wait = call(`${tasks}/Wait`, { id });
    await call(`${tasks}/Kill`, { id, signal: 9 });
    assert.equal((await wait)['exitStatus'], 137);
    assert.equal((await call(`${tasks}/State`, { id }))['status'], 'STOPPED');
    assert.equal((await call(`${tasks}/Delete`, { id }))['exitStatus'], 137);
    await refused(`${tasks}/State`, { id }, code.notFound, /not/);
  });

  test('a running container gets a mount and loses it', async () => {
    const id = uniqueId('mounts');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000'], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
    });
    const pid = Number((await call(`${tasks}/Create`, { id, bundle }))['pid']);
    await call(`${tasks}/Start`, { id });
    const service = 'wherry.v1.Runtime';
    const mount = { destination: '/dev/seen', type: 'bind', source: bundle, options: ['rbind', 'ro'] };
    const seen = `/proc/${pid}/root/dev/seen/config.json`;
    await call(`${service}/AddMounts`, { id, mounts: [mount] });
    assert.ok(existsSync(seen));
    await refused(`${service}/AddMounts`, { id, mounts: [mount] }, code.alreadyExists, /\/dev\/seen/);
    await call(`${service}/RemoveMounts`, { id, destinations: ['/dev/seen'] });
    assert.equal(existsSync(seen), false);
    await refused(`${service}/RemoveMounts`, { id, destinations: ['/dev'] }, code.notFound, /\/dev is not/);
    const relative = { id, mounts: [{ ...mount, source: 'here' }] };
    await refused(`${service}/AddMounts`, relative, code.invalidArgument, /source: must be an absolute path/);
    await refused(`${service}/AddMounts`, { id: 'nobody', mounts: [mount] }, code.notFound, /not/);
    await call(`${tasks}/Kill`, { id, signal: 9 });
    await call(`${tasks}/Wait`, { id });
    await refused(`${service}/AddMounts`, { id, mounts: [mount] }, code.failedPrecondition, /not running/);
    await call(`${tasks}/Delete`, { id });
  });

  test('the namespace of the metadata counts; without it: default', async () => {
    const id = uniqueId('scope');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000'], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
    });
    assert.equal((await raw(`${tasks}/Create`, { id, bundle })).code, 0);
    await refused(`${tasks}/State`, { id }, code.notFound, /not/);
    const seen = await raw(`${tasks}/State`, { id }, ['containerd-namespace: default']);
    assert.equal(seen.code, 0, seen.stderr);
    assert.equal((await raw(`${tasks}/Delete`, { id })).code, 0);
  });

  test('a stream of one container ends with OK when it exits', async () => {
    const id = uniqueId('end');
    const script = 'until [ -e /end ]; do sleep 0.05; done';
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
    });
    await call(`${tasks}/Create`, { id, bundle });
    await call(`${tasks}/Start`, { id });
    const request = JSON.stringify({ id, namespace, interval: '0.1s' });
    const method = 'http://localhost/wherry.v1.Runtime/StreamStats';
    const stream = follow(spawn(buf, [...flags(), '-d', request, method], { cwd: '/' }));
    await eventually('it has begun', () => stream.text.includes('"sequence"') || undefined);
    writeFileSync(join(bundle, 'rootfs/end'), '');
    await eventually('it ends', () => stream.code !== undefined || undefined);
    assert.equal(stream.code, 0, stream.text);
    assert.match(stream.text, /"last":\s*true/);
    await call(`${tasks}/Delete`, { id });
  });

  test('output on a FIFO arrives whole, to its end, also when it is read late', async () => {
    for (const late of [false, true]) {
      const id = uniqueId('fifo');
      const stdout = join(wherry.folder, `${id}.stdout`);
      await must('mkfifo', [stdout]);
      const size = late ? 1000 : 4 * 1024 * 1024;
      const script = `head -c ${size} /dev/zero; echo end`;
      const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
        config.linux['cgroupsPath'] = `/${id}`;
      });
      // Late: the first reader leaves before the program writes; the second comes when the program has ended.
      const first = createReadStream(stdout);
      const opened = once(first, 'open');
      const bytes = late ? undefined : buffer(first);
      await call(`${tasks}/Create`, { id, bundle, stdout });
      await opened;
      if (late) first.destroy();
      await call(`${tasks}/Start`, { id });
      await call(`${tasks}/Wait`, { id });
      const content = await (bytes ?? buffer(createReadStream(stdout)));
      assert.equal(content.length, size + 'end\n'.length);
      assert.ok(content.toString('latin1').endsWith('end\n'));
      await call(`${tasks}/Delete`, { id });
    }
  });

  test('errors have the code and the field', async () => {
    const stats = 'wherry.v1.Runtime/StreamStats';
    await refused(`${tasks}/Create`, {}, code.invalidArgument, /id/);
    await refused(`${tasks}/Create`, { id: uniqueId('nobundle') }, code.invalidArgument, /bundle/);
    await refused(`${tasks}/State`, {}, code.invalidArgument, /id/);
    await refused(`${tasks}/State`, { id: 'nobody' }, code.notFound, /nobody|not/);
    await refused(`${tasks}/Start`, { id: 'nobody' }, code.notFound, /nobody|not/);
    await refused(`${tasks}/Kill`, { id: 'nobody', signal: 9 }, code.notFound, /nobody|not/);
    await refused(stats, { id: 'nobody', interval: '1s' }, code.notFound, /nobody|not/);
    await refused(stats, { interval: '0.01s' }, code.invalidArgument, /interval/);
    await refused(stats, { interval: '7200s' }, code.invalidArgument, /interval/);
  });

  test('a bundle that is wrong: the field is in the message, and the daemon goes on', async () => {
    const id = uniqueId('wrong');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/true'], (config) => {
      Object.assign(config.process, { cwd: 7 });
    });
    await refused(`${tasks}/Create`, { id, bundle }, code.invalidArgument, /process\.cwd/);
    assert.deepEqual(await call('grpc.health.v1.Health/Check', {}), { status: 'SERVING' });
  });

  interface Sample {
    id: string;
    stats: { cpu: { usage?: { total?: string }; usageUsec?: string } };
  }

  /** The first three messages of an endless stream; then the client is ended. */
  async function threeSamples(id: string): Promise<Sample[]> {
    const request = JSON.stringify({ id, namespace, interval: '0.2s' });
    const child = spawn(buf, [...flags(), '-d', request, 'http://localhost/wherry.v1.Runtime/StreamStats'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += String(chunk);
    });
    try {
      return await eventually('three messages', () => {
        const messages = text.split(/(?<=^\}\n)/m).filter((message) => message.endsWith('}\n'));
        return messages.length < 3
          ? undefined
          : messages.slice(0, 3).map((message) => JSON.parse(message) as Sample);
      });
    } finally {
      await stop(child);
    }
  }
});
