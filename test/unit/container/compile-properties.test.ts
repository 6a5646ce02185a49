/** Any configuration that the checks let through becomes a tape or a located refusal, never a crash. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compileCreate } from '../../../src/container/compile/create.ts';
import { resctrlPlan } from '../../../src/container/resctrl.ts';
import { WherryError } from '../../../src/errors.ts';
import {
  ioClasses,
  memoryFlags,
  memoryModes,
  personalityFlags,
  schedulerFlags,
  schedulerPolicies,
} from '../../../src/linux/process-flags.ts';
import { checkConfig } from '../../../src/oci/config.ts';
import { launchSpec } from '../../../src/oci/launch.ts';
import { capabilityNames } from '../../../src/oci/names.ts';
import { unsupported } from '../../../src/oci/supported.ts';
import type { Spec } from '../../../src/oci/types.ts';
import { readImage } from '../../../src/tape/image.ts';
import { createInput } from './create-input.ts';
import '../../support/property-seed.ts';

const text = fc.string({ unit: 'grapheme' }).map((value) => value.replaceAll('\0', ''));
const path = text.map((value) => `/${value}`);
const names = (table: Readonly<Record<string, unknown>>) => fc.constantFrom(...Object.keys(table));
const list = fc.oneof(fc.constantFrom('', '0', '0-3', '1,5-6', '63', '9999', '3-1', 'x'), text);
const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const optional = { requiredKeys: [] };
const hook = fc.record(
  { path, args: fc.array(text), env: fc.array(text), timeout: fc.integer({ min: 1, max: 2 ** 31 - 1 }) },
  { requiredKeys: ['path'] },
);
const hooks = fc.array(hook, { maxLength: 3 });
const capabilities = fc.subarray([...capabilityNames]);

const processes = fc.record(
  {
    cwd: path,
    env: fc.array(text.map((value) => `A${value.replaceAll('=', '')}=${value}`)),
    args: fc.array(text, { minLength: 1 }),
    noNewPrivileges: fc.boolean(),
    capabilities: fc.record(
      {
        bounding: capabilities,
        permitted: capabilities,
        effective: capabilities,
        inheritable: capabilities,
        ambient: capabilities,
      },
      optional,
    ),
    scheduler: fc.record(
      {
        policy: names(schedulerPolicies),
        nice: int32,
        priority: int32,
        flags: fc.array(names(schedulerFlags)),
        runtime: uint64,
        deadline: uint64,
        period: uint64,
      },
      { requiredKeys: ['policy'] },
    ),
    ioPriority: fc.record(
      { class: names(ioClasses), priority: fc.integer({ min: -1, max: 8 }) },
      { requiredKeys: ['class'] },
    ),
    execCPUAffinity: fc.record({ initial: list, final: list }, optional),
    apparmorProfile: text,
    selinuxLabel: text,
    oomScoreAdj: fc.integer({ min: -1001, max: 1001 }),
    terminal: fc.boolean(),
  },
  optional,
);

const others = fc.record(
  {
    hooks: fc.record(
      {
        prestart: hooks,
        createRuntime: hooks,
        createContainer: hooks,
        startContainer: hooks,
        poststart: hooks,
        poststop: hooks,
      },
      optional,
    ),
    annotations: fc.dictionary(text, text),
    hostname: text,
    personality: fc.record({
      domain: fc.constantFrom('LINUX', 'LINUX32'),
      flags: fc.array(names(personalityFlags)),
    }),
    memoryPolicy: fc.record(
      { mode: names(memoryModes), nodes: list, flags: fc.array(names(memoryFlags)) },
      { requiredKeys: ['mode'] },
    ),
    sysctl: fc.dictionary(fc.oneof(fc.constantFrom('net.core.somaxconn', 'kernel.sem'), text), text),
    startAtOnce: fc.boolean(),
  },
  optional,
);

const word = fc.oneof(
  fc.constantFrom(
    'ro',
    'rro',
    'bind',
    'rbind',
    'tmpcopyup',
    'idmap',
    'ridmap',
    'shared',
    'rslave',
    'noatime',
  ),
  fc.constantFrom(
    'idmap=uids=0-1-1;gids=0-1-1',
    'idmap=uids=@0-0-9;gids=@0-0-9',
    `lowerdir=${'/l:'.repeat(200)}`,
  ),
  fc.integer({ min: 0, max: 6000 }).map((length) => `size=${'1'.repeat(length)}`),
  text,
);
const ranges = fc.array(fc.record({ containerID: fc.nat(9), hostID: fc.nat(9), size: fc.nat(9) }), {
  maxLength: 2,
});
const anyMount = fc.record(
  {
    destination: fc.oneof(fc.constantFrom('/dev', '/proc', '/sys', '/tmp', '/a/b'), path),
    type: fc.constantFrom('tmpfs', 'proc', 'sysfs', 'overlay', 'mqueue', 'bind', 'cgroup', 'x'),
    source: text,
    options: fc.array(word, { maxLength: 4 }),
    uidMappings: ranges,
    gidMappings: ranges,
  },
  { requiredKeys: ['destination', 'type', 'source'] },
);
const namespace = fc.record(
  { type: fc.constantFrom('pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup', 'time'), path },
  { requiredKeys: ['type'] },
);
const linuxFields = fc.record(
  {
    namespaces: fc.array(namespace, { maxLength: 6 }),
    uidMappings: ranges,
    gidMappings: ranges,
    netDevices: fc.dictionary(
      fc.oneof(fc.constantFrom('eth0', 'eth1'), text),
      fc.record({ name: text }, optional),
    ),
    intelRdt: fc.record({ closID: text, schemata: fc.array(text), memBwSchema: text }, optional),
    mountLabel: text,
    devices: fc.array(
      fc.record(
        { type: fc.constantFrom('c', 'b', 'p', 'u'), path, major: fc.nat(300), minor: fc.nat(300) },
        { requiredKeys: ['type', 'path'] },
      ),
      { maxLength: 3 },
    ),
    rootfsPropagation: fc.constantFrom('shared', 'rslave', 'private', ''),
  },
  optional,
);

describe('any mounts, namespaces and devices', () => {
  it('become a tape that can be read back, or an error with its place', () => {
    let compiled = 0;
    fc.assert(
      fc.property(
        fc.array(anyMount, { maxLength: 3 }),
        linuxFields,
        fc.infiniteStream(fc.nat(3)),
        (mounts, linux, dice) => {
          const raw = launchSpec({ id: 'x', args: ['sh'], machine: 'x86_64' });
          const some = Object.entries(linux).filter(() => dice.next().value === 0);
          Object.assign(raw, { mounts });
          Object.assign(raw.linux ?? {}, Object.fromEntries(some));
          try {
            const { config } = checkConfig(JSON.parse(JSON.stringify(raw, bigints)));
            const { instructions } = readImage(tapeOf(config, false));
            assert.ok(instructions.length > 0);
            compiled++;
          } catch (error) {
            assert.ok(error instanceof WherryError, String(error));
            assert.ok(['invalid-argument', 'unimplemented'].includes(error.kind), error.message);
            assert.ok(error.details.path, error.message);
          }
        },
      ),
      { numRuns: 300 },
    );
    assert.ok(compiled > 30, `only ${compiled} of the configurations were good ones`);
  });
});

function tapeOf(spec: Spec, startAtOnce: boolean): Uint8Array {
  const netDevices = Object.keys(spec.linux?.netDevices ?? {}).map((from) => ({
    from,
    to: from,
    index: 2,
    addresses: [],
  }));
  const resctrl = spec.linux?.intelRdt && resctrlPlan(spec.linux.intelRdt, 'x', '/resctrl');
  return compileCreate(createInput(spec, { netDevices, resctrl, startAtOnce })).image;
}

/** Of all fields only some at a time: with all of them hardly any configuration would be a good one. */
const few = fc.tuple(processes, others, fc.infiniteStream(fc.nat(5))).map(([process, other, dice]) => {
  const some = <T extends object>(fields: T): Partial<T> =>
    Object.fromEntries(Object.entries(fields).filter(() => dice.next().value === 0)) as Partial<T>;
  return { process: some(process), other: some(other) };
});

