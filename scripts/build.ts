/**
 * `npm run build`: leaves a relocatable tree in dist/.
 *
 *   dist/bin/wherry, dist/bin/containerd-shim-wherry-v1    the native client, one file with two names
 *   dist/share/man, bash-completion, zsh, fish             manual pages and completions
 *   dist/libexec/wherry/keel, player, copyup, pause        native
 *   dist/libexec/wherry/node                               the pinned Node
 *   dist/libexec/wherry/wherryd.mjs, lib/, cache/          the bundled daemon and V8's code cache of it
 *   dist/libexec/wherry/node_modules/@koromix/…            koffi's compiled half
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { completionFor } from '../src/cli/completion.ts';
import { manPages } from '../src/cli/man.ts';
import { cache, dist, root } from '../test/support/paths.ts';
import { installSystemPackages } from './setup.ts';
import { capture, node, say, show } from './tools.ts';

/** The modules that may be wherryd's entry; the first that exists is. It exports `main()`. */
const entries = ['shim/wherryd.ts', 'src/daemon/main.ts'];

export async function buildAll(): Promise<void> {
  installSystemPackages();
  const version = buildName();
  const native = compileNative(version);

  // Built beside and moved into place, so that a running daemon never sees half a tree.
  const work = `${dist}.new`;
  rmSync(work, { recursive: true, force: true });
  const bin = join(work, 'bin');
  const libexec = join(work, 'libexec/wherry');
  mkdirSync(bin, { recursive: true });
  mkdirSync(libexec, { recursive: true });
  install(join(native, 'wherry'), join(bin, 'wherry'));
  linkSync(join(bin, 'wherry'), join(bin, 'containerd-shim-wherry-v1'));
  for (const name of ['keel', 'player', 'copyup', 'pause']) install(join(native, name), join(libexec, name));
  linkOrCopy(node, join(libexec, 'node'));
  writeHelp(join(work, 'share'));
  await bundle(libexec, version);
  rmSync(dist, { recursive: true, force: true });
  renameSync(work, dist);
  warmCodeCache();
}

/** Manual pages and completions, where a prefix such as /usr/local has them. */
function writeHelp(share: string): void {
  const man = join(share, 'man/man1');
  mkdirSync(man, { recursive: true });
  for (const [name, text] of manPages(packageVersion())) writeFileSync(join(man, name), text);
  for (const [shell, path] of [
    ['bash', 'bash-completion/completions/wherry'],
    ['zsh', 'zsh/site-functions/_wherry'],
    ['fish', 'fish/vendor_completions.d/wherry.fish'],
  ] as const) {
    mkdirSync(dirname(join(share, path)), { recursive: true });
    writeFileSync(join(share, path), completionFor(shell));
  }
}

function packageVersion(): string {
  return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version;
}

/** Compiles the C in a folder of its own; all of it when the name of the build has changed, as every program carries it. */
function compileNative(version: string): string {
  const folder = join(cache, 'native');
  const stamp = join(folder, 'name');
  const known = existsSync(stamp) && readFileSync(stamp, 'utf8') === version;
  const options = [
    `OUT=${folder}`,
    `BUILD=${version}`,
    `-j${cpus().length}`,
    ...(known ? [] : ['--always-make']),
  ];
  if (show('make', ['-s', '-C', 'native', ...options, 'all']) !== 0)
    throw new Error('the native parts did not build');
  writeFileSync(stamp, version);
  return folder;
}

/** What `git describe` says, or the package's version outside of a clone. */
function buildName(): string {
  const given = process.env['BUILD'];
  if (given !== undefined && given !== '') return given;
  try {
    return capture('git', ['describe', '--always', '--dirty']).toString().trim();
  } catch {
    return 'unknown';
  }
}

async function bundle(libexec: string, version: string): Promise<void> {
  const entry = entries.map((path) => join(root, path)).find((path) => existsSync(path));
  if (entry === undefined) throw new Error(`no entry for wherryd: none of ${entries.join(', ')} exists`);
  await build({
    entryPoints: { wherryd: entry },
    outdir: join(libexec, 'lib'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    minifySyntax: true,
    sourcemap: 'linked',
    sourcesContent: false,
    legalComments: 'none',
    logLevel: 'warning',
    define: { 'process.env.WHERRY_BUILD': JSON.stringify(version) },
    // CommonJS packages inside an ES module call require for Node's own modules.
    banner: {
      js: "import { createRequire as bannerRequire } from 'node:module'; const require = bannerRequire(import.meta.url);",
    },
  });
  writeFileSync(
    join(libexec, 'wherryd.mjs'),
    [
      "import { enableCompileCache } from 'node:module';",
      "enableCompileCache({ directory: import.meta.dirname + '/cache', portable: true });",
      "const { main } = await import('./lib/wherryd.mjs');",
      'await main();',
      '',
    ].join('\n'),
  );
  const koffi = `node_modules/@koromix/koffi-linux-${process.arch}`;
  mkdirSync(join(libexec, koffi), { recursive: true });
  for (const name of ['package.json', 'index.js', `linux_${process.arch}`]) {
    cpSync(join(root, koffi, name), join(libexec, koffi, name), { recursive: true });
  }
}

/** Loads every part of the bundle once, so that wherryd's first start finds V8's code cache. */
function warmCodeCache(): void {
  const libexec = join(dist, 'libexec/wherry');
  const script = `
    import { enableCompileCache, flushCompileCache } from 'node:module';
    import { readdirSync } from 'node:fs';
    enableCompileCache({ directory: '${libexec}/cache', portable: true });
    for (const name of readdirSync('${libexec}/lib')) if (name.endsWith('.mjs')) await import('${libexec}/lib/' + name);
    flushCompileCache();
    process.exit(0);`;
  capture(join(libexec, 'node'), ['--input-type=module', '--eval', script]);
}

function install(from: string, to: string): void {
  copyFileSync(from, to);
  chmodSync(to, 0o755);
}

/** Node is 120 MB: a second name where the filesystem allows it. */
function linkOrCopy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  try {
    linkSync(from, to);
  } catch {
    install(from, to);
  }
}

if (import.meta.main) {
  await buildAll();
  say(`built ${dist}`);
}
