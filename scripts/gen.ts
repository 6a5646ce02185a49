/** `npm run gen`: writes the codecs in shim/gen from proto/. `generate(folder)` writes them elsewhere, for the drift check. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../test/support/paths.ts';
import { capture, node, packaged } from './tools.ts';

/** Writes <folder>/shim/gen. */
export function generate(folder: string): void {
  capture(packaged('buf'), ['generate', '-o', folder]);
  const descriptors = capture(packaged('buf'), [
    'build',
    '--exclude-source-info',
    '-o',
    '-#format=binpb',
    '--as-file-descriptor-set',
  ]);
  mkdirSync(join(folder, 'shim/gen'), { recursive: true });
  writeFileSync(
    join(folder, 'shim/gen/descriptors.ts'),
    capture(node, ['proto/describe.mjs'], { input: descriptors }),
  );
}

if (import.meta.main) generate(root);
