import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checkConfig, parseConfig } from '../../../src/oci/config.ts';
import { formatJson } from '../../../src/oci/json.ts';
import { launchSpec } from '../../../src/oci/launch.ts';
import { capabilityNames, rlimitNames } from '../../../src/oci/names.ts';
import { formatPath } from '../../../src/oci/problems.ts';
import { unsupported } from '../../../src/oci/supported.ts';
import type { Spec } from '../../../src/oci/types.ts';
import { invalid, type Loose } from './support.ts';
import '../../support/property-seed.ts';

const text = fc.string({ unit: 'grapheme' }).map((value) => value.replaceAll('\0', ''));
const path = text.map((value) => `/${value}`);
const id = fc.integer({ min: 0, max: 0xffff_fffe });
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const optional = { requiredKeys: [] };

const rlimits = fc
  .uniqueArray(fc.constantFrom(...rlimitNames))
  .chain((types) =>
    fc.tuple(
      ...types.map((type) =>
        fc.tuple(uint64, uint64).map(([a, b]) => ({ type, soft: (a * b) / 2n ** 64n, hard: a })),
      ),
    ),
  );
const capabilities = fc
  .subarray([...capabilityNames])
  .map((names) => ({ bounding: [...names], effective: [...names], permitted: names }));

/** Configurations that the specification allows. */
const specs = fc
  .record(
    {
      args: fc
        .array(text, { minLength: 1 })
        .map(([first, ...rest]) => [first === '' ? 'sh' : first!, ...rest]),
      env: fc.array(
        fc.tuple(fc.stringMatching(/^[A-Za-z_]+$/), text).map(([name, value]) => `${name}=${value}`),
      ),
      cwd: path,
      user: fc.record(
        { uid: id, gid: id, umask: fc.integer({ min: 0, max: 0o777 }), additionalGids: fc.array(id) },
        { requiredKeys: ['uid', 'gid'] },
      ),
      capabilities,
      rlimits,
      maskedPaths: fc.array(path),
      memory: fc.record(
        { limit: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), disableOOMKiller: fc.boolean() },
        optional,
      ),
      annotations: fc.dictionary(text, text),
      mounts: fc.array(
        fc.record(
          // fast-check likes the word "bind", which would need a source.
          {
            destination: path,
            type: fc.constantFrom('tmpfs', 'proc'),
            options: fc.array(text.filter((word) => !/^r?bind$/.test(word))),
          },
          { requiredKeys: ['destination', 'type'] },
        ),
      ),
    },
    { requiredKeys: ['args', 'cwd', 'user'] },
  )
  .map(({ args, env, cwd, user, capabilities, rlimits, maskedPaths, memory, annotations, mounts }): Spec => {
    const spec = launchSpec({ id: 'x', args, machine: 'x86_64' });
    Object.assign(spec.process, {
      cwd,
      user,
      ...(env && { env }),
      ...(capabilities && { capabilities }),
      ...(rlimits && { rlimits }),
    });
    if (maskedPaths) spec.linux!.maskedPaths = maskedPaths;
    if (memory) spec.linux!.resources!.memory = memory;
    if (annotations) spec.annotations = annotations;
    if (mounts) spec.mounts = mounts;
    return spec;
  });

/** Places of every value in a configuration. */
function places(value: unknown, keys: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [keys];
  const entries: [string | number, unknown][] = Array.isArray(value)
    ? [...value.entries()]
    : Object.entries(value);
  return [keys, ...entries.flatMap(([key, member]) => places(member, [...keys, key]))];
}

describe('any configuration that the specification allows', () => {
  it('is read from its text as it was written', () => {
    fc.assert(
      fc.property(specs, (spec) => {
        const { config } = parseConfig(formatJson(spec));
        assert.equal(formatJson(config), formatJson(checkConfig(spec).config));
        assert.doesNotThrow(() => unsupported(config));
      }),
    );
  });
});

describe('any configuration with a wrong value', () => {
  it('is refused with the place of that value', () => {
    const wrong = fc.constantFrom<unknown>(Number.NaN, { wrong: Symbol }, [[]], () => undefined, undefined);
    fc.assert(
      fc.property(specs, fc.nat(), wrong, (good, at, value) => {
        const spec = structuredClone(good);
        const all = places(spec).filter((keys) => keys.length > 0);
        const keys = all[at % all.length]!;
        const parent = keys.slice(0, -1).reduce<Loose>((node, key) => node[key], spec);
        const old = parent[keys.at(-1)!];
        // Objects take objects and lists take nothing but their own items, so each old value has its own wrong ones.
        const isObject = typeof old === 'object' && !Array.isArray(old);
        fc.pre(value !== undefined || Array.isArray(parent));
        fc.pre(!(isObject && typeof value === 'object' && !Array.isArray(value)));
        parent[keys.at(-1)!] = value;
        const error = invalid(() => checkConfig(spec));
        assert.ok(
          error.details.path?.startsWith(formatPath(keys)),
          `${error.message} at ${formatPath(keys)}`,
        );
      }),
      { numRuns: 300 },
    );
  });
});

describe('any value at all', () => {
  it('is a configuration or a located error', () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withNullPrototype: true }), (value) => {
        const error = invalid(() => checkConfig(value));
        assert.match(error.message, /^config\.json: .*expected .*, found /s);
      }),
    );
  });

  it('as bytes is never more than an error', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => assert.ok(invalid(() => parseConfig(bytes)).details.path)),
    );
  });
});
