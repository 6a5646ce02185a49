import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compileCreate } from '../../../src/container/compile/create.ts';
import { checkConfig } from '../../../src/oci/config.ts';
import { launchSpec } from '../../../src/oci/launch.ts';
import type { LinuxNamespace, Spec } from '../../../src/oci/types.ts';
import { disassemble } from '../../../src/tape/disassemble.ts';
import { createInput } from './create-input.ts';

const VISIBLE = 'let hooks of the user look into this process';

function tapeOf(edit: (spec: Spec, namespaces: LinuxNamespace[]) => void, unprivileged: boolean): string {
  const raw = launchSpec({ id: 'x', args: ['sh'], machine: 'x86_64' });
  const map = [{ containerID: 0, hostID: 1000, size: 1 }];
  const namespaces: LinuxNamespace[] = [...(raw.linux?.namespaces ?? []), { type: 'user' }];
  raw.linux = { ...raw.linux, namespaces, uidMappings: map, gidMappings: map };
  raw.hooks = { createRuntime: [{ path: '/bin/true' }] };
  edit(raw, namespaces);
  const spec = checkConfig(JSON.parse(JSON.stringify(raw))).config;
  return disassemble(compileCreate(createInput(spec, { unprivileged, rootIsUser: true })));
}

describe('an init whose hooks are an ordinary user’s', () => {
  it('may be looked into while they run, and not before or after', () => {
    const text = tapeOf(() => {}, true);
    const [before = '', after = ''] = text.split(VISIBLE);
    assert.ok(before.includes('keep other processes from looking into this one'));
    assert.ok(after.includes('let nobody look into it any more'));
    assert.ok(after.indexOf('let nobody look') < after.indexOf('pivot_root'));
  });

  it('may not where others are in its namespaces, where root can look anyhow, and without hooks', () => {
    for (const type of ['pid', 'user'] as const) {
      const text = tapeOf((spec, namespaces) => {
        namespaces.find((one) => one.type === type)!.path = '/proc/1/ns/x';
        if (type === 'user') {
          delete spec.linux?.uidMappings;
          delete spec.linux?.gidMappings;
        }
      }, true);
      assert.ok(!text.includes(VISIBLE), type);
    }
    assert.ok(!tapeOf(() => {}, false).includes(VISIBLE));
    assert.ok(!tapeOf((spec) => delete spec.hooks, true).includes(VISIBLE));
  });
});
