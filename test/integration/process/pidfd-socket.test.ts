/** `--pidfd-socket`: whoever listens there gets a pidfd of the init, or of the exec's process. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, stop } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';
import { compileProgram } from '../oci-suite/host.ts';

describe('--pidfd-socket', () => {
  let program: string;
  before(async () => {
    program = await compileProgram(join(import.meta.dirname, 'receive-pidfd.c'));
  });

  for (const daemon of ['1', '0']) {
    describe(daemon === '1' ? 'with wherryd' : 'without wherryd', () => {
      let wherry: Wherry;
      before(() => {
        wherry = new Wherry(daemon === '0' ? { WHERRY_DAEMON: '0' } : {});
      });
      after(() => wherry[Symbol.asyncDispose]());

      async function listen(): Promise<{ socket: string; lines: string[]; end(): Promise<void> }> {
        const socket = join(wherry.folder, `${uniqueId('pidfd').split('-').at(-2)}.s`);
        const child = spawn(program, [socket], { stdio: ['ignore', 'pipe', 'inherit'] });
        const lines: string[] = [];
        createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
        await eventually('the listener listens', () => lines.length > 0 || undefined);
        return { socket, lines, end: () => stop(child) };
      }
      const bundleOf = (id: string, edit?: (config: SpecConfig) => void): Promise<string> =>
        makeBundle(wherry.folder, id, ['/bin/sleep', '1000'], edit);

      for (const user of [false, true]) {
        test(`create: the init's${user ? ', with a user namespace' : ''}`, async () => {
          const id = uniqueId('create');
          const bundle = await bundleOf(id, (config) => {
            if (!user) return;
            config.linux.namespaces.push({ type: 'user' });
            const map = [{ containerID: 0, hostID: 100_000, size: 65_536 }];
            config.linux['uidMappings'] = map;
            config.linux['gidMappings'] = map;
          });
          const { socket, lines, end } = await listen();
          try {
            const output = join(wherry.folder, `${id}.out`);
            const created = await wherry.run(['create', '--pidfd-socket', socket, '-b', bundle, id], {
              outputFile: output,
            });
            assert.equal(created.code, 0, readFileSync(output, 'utf8'));
            const { pid } = JSON.parse(await wherry.must(['state', id])) as { pid: number };
            // Sent before create answers.
            await eventually('the pidfd comes', () => lines.length > 1 || undefined);
            assert.equal(lines[1], `standard ${pid}`);
            await wherry.must(['delete', '--force', id]);
            await eventually('its end', () => lines.length > 2 || undefined);
            assert.equal(lines[2], 'ended');
          } finally {
            await end();
          }
        });
      }

      test('run and exec, by a path from the current folder', async () => {
        const id = uniqueId('run');
        const bundle = await bundleOf(id);
        const first = await listen();
        const second = await listen();
        try {
          symlinkSync(first.socket, join(bundle, 'init.s'));
          symlinkSync(second.socket, join(bundle, 'exec.s'));
          const output = join(wherry.folder, `${id}.out`);
          const here = { cwd: bundle, outputFile: output };
          const ran = await wherry.run(['run', '-d', '--pidfd-socket', 'init.s', id], here);
          assert.equal(ran.code, 0, readFileSync(output, 'utf8'));
          const { pid } = JSON.parse(await wherry.must(['state', id])) as { pid: number };
          await eventually('the pidfd comes', () => first.lines.length > 1 || undefined);
          assert.equal(first.lines[1], `standard ${pid}`);
          const pidFile = join(wherry.folder, `${id}.pid`);
          const words = [
            'exec',
            '-d',
            '--pid-file',
            pidFile,
            '--pidfd-socket',
            'exec.s',
            id,
            '/bin/sleep',
            '999',
          ];
          assert.equal((await wherry.run(words, here)).code, 0, readFileSync(output, 'utf8'));
          await eventually('the pidfd comes', () => second.lines.length > 1 || undefined);
          assert.equal(second.lines[1], `setns ${readFileSync(pidFile, 'utf8')}`);
          await wherry.must(['delete', '--force', id]);
          await eventually(
            'both ends',
            () => (first.lines.length > 2 && second.lines.length > 2) || undefined,
          );
        } finally {
          await first.end();
          await second.end();
        }
      });

      test('where nobody listens, or a path that is too long, fails and leaves nothing', async () => {
        const id = uniqueId('nobody');
        const bundle = await bundleOf(id);
        const at = join(wherry.folder, 'nobody.s');
        const gone = await wherry.run(['run', '--pidfd-socket', at, '-b', bundle, id]);
        assert.equal(gone.code, 1);
        assert.match(gone.stderr, /connect to the pidfd socket .*nobody\.s: .*no such file or directory/i);
        const long = `/${'x'.repeat(200)}`;
        const refused = await wherry.run(['run', '--pidfd-socket', long, '-b', bundle, id]);
        assert.equal(refused.code, 1);
        assert.match(refused.stderr, /--pidfd-socket: expected a path of at most 107 bytes, found 201/);
        assert.match((await wherry.run(['state', id])).stderr, /does not exist/);
      });
    });
  }
});
