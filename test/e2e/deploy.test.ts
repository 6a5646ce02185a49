/** The files in deploy/ are read by the programs they are for. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ContainerdVersion, peers } from '../support/debs.ts';
import { root, temporaryFolder } from '../support/paths.ts';
import { run } from '../support/run.ts';

const dropIns: readonly [ContainerdVersion, string, string][] = [
  ['1.6', 'wherry-v2.toml', 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wherry'],
  ['1.7', 'wherry-v2.toml', 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wherry'],
  ['2.1', 'wherry-v3.toml', "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wherry"],
];

describe('deploy', () => {
  let folder: string;
  before(() => {
    folder = temporaryFolder();
  });
  after(() => {
    rmSync(folder, { recursive: true });
  });

  for (const [version, file, table] of dropIns) {
    test(`containerd ${version} takes ${file}`, async () => {
      const home = join(folder, version);
      mkdirSync(home);
      const main = join(home, 'config.toml');
      const lines = [
        `version = ${version === '2.1' ? 3 : 2}`,
        `root = "${home}/root"`,
        `state = "${home}/state"`,
        `imports = ["${join(root, 'deploy/containerd', file)}"]`,
      ];
      writeFileSync(main, `${lines.join('\n')}\n`);
      const containerd = join((await peers()).containerd(version), 'containerd');
      const { code, stdout, stderr } = await run(containerd, ['--config', main, 'config', 'dump']);
      assert.equal(code, 0, stderr);
      const section = stdout.split(/\n(?=\s*\[)/).find((text) => text.trim().startsWith(`[${table}]`));
      assert.match(section ?? '', /runtime_type = ["']io\.containerd\.wherry\.v1["']/, stdout);
    });
  }
});
