import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMountOptions } from '../../../src/container/compile/mount-options.ts';
import { featuresDocument } from '../../../src/oci/features.ts';
import { capabilityNames, namespaceTypes } from '../../../src/oci/names.ts';

const document = featuresDocument({ version: '1', commit: 'c', libseccomp: '2.5.4' });

test('every key of features-linux.md is there', () => {
  const linux = document['linux'] as Record<string, Record<string, unknown>>;
  assert.deepEqual(Object.keys(linux).sort(), [
    'apparmor',
    'capabilities',
    'cgroup',
    'intelRdt',
    'memoryPolicy',
    'mountExtensions',
    'namespaces',
    'netDevices',
    'seccomp',
    'selinux',
  ]);
  assert.deepEqual(linux['intelRdt'], { enabled: true, schemata: true, monitoring: true });
  assert.deepEqual(linux['netDevices'], { enabled: true });
  assert.deepEqual(linux['mountExtensions'], { idmap: { enabled: true } });
  assert.deepEqual(linux['capabilities'], [...capabilityNames]);
  assert.deepEqual(linux['namespaces'], [...namespaceTypes].sort());
  const { modes, flags } = linux['memoryPolicy'] as { modes: string[]; flags: string[] };
  assert.ok(modes.includes('MPOL_WEIGHTED_INTERLEAVE') && flags.includes('MPOL_F_STATIC_NODES'));
});

test('no option that is promised is passed on to a filesystem as if nobody knew it', () => {
  const own = new Set(['sync', 'dirsync', 'mand', 'lazytime']);
  for (const option of document['mountOptions'] as string[]) {
    const { parameters } = parseMountOptions([option]);
    assert.deepEqual(parameters, own.has(option) ? [[option, undefined]] : [], option);
  }
});
