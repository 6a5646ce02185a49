/** What a service manager hands to the caller reaches the program: the socket for its readiness. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, run, stop } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';
import { compileProgram } from '../oci-suite/host.ts';

describe('NOTIFY_SOCKET of the caller', () => {
  let wherry: Wherry;
  let program: string;
  before(async () => {
    wherry = new Wherry();
    program = await compileProgram(join(import.meta.dirname, 'notify.c'));
    // The daemon is somebody else's child then.
    await wherry.run(['list']);
  });
  after(() => wherry[Symbol.asyncDispose]());

  test('gets what the program sends, and the program finds it where runc has it', async () => {
    const socket = join(wherry.folder, 'notify.s');
    const listener = spawn(program, ['listen', socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines: string[] = [];
    createInterface({ input: listener.stdout }).on('line', (line) => lines.push(line));
    try {
      await eventually('the listener listens', () => lines.length > 0 || undefined);
      const id = uniqueId('notify');
      const script = 'echo $NOTIFY_SOCKET; /notify send';
      const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
        config.mounts.push({ destination: '/run', type: 'tmpfs', source: 'tmpfs' });
      });
      copyFileSync(program, join(bundle, 'rootfs/notify'));
      const env = { ...wherry.env, NOTIFY_SOCKET: socket };
      const result = await run(wherry.command, ['run', '-b', bundle, id], { env });
      assert.equal(result.code, 0, result.stderr);
      assert.equal(result.stdout, '/run/notify/notify.sock\n');
      await eventually('the message arrives', () => lines.length > 1 || undefined);
      assert.equal(lines[1], 'READY=1');
    } finally {
      await stop(listener);
    }
  });

  test('that is abstract is refused by name', async () => {
    const id = uniqueId('abstract');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/true']);
    const env = { ...wherry.env, NOTIFY_SOCKET: '@wherry/notify' };
    const result = await run(wherry.command, ['run', '-b', bundle, id], { env });
    assert.equal(result.code, 1);
    assert.match(result.stderr, /NOTIFY_SOCKET: .*abstract/);
  });
});
