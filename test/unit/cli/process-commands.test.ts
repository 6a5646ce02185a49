import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDuration } from '../../../src/cli/duration.ts';
import { parseCommand } from '../../../src/cli/parse.ts';
import { statsData } from '../../../src/cli/stats-event.ts';
import { featuresDocument } from '../../../src/oci/features.ts';
import { unsupported } from '../../../src/oci/supported.ts';
import { call } from './support.ts';

function flagsOf(...words: string[]) {
  const invocation = parseCommand(words, 'wherry');
  assert.equal(invocation.kind, 'run');
  if (invocation.kind !== 'run') throw new Error('unreachable');
  return invocation;
}

describe('commands for running containers', () => {
  it('exec: letters behind one dash are flags each, and the command keeps its own', () => {
    const { flags, args } = flagsOf('exec', '-itu', '5', 'box', 'ls', '-l', '--', 'x');
    assert.ok(flags.on('interactive') && flags.on('tty'));
    assert.equal(flags.text('user'), '5');
    assert.deepEqual(args, ['box', 'ls', '-l', '--', 'x']);
    assert.throws(() => parseCommand(['exec', '-izt', 'box'], 'wherry'), /not defined: -izt/);
  });

  it('exec: 255 for what did not come to run, 1 for a wrong call', async () => {
    const unknown = await call(['exec', 'nobody', 'true']);
    assert.equal(unknown.code, 255);
    assert.match(unknown.err, /^wherry: exec failed: container does not exist/);
    assert.equal((await call(['exec'])).code, 1);
  });

  it('times as Go writes them', () => {
    assert.deepEqual(['500ms', '5s', '1m30s', '0', '1.5s'].map(parseDuration), [500, 5000, 90_000, 0, 1500]);
    assert.deepEqual(['', '5', 'x', '-1s', '5s '].map(parseDuration), Array(5).fill(undefined));
  });

  it('events: nothing known is still the whole shape', () => {
    for (const version of [1, 2] as const) {
      const data = statsData(
        version === 1 ? { version, takenAt: new Date() } : { version, takenAt: new Date() },
      );
      assert.deepEqual(Object.keys(data), [
        'cpu',
        'cpuset',
        'memory',
        'pids',
        'blkio',
        'hugetlb',
        'intel_rdt',
        'network_interfaces',
      ]);
    }
  });

  it('features promises no mount option that create refuses', () => {
    const { mountOptions } = featuresDocument({ version: '1', commit: 'c', libseccomp: '2.5.4' });
    for (const option of mountOptions as string[]) {
      const refused = unsupported({
        ociVersion: '1.0.0',
        root: { path: '/' },
        process: { args: ['x'], cwd: '/', user: { uid: 0, gid: 0 } },
        mounts: [{ destination: '/x', type: 'bind', source: '/x', options: [option] }],
        linux: { namespaces: [{ type: 'mount' }] },
      });
      assert.deepEqual(refused, [], option);
    }
  });
});
