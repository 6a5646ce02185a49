/** A listening gRPC socket as wherryd gets it, and buf as a client that we did not write. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ShimServices } from '../../../../shim/main.ts';

const repository = fileURLToPath(new URL('../../../..', import.meta.url));

/** The part of Node's pipe handle that binds without listening: a descriptor can be watched only once. */
interface PipeHandle {
  fd: number;
  bind(path: string): number;
  close(): void;
}

/** Binds `path` and serves it by descriptor, as wherryd does with keel's. The result closes what was bound. */
export async function serveOnDescriptor(services: ShimServices, path: string): Promise<{ close(): void }> {
  const { Pipe, constants } = Reflect.get(process, 'binding').call(process, 'pipe_wrap') as {
    Pipe: new (type: number) => PipeHandle;
    constants: { SERVER: number };
  };
  const handle = new Pipe(constants.SERVER);
  const error = handle.bind(path);
  if (error !== 0) throw new Error(`bind ${path}: ${error}`);
  await services.serveGrpc(handle.fd);
  return handle;
}

export interface CurlResult {
  code: number;
  /** One per message. */
  messages: Record<string, unknown>[];
  stderr: string;
}

/** `buf curl` with nothing but reflection. */
export function bufCurl(
  path: string,
  method: string,
  data = '{}',
  headers: string[] = [],
): Promise<CurlResult> {
  const words = [
    'curl',
    '--protocol',
    'grpc',
    '--http2-prior-knowledge',
    '--unix-socket',
    path,
    '--data',
    data,
  ];
  for (const header of headers) words.push('--header', header);
  return buf([...words, `http://localhost/${method}`]);
}

/** Names that the server lists. */
export async function bufServices(path: string): Promise<string[]> {
  const { stdout } = await run([
    'curl',
    '--protocol',
    'grpc',
    '--http2-prior-knowledge',
    '--unix-socket',
    path,
    '--list-services',
    'http://localhost',
  ]);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}

async function buf(words: string[]): Promise<CurlResult> {
  const { code, stdout, stderr } = await run(words);
  const messages = stdout
    .split(/\n(?=\{)/)
    .filter((text) => text.trim() !== '')
    .map((text) => JSON.parse(text) as Record<string, unknown>);
  return { code, messages, stderr };
}

function run(words: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(
      join(repository, 'node_modules/.bin/buf'),
      words,
      { timeout: 30_000 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, stdout, stderr });
      },
    );
  });
}
