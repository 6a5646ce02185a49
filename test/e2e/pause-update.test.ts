/** pause, resume, update and events as callers of runc use them: every test is asked of Wherry and of runc. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { cgroupFile } from '../support/cgroups.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, type RunOptions, type RunResult } from '../support/run.ts';
import { openTool, type RuntimeTool } from '../support/runtimes.ts';

interface StatsEvent {
  type: string;
  id: string;
  data: {
    memory: { usage: Record<string, number> };
    pids: { limit: number };
    cpu: { usage: { total: number } };
  };
}

for (const name of ['wherry', 'runc'] as const) {
  describe(`${name}: a running container`, () => {
    let tool: RuntimeTool;
    let id: string;
    let init: number;
    before(async () => {
      tool = await openTool(name);
      id = await start('update');
      init = (JSON.parse(await must(['state', id])) as { pid: number }).pid;
    });
    after(async () => {
      await tool?.run(['delete', '--force', id]);
      await tool?.[Symbol.asyncDispose]();
    });

    const start = async (label: string): Promise<string> => {
      const made = uniqueId(label);
      const bundle = await makeBundle(
        tool.folder,
        made,
        ['/bin/sh', '-c', 'while :; do :; done'],
        (config) => {
          config.linux['cgroupsPath'] = `/${made}`;
          config.linux.resources = { cpu: { quota: 20_000, period: 100_000 } };
        },
      );
      const result = await tool.run(['run', '-d', '-b', bundle, made], { outputFile: join(bundle, 'out') });
      assert.equal(result.code, 0, result.stderr);
      return made;
    };
    const must = async (args: readonly string[], options?: RunOptions): Promise<string> => {
      const result = await tool.run(args, options);
      assert.equal(result.code, 0, `${args.join(' ')}: ${result.stderr}`);
      return result.stdout;
    };
    const fails = async (text: RegExp, args: readonly string[], options?: RunOptions): Promise<RunResult> => {
      const result = await tool.run(args, options);
      assert.equal(result.code, 1, result.stdout);
      assert.match(result.stderr, text);
      return result;
    };
    const file = (controller: string, entry: string): string => {
      const found = cgroupFile(init, controller, entry);
      assert.ok(found !== undefined, `${controller}: ${entry}`);
      return found;
    };
    const status = async (of: string): Promise<string> =>
      (JSON.parse(await must(['state', of])) as { status: string }).status;

    /** runc gives up on a busy freezer at times. */
    const pause = async (of: string): Promise<void> => {
      if (name === 'wherry') await must(['pause', of]);
      else
        await eventually('it is paused', async () => (await tool.run(['pause', of])).code === 0 || undefined);
    };

    test('pause and resume: nothing runs, then it runs on', async () => {
      await fails(/container not paused/, ['resume', id]);
      await pause(id);
      assert.equal(await status(id), 'paused');
      assert.equal(file('freezer', 'freezer.state'), 'FROZEN');
      const before = file('cpuacct', 'cpuacct.usage');
      const result = await tool.run(['exec', id, 'true']);
      assert.equal(result.code, 255);
      assert.match(
        result.stderr,
        /exec failed: cannot exec in a paused container \(use --ignore-paused to override\)/,
      );
      assert.equal(file('cpuacct', 'cpuacct.usage'), before);
      await fails(/container not running/, ['pause', id]);
      await must(['resume', id]);
      assert.equal(await status(id), 'running');
      await eventually(
        'it uses the processor again',
        async () => file('cpuacct', 'cpuacct.usage') !== before || undefined,
      );
      await fails(/container not paused/, ['resume', id]);
    });

    test('exec --ignore-paused waits for resume', async () => {
      await pause(id);
      const waiting = tool.run(['exec', '--ignore-paused', id, 'echo', 'thawed']);
      await eventually('it is in the cgroup', async () => {
        const members = JSON.parse(await must(['ps', '-f', 'json', id])) as number[];
        return members.length > 1 || undefined;
      });
      await must(['resume', id]);
      assert.equal((await waiting).stdout, 'thawed\n');
    });

    test('a paused container can be killed, and deleted by force', async () => {
      for (const act of [['kill', 'KILL'], ['delete']] as const) {
        const paused = await start(act[0]);
        await pause(paused);
        if (act[0] === 'kill') {
          await must(['kill', paused, act[1]]);
          await eventually('it has stopped', async () => (await status(paused)) === 'stopped' || undefined);
        }
        await must(['delete', '--force', paused]);
        assert.notEqual((await tool.run(['state', paused])).code, 0);
      }
    });

    test('without a pid namespace of its own: kill --all reaches every process', async () => {
      const shared = uniqueId('shared');
      const bundle = await makeBundle(
        tool.folder,
        shared,
        ['/bin/sh', '-c', 'sleep 1000 & exec sleep 1000'],
        (config) => {
          config.linux['cgroupsPath'] = `/${shared}`;
          config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'pid');
        },
      );
      await must(['run', '-d', '-b', bundle, shared], { outputFile: join(bundle, 'out') });
      const members = async () => JSON.parse(await must(['ps', '-f', 'json', shared])) as number[] | null;
      await eventually('two processes', async () => (await members())?.length === 2 || undefined);
      await must(['kill', '--all', shared, 'KILL']);
      await eventually('it has stopped', async () => (await status(shared)) === 'stopped' || undefined);
      await eventually('nobody is left', async () => (await members()) === null || undefined);
      await must(['delete', shared]);
    });

    const rdt = existsSync('/sys/fs/resctrl/info') ? 'this machine has resctrl' : false;
    test('update of what only some processors have is refused', { skip: rdt }, async () => {
      await fails(/Intel RDT\/CAT: l3 cache schema is not enabled/, [
        'update',
        '--l3-cache-schema',
        'L3:0=f',
        id,
      ]);
      const both = ['update', '--pids-limit', '77', '--mem-bw-schema', 'MB:0=50', id];
      await fails(/Intel RDT\/MBA: memory bandwidth schema is not enabled/, both);
      assert.notEqual(file('pids', 'pids.max'), '77');
    });

    test('update by flags', async () => {
      await must(['update', '--memory', '64m', '--memory-reservation', '32m', '--pids-limit', '50', id]);
      assert.equal(file('memory', 'memory.limit_in_bytes'), '67108864');
      assert.equal(file('memory', 'memory.soft_limit_in_bytes'), '33554432');
      assert.equal(file('pids', 'pids.max'), '50');
      await must(['update', '--cpu-period', '50000', '--cpu-quota', '10000', '--cpu-share', '512', id]);
      assert.equal(file('cpu', 'cpu.cfs_period_us'), '50000');
      assert.equal(file('cpu', 'cpu.cfs_quota_us'), '10000');
      assert.equal(file('cpu', 'cpu.shares'), '512');
      await must(['update', '--cpuset-cpus', '0', '--cpuset-mems', '0', id]);
      assert.equal(file('cpuset', 'cpuset.cpus'), '0');
      assert.equal(file('memory', 'memory.limit_in_bytes'), '67108864', 'what is not named stays');
    });

    test('memory and swap in both directions', async () => {
      await must(['update', '--memory', '64m', '--memory-swap', '64m', id]);
      assert.equal(file('memory', 'memory.memsw.limit_in_bytes'), '67108864');
      await must(['update', '--memory', '128m', '--memory-swap', '256m', id]);
      assert.equal(file('memory', 'memory.limit_in_bytes'), '134217728');
      assert.equal(file('memory', 'memory.memsw.limit_in_bytes'), '268435456');
      await must(['update', '--memory', '64m', '--memory-swap', '96m', id]);
      assert.equal(file('memory', 'memory.memsw.limit_in_bytes'), '100663296');
      await must(['update', '--memory', '-1', '--memory-swap', '-1', id]);
      assert.equal(file('memory', 'memory.limit_in_bytes'), '9223372036854771712');
    });

    test('update by JSON, from a file and from standard input', async () => {
      await must(['update', '-r', '-', id], { input: '{"pids":{"limit":33},"cpu":{"shares":256}}' });
      assert.equal(file('pids', 'pids.max'), '33');
      assert.equal(file('cpu', 'cpu.shares'), '256');
      await fails(/EOF|not JSON/, ['update', '--resources=-', id], { input: '{' });
      await fails(/\/nope: no such file or directory/, ['update', '-r', '/nope', id]);
    });

    test('bad values change nothing', async () => {
      await must(['update', '--pids-limit', '40', '--memory', '64m', id]);
      await fails(/invalid value for memory/, ['update', '--memory', 'abc', id]);
      await fails(/invalid value for cpu-quota/, ['update', '--cpu-quota', 'x', id]);
      await fails(/unable to set memory limit to 100 \(current usage: \d+, peak usage: \d+\)/, [
        'update',
        '--memory',
        '100',
        id,
      ]);
      await fails(/numerical result out of range|Numerical result out of range/, [
        'update',
        '--cpuset-cpus',
        '77',
        id,
      ]);
      assert.equal(file('memory', 'memory.limit_in_bytes'), '67108864');
      assert.equal(file('cpuset', 'cpuset.cpus'), '0');
      await fails(/container does not exist/, ['update', '--pids-limit', '9', uniqueId('none')]);
    });

    test('events --stats: one object with the same keys', async () => {
      const line = await must(['events', '--stats', id]);
      assert.equal(line.trim().split('\n').length, 1);
      const event = JSON.parse(line) as StatsEvent;
      assert.deepEqual(Object.keys(event), ['type', 'id', 'data']);
      assert.deepEqual([event.type, event.id], ['stats', id]);
      assert.deepEqual(Object.keys(event.data), [
        'cpu',
        'cpuset',
        'memory',
        'pids',
        'blkio',
        'hugetlb',
        'intel_rdt',
        'network_interfaces',
      ]);
      const { memory, pids, cpu } = event.data;
      assert.deepEqual(Object.keys(memory.usage), ['limit', 'usage', 'max', 'failcnt']);
      assert.equal(memory.usage['limit'], 67_108_864);
      assert.equal(pids.limit, 40);
      assert.ok(cpu.usage.total > 0);
    });

    test('events: a line each interval, until the container ends', async () => {
      const child = spawn(tool.command, [...tool.globals, 'events', '--interval', '100ms', id], {
        env: tool.env,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
      await eventually('three lines', async () => text.split('\n').length > 3 || undefined);
      await must(['kill', id, 'KILL']);
      // runc 1.1 goes on until it is told to end.
      if (name === 'runc') child.kill('SIGKILL');
      await ended;
      for (const line of text.trim().split('\n'))
        assert.equal((JSON.parse(line) as { type: string }).type, 'stats');
    });

    test('a stopped container', async () => {
      await eventually('it has stopped', async () => (await status(id)) === 'stopped' || undefined);
      await fails(/container not running/, ['pause', id]);
      await fails(/container not paused/, ['resume', id]);
      await fails(/container not running/, ['update', '--pids-limit', '9', id]);
      await fails(new RegExp(`container with id ${id} is not running`), ['events', '--stats', id]);
    });
  });
}
