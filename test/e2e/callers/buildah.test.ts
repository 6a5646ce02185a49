/** buildah 1.28 with Wherry as its runtime: an image built with RUN steps. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cgroupRoots } from '../../support/cgroups.ts';
import { peers } from '../../support/debs.ts';
import { writeRootfs } from '../../support/image.ts';
import { temporaryFolder } from '../../support/paths.ts';
import { type RunResult, run } from '../../support/run.ts';
import { stopWherry } from '../../support/wherry.ts';
import { CallerPrograms, mark, runtimeScript } from './packages.ts';

describe('buildah', () => {
  let folder: string;
  let buildah: (args: readonly string[]) => Promise<RunResult>;
  let bud: (steps: readonly string[]) => Promise<RunResult>;

  before(async () => {
    folder = temporaryFolder();
    const programs = await CallerPrograms.open();
    for (const name of ['w', 'root', 'run', 'context', 'context/rootfs'])
      mkdirSync(join(folder, name), { mode: 0o700 });
    await writeRootfs((await peers(['bookworm'])).busybox, join(folder, 'context/rootfs'));
    const runtime = process.env['CALLERS_RUNTIME'] ?? runtimeScript(folder, join(folder, 'w'));
    const command = programs.script(join(folder, 'buildah'), programs.path('buildah'), {});
    writeFileSync(join(folder, 'policy.json'), '{"default": [{"type": "insecureAcceptAnything"}]}');
    writeFileSync(
      join(folder, 'containers.conf'),
      '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n',
    );
    const env = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: folder,
      TMPDIR: folder,
      CONTAINERS_CONF: join(folder, 'containers.conf'),
      ...mark(),
    };
    const globals = [
      '--root',
      join(folder, 'root'),
      '--runroot',
      join(folder, 'run'),
      '--storage-driver',
      'vfs',
    ];
    buildah = (args) => run(command, [...globals, ...args], { env, timeout: 60_000 });
    bud = (steps) => {
      const file = ['FROM scratch', 'COPY rootfs /', ...steps, ''].join('\n');
      writeFileSync(join(folder, 'context/Containerfile'), file);
      const isolation = ['--isolation', 'oci', '--runtime', runtime, '--network', 'host'];
      const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=4096:4096'];
      const policy = ['--signature-policy', join(folder, 'policy.json')];
      return buildah(['bud', ...isolation, ...limits, ...policy, '-t', 'built', join(folder, 'context')]);
    };
  });

  after(async () => {
    await stopWherry(join(folder, 'w'));
    rmSync(folder, { recursive: true, force: true });
  });

  test('RUN steps see their root, their environment and their user', async () => {
    const result = await bud([
      'ENV COLOUR=blue',
      'RUN echo $COLOUR > /made && id -u >> /made',
      'USER 65534',
      'RUN id -u > /tmp/user; echo spoken by the step',
    ]);
    assert.equal(result.code, 0, result.stdout + result.stderr);
    assert.match(result.stdout, /spoken by the step/);
    if (process.env['CALLERS_RUNTIME'] === undefined) assert.ok(existsSync(join(folder, 'w/keel.sock')));
    const policy = ['--signature-policy', join(folder, 'policy.json')];
    const made = await buildah(['from', '--name', 'look', ...policy, 'localhost/built']);
    assert.equal(made.code, 0, made.stderr);
    const root = (await buildah(['mount', 'look'])).stdout.trim();
    assert.equal(readFileSync(join(root, 'made'), 'utf8'), 'blue\n0\n');
    assert.equal(readFileSync(join(root, 'tmp/user'), 'utf8'), '65534\n');
    await buildah(['rm', 'look']);
  });

  test('a step that fails ends the build with its exit code', async () => {
    const result = await bud(['RUN exit 7']);
    assert.match(result.stderr, /exit status 7/);
    assert.notEqual(result.code, 0);
  });

  test('a program that is not there is named', async () => {
    const result = await bud(['RUN ["/not/there"]']);
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, /\/not\/there.*no such file or directory/);
  });

  test('nothing stays behind', () => {
    for (const root of cgroupRoots()) assert.doesNotMatch(readdirSync(root).join(' '), /buildah/);
  });
});
