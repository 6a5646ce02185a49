/** `features`: what the core can do, as the OCI features document. */
import { featuresDocument } from '../../oci/features.ts';
import type { CommandContext } from '../context.ts';
import { goJson } from '../format.ts';

export async function featuresCommand(context: CommandContext): Promise<number> {
  const { versions } = context.deps;
  let libseccomp: string | undefined;
  try {
    libseccomp = versions.libseccomp();
  } catch {
    // Not installed: then there are no filters.
  }
  const document = featuresDocument({ version: versions.wherry, commit: versions.wherryd, libseccomp });
  context.print(`${goJson(document, '    ')}\n`);
  return 0;
}
