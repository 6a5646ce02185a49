/** The same commands for Wherry, runc and crun: exit codes, outputs and errors compared field by field. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { peers } from '../../support/debs.ts';
import { temporaryFolder, uniqueId } from '../../support/paths.ts';
import { Wherry } from '../../support/wherry.ts';
import { type AllowedDifference, allowedDifferences } from './allowed-differences.ts';
import { type Fields, playScenario, withoutUnified } from './scenario.ts';

test('Wherry, installed as runc, answers as runc and crun do', async () => {
  const { runc, crun, crunLibraries } = await peers(['bookworm']);
  await using wherry = new Wherry();
  const folder = temporaryFolder();
  try {
    // Under that name only runc's meanings exist.
    mkdirSync(join(folder, 'bin'));
    const installed = join(folder, 'bin/runc');
    symlinkSync(wherry.command, installed);
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
    const place = (name: string): string => {
      mkdirSync(join(folder, name, 'root'), { recursive: true, mode: 0o700 });
      return join(folder, name);
    };
    const ours = await playScenario(
      { name: 'wherry', command: [installed], env: wherry.env, folder: place('wherry') },
      uniqueId('w'),
    );
    const theirs = {
      runc: await playScenario({ name: 'runc', command: [runc], env, folder: place('runc') }, uniqueId('r')),
      crun: await playScenario(
        {
          name: 'crun',
          command: [...withoutUnified, crun],
          env: { ...env, LD_LIBRARY_PATH: crunLibraries },
          folder: place('crun'),
        },
        uniqueId('c'),
      ),
    };
    const unused = new Set(allowedDifferences);
    const found = (['runc', 'crun'] as const).flatMap((to) => differences(to, ours, theirs[to], unused));
    assert.deepEqual(found, []);
    assert.deepEqual(
      [...unused].map(({ to, field }) => `${to} ${field}`),
      [],
      'allowed, but no longer so',
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

function differences(
  to: 'runc' | 'crun',
  ours: Fields,
  theirs: Fields,
  unused: Set<AllowedDifference>,
): string[] {
  const names = new Set([...Object.keys(ours), ...Object.keys(theirs)]);
  return [...names].flatMap((name) => {
    const [our, their] = [ours[name], theirs[name]];
    // Where runc has a text, ours has it too, and may say more: the field, what to do.
    const same =
      our === their ||
      (name.endsWith('.error') && to === 'runc' && their !== undefined && our?.includes(their));
    if (same) return [];
    const allowed = allowedDifferences.filter(
      (one) => one.to === to && one.field.test(name) && matches(one.wherry, our) && matches(one.other, their),
    );
    for (const one of allowed) unused.delete(one);
    return allowed.length > 0
      ? []
      : [`${to}: ${name}: wherry ${JSON.stringify(our)}, ${to} ${JSON.stringify(their)}`];
  });
}

function matches(pattern: RegExp | undefined, value: string | undefined): boolean {
  return pattern === undefined || value === undefined
    ? pattern === undefined && value === undefined
    : pattern.test(value);
}
