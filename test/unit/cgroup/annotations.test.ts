import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withMemoryAnnotations } from '../../../src/cgroup/annotations.ts';
import type { Spec } from '../../../src/oci/types.ts';

const spec = (annotations: Record<string, string>, unified?: Record<string, string>): Spec => ({
  ociVersion: '1.2.0',
  root: { path: 'rootfs' },
  process: { args: ['-'], cwd: '/', user: { uid: 0, gid: 0 } },
  linux: { ...(unified && { resources: { unified } }) },
  annotations,
});
const unifiedOf = (annotations: Record<string, string>, unified?: Record<string, string>) =>
  withMemoryAnnotations(spec(annotations, unified), true).linux?.resources?.unified;

test('annotations of memory become files', () => {
  assert.deepEqual(
    unifiedOf({
      'org.wherry.memory.high': '64Mi',
      'org.wherry.memory.oom.group': 'true',
      'org.wherry.memory.zswap.max': 'max',
    }),
    { 'memory.high': '67108864', 'memory.oom.group': '1', 'memory.zswap.max': 'max' },
  );
  assert.deepEqual(unifiedOf({ 'org.wherry.memory.high': '5' }, { 'memory.low': '1' }), {
    'memory.low': '1',
    'memory.high': '5',
  });
});

test('without one nothing is changed, not even copied', () => {
  const given = spec({ other: 'x' });
  assert.equal(withMemoryAnnotations(given, false), given);
});

test('wrong names, values, contradictions and hosts are refused', () => {
  const refused = (
    annotations: Record<string, string>,
    text: RegExp,
    unified?: Record<string, string>,
    v2 = true,
  ) => assert.throws(() => withMemoryAnnotations(spec(annotations, unified), v2), text);
  refused({ 'org.wherry.memory.hihg': '5' }, /annotations\["org\.wherry\.memory\.hihg"\]: there is no such/);
  refused({ 'org.wherry.memory.constructor': '5' }, /there is no such/);
  refused({ 'org.wherry.memory.high': '-1' }, /"-1" is not bytes/);
  refused({ 'org.wherry.memory.oom.group': 'yes' }, /"yes" is not true or false/);
  refused({ 'org.wherry.memory.high': '5' }, /5 here and 6 in/, { 'memory.high': '6' });
  refused({ 'org.wherry.memory.high': '5' }, /cgroup v1, which has no memory\.high/, undefined, false);
});
