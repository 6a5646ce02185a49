/**
 * A network for `launch --network pasta`: pasta(1) connects the container's network namespace to the host's network from outside,
 * for root and for ordinary users alike. It is started by a hook once the namespace is there, and ends with it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../../errors.ts';
import { findProgram } from '../../linux/program-path.ts';
import type { Hook, Mount } from '../../oci/types.ts';

/** Files of /etc that a launch's folder holds. */
export const NETWORK_FILES = ['resolv.conf', 'hosts'] as const;
/** resolv.conf where the host's names servers that only the host can reach. */
const STUB = /^nameserver\s+127\./m;
const SYSTEMD_RESOLV = '/run/systemd/resolve/resolv.conf';

/** The program on the caller's PATH; failed-precondition with what to install. */
export async function findPasta(path: string): Promise<string> {
  const found = await findProgram('pasta', path);
  if (found !== undefined) return found;
  throw new WherryError(
    'failed-precondition',
    '--network pasta needs the program pasta, which is not in PATH',
    {
      path: '--network',
      hint: 'install it (Debian: apt-get install passt), or use --network host or none',
    },
  );
}

/** pasta becomes a daemon when the network is up. No port of either side is shown to the other. */
const HOOK = `read -r state
pid=\${state#*\\"pid\\":}
pid=\${pid%%[,\\}]*}
exec "$1" --config-net --quiet -t none -u none -T none -U none "$pid"`;

/** The state that a hook gets on its standard input names the init (runtime-spec, config.md, Posix-platform Hooks). */
export function pastaHook(pasta: string, path: string): Hook {
  return {
    path: '/bin/sh',
    args: ['sh', '-c', HOOK, 'sh', pasta],
    env: [`PATH=${path}`],
    timeout: 20,
  };
}

/** Files of /etc that name the network, written into the launch's folder and bound over the image's. */
export async function networkFiles(folder: string, hostname: string): Promise<Mount[]> {
  const host = await readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  const real = STUB.test(host) ? await readFile(SYSTEMD_RESOLV, 'utf8').catch(() => host) : host;
  const hosts = [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost ip6-loopback',
    'fe00:: ip6-localnet',
    'ff02::1 ip6-allnodes',
    'ff02::2 ip6-allrouters',
    `127.0.1.1 ${hostname}`,
    '',
  ].join('\n');
  await writeFile(join(folder, 'resolv.conf'), real, { mode: 0o644 });
  await writeFile(join(folder, 'hosts'), hosts, { mode: 0o644 });
  return NETWORK_FILES.map((name) => ({
    destination: `/etc/${name}`,
    type: 'bind',
    source: join(folder, name),
    options: ['bind', 'rprivate'],
  }));
}