describe('any process, hooks and settings', () => {
  it('become a tape that can be read back, or an error with its place', () => {
    let compiled = 0;
    fc.assert(
      fc.property(few, ({ process, other }) => {
        const { personality, memoryPolicy, sysctl, startAtOnce = false, ...top } = other;
        const raw = launchSpec({ id: 'x', args: ['sh'], machine: 'x86_64' });
        Object.assign(raw, top);
        Object.assign(raw.process, process);
        Object.assign(raw.linux ?? {}, { personality, memoryPolicy, ...(sysctl && { sysctl }) });
        try {
          const { config } = checkConfig(JSON.parse(JSON.stringify(raw, bigints)));
          if (unsupported(config).length > 0) return;
          const { instructions } = readImage(tapeOf(config, startAtOnce));
          assert.ok(instructions.length > 0);
          compiled++;
        } catch (error) {
          assert.ok(error instanceof WherryError, String(error));
          assert.ok(['invalid-argument', 'unimplemented'].includes(error.kind), error.message);
          assert.ok(error.details.path, error.message);
        }
      }),
      { numRuns: 300 },
    );
    assert.ok(compiled > 50, `only ${compiled} of the configurations were good ones`);
  });
});

/** As config.json would be read: a number where it is exact. */
function bigints(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(BigInt.asUintN(53, value)) : value;
}
