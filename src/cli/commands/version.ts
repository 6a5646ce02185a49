/** `version` and --version: runc's lines (docker reads the first and "commit:"), then the builds of all parts. */
import type { CommandContext } from '../context.ts';
import type { CliDependencies } from '../dependencies.ts';
import type { ClientSession } from '../session.ts';

/** Version of the OCI runtime specification that config.json is checked against. */
const SPEC = '1.3.0';

export function versionText(session: ClientSession, deps: CliDependencies): string {
  const { version, ...parts } = versionsOf(session, deps);
  const lines = Object.entries(parts).map(([part, build]) => `${part}: ${build}\n`);
  return `wherry version ${version}\n${lines.join('')}`;
}

function versionsOf(session: ClientSession, { versions }: CliDependencies) {
  return {
    version: versions.wherry,
    commit: versions.wherryd,
    spec: SPEC,
    node: versions.node,
    libseccomp: installed(versions.libseccomp),
    client: session.request.build,
    keel: versions.keel,
    wherryd: versions.wherryd,
  };
}

/** The library is looked for when it is first needed; asking for the version is no reason to fail. */
function installed(libseccomp: () => string): string {
  try {
    return libseccomp();
  } catch {
    return 'not installed';
  }
}

export async function versionCommand(context: CommandContext): Promise<number> {
  const { session, deps, flags, print } = context;
  const json = flags.text('format') === 'json';
  print(json ? `${JSON.stringify(versionsOf(session, deps))}\n` : versionText(session, deps));
  return 0;
}
