/**
 * The suite's cases as tapes, without root: of each, what differs from the base configuration's tape is compared with
 * tape-goldens/<area>/<name>.txt, a refusal with its text. Numbers of instructions and registers are left out, so that a
 * change in one place does not show in all. UPDATE_GOLDENS=1 writes them.
 */
import assert from 'node:assert/strict';
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { compileCreate } from '../../src/container/compile/create.ts';
import type { NetDevicePlan } from '../../src/container/compile/net-devices.ts';
import { resctrlPlan } from '../../src/container/resctrl.ts';
import { WherryError } from '../../src/errors.ts';
import { SECCOMP_FILTER_FLAG_NEW_LISTENER } from '../../src/linux/constants.ts';
import { attribute } from '../../src/linux/netlink.ts';
import { checkConfig } from '../../src/oci/config.ts';
import { unsupported } from '../../src/oci/supported.ts';
import type { Spec } from '../../src/oci/types.ts';
import { disassemble } from '../../src/tape/disassemble.ts';
import { configOf, type JsonObject, readCases } from '../integration/oci-suite/cases.ts';

const folder = join(import.meta.dirname, 'tape-goldens');
const update = process.env['UPDATE_GOLDENS'] === '1';
const values = { id: 'case', bundle: '/bundle', 'ns.a': '/ns/a', 'ns.b': '/ns/b', 'link.a': 'eth7' };

/** One instruction, `return SECCOMP_RET_ALLOW`: what libseccomp makes of a profile differs from version to version. */
function allowAll(profile: string): { filter: Uint8Array; flags: number } {
  const filter = Uint8Array.of(6, 0, 0, 0, 0, 0, 0xff, 0x7f);
  return { filter, flags: profile.includes('SCMP_ACT_NOTIFY') ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0 };
}

/** As if the host had them, each with one address. */
function netDevicesOf(spec: Spec): NetDevicePlan[] {
  return Object.entries(spec.linux?.netDevices ?? {}).map(([from, { name }]) => ({
    from,
    to: name || from,
    index: 7,
    addresses: [{ family: 2, prefix: 24, attributes: attribute(2, Uint8Array.of(10, 0, 0, 1)) }],
  }));
}

function tapeOf(config: JsonObject): string {
  const { config: spec } = checkConfig(config);
  const refused = unsupported(spec);
  if (refused.length > 0)
    return `${refused.map(({ path, what }) => `refused: ${path}: ${what}`).join('\n')}\n`;
  const tape = compileCreate({
    token: 0n,
    id: 'case',
    spec,
    bundle: '/bundle',
    rootfs: '/bundle/rootfs',
    rootfsMounts: [],
    stateDir: '/state',
    libexec: '/libexec',
    stdio: { kind: 'inherit' },
    cgroup: {
      paths: {},
      relative: {},
      create: [],
      writes: [],
      procs: [],
      cloneInto: undefined,
      remove: [],
      warnings: [],
    },
    cgroups: { mode: 'none', hierarchies: [], unified: undefined, unifiedControllers: [] },
    netDevices: netDevicesOf(spec),
    resctrl: spec.linux?.intelRdt && resctrlPlan(spec.linux.intelRdt, 'case', '/sys/fs/resctrl'),
    seccomp: spec.linux?.seccomp === undefined ? undefined : allowAll(JSON.stringify(spec.linux.seccomp)),
  });
  return disassemble(tape);
}

/** What is new against the base, or why it is refused. */
function golden(base: string, config: JsonObject): string {
  try {
    return compare(base, tapeOf(config));
  } catch (error) {
    if (!(error instanceof WherryError) || error.kind === 'internal') throw error;
    return `${error.kind}: ${error.message}\n`;
  }
}

/** Steps of a tape: heading and instructions, without what changes when other steps do. */
function steps(text: string): string[] {
  const found: string[] = [];
  for (const line of text.trimEnd().split('\n')) {
    if (line.startsWith(' ') && found.length > 0) found[found.length - 1] += `\n${normal(line)}`;
    else found.push(normal(line));
  }
  return found;
}

function normal(line: string): string {
  return line
    .replace(/^ +\d+ {2}/, '    ')
    .replaceAll(/\br\d+\b/g, 'r_')
    .replaceAll(/@\d+/g, '')
    .replaceAll(/(data\[|data\+|data )0x[0-9a-f]+|(data\[|data\+|data )\d+/g, 'data_');
}

/** Steps that only one of the two has, in order, marked with + and -. */
function compare(base: string, text: string): string {
  const [before, after] = [steps(base), steps(text)];
  const left = new Map<string, number>();
  for (const step of before) left.set(step, (left.get(step) ?? 0) + 1);
  const added = after.filter((step) => {
    const count = left.get(step) ?? 0;
    if (count > 0) left.set(step, count - 1);
    return count === 0;
  });
  const removed = before.filter((step) => {
    const count = left.get(step) ?? 0;
    if (count > 0) left.set(step, count - 1);
    return count > 0;
  });
  return [...removed.map((step) => `- ${step}`), ...added.map((step) => `+ ${step}`)].join('\n').concat('\n');
}

describe('tapes of the configuration cases', () => {
  const base = tapeOf(configOf({ config: {} }, values));
  const cases = readCases().filter(({ noGolden }) => noGolden !== true);
  if (update) rmSync(folder, { recursive: true, force: true });

  const check = (name: string, found: string): void => {
    const path = join(folder, `${name}.txt`);
    if (update) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, found);
      return;
    }
    assert.equal(found, readFileSync(path, 'utf8'), name);
  };

  for (const one of cases) it(one.name, () => check(one.name, golden(base, configOf(one, values))));

  it('no golden tape is left of a case that is gone', () => {
    const known = new Set(cases.map(({ name }) => name));
    const found = globSync('**/*.txt', { cwd: folder }).map((file) => file.replace(/\.txt$/, ''));
    assert.deepEqual(
      found.filter((name) => !known.has(name)),
      [],
    );
  });
});
