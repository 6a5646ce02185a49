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
      const ours = defaultSpec(options);
      const cgroupNamespace = config.linux?.namespaces?.filter(({ type }) => type === 'cgroup') ?? [];
      if (cgroupNamespace.length > 0) assert.fail('this test is written for a host with cgroup v1');
      delete config.process.capabilities?.ambient;
      assert.deepEqual({ ...config, ociVersion: ours.ociVersion, hostname: ours.hostname }, ours);
    });
  }
});
