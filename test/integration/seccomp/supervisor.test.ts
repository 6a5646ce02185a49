/** SCMP_ACT_NOTIFY by the real command line and a supervisor that answers calls. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, stop } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';
import { compileProgram } from '../oci-suite/host.ts';

const EEXIST = 17;

describe('a seccomp supervisor', () => {
  let wherry: Wherry;
  let program: string;
  before(async () => {
    wherry = new Wherry();
    program = await compileProgram(join(import.meta.dirname, 'supervisor.c'));
  });
  after(() => wherry[Symbol.asyncDispose]());

  /** Listens at `socket` until the filter's last process has gone; `lines` is what it has printed. */
  async function supervise(socket: string): Promise<{ lines: string[]; end(): Promise<void> }> {
    const child = spawn(program, [socket, String(EEXIST)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines: string[] = [];
    const reader = createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
    const closed = Promise.all([once(child, 'exit'), once(reader, 'close')]);
    await eventually('the supervisor listens', () => lines.length > 0 || undefined);
    return {
      lines,
      async end() {
        // Its last lines come before its streams are closed, and perhaps after its exit.
        await Promise.race([closed, stopLater(child)]);
      },
    };
  }

  async function stopLater(child: ReturnType<typeof spawn>): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 5_000).unref());
    await stop(child);
  }

  for (const noNewPrivileges of [true, false]) {
    for (const how of ['run', 'create and start']) {
      test(`gets the listener and answers calls: ${how}, noNewPrivileges ${noNewPrivileges}`, async () => {
        const id = uniqueId('notify');
        const socket = join(wherry.folder, `${id}.s`);
        const script = 'mkdir /dev/shm/x 2>&1; test -d /dev/shm/x || echo none';
        const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
          config.process['noNewPrivileges'] = noNewPrivileges;
          config['annotations'] = { 'org.example': 'yes' };
          config.linux['seccomp'] = {
            defaultAction: 'SCMP_ACT_ALLOW',
            flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'],
            listenerPath: socket,
            listenerMetadata: 'meta "data"',
            syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_NOTIFY' }],
          };
        });
        const supervisor = await supervise(socket);
        const output = join(wherry.folder, `${id}.out`);
        if (how === 'run') {
          const { code, stdout, stderr } = await wherry.run(['run', '-b', bundle, id]);
          assert.equal(code, 0, stderr);
          assert.match(stdout, /File exists\nnone\n/);
        } else {
          const created = await wherry.run(['create', '-b', bundle, id], { outputFile: output });
          assert.equal(created.code, 0);
          const { pid } = JSON.parse(await wherry.must(['state', id])) as { pid: number };
          await eventually('it has the listener', () => supervisor.lines.length > 1 || undefined);
          assert.equal((JSON.parse(supervisor.lines[1] ?? '{}') as { pid: number }).pid, pid);
          await wherry.must(['start', id]);
        }
        await supervisor.end();
        if (how !== 'run') await wherry.must(['delete', '--force', id]);
        const state = JSON.parse(supervisor.lines[1] ?? '{}') as Record<string, unknown>;
        const pid = state['pid'];
        assert.ok(typeof pid === 'number' && pid > 1);
        assert.deepEqual(state, {
          ociVersion: (state['state'] as Record<string, unknown>)['ociVersion'],
          fds: ['seccompFd'],
          pid,
          metadata: 'meta "data"',
          state: {
            ociVersion: state['ociVersion'],
            id,
            status: 'creating',
            pid,
            bundle,
            annotations: { 'org.example': 'yes' },
          },
        });
        assert.match(supervisor.lines.slice(2).join('\n'), /^call \d+$/);
      });
    }
  }

  for (const noNewPrivileges of [true, false]) {
    test(`gets an exec's listener too, noNewPrivileges ${noNewPrivileges}`, async () => {
      const id = uniqueId('exec');
      const socket = join(wherry.folder, `${id}.s`);
      const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '100'], (config) => {
        config.process['noNewPrivileges'] = noNewPrivileges;
        config['annotations'] = { 'org.example': 'yes' };
        config.linux['seccomp'] = {
          defaultAction: 'SCMP_ACT_ALLOW',
          listenerPath: socket,
          listenerMetadata: 'meta',
          syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_NOTIFY' }],
        };
      });
      const first = await supervise(socket);
      const output = join(wherry.folder, `${id}.out`);
      assert.equal((await wherry.run(['create', '-b', bundle, id], { outputFile: output })).code, 0);
      await wherry.must(['start', id]);
      const { pid } = JSON.parse(await wherry.must(['state', id])) as { pid: number };
      rmSync(socket);
      const second = await supervise(socket);
      const result = await wherry.run(['exec', id, '/bin/mkdir', '/dev/shm/x']);
      assert.equal(result.code, 1);
      assert.match(result.stderr, /File exists/);
      await second.end();
      await wherry.must(['delete', '--force', id]);
      await first.end();
      const told = JSON.parse(second.lines[1] ?? '{}') as { pid: number; metadata: string; state: object };
      assert.equal(told.metadata, 'meta');
      assert.ok(told.pid > 1 && told.pid !== pid);
      const { ociVersion, ...state } = told.state as { ociVersion: string };
      assert.match(ociVersion, /^1\./);
      assert.deepEqual(state, { id, status: 'running', pid, bundle, annotations: { 'org.example': 'yes' } });
      assert.match(second.lines[2] ?? '', /^call \d+$/);
    });
  }

  test('that goes away before it takes the listener fails the create, and nothing is left', async () => {
    const id = uniqueId('gone');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/true'], (config) => {
      config.linux['seccomp'] = {
        defaultAction: 'SCMP_ACT_ALLOW',
        listenerPath: join(wherry.folder, 'nobody.s'),
        syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }],
      };
    });
    const result = await wherry.run(['run', '-b', bundle, id]);
    assert.equal(result.code, 1);
    assert.match(result.stderr, /linux\.seccomp\.listenerPath/);
    assert.equal((await wherry.run(['state', id])).code, 1);
  });
});
