import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkConfig } from '../../../src/oci/config.ts';
import { configWith, invalid } from './support.ts';

describe('one pass over a configuration', () => {
  it('tells of wrong values and of values that do not go together', () => {
    const raw = configWith((c) => {
      c.process.oomScoreAdj = 'much';
      c.process.rlimits = [{ type: 'RLIMIT_CPU', soft: 2, hard: 1 }];
      c.linux.netDevices = { 'a/b': {} };
      c.linux.devices = [{ path: 'relative', type: 'c', major: 1, minor: 3 }];
      c.linux.resources = { ...c.linux.resources, cpu: { period: 1 } };
    });
    const { message } = invalid(() => checkConfig(raw));
    for (const place of [
      'process.oomScoreAdj: expected',
      'process.rlimits[0].soft: expected at most the hard limit',
      'linux.netDevices["a/b"]: expected',
      'linux.devices[0].path: expected an absolute path',
      'linux.resources.cpu.period: expected',
    ]) {
      assert.ok(message.includes(place), `${place} in ${message}`);
    }
  });

  it('blames nothing on what was taken out', () => {
    const raw = configWith((c) => {
      c.linux.namespaces = 'all';
      c.hostname = 'name';
    });
    const { message } = invalid(() => checkConfig(raw));
    assert.equal(message, 'config.json: linux.namespaces: expected a list of namespaces, found "all"');
  });

  it('warns of what the specification advises against, and applies it', () => {
    const { config, warnings } = checkConfig(
      configWith((c) => {
        c.hooks = { prestart: [{ path: '/hook' }] };
        c.linux.resources = { ...c.linux.resources, memory: { kernel: 1 } };
        c.linux.intelRdt = { enableCMT: true };
      }),
    );
    assert.equal(config.hooks?.prestart?.length, 1);
    for (const path of ['hooks.prestart', 'linux.resources.memory.kernel', 'linux.intelRdt.enableCMT']) {
      assert.ok(
        warnings.some((warning) => warning.startsWith(`${path} is deprecated`)),
        path,
      );
    }
  });
});
