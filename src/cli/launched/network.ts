/**
 * A network for `launch --network pasta`: pasta(1) connects the container's network namespace to the host's network from outside,
 * for root and for ordinary users alike. It is started by a hook once the namespace is there, and ends with it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../../errors.ts';
import { findProgram } from '../../linux/program-path.ts';
import type { Hook, Hooks, Mount } from '../../oci/types.ts';

/** Files of /etc that a launch's folder holds. */
const ETC_FILES = ['resolv.conf', 'hosts'] as const;
const PID_FILE = 'pasta.pid';
/** All that a network leaves in a launch's folder. */
export const NETWORK_FILES = [...ETC_FILES, PID_FILE] as const;
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

/**
 * pasta becomes a daemon when the network is up. No port of either side is shown to the other. Started by root it would become nobody, who may not
 * open the namespace: it stays root, with few capabilities, and gets the namespace as a descriptor. The state that a hook gets on its
 * standard input names the init (runtime-spec, config.md, Posix-platform Hooks).
 */
const START = `read -r state
pid=\${state#*\\"pid\\":}
pid=\${pid%%[ ,\\}]*}
set -- "$1" --config-net --quiet -t none -u none -T none -U none --pid "$2"
[ "$(id -u)" = 0 ] || exec "$@" "$pid"
exec 9< "/proc/$pid/ns/net"
exec "$@" --runas 0 --netns-only --netns /proc/self/fd/9`;

/** It holds the namespace, so it does not see its end. The number may have gone to another program. */
const END = `read -r pid < "$2" || exit 0
read -r name < "/proc/$pid/comm" || exit 0
case $name in pasta* | passt*) kill "$pid" ;; esac`;

/** Hooks that start pasta for a container and end it; `folder`: of the launch. */
export function pastaHooks(pasta: string, path: string, folder: string): Hooks {
  const hook = (script: string, timeout: number): Hook => ({
    path: '/bin/sh',
    args: ['sh', '-c', script, 'sh', pasta, join(folder, PID_FILE)],
    env: [`PATH=${path}`],
    timeout,
  });
  return { createRuntime: [hook(START, 20)], poststop: [hook(END, 5)] };
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
  return ETC_FILES.map((name) => ({
    destination: `/etc/${name}`,
    type: 'bind',
    source: join(folder, name),
    options: ['bind', 'rprivate'],
  }));
}
