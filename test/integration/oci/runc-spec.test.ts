import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseConfig } from '../../../src/oci/config.ts';
import { defaultSpec } from '../../../src/oci/defaults.ts';
import { peers } from '../../support/debs.ts';
import { must } from '../../support/run.ts';

/** What `runc spec` writes on this machine. */
async function runcSpec(...flags: string[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'wherry-test-spec-'));
  try {
    await must((await peers()).runc, ['spec', '--bundle', folder, ...flags]);
    return readFileSync(join(folder, 'config.json'), 'utf8');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("runc's example", () => {
  const rootless = { uid: process.geteuid!(), gid: process.getegid!() };
  for (const [flags, options] of [
    [[], {}],
    [['--rootless'], { rootless }],
  ] as const) {
    it(`runc spec ${flags.join(' ')}: ours differs in version, host name and the ambient set alone`, async () => {
      const { config, warnings } = parseConfig(await runcSpec(...flags));
      assert.deepEqual(warnings, []);
      const cgroupVersion = config.linux?.namespaces?.some(({ type }) => type === 'cgroup') ? 2 : 1;
      const ours = defaultSpec({ ...options, cgroupVersion });
      delete config.process.capabilities?.ambient;
      assert.deepEqual({ ...config, ociVersion: ours.ociVersion, hostname: ours.hostname }, ours);
    });
  }
});
