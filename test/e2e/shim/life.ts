/** Behaviours 23 to 40: what the calls of the task service do. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ProcessDetails } from '../../../shim/gen/containerd/runc/v1/oci.ts';
import { Status } from '../../../shim/gen/containerd/v1/types/task.ts';
import { allCgroups, cgroupFile, mounts } from '../../support/cgroups.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, must, run } from '../../support/run.ts';
import { type Made, refused } from '../../support/shim-caller.ts';
import type { World } from './world.ts';

const notFound = 5;
const alreadyExists = 6;
const failedPrecondition = 9;

/** Go's soak numbers where WHERRY_SOAK is set, a taste of them otherwise. */
const rounds = (few: number, many: number) => (process.env['WHERRY_SOAK'] === undefined ? few : many);

/** The process of an exec. */
export const processOf = (...args: string[]) => ({
  typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Process',
  value: Buffer.from(JSON.stringify({ args, cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 } })),
});

export function lifeBehaviours(world: World): void {
  const sleeper = (name: string, options: Parameters<World['caller']['make']>[2] = {}) =>
    world.caller.make(name, ['/bin/sleep', '1000'], options);
  const socketOf = (bundle: string) => {
    const text = readFileSync(join(bundle, 'address'), 'utf8');
    return (text.startsWith('{') ? String(JSON.parse(text).address) : text).replace('unix://', '');
  };
  const exec = async ({ client, id }: Made, execId: string, ...args: string[]) => {
    await client.call('Exec', { id, execId, spec: processOf(...args) });
    return client.call('Start', { id, execId });
  };

  test("23. a failed Create says what the runtime says, behind 'OCI runtime create failed'", async () => {
    for (const [program, message] of [
      ['/no/such', /^OCI runtime create failed: .*\/no\/such.*: no such file or directory/],
      ['nosuch', /^OCI runtime create failed: .*"?nosuch"?.*: executable file not found in \$PATH/],
      ['/etc/passwd', /^OCI runtime create failed: .*\/etc\/passwd.*: permission denied/],
    ] as const)
      await assert.rejects(world.caller.make('bad', [program]), { message });
  });

  test('24. after a failed Create nothing is mounted, no state, no process; the shim goes after Shutdown', async () => {
    const id = uniqueId('failed');
    const bundle = await world.caller.bundle(id, ['/no/such'], (config) => {
      config.root = { path: 'rootfs' };
    });
    const source = world.caller.ownRoot(id);
    const address = await world.caller.start(id);
    using client = await world.caller.connect(address);
    const rootfs = [{ type: 'bind', source, target: '', options: ['rbind', 'rw'] }];
    await assert.rejects(client.call('Create', { id, bundle, rootfs }), /no such file/);
    assert.deepEqual(
      [...mounts(), ...allCgroups()].filter((path) => path.includes(id)),
      [],
    );
    const states = await must('find', [join(world.containerd.runDir, 'containers'), '-name', id]);
    assert.equal(states.stdout, '');
    await refused(client.call('Delete', { id }), notFound);
    await client.call('Shutdown', { id });
    if (!world.grpc) await eventually('the socket goes', () => !existsSync(address) || undefined);
    assert.equal((await world.caller.delete(id)).code, 0);
  });

  test('25. State and Connect answer while a sibling is being created', async () => {
    const annotations = { 'io.kubernetes.cri.sandbox-id': uniqueId('pod') };
    const pause = await sleeper('sandbox', { edit: (config) => Object.assign(config, { annotations }) });
    const gate = join(world.containerd.folder, uniqueId('gate'));
    const hook = join(world.containerd.folder, uniqueId('hook'));
    writeFileSync(
      hook,
      `#!/bin/sh\ncat > /dev/null\ntouch ${gate}.in\nuntil [ -e ${gate} ]; do sleep 0.05; done\n`,
    );
    chmodSync(hook, 0o755);
    let created = false;
    const slow = sleeper('slow', {
      edit: (config) => Object.assign(config, { annotations, hooks: { createRuntime: [{ path: hook }] } }),
    }).then((made) => {
      created = true;
      return made;
    });
    slow.catch(() => undefined);
    await eventually('its hook runs', () => existsSync(`${gate}.in`) || undefined);
    for (let round = 0; round < 20; round++) {
      assert.equal((await pause.client.call('State', { id: pause.id })).status, Status.RUNNING);
      assert.notEqual((await pause.client.call('Connect', { id: pause.id })).taskPid, 0);
    }
    assert.equal(created, false);
    writeFileSync(gate, '');
    const sibling = await slow;
    await world.caller.remove(sibling);
    await world.caller.remove(pause);
  });

  test('26. a Wait from before Start returns once for each waiter, after the exit', async () => {
    const made = await world.caller.make('waited', ['/bin/sh', '-c', 'exit 9'], { created: true });
    let answers = 0;
    const waits = Array.from({ length: 10 }, async () => {
      const { exitStatus } = await made.client.call('Wait', { id: made.id }, 0);
      answers++;
      return exitStatus;
    });
    await made.client.call('State', { id: made.id });
    assert.equal(answers, 0);
    await made.client.call('Start', { id: made.id });
    assert.deepEqual(await Promise.all(waits), Array(10).fill(9));
    assert.equal((await made.client.call('Wait', { id: made.id })).exitStatus, 9, 'and at once afterwards');
    await world.caller.remove(made);
  });

  test('27. exit statuses 0 to 255, and 128 and the signal', async () => {
    const made = await sleeper('statuses');
    const statuses = rounds(0, 1)
      ? Array.from({ length: 256 }, (_, status) => status)
      : [0, 1, 2, 63, 126, 127, 128, 254, 255];
    const signals = [1, 2, 3, 6, 8, 9, 10, 11, 13, 14, 15, 31, 34, 64];
    const ended = async (execId: string) => {
      const { exitStatus } = await made.client.call('Wait', { id: made.id, execId });
      assert.equal((await made.client.call('Delete', { id: made.id, execId })).exitStatus, exitStatus);
      return exitStatus;
    };
    for (const status of statuses) {
      await exec(made, `e${status}`, '/bin/sh', '-c', `exit ${status}`);
      assert.equal(await ended(`e${status}`), status);
    }
    for (const signal of signals) {
      await exec(made, `s${signal}`, '/bin/sleep', '1000');
      await made.client.call('Kill', { id: made.id, execId: `s${signal}`, signal });
      assert.equal(await ended(`s${signal}`), 128 + signal);
    }
    await world.caller.remove(made);
  });

  test('28. a process that ends within a millisecond: Start is ok, start comes before exit, none is lost', async () => {
    for (let round = 0; round < rounds(10, 10_000); round++) {
      const made = await world.caller.make('short', ['/bin/true']);
      assert.equal((await made.client.call('Wait', { id: made.id })).exitStatus, 0);
      await made.client.call('Delete', { id: made.id });
      await world.caller.untilTopics(made.id, ['create', 'start', 'exit', 'delete']);
      await world.caller.remove(made);
    }
  });

  test('29. parallel execs while init is killed: each exit comes before that of the init; Wait returns', async () => {
    const made = await sleeper('parallel');
    const { client, id } = made;
    const wait = client.call('Wait', { id }, 0);
    const started: string[] = [];
    const all = Array.from({ length: rounds(40, 500) }, async (_, index) => {
      const execId = `x${index}`;
      try {
        await exec(made, execId, '/bin/sleep', '1000');
        started.push(execId);
      } catch {
        // the init had gone
      }
    });
    await eventually('some run', () => started.length >= all.length / 4 || undefined);
    await client.call('Kill', { id, signal: 9 });
    assert.equal((await wait).exitStatus, 137);
    await Promise.all(all);
    for (const execId of started) await client.call('Wait', { id, execId });
    const exits = await eventually('the exit of the init is told', () => {
      const told = world.caller.events(id).filter(({ topic }) => topic === '/tasks/exit');
      return told.some(({ fields }) => fields['id'] === id)
        ? told.map(({ fields }) => fields['id'])
        : undefined;
    });
    assert.equal(exits.at(-1), id);
    assert.deepEqual(new Set(exits.slice(0, -1)), new Set(started));
    assert.equal(exits.length, started.length + 1);
    await world.caller.remove(made);
  });

  test('30. exec after the death of the init: 9; an exec id that is used: 6; an unknown exec: 5', async () => {
    const made = await sleeper('codes');
    const { client, id } = made;
    await exec(made, 'a', '/bin/sleep', '1000');
    await refused(client.call('Exec', { id, execId: 'a', spec: processOf('/bin/true') }), alreadyExists);
    for (const method of ['State', 'Start', 'Wait', 'Kill', 'Delete', 'ResizePty', 'CloseIO'] as const)
      await refused(client.call(method, { id, execId: 'none' }), notFound, /process does not exist none/);
    await client.call('Exec', { id, execId: 'late', spec: processOf('/bin/true') });
    await client.call('Kill', { id, signal: 9 });
    await client.call('Wait', { id });
    await refused(client.call('Start', { id, execId: 'late' }), failedPrecondition);
    await refused(client.call('Exec', { id, execId: 'b', spec: processOf('/bin/true') }), failedPrecondition);
    await world.caller.remove(made);
  });

  test('31. an exec that cannot start: Wait returns, its fifos are closed, it can be deleted, no pid file is left', async () => {
    const made = await sleeper('badexec');
    const { client, id } = made;
    const stdout = join(world.containerd.folder, uniqueId('fifo'));
    await must('mkfifo', [stdout]);
    const reader = run('/bin/cat', [stdout]);
    await client.call('Exec', { id, execId: 'bad', stdout, spec: processOf('/no/such') });
    const wait = client.call('Wait', { id, execId: 'bad' }, 0);
    await assert.rejects(client.call('Start', { id, execId: 'bad' }), {
      message: /^OCI runtime exec failed: .*no such file or directory/,
    });
    assert.notEqual((await wait).exitStatus, 0);
    assert.equal((await reader).stdout, '');
    const state = await client.call('State', { id, execId: 'bad' });
    assert.deepEqual([state.status, state.pid], [Status.CREATED, 0]);
    await client.call('Delete', { id, execId: 'bad' });
    await refused(client.call('State', { id, execId: 'bad' }), notFound);
    assert.ok(!readdirSync(made.bundle).includes('bad.pid'));
    await world.caller.remove(made);
  });

  test('32. Kill of what has ended: 5; of an exec before its start: 9; all is accepted for execs', async () => {
    const made = await sleeper('kills');
    const { client, id } = made;
    await client.call('Exec', { id, execId: 'e', spec: processOf('/bin/sleep', '1000') });
    await refused(client.call('Kill', { id, execId: 'e', signal: 15 }), failedPrecondition);
    await client.call('Start', { id, execId: 'e' });
    await client.call('Kill', { id, execId: 'e', signal: 15, all: true });
    assert.equal((await client.call('Wait', { id, execId: 'e' })).exitStatus, 143);
    await refused(client.call('Kill', { id, execId: 'e', signal: 9 }), notFound, /process already finished/);
    await client.call('Kill', { id, signal: 9 });
    await client.call('Wait', { id });
    for (const all of [false, true])
      await refused(client.call('Kill', { id, signal: 9, all }), notFound, /process already finished/);
    await world.caller.remove(made);
  });

  test('33. Delete of a running task is an error and changes nothing; a second Delete gives the same answer', async () => {
    const made = await sleeper('deleted');
    const { client, id } = made;
    await assert.rejects(client.call('Delete', { id }));
    assert.equal((await client.call('State', { id })).status, Status.RUNNING);
    await client.call('Kill', { id, signal: 9 });
    await client.call('Wait', { id });
    const first = await client.call('Delete', { id });
    assert.equal(first.exitStatus, 137);
    assert.deepEqual(await client.call('Delete', { id }), first);
    await refused(client.call('State', { id }), notFound);
    await world.caller.remove(made);
  });

  test('34. Delete while the root filesystem cannot be unmounted: other calls go on, a retry converges', async () => {
    const id = uniqueId('busy');
    const bundle = await world.caller.bundle(id, ['/bin/true'], (config) => {
      config.root = { path: 'rootfs' };
    });
    const source = world.caller.ownRoot(id);
    const client = await world.caller.connect(await world.caller.start(id));
    const rootfs = [{ type: 'bind', source, target: '', options: ['rbind', 'rw'] }];
    await client.call('Create', { id, bundle, rootfs });
    await client.call('Start', { id });
    await client.call('Wait', { id });
    // somebody of the host works in there
    const ready = join(world.containerd.folder, uniqueId('in'));
    const gate = `${ready}.out`;
    const holder = run('/bin/sh', [
      '-c',
      `cd ${bundle}/rootfs && touch ${ready}; until [ -e ${gate} ]; do sleep 0.05; done`,
    ]);
    await eventually('it is in use', () => existsSync(ready) || undefined);
    const first = client.call('Delete', { id });
    first.catch(() => undefined);
    const other = await sleeper('meanwhile');
    assert.equal((await other.client.call('State', { id: other.id })).status, Status.RUNNING);
    await world.caller.remove(other);
    assert.ok(mounts().includes(join(bundle, 'rootfs')));
    writeFileSync(gate, '');
    await holder;
    const answer = await first.catch(() => client.call('Delete', { id }));
    assert.equal(answer.exitStatus, 0);
    assert.ok(!mounts().some((path) => path.includes(id)));
    await client.call('Shutdown', { id });
    client[Symbol.dispose]();
    assert.equal((await world.caller.delete(id)).code, 0);
  });

  test('35. Pids lists every process; those of execs carry ProcessDetails', async () => {
    const made = await world.caller.make('pids', ['/bin/sh', '-c', 'sleep 1000 & sleep 1000; true']);
    const { client, id } = made;
    const { pid } = await exec(made, 'probe', '/bin/sleep', '1000');
    const processes = await eventually('all four', async () => {
      const found = (await client.call('Pids', { id })).processes;
      return found.length === 4 ? found : undefined;
    });
    const init = Number(readFileSync(join(made.bundle, 'init.pid'), 'utf8'));
    assert.ok(processes.some((one) => one.pid === init));
    for (const one of processes) {
      if (one.pid !== pid) assert.equal(one.info, undefined);
      else {
        assert.equal(one.info?.typeUrl, 'containerd.runc.v1.ProcessDetails');
        assert.equal(ProcessDetails.decode(one.info.value).execId, 'probe');
      }
    }
    await world.caller.remove(made);
  });

  test('36. Pause and Resume: paused for the init and its execs; kill -9 of a paused container works', async () => {
    const made = await sleeper('paused');
    const { client, id } = made;
    await exec(made, 'e', '/bin/sleep', '1000');
    await client.call('Pause', { id });
    assert.equal((await client.call('State', { id })).status, Status.PAUSED);
    assert.equal((await client.call('State', { id, execId: 'e' })).status, Status.PAUSED);
    await assert.rejects(client.call('Delete', { id }));
    await client.call('Resume', { id });
    assert.equal((await client.call('State', { id, execId: 'e' })).status, Status.RUNNING);
    await client.call('Pause', { id });
    await client.call('Kill', { id, signal: 9 });
    assert.equal((await client.call('Wait', { id })).exitStatus, 137);
    await world.caller.remove(made);
  });

  test('37. Update changes the limits of the cgroup', async () => {
    const made = await sleeper('updated');
    const { client, id } = made;
    const { pid } = await client.call('State', { id });
    const update = (resources: object) =>
      client.call('Update', {
        id,
        resources: {
          typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources',
          value: Buffer.from(JSON.stringify(resources)),
        },
      });
    await update({ memory: { limit: 64 << 20 }, pids: { limit: 33 } });
    const memory =
      cgroupFile(pid, 'memory', 'memory.limit_in_bytes') ?? cgroupFile(pid, 'memory', 'memory.max');
    assert.equal(memory, String(64 << 20));
    assert.equal(cgroupFile(pid, 'pids', 'pids.max'), '33');
    await client.call('Kill', { id, signal: 9 });
    await client.call('Wait', { id });
    await assert.rejects(update({ pids: { limit: 34 } }));
    await world.caller.remove(made);
  });

  test('39. Shutdown with a live container does nothing; after the last Delete the socket goes, with the events told', async () => {
    const made = await sleeper('alive');
    const { client, id, bundle } = made;
    const socket = socketOf(bundle);
    await client.call('Shutdown', { id });
    assert.equal((await client.call('State', { id })).status, Status.RUNNING);
    if (!world.grpc) assert.ok(existsSync(socket));
    await client.call('Kill', { id, signal: 9 });
    await client.call('Wait', { id });
    await client.call('Delete', { id });
    if (!world.grpc) await eventually('the socket goes', () => !existsSync(socket) || undefined);
    await world.caller.untilTopics(id, ['create', 'start', 'exit', 'delete']);
    await world.caller.remove(made);
  });

  test('40. a pause container that is deleted before its app container: the socket goes at the end', async (t) => {
    if (world.grpc) return t.skip('one socket serves all');
    const annotations = { 'io.kubernetes.cri.sandbox-id': uniqueId('pod') };
    const edit = (config: object) => Object.assign(config, { annotations });
    const pause = await sleeper('pause', { edit });
    const app = await sleeper('app', { edit });
    const socket = socketOf(pause.bundle);
    for (const { client, id } of [pause, app]) {
      await client.call('Kill', { id, signal: 9 });
      await client.call('Wait', { id });
    }
    await pause.client.call('Delete', { id: pause.id });
    await pause.client.call('Shutdown', { id: pause.id });
    assert.equal((await app.client.call('State', { id: app.id })).status, Status.STOPPED);
    assert.ok(existsSync(socket));
    // containerd sends no Shutdown for it
    await app.client.call('Delete', { id: app.id });
    await eventually('the socket goes', () => !existsSync(socket) || undefined);
    await world.caller.remove(app);
    await world.caller.remove(pause);
  });
}
