/** buf's native program: a gRPC client that we did not write. The npm launcher in front of it would not pass our signals on. */
import { join } from 'node:path';
import { root } from './paths.ts';

const architecture = process.arch === 'arm64' ? 'aarch64' : 'x64';
export const buf = join(root, `node_modules/@bufbuild/buf-linux-${architecture}/bin/buf`);
