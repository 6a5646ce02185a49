/** NOTIFY_SOCKET of the caller: its service manager hears when the program is ready, and whoever starts a container waits for that. */
import assert from 'node:assert/strict';
import { chmodSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { SpecConfig } from '../../support/bundle.ts';
import { OrdinaryUser } from '../../support/ordinary-user.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, run } from '../../support/run.ts';
import { type Call, ServiceManager, Speaker } from '../../support/service-manager.ts';
import { Wherry } from '../../support/wherry.ts';
import { giveTo } from '../oci-suite/host.ts';

const ready = `'STATUS=up' 'READY=1'`;
/** How a container comes to run. */
const ways = ['run', 'run --detach', 'start'] as const;
type Way = (typeof ways)[number];

interface Story {
  id: string;
  manager: ServiceManager;
  speaker: Speaker;
  call: Call;
}

interface Circumstances {
  env?: NodeJS.ProcessEnv;
  speech?: string;
  edit?: (config: SpecConfig) => void;
  /** Of the root filesystem. */
  owner?: number;
  globals?: readonly string[];
  /** The manager's address in place of one in the test's folder. */
  address?: string;
}

describe('NOTIFY_SOCKET of the caller', () => {
  let wherry: Wherry;
  before(async () => {
    wherry = new Wherry();
    chmodSync(wherry.folder, 0o711);
    // The daemon is somebody else's child then.
    await wherry.run(['list']);
  });
  after(() => wherry[Symbol.asyncDispose]());

  const state = async (id: string, globals: readonly string[] = [], env = wherry.env): Promise<string> =>
    JSON.parse((await run(wherry.command, [...globals, 'state', id], { env })).stdout).status;
  const wherryd = async (): Promise<number> => (await wherry.daemon()).wherryd;
  /** A client that has nothing more to ask of wherryd has hung up. */
  const hungUp = (): Promise<true> =>
    eventually(
      'the client hangs up',
      async () => /connections: +1,/.test(await wherry.must(['daemon', 'status'])) || undefined,
    );

  /** A container that runs and has not said anything yet. */
  async function tell(
    way: Way,
    { env = wherry.env, speech = ready, edit, owner, globals = [], address }: Circumstances,
    story: (story: Story) => Promise<void>,
  ): Promise<void> {
    const id = uniqueId('notify');
    await using manager = await ServiceManager.listen(address ?? join(wherry.folder, `${id}.s`));
    const speaker = await Speaker.make(wherry.folder, id, speech, edit);
    if (owner !== undefined) giveTo(join(speaker.bundle, 'rootfs'), owner);
    const own = { ...env, NOTIFY_SOCKET: manager.address };
    const make = ['--pid-file', speaker.pidFile, '--bundle', speaker.bundle, id];
    const words = way.split(' ');
    try {
      if (way === 'start') {
        const options = { env: own, outputFile: speaker.output };
        const { code } = await run(wherry.command, [...globals, 'create', ...make], options);
        assert.equal(code, 0, speaker.said);
      }
      const args = [...globals, ...words, ...(way === 'start' ? [id] : make)];
      const call = speaker.call(wherry.command, args, own);
      await eventually(
        'it runs',
        async () => call.status !== undefined || (await state(id, globals, env)) === 'running' || undefined,
      );
      assert.deepEqual(manager.messages, []);
      assert.equal(call.status, undefined, speaker.said);
      await story({ id, manager, speaker, call });
    } finally {
      await run(wherry.command, [...globals, 'delete', '--force', id], { env });
    }
  }

  async function hears({ manager, speaker }: Story): Promise<void> {
    speaker.allow('ready');
    await eventually('the manager was told', () => manager.messages.length === 3 || undefined);
    assert.deepEqual(
      manager.messages.map(({ text }) => text.replace(/=\d{2,}/, '=…')),
      ['READY=1\\n', 'MAINPID=…\\n', 'BARRIER=1'],
    );
  }

  const onRun = (config: SpecConfig): void => {
    config.mounts.push({ destination: '/run', type: 'tmpfs', source: 'tmpfs' });
    config.process.env.push('NOTIFY_SOCKET=/somewhere/else');
  };
  const ownUsers = (config: SpecConfig): void => {
    const mapping = [{ containerID: 0, hostID: 100_000, size: 65_536 }];
    config.linux.namespaces.push({ type: 'user' });
    Object.assign(config.linux, { uidMappings: mapping, gidMappings: mapping });
  };
  const several: Record<string, () => Circumstances> = {
    'of a user namespace': () => ({ edit: ownUsers, owner: 100_000 }),
    'with a tmpfs on /run': () => ({ edit: onRun }),
    'whose state has a long path': () => ({ globals: ['--root', join(wherry.folder, 'long/'.repeat(30))] }),
    'for a manager with an abstract address': () => ({ address: `@${uniqueId('manager')}` }),
  };

  for (const [what, circumstances] of Object.entries(several)) {
    test(`a container ${what} can speak`, () =>
      tell('run --detach', circumstances(), async (story) => {
        await hears(story);
        assert.equal(await story.call.end(), 0, story.speaker.said);
        const said = '/run/notify/notify.sock 0\n';
        await eventually('the program has spoken', () => story.speaker.said === said || undefined);
      }));
  }

  for (const way of ways) {
    test(`${way}: wherryd is killed while the program is not ready yet`, () =>
      tell(way, {}, async (story) => {
        const { call, speaker, id } = story;
        if (way !== 'run') await hungUp();
        const first = await wherryd();
        process.kill(first, 'SIGKILL');
        await eventually('another wherryd', async () => (await wherryd()) !== first || undefined);
        assert.equal(call.status, undefined, speaker.said);
        await hears(story);
        if (way !== 'run') assert.equal(await call.end(), 0, speaker.said);
        assert.equal(await state(id), 'running');
        speaker.allow('end');
        if (way === 'run') assert.equal(await call.end(), 7, speaker.said);
      }));

    test(`${way}: the container ends and was never ready`, () =>
      tell(way, {}, async ({ id, call, manager, speaker }) => {
        await run(wherry.command, ['kill', id, 'KILL'], { env: wherry.env });
        assert.equal(await call.end(), way === 'run' ? 137 : 0, speaker.said);
        assert.deepEqual(manager.messages, []);
      }));
  }

  for (const way of ['run --detach', 'start'] as const) {
    test(`${way}: Ctrl-C ends the command and nothing else`, () =>
      tell(way, {}, async ({ id, call, speaker }) => {
        await hungUp();
        call.kill('SIGINT');
        assert.equal(await call.end(), way === 'start' ? 'SIGINT' : 130);
        assert.equal(await state(id), 'running');
        // Nobody listens any more; the program is told so and not stopped.
        speaker.allow('ready');
        await eventually('it went on', () => speaker.said === '/run/notify/notify.sock 4\n' || undefined);
      }));
  }

  test('run: what is said after READY=1 stops nobody, and wherryd has nothing to wait for', () =>
    tell('run', { speech: `READY=1 $(seq 1000) FDSTORE=1` }, async (story) => {
      await hears(story);
      story.speaker.allow('end');
      assert.equal(await story.call.end(), 7, story.speaker.said);
      assert.equal(story.manager.messages.length, 3);
    }));

  test('launch: the manager hears it, and the client is the main process', async () => {
    const id = uniqueId('notify');
    await using manager = await ServiceManager.listen(join(wherry.folder, `${id}.s`));
    const speaker = await Speaker.make(wherry.folder, id, ready);
    const env = { ...wherry.env, NOTIFY_SOCKET: manager.address };
    const rootfs = ['--rootfs', join(speaker.bundle, 'rootfs')];
    const call = speaker.call(wherry.command, ['launch', ...rootfs, '--', '/notify', 'send', 'READY=1'], env);
    assert.equal(await call.end(), 0, speaker.said);
    await eventually('the manager was told', () => manager.messages.length === 3 || undefined);
    assert.equal(manager.messages[1]?.text, `MAINPID=${call.pid}\\n`);
  });

  test('the last words of a program that ends at once are heard', async () => {
    const id = uniqueId('notify');
    await using manager = await ServiceManager.listen(join(wherry.folder, `${id}.s`));
    const speaker = await Speaker.make(wherry.folder, id, ready);
    speaker.allow('ready');
    speaker.allow('end');
    const env = { ...wherry.env, NOTIFY_SOCKET: manager.address };
    const call = speaker.call(wherry.command, ['run', '-d', '-b', speaker.bundle, id], env);
    assert.equal(await call.end(), 0, speaker.said);
    await eventually('the manager was told', () => manager.messages.length === 3 || undefined);
    await wherry.must(['delete', '--force', id]);
  });

  test('without a socket at create there is nobody to wait for', async () => {
    const id = uniqueId('notify');
    await using manager = await ServiceManager.listen(join(wherry.folder, `${id}.s`));
    const speaker = await Speaker.make(wherry.folder, id, ready);
    await wherry.must(['create', '-b', speaker.bundle, id], { outputFile: speaker.output });
    const env = { ...wherry.env, NOTIFY_SOCKET: manager.address };
    await wherry.must(['start', id], { env });
    assert.equal(await state(id), 'running');
    await wherry.must(['delete', '--force', id]);
  });

  for (const [what, address, why] of [
    ['where nobody listens', '/tmp/nobody-listens-here', 'connect to /tmp/nobody-listens-here: no such file'],
    ['that is none', 'vsock:2:1234', 'expected the path of a socket, or @ and the name of an abstract one'],
  ] as const) {
    test(`an address ${what} is told, and the container runs`, async () => {
      const id = uniqueId('notify');
      const speaker = await Speaker.make(wherry.folder, id, ready);
      speaker.allow('ready');
      speaker.allow('end');
      const env = { ...wherry.env, NOTIFY_SOCKET: address };
      const call = speaker.call(wherry.command, ['run', '-b', speaker.bundle, id], env);
      assert.equal(await call.end(), 7);
      assert.ok(speaker.said.includes(`NOTIFY_SOCKET: nobody hears when the container is ready: ${why}`));
    });
  }

  test('a socket that a broken start has left is replaced', async () => {
    const id = uniqueId('notify');
    const states = join(wherry.folder, 'states');
    const globals = ['--root', states];
    await using manager = await ServiceManager.listen(join(wherry.folder, `${id}.s`));
    const speaker = await Speaker.make(wherry.folder, id, ready);
    const env = { ...wherry.env, NOTIFY_SOCKET: manager.address };
    await wherry.must([...globals, 'create', '-b', speaker.bundle, id], { env, outputFile: speaker.output });
    const left = await ServiceManager.listen(join(states, id, 'notify/notify.sock'));
    const refused = await run(wherry.command, [...globals, 'start', id], { env });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /make the socket for the container: address already in use/);
    assert.equal(await state(id, globals), 'created');
    await left[Symbol.asyncDispose]();
    speaker.allow('ready');
    await wherry.must([...globals, 'start', id], { env });
    await eventually('the manager was told', () => manager.messages.length === 3 || undefined);
    await wherry.must([...globals, 'delete', '--force', id]);
    assert.deepEqual(readdirSync(states), []);
  });

  test("an ordinary user's manager hears it too", async () => {
    await using user = await OrdinaryUser.make();
    await using manager = await ServiceManager.listen(join(user.folder, 'manager.s'));
    const env = { ...user.env, NOTIFY_SOCKET: manager.address };
    for (const daemon of ['1', '0']) {
      const id = uniqueId('notify');
      const speaker = await Speaker.make(user.home, id, ready);
      giveTo(speaker.bundle, user.uid);
      const [program, before] = user.command(user.uid, [wherry.command]);
      const own = { ...env, WHERRY_DAEMON: daemon };
      const make = ['--detach', '--bundle', speaker.bundle, '--pid-file', speaker.pidFile, id];
      const call = speaker.call(program, [...before, 'run', ...make], own);
      const running = async () => {
        const { stdout } = await user.wherry(['state', id], { env: own });
        return JSON.parse(stdout).status === 'running';
      };
      await eventually('it runs', async () => call.status !== undefined || (await running()) || undefined);
      assert.equal(call.status, undefined, speaker.said);
      speaker.allow('ready');
      assert.equal(await call.end(), 0, speaker.said);
      await eventually('the manager was told', () => manager.messages.length === 3 || undefined);
      assert.deepEqual(
        manager.take().map(({ pid, text }) => [pid, text]),
        ['READY=1\\n', `MAINPID=${speaker.pid}\\n`, 'BARRIER=1'].map((text) => [call.pid, text]),
      );
      assert.equal((await user.wherry(['delete', '--force', id], { env: own })).code, 0);
    }
  });
});
