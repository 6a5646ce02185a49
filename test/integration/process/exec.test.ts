/** What an exec takes of config.json's process settings. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { Wherry } from '../../support/wherry.ts';

const twoCpus = /^0-/.test(readFileSync('/sys/devices/system/cpu/online', 'utf8'));

describe('an exec', () => {
  let wherry: Wherry;
  const id = uniqueId('exec');
  before(async () => {
    wherry = new Wherry();
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000'], (config) => {
      config.process['execCPUAffinity'] = { initial: '0', final: twoCpus ? '1' : '0' };
      config.linux['personality'] = { domain: 'LINUX', flags: ['ADDR_NO_RANDOMIZE'] };
      config.linux['memoryPolicy'] = { mode: 'MPOL_BIND', nodes: '0' };
    });
    const outputFile = join(wherry.folder, 'create.out');
    assert.equal((await wherry.run(['create', '-b', bundle, id], { outputFile })).code, 0);
    await wherry.must(['start', id]);
  });
  after(() => wherry[Symbol.asyncDispose]());

  const inside = (...command: string[]): Promise<string> => wherry.must(['exec', id, ...command]);

  test('runs on the CPUs of execCPUAffinity.final, which the init does not', { skip: !twoCpus }, async () => {
    const line = 'Cpus_allowed_list';
    assert.equal(await inside('/bin/grep', line, '/proc/self/status'), `${line}:\t1\n`);
    assert.notEqual(await inside('/bin/grep', line, '/proc/1/status'), `${line}:\t1\n`);
  });

  test('stays on those of initial where there is no final', { skip: !twoCpus }, async () => {
    const file = join(wherry.folder, 'process.json');
    const args = ['/bin/grep', 'Cpus_allowed_list', '/proc/self/status'];
    const process = { args, cwd: '/', user: { uid: 0, gid: 0 }, execCPUAffinity: { initial: '0' } };
    writeFileSync(file, JSON.stringify(process));
    assert.equal(await wherry.must(['exec', '-p', file, id]), 'Cpus_allowed_list:\t0\n');
  });

  test('has the personality and the memory policy of the container', async () => {
    assert.equal((await inside('/bin/cat', '/proc/self/personality')).trim(), '00040000');
    assert.match(await inside('/bin/head', '-1', '/proc/self/numa_maps'), / bind:0 /);
  });

  test('that the filter of its container would end before it is the program is refused with the call', async () => {
    const filtered = uniqueId('filtered');
    const bundle = await makeBundle(wherry.folder, filtered, ['/bin/sleep', '1000'], (config) => {
      config.process['noNewPrivileges'] = true;
      config.linux['seccomp'] = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['capset'], action: 'SCMP_ACT_KILL_PROCESS' }],
      };
    });
    const outputFile = join(wherry.folder, 'filtered.out');
    assert.equal((await wherry.run(['create', '-b', bundle, filtered], { outputFile })).code, 0);
    await wherry.must(['start', filtered]);
    const file = join(wherry.folder, 'process.json');
    const execWith = (noNewPrivileges: boolean) => {
      const process = { args: ['/bin/echo', 'here'], cwd: '/', user: { uid: 0, gid: 0 }, noNewPrivileges };
      writeFileSync(file, JSON.stringify(process));
      return wherry.run(['exec', '--process', file, filtered]);
    };
    // The filter comes last there, after everything that it forbids.
    assert.equal((await execWith(true)).stdout, 'here\n');
    const { code, stderr } = await execWith(false);
    assert.notEqual(code, 0);
    assert.match(stderr, /linux\.seccomp: the filter kills at capset, which the set-up still needs/);
  });
});
