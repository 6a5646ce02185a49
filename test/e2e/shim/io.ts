/** Behaviours 43 to 56 and 62: streams, root filesystems, out of memory, options. */
import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { Options as RuntimeOptions } from '../../../shim/gen/runtimeoptions/v1/api.ts';
import { mounts } from '../../support/cgroups.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, must, type RunResult, run } from '../../support/run.ts';
import { type Made, type MakeOptions, refused } from '../../support/shim-caller.ts';
import { processOf } from './life.ts';
import { optionsAny } from './start.ts';
import { childrenOf, type World } from './world.ts';

const soak = process.env['WHERRY_SOAK'] !== undefined;

export function ioBehaviours(world: World): void {
  const fifo = async (): Promise<string> => {
    const path = join(world.containerd.folder, uniqueId('fifo'));
    await must('mkfifo', ['-m', '700', path]);
    return path;
  };
  const reading = (path: string, command = 'cat'): Promise<RunResult> =>
    run('/bin/sh', ['-c', `${command} < ${path}`], { timeout: 300_000 });
  const shell = (name: string, script: string, options: MakeOptions = {}) =>
    world.caller.make(name, ['/bin/sh', '-c', script], options);
  const statusOf = async ({ client, id }: Made) => (await client.call('Wait', { id }, 300_000)).exitStatus;
  const inHostPids: MakeOptions['edit'] = (config) => {
    config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'pid');
  };

  describe('an exec whose grandchild holds its output', () => {
    let removed: Promise<string>;
    let made: Made;
    let reader: Promise<RunResult>;
    let deleted = false;
    // Its Delete takes 10 s, 2 s for containerd 1.6, in which the others go on.
    before(async () => {
      made = await world.caller.make('held', ['/bin/sleep', '1000']);
      const { client, id } = made;
      const stdout = await fifo();
      reader = reading(stdout);
      await client.call('Exec', {
        id,
        execId: 'e',
        stdout,
        spec: processOf('/bin/sh', '-c', 'echo out; sleep 1000 & exit 5'),
      });
      await client.call('Start', { id, execId: 'e' });
      assert.equal((await client.call('Wait', { id, execId: 'e' })).exitStatus, 5);
      removed = client.call('Delete', { id, execId: 'e' }).then(async () => {
        deleted = true;
        return (await reader).stdout;
      });
    });

    test('43. without a pid namespace of its own: what the init leaves is killed when it ends', async () => {
      const stdout = await fifo();
      const reader = reading(stdout);
      const one = await shell('hostpid', 'sleep 1000 & echo $!; exit 3', {
        edit: inHostPids,
        create: { stdout },
      });
      assert.equal(await statusOf(one), 3);
      const left = Number((await reader).stdout);
      assert.ok(left > 1);
      await eventually('it is gone', () => !existsSync(`/proc/${left}`) || undefined);
      await world.caller.remove(one);
    });

    test('44. orphans in the pid namespace of the host are reaped', async () => {
      const forks = soak ? 10_000 : 200;
      const one = await shell('orphans', `i=0; while [ $i -lt ${forks} ]; do (true &); i=$((i+1)); done`, {
        edit: inHostPids,
      });
      assert.equal(await statusOf(one), 0);
      const keel = await world.keelPid();
      await eventually('no zombie', () => childrenOf(keel).every(({ state }) => state !== 'Z') || undefined);
      await world.caller.remove(one);
    });

    test('45. large output, and that of a container that ends at once, arrives complete by FIFO and file', async () => {
      const size = (soak ? 1 << 30 : 32 << 20) + 7;
      const output = `head -c ${size} /dev/zero; echo end >&2`;
      const [stdout, stderr] = [await fifo(), await fifo()];
      const readers = [reading(stdout, 'wc -c'), reading(stderr)];
      const one = await shell('big', output, { create: { stdout, stderr } });
      assert.equal(await statusOf(one), 0);
      const [out, err] = await Promise.all(readers);
      assert.deepEqual([Number(out?.stdout), err?.stdout], [size, 'end\n']);
      await world.caller.remove(one);

      const file = join(world.containerd.folder, uniqueId('file'), 'log');
      const other = await shell('file', output, {
        create: { stdout: `file://${file}`, stderr: `file://${file}` },
      });
      assert.equal(await statusOf(other), 0);
      assert.equal(statSync(file).size, size + 'end\n'.length);
      await world.caller.remove(other);

      for (let round = 0; round < (soak ? 500 : 5); round++) {
        const [input, shown] = [await fifo(), await fifo()];
        const reader = reading(shown);
        const terminal = await shell('terminal', 'seq 1 30000', {
          edit: (config) => {
            config.process.terminal = true;
          },
          create: { terminal: true, stdin: input, stdout: shown },
        });
        assert.equal(await statusOf(terminal), 0);
        await terminal.client.call('Delete', { id: terminal.id });
        const lines = (await reader).stdout.trimEnd().split('\r\n');
        assert.deepEqual([lines.length, lines.at(-1)], [30_000, '30000']);
        await world.caller.remove(terminal);
      }

      const last = await fifo();
      const late = await shell('brief', 'echo brief', { create: { stdout: last } });
      assert.equal(await statusOf(late), 0);
      // Its reader comes only after its end.
      assert.equal((await reading(last)).stdout, 'brief\n');
      await world.caller.remove(late);
    });

    test('46. a reader that goes while the container writes: it blocks, nothing is lost, the next reader goes on', async () => {
      const stdout = await fifo();
      const first = reading(stdout, 'dd bs=1 count=5000 2>/dev/null');
      const one = await shell('resumed', 'seq 1 100000', { create: { stdout } });
      const begin = (await first).stdout;
      assert.equal(begin.length, 5000);
      assert.equal((await one.client.call('State', { id: one.id })).exitStatus, 0);
      assert.ok(existsSync(`/proc/${(await one.client.call('State', { id: one.id })).pid}`), 'it waits');
      const rest = (await reading(stdout)).stdout;
      const lines = `${begin}${rest}`.trimEnd().split('\n');
      assert.deepEqual(
        [lines.length, lines[0], lines[50_000], lines.at(-1)],
        [100_000, '1', '50001', '100000'],
      );
      assert.equal(await statusOf(one), 0);
      await world.caller.remove(one);
    });

    test('47. writers of stdin come and go; CloseIO and the end of the last writer are the end of the input', async () => {
      const [stdin, stdout] = [await fifo(), await fifo()];
      const reader = reading(stdout);
      const one = await world.caller.make('input', ['/bin/cat'], { create: { stdin, stdout } });
      for (const word of ['one', 'two']) await must('/bin/sh', ['-c', `echo ${word} > ${stdin}`]);
      assert.ok(existsSync(`/proc/${(await one.client.call('State', { id: one.id })).pid}`));
      await one.client.call('CloseIO', { id: one.id, stdin: true });
      assert.equal(await statusOf(one), 0);
      assert.equal((await reader).stdout, 'one\ntwo\n');
      await world.caller.remove(one);
    });

    test('52. a root filesystem with mounts in it is unmounted completely by Delete and by delete', async () => {
      for (const by of ['Delete', 'delete'] as const) {
        const id = uniqueId('nested');
        const bundle = await world.caller.bundle(id, ['/bin/sleep', '1000'], (config) => {
          config.root = { path: 'rootfs' };
        });
        const source = world.caller.ownRoot(id);
        const client = await world.caller.connect(await world.caller.start(id));
        const rootfs = [{ type: 'bind', source, target: '', options: ['rbind', 'rw'] }];
        await client.call('Create', { id, bundle, rootfs });
        await client.call('Start', { id });
        await must('mount', ['-t', 'tmpfs', 'tmpfs', join(bundle, 'rootfs/tmp')]);
        mkdirSync(join(bundle, 'rootfs/tmp/a'));
        await must('mount', ['-t', 'tmpfs', 'tmpfs', join(bundle, 'rootfs/tmp/a')]);
        if (by === 'Delete') {
          await client.call('Kill', { id, signal: 9 });
          await client.call('Wait', { id });
          await client.call('Delete', { id });
          await client.call('Shutdown', { id });
          client[Symbol.dispose]();
        } else if (world.grpc) {
          // A live container survives delete there: see the README on gRPC.
          await client.call('Kill', { id, signal: 9 });
          await client.call('Wait', { id });
          client[Symbol.dispose]();
        } else client[Symbol.dispose]();
        assert.equal((await world.caller.delete(id)).code, 0);
        assert.deepEqual(
          mounts().filter((path) => path.includes(id)),
          [],
          by,
        );
      }
    });

    test('55. out of memory: of the init, of a child, of an exec; the event comes before the exit', async () => {
      const edit: MakeOptions['edit'] = (config) => {
        config.linux.resources = { memory: { limit: 16 << 20, swap: 16 << 20 } };
      };
      const eat = 'x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done';
      for (let round = 0; round < (soak ? 100 : 2); round++) {
        const init = await shell('oom', eat, { edit });
        assert.equal(await statusOf(init), 137);
        await init.client.call('Delete', { id: init.id });
        await world.caller.untilTopics(init.id, ['create', 'start', 'oom', 'exit', 'delete']);
        await world.caller.remove(init);
      }
      const child = await shell('oomchild', `sh -c '${eat}'; while :; do sleep 1; done`, { edit });
      await world.caller.untilTopics(child.id, ['create', 'start', 'oom']);
      const { client, id } = child;
      await client.call('Exec', { id, execId: 'e', spec: processOf('/bin/sh', '-c', eat) });
      await client.call('Start', { id, execId: 'e' });
      assert.equal((await client.call('Wait', { id, execId: 'e' })).exitStatus, 137);
      await eventually('a second event', () => world.caller.topics(id).filter((one) => one === 'oom')[1]);
      await world.caller.remove(child);
    });

    test('56. options are followed per container: Root, IoUid and IoGid, NoPivotRoot, NoNewKeyring; TOML too; another BinaryName is refused', async () => {
      const root = join(world.containerd.folder, uniqueId('root'));
      const toml = RuntimeOptions.encode(
        RuntimeOptions.fromPartial({
          configBody: Buffer.from(`Root = "${root}"\nNoPivotRoot = true\nNoNewKeyring = true\n`),
        }),
      ).finish();
      const annotations = { 'io.kubernetes.cri.sandbox-id': uniqueId('pod') };
      const edit = (config: object) => Object.assign(config, { annotations });
      const one = await world.caller.make('toml', ['/bin/sleep', '1000'], {
        edit,
        create: { options: { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from(toml) } },
      });
      assert.ok(existsSync(join(root, world.caller.namespace, one.id, 'state.json')));

      const stdout = await fifo();
      const reader = reading(stdout, 'head -n 1');
      const owned = await world.caller.make(
        'owned',
        ['/bin/sh', '-c', 'stat -L -c %u:%g /proc/self/fd/1; sleep 1000'],
        {
          edit,
          create: { options: optionsAny({ ioUid: 1234, ioGid: 567 }), stdout },
        },
      );
      const execOut = await fifo();
      const execReader = reading(execOut);
      const { client, id } = owned;
      const spec = processOf('/bin/stat', '-L', '-c', '%u:%g', '/proc/self/fd/1');
      await client.call('Exec', { id, execId: 'e', stdout: execOut, spec });
      await client.call('Start', { id, execId: 'e' });
      await client.call('Wait', { id, execId: 'e' });
      assert.equal((await execReader).stdout, '1234:567\n');
      assert.equal((await reader).stdout, '1234:567\n');
      await world.caller.remove(owned);
      await world.caller.remove(one);
      assert.ok(!existsSync(join(root, world.caller.namespace, one.id)));

      const other = uniqueId('crun');
      const bundle = await world.caller.bundle(other, ['/bin/true']);
      const late = await world.caller.connect(await world.caller.start(other));
      for (const [fields, message] of [
        [{ binaryName: 'crun' }, /options\.binary_name: "crun" is not a runtime/],
        [{ root: 'relative' }, /options\.root: "relative" is not an absolute path/],
      ] as const)
        await refused(late.call('Create', { id: other, bundle, options: optionsAny(fields) }), 3, message);
      const unknown = RuntimeOptions.encode(
        RuntimeOptions.fromPartial({ configBody: Buffer.from('Speed = 11') }),
      );
      const options = { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from(unknown.finish()) };
      await refused(late.call('Create', { id: other, bundle, options }), 3, /options\.Speed: is not known/);
      await late.call('Shutdown', { id: other });
      late[Symbol.dispose]();
      await world.caller.delete(other);
    });

    test('62. a log FIFO that is full and that nobody reads blocks nothing', async () => {
      const id = uniqueId('log');
      const bundle = await world.caller.bundle(id, ['/bin/true']);
      const log = openSync(join(bundle, 'log'), constants.O_RDWR | constants.O_NONBLOCK);
      try {
        for (;;) writeSync(log, Buffer.alloc(4096, 10));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
      }
      const { stdout } = await world.caller.execute(id, 'start', { flags: ['-debug'] });
      assert.notEqual(stdout, '');
      const text = readFileSync(join(bundle, 'address'), 'utf8');
      const address = text.startsWith('{') ? String(JSON.parse(text).address) : text;
      const client = await world.caller.connect(address.replace('unix://', ''));
      await assert.rejects(client.call('Create', { id, bundle: '/no/such' }));
      await client.call('Create', { id, bundle });
      await client.call('Start', { id });
      assert.equal((await client.call('Wait', { id })).exitStatus, 0);
      await client.call('Delete', { id });
      await client.call('Shutdown', { id });
      client[Symbol.dispose]();
      assert.equal((await world.caller.delete(id)).code, 0);
      closeSync(log);
    });

    test('48. its exit is reported at once; Delete of the exec ends its streams within 10 s', async () => {
      // By now it has had as long as it takes; if not, it is waited for.
      assert.equal(await removed, 'out\n');
      assert.ok(deleted);
      assert.equal(
        (await made.client.call('Pids', { id: made.id })).processes.length,
        2,
        'the grandchild lives',
      );
      await world.caller.remove(made);
    });
  });
}
