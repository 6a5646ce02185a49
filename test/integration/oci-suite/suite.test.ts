/** Every case of cases/ through `wherry run` and a warm daemon, on the real kernel. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { uniqueId } from '../../support/paths.ts';
import { Wherry } from '../../support/wherry.ts';
import { type Case, configOf, differences, fill, type Json, type JsonObject, readCases } from './cases.ts';
import { HostSide, writeSmallRoot } from './host.ts';
import { unmet } from './needs.ts';

/** Parts of names, with commas between them. */
const only = (process.env['CASES'] ?? '').split(',');

describe('configuration cases', { concurrency: 4 }, () => {
  let wherry: Wherry;
  before(async () => {
    wherry = new Wherry();
    mkdirSync(join(wherry.folder, 'store'));
  });
  after(() => wherry[Symbol.asyncDispose]());

  for (const one of readCases()) {
    if (!only.some((part) => one.name.includes(part))) continue;
    const missing = unmet(one.needs);
    it(one.name, { skip: missing === undefined ? false : `this machine has no ${missing}` }, () =>
      runCase(wherry, one),
    );
  }
});

async function runCase(wherry: Wherry, one: Case): Promise<void> {
  const id = uniqueId(one.name.replaceAll(/\W+/g, '-').slice(0, 40));
  const bundle = join(wherry.folder, id);
  await using host = new HostSide(bundle);
  await writeSmallRoot(join(bundle, 'rootfs'), join(wherry.folder, 'store'));
  for (const step of one.host ?? []) await host.make(step);
  const values = { id, bundle, ...host.values };
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(configOf(one, values)));
  const result = await wherry.run(['run', '-b', bundle, id]);
  const said = `stdout: ${result.stdout.slice(0, 2000)}\nstderr: ${result.stderr}`;
  const { expect } = one;
  if ('error' in expect) {
    assert.notEqual(result.code, 0, said);
    if (expect.exit !== undefined) assert.equal(result.code, expect.exit, said);
    for (const text of expect.error) assert.ok(result.stderr.includes(text), `no "${text}" in ${said}`);
    // Nothing is left behind: the same id may be used at once.
    const state = await wherry.run(['state', id]);
    assert.match(state.stderr, /does not exist/);
    return;
  }
  assert.equal(result.code, expect.exit ?? 0, said);
  if (expect.stdout !== undefined)
    assert.equal(result.stdout.trim(), fill(expect.stdout, values), result.stderr);
  if (expect.stderr !== undefined) assert.match(result.stderr, new RegExp(expect.stderr));
  if (expect.json !== undefined) {
    const found = byMountPoint(JSON.parse(result.stdout) as JsonObject);
    const left = differences(found, fill(expect.json, values));
    assert.deepEqual(left, [], one.name);
  }
  for (const [path, content] of Object.entries(expect.files ?? {})) {
    const there = existsSync(join(bundle, path));
    assert.equal(there ? readFileSync(join(bundle, path), 'utf8').trim() : null, content, path);
  }
}

/** mounts as an object by mount point, the last one on a point counts; options and tags as lists. */
function byMountPoint(found: JsonObject): JsonObject {
  if (!Array.isArray(found['mounts'])) return found;
  const split = (value: Json | undefined, sign: string): string[] =>
    String(value ?? '')
      .split(sign)
      .filter((text) => text !== '');
  const mounts: JsonObject = {};
  for (const entry of found['mounts'] as JsonObject[]) {
    mounts[String(entry['point'])] = {
      ...entry,
      options: split(entry['options'], ','),
      super: split(entry['super'], ','),
      tags: split(entry['tags'], ' ').map((tag) => tag.split(':')[0] ?? ''),
    };
  }
  return { ...found, mounts };
}
