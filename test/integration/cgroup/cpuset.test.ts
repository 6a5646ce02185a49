/** What a new cpuset of v1 inherits, also where its parent went and came back between the plan and the deed. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { detectCgroups } from '../../../src/cgroup/hierarchy.ts';
import { planCgroup } from '../../../src/cgroup/plan.ts';
import { createCgroup } from '../../../src/container/compile/host.ts';
import { Program } from '../../../src/container/compile/program.ts';
import { dist } from '../../support/paths.ts';
import { play } from '../player/player.ts';

const host = detectCgroups();
const cpuset = host.hierarchies.find(({ controllers }) => controllers.includes('cpuset'))?.mountPoint ?? '';
const files = ['cpuset.cpus', 'cpuset.mems'] as const;
const valuesOf = (folder: string): string[] =>
  files.map((name) => readFileSync(join(folder, name), 'utf8').trim());

/** The plan finds a parent that has everything; `meanwhile` something happens to it; then the tape is played. */
async function afterwards(name: string, meanwhile: (parent: string) => void, cpus?: string) {
  const path = `/wherry-test-${process.pid}-${name}`;
  const parent = join(cpuset, path);
  mkdirSync(parent);
  for (const [index, file] of files.entries())
    writeFileSync(join(parent, file), valuesOf(cpuset)[index] ?? '');
  const resources = cpus === undefined ? {} : { cpu: { cpus } };
  const plan = planCgroup(host, { cgroupsPath: `${path}/leaf`, id: 'c', resources });
  try {
    const program = new Program();
    createCgroup(program, plan);
    program.tape.halt(0);
    meanwhile(parent);
    const { error } = await play(join(dist, 'libexec/wherry/player'), program.tape.assemble());
    return { error: error?.message, parent: valuesOf(parent), leaf: valuesOf(join(parent, 'leaf')) };
  } finally {
    for (const leaf of plan.remove)
      for (const folder of [leaf, dirname(leaf)]) if (existsSync(folder)) rmdirSync(folder);
  }
}

describe('a cpuset of v1', { skip: cpuset === '' && 'this machine has none' }, () => {
  const all = cpuset === '' ? [] : valuesOf(cpuset);
  const again = (parent: string): void => {
    rmdirSync(parent);
    mkdirSync(parent);
  };

  test('has what its parent has', async () => {
    assert.deepEqual(await afterwards('there', () => {}), { error: undefined, parent: all, leaf: all });
  });

  test('whose parent went with the last container of somebody else', async () => {
    assert.deepEqual(await afterwards('gone', rmdirSync), { error: undefined, parent: all, leaf: all });
  });

  test('whose parent was made again by somebody else, who has not written to it yet', async () => {
    assert.deepEqual(await afterwards('again', again), { error: undefined, parent: all, leaf: all });
    const own = { error: undefined, parent: all, leaf: ['0', all[1]] };
    assert.deepEqual(await afterwards('own', again, '0'), own);
  });

  test('a parent that was narrowed stays narrow', { skip: all[0] === '0' && 'one processor' }, async () => {
    const { error, parent } = await afterwards('narrow', (folder) =>
      writeFileSync(join(folder, 'cpuset.cpus'), '0'),
    );
    assert.match(error ?? '', /write .* to .*cpuset\.cpus: permission denied/i);
    assert.equal(parent[0], '0');
  });
});
