/** What a create asks for: the bundle's config.json, or the one that came with the request, checked and made fit for who asks. */
import { join } from 'node:path';
import { withMemoryAnnotations } from '../cgroup/annotations.ts';
import { WherryError } from '../errors.ts';
import { readSmallFile } from '../linux/small-file.ts';
import { parseConfig } from '../oci/config.ts';
import { unsupported } from '../oci/supported.ts';
import type { Spec } from '../oci/types.ts';
import { checkLabels } from './lsm.ts';
import { specForUser, type UserSpec } from './rootless.ts';
import { subordinatesOf, type UserIds } from './subordinate-ids.ts';
import type { CreateRequest } from './types.ts';

export interface Asker {
  /** Not root: whose containers these are. */
  user: UserIds | undefined;
  /** The host has cgroup v2 and nothing else. */
  unified: boolean;
  /** Hears what is deprecated or without effect in config.json. */
  warn(message: string): void;
}

/** @throws WherryError unimplemented, which names every field that this version does not apply; invalid-argument as parseConfig */
export async function readSpec(
  request: Pick<CreateRequest, 'bundle' | 'config'>,
  { user, unified, warn }: Asker,
): Promise<UserSpec> {
  const config = request.config ?? (await readBundle(request.bundle, warn));
  checkLabels(config);
  const refused = unsupported(config, unified ? 2 : 1);
  const first = refused[0];
  if (first !== undefined) {
    const problems = refused.map(({ path, what }) => `config.json: ${path}: ${what}`);
    throw new WherryError('unimplemented', problems.join('; '), { path: first.path });
  }
  const own =
    user === undefined
      ? { spec: config, helpers: {} }
      : specForUser(config, user, await subordinatesOf(user));
  return { ...own, spec: withMemoryAnnotations(own.spec, unified) };
}

/** @throws WherryError invalid-argument, path bundle or that of the field */
export async function readBundle(bundle: string, warn: (message: string) => void = () => {}): Promise<Spec> {
  const { config, warnings } = parseConfig(await readConfig(bundle));
  for (const warning of warnings) warn(warning);
  return config;
}

async function readConfig(bundle: string): Promise<Uint8Array> {
  const path = join(bundle, 'config.json');
  try {
    return await readSmallFile(path);
  } catch (error) {
    throw new WherryError(
      'invalid-argument',
      `cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`,
      {
        path: 'bundle',
        hint: 'a bundle is a folder with config.json and the root filesystem; `wherry spec` writes a config.json',
        cause: error,
      },
    );
  }
}

/** Absolute; config.json's may be relative to the bundle. */
export function rootfsOf(spec: Spec, bundle: string): string {
  const path = spec.root?.path ?? 'rootfs';
  return path.startsWith('/') ? path : join(bundle, path);
}
