import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { findResctrl, resctrlPlan } from '../../../src/container/resctrl.ts';
import { compileChange, compileMove, planChange } from '../../../src/container/resctrl-update.ts';
import { disassemble } from '../../../src/tape/disassemble.ts';

const root = '/sys/fs/resctrl';

describe('the group of resctrl', () => {
  it('has the name of the container where none is given, and goes with it', () => {
    const plan = resctrlPlan({ schemata: ['L3:0=f', 'MB:0=10'], enableMonitoring: true }, 'c', root);
    assert.deepEqual(plan, {
      group: `${root}/c`,
      given: false,
      schemata: 'L3:0=f\nMB:0=10\n',
      monitor: `${root}/c/mon_groups/c`,
      tasks: [`${root}/c/tasks`, `${root}/c/mon_groups/c/tasks`],
      remove: [`${root}/c/mon_groups/c`, `${root}/c`],
    });
  });

  it('with a name stays, and must be there where nothing is said of it', () => {
    const { group, given, remove } = resctrlPlan({ closID: 'gold' }, 'c', root);
    assert.deepEqual({ group, given, remove }, { group: `${root}/gold`, given: true, remove: [] });
    assert.equal(resctrlPlan({ closID: 'gold', memBwSchema: 'MB:0=50' }, 'c', root).given, false);
    assert.deepEqual(resctrlPlan({ closID: '/' }, 'c', root).tasks, [`${root}/tasks`]);
  });

  it('takes the bandwidth of memBwSchema before that of l3CacheSchema', () => {
    const { schemata } = resctrlPlan({ l3CacheSchema: 'L3:0=f\nMB:0=10', memBwSchema: 'MB:0=50' }, 'c', root);
    assert.equal(schemata, 'L3:0=f\nMB:0=50\n');
    assert.equal(resctrlPlan({ l3CacheSchema: 'L3:0=f\nMB:0=10' }, 'c', root).schemata, 'L3:0=f\nMB:0=10\n');
  });

  it('is looked for where resctrl is mounted', () => {
    const line = '36 25 0:32 / /run/rdt rw,nosuid shared:9 - resctrl resctrl rw\n';
    assert.equal(findResctrl(`22 1 254:0 / / rw - ext4 /dev/vda rw\n${line}`), '/run/rdt');
    assert.equal(findResctrl('22 1 254:0 / /resctrl rw - ext4 resctrl rw\n'), undefined);
  });
});

describe('new schemas for a container that runs', () => {
  const host = (kinds: readonly string[]): string => {
    const folder = mkdtempSync(join(tmpdir(), 'wherry-rdt-'));
    after(() => rmSync(folder, { recursive: true }));
    for (const kind of kinds) mkdirSync(join(folder, 'info', kind), { recursive: true });
    return folder;
  };

  it('go to the group that it has, which nobody makes again', () => {
    const folder = host(['L3', 'MB']);
    const groups = { tasks: [`${folder}/gold/tasks`, `${folder}/gold/mon_groups/c/tasks`] };
    const plan = planChange('c', groups, { l3CacheSchema: 'L3:0=f', memBwSchema: 'MB:0=50' }, folder);
    assert.deepEqual([plan.group, plan.schemata], [`${folder}/gold`, 'L3:0=f\nMB:0=50\n']);
    const text = disassemble(compileChange(plan));
    assert.doesNotMatch(text, /mkdirat/);
    assert.match(text, /gold\/schemata/);
  });

  it('make a group of its own for one that has none, and move every thread there', () => {
    const folder = host(['L3CODE']);
    const plan = planChange('c', undefined, { l3CacheSchema: 'L3CODE:0=f' }, folder);
    assert.deepEqual([plan.group, plan.given, plan.remove], [`${folder}/c`, false, [`${folder}/c`]]);
    assert.match(disassemble(compileChange(plan)), /mkdirat[\s\S]*\/c\/schemata/);
    const moved = disassemble(compileMove(`${folder}/c/tasks`, ['7', '8']));
    assert.match(moved, /write 7 to .*tasks[\s\S]*write 8 to .*tasks/);
    assert.match(moved, /ESRCH/);
  });

  it("are refused in runc's words where the processor has no such thing", () => {
    for (const folder of [undefined, host([])]) {
      assert.throws(() => planChange('c', undefined, { l3CacheSchema: 'L3:0=f' }, folder), {
        message: 'Intel RDT/CAT: l3 cache schema is not enabled',
      });
      assert.throws(() => planChange('c', undefined, { memBwSchema: 'MB:0=50' }, folder), {
        message: 'Intel RDT/MBA: memory bandwidth schema is not enabled',
      });
    }
  });
});
