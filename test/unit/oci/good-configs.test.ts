import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkConfig, parseConfig } from '../../../src/oci/config.ts';
import { defaultSpec } from '../../../src/oci/defaults.ts';
import { formatJson } from '../../../src/oci/json.ts';
import { sysctlPath } from '../../../src/oci/validate-sysctl.ts';
import { configWith, type Loose } from './support.ts';

const check = (edit: (config: Loose) => void) => checkConfig(configWith(edit));

describe('a good configuration', () => {
  it('comes back as it is, without warnings', () => {
    assert.deepEqual(parseConfig(formatJson(defaultSpec())), { config: defaultSpec(), warnings: [] });
  });

  it('may hold properties that nobody knows: they are dropped and named', () => {
    const { config, warnings } = check((c) => {
      c.extra = { a: 1 };
      c.linux.maskedPath = ['/x'];
      c.mounts[0]['x y'] = 1;
      c.windows = { layerFolders: [] };
    });
    assert.deepEqual(config, defaultSpec());
    assert.deepEqual(warnings, [
      'properties that the specification does not know are ignored: mounts[0]["x y"], linux.maskedPath, extra',
    ]);
  });

  it('may name capabilities that this version does not know: they are dropped with a warning', () => {
    const { config, warnings } = check((c) => c.process.capabilities.bounding.push('CAP_TELEPORT'));
    assert.deepEqual(config, defaultSpec());
    assert.deepEqual(warnings, ['process.capabilities: not known and not granted: CAP_TELEPORT']);
  });

  it('may have relative mount destinations, with a warning', () => {
    const { config, warnings } = check((c) => (c.mounts[0].destination = 'proc'));
    assert.equal(config.mounts?.[0]?.destination, '/proc');
    assert.deepEqual(warnings, ['mounts[0].destination: "proc" is relative, taken from /']);
  });

  it('keeps 64-bit numbers exact', () => {
    const text = formatJson(defaultSpec()).replace('"hard": 1024', '"hard": 18446744073709551615');
    const { config } = parseConfig(text);
    assert.equal(config.process.rlimits?.[0]?.hard, 18446744073709551615n);
    assert.match(formatJson(config), /"hard": 18446744073709551615/);
  });

  it('takes null for absent, as Go programs write it', () => {
    const text = formatJson(defaultSpec()).replace('"readonly": true', '"readonly": null');
    assert.equal(parseConfig(text).config.root.readonly, undefined);
  });

  it('takes docker’s unsigned -1 and empty texts for "not set"', () => {
    const { config } = check((c) => {
      c.linux.resources.memory = { swappiness: 2n ** 64n - 1n };
      c.linux.namespaces[0].path = '';
      c.linux.rootfsPropagation = '';
    });
    assert.deepEqual(config.linux?.resources?.memory, {});
    assert.deepEqual(config.linux?.namespaces?.[0], { type: 'pid' });
    assert.equal(config.linux?.rootfsPropagation, undefined);
  });

  it('has user 0:0 where none is named', () => {
    assert.deepEqual(check((c) => delete c.process.user).config.process.user, { uid: 0, gid: 0 });
  });

  it('may set parameters of its own namespaces', () => {
    const sysctl = { 'net.ipv4.ip_forward': '1', 'kernel/shmmax': '5', 'fs.mqueue.msg_max': '9' };
    assert.deepEqual(check((c) => (c.linux.sysctl = sysctl)).config.linux?.sysctl, sysctl);
  });

  it('may join namespaces and have -1 and 0 as limits', () => {
    const { warnings } = check((c) => {
      c.linux.namespaces[1].path = '/run/netns/x';
      c.linux.resources.memory = { limit: -1, swap: -1 };
      c.linux.resources.cpu = { quota: -1, period: 0, shares: 0 };
      c.linux.resources.pids = { limit: 0 };
    });
    assert.deepEqual(warnings, []);
  });
});

describe('names of kernel parameters', () => {
  const cases = [
    ['net.ipv4.ip_forward', 'net/ipv4/ip_forward'],
    ['net/ipv4/conf/eth0.1/forwarding', 'net/ipv4/conf/eth0.1/forwarding'],
    ['net.ipv4.conf.eth0/1.forwarding', 'net/ipv4/conf/eth0.1/forwarding'],
  ] as const;
  for (const [name, path] of cases) it(`${name} is ${path}`, () => assert.equal(sysctlPath(name), path));
});
