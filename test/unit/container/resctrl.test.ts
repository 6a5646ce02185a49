import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findResctrl, resctrlPlan } from '../../../src/container/resctrl.ts';

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
