#!/usr/bin/env node
/**
 * The door to every script: `node scripts/run.mjs TASK [ARGS]` runs scripts/TASK.ts under the Node that package-lock.json pins,
 * whatever Node the machine has. Installs the packages first when they are missing or older than the lock file. Needs nothing but
 * Node 20 and npm, so that it works on a fresh clone.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [task, ...args] = process.argv.slice(2);
const script = join(root, task === 'bench' ? 'bench/main.ts' : `scripts/${task}.ts`);
if (task === undefined || !existsSync(script)) {
  process.stderr.write('usage: node scripts/run.mjs setup|build|gen|check|test|test-vm|demo|bench [ARGS]\n');
  process.exit(2);
}

installPackages();
const node = join(root, `node_modules/node-linux-${process.arch}/bin/node`);
if (!existsSync(node)) {
  process.stderr.write(
    `no pinned Node for ${process.platform} on ${process.arch}: Wherry runs on Linux, x64 or arm64\n`,
  );
  process.exit(1);
}
const env = { ...process.env, PATH: `${dirname(node)}:${process.env.PATH ?? ''}` };
const result = spawnSync(node, [script, ...args], { cwd: root, env, stdio: 'inherit' });
process.exit(result.status ?? 1);

function installPackages() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const stamp = join(root, 'node_modules/.installed-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  process.stdout.write('Installing packages (npm ci)\n');
  const npm = process.env.npm_execpath;
  const [command, first] = npm === undefined ? ['npm', []] : [process.execPath, [npm]];
  const installed = spawnSync(command, [...first, 'ci', '--no-progress'], { cwd: root, stdio: 'inherit' });
  if (installed.status !== 0) {
    process.stderr.write('npm ci failed; its messages are above\n');
    process.exit(1);
  }
  writeFileSync(stamp, lock);
}
