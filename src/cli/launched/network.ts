/**
 * A network for `launch --network pasta`: pasta(1) connects the container's network namespace to the host's network from outside,
 * for root and for ordinary users alike. It is started by a hook once the namespace is there, and ends with it.
 */
import { constants } from 'node:fs';
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../../errors.ts';
import { findProgram } from '../../linux/program-path.ts';
import type { Hook, Hooks, Mount } from '../../oci/types.ts';
import { reason } from '../bundle.ts';

/** Files of /etc that a launch's folder holds. */
const ETC_FILES = ['resolv.conf', 'hosts'] as const;
const PID_FILE = 'pasta.pid';
const TUN = '/dev/net/tun';
/** All that a network leaves in a launch's folder. */
export const NETWORK_FILES = [...ETC_FILES, PID_FILE] as const;
/** A resolv.conf of servers that only the host can reach. */
const STUB = /^nameserver\s+(127\.|::1\s*$)/m;
const SYSTEMD_RESOLV = '/run/systemd/resolve/resolv.conf';
/** For such a host: pasta hands on what is sent there. */
const FORWARDER = '169.254.1.1';

/** The program on the caller's PATH; failed-precondition with what to install. */
export async function findPasta(path: string): Promise<string> {
  const found = await findProgram('pasta', path);
  if (found === undefined)
    throw refused(
      '--network pasta needs the program pasta, which is not in PATH',
      'install it (Debian: apt-get install passt), or use --network host or none',
    );
  const problem = await access(TUN, constants.R_OK | constants.W_OK).then(() => undefined, reason);
  if (problem === undefined) return found;
  throw refused(
    `--network pasta needs ${TUN}: ${problem}`,
    'let root make it (modprobe tun) with mode 0666 (chmod 666 /dev/net/tun), or use --network host or none',
  );
}

/** What the hook that starts pasta has said, as an error of the flag. */
export function explainPasta(thrown: unknown): unknown {
  if (!(thrown instanceof WherryError) || !thrown.details.path?.startsWith('hooks.createRuntime'))
    return thrown;
  const said = thrown.message.replace(/^hooks\.createRuntime\[\d+\]: /, '');
  return refused(`--network pasta: pasta: ${said}`, 'use --network host or none');
}

function refused(message: string, hint: string): WherryError {
  return new WherryError('failed-precondition', message, { path: '--network', hint });
}

/**
 * pasta becomes a daemon when the network is up. No port of either side is shown to the other. Started by root it would become nobody, who may not
 * open the namespace: it stays root, with few capabilities, and gets the namespace as a descriptor. The state that a hook gets on its
 * standard input names the init (runtime-spec, config.md, Posix-platform Hooks).
 */
const START = `read -r state
pid=\${state#*\\"pid\\":}
pid=\${pid%%[ ,\\}]*}
set -- "$1" --config-net --quiet -t none -u none -T none -U none --dns-forward ${FORWARDER} --pid "$2"
if [ "$(id -u)" = 0 ]; then
  exec 9< "/proc/$pid/ns/net"
  set -- "$@" --runas 0 --netns-only --netns /proc/self/fd/9
else
  set -- "$@" "$pid"
fi
said=$("$@" 2>&1) && exit 0
while read -r line; do
  case $line in *' to syslog') ;; *) echo "$line" ;; esac
done >&2 << END
$said
END
exit 1`;

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

/** The host's resolv.conf, with servers that are reached from another network. */
async function resolvConf(forwarded: boolean): Promise<string> {
  const host = await readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  if (!forwarded || !STUB.test(host)) return host;
  const real = await readFile(SYSTEMD_RESOLV, 'utf8').catch(() => '');
  if (/^nameserver\s/m.test(real) && !STUB.test(real)) return real;
  const others = host.split('\n').filter((line) => !/^\s*nameserver\s/.test(line) && line !== '');
  return `${[`nameserver ${FORWARDER}`, ...others].join('\n')}\n`;
}

/** Files of /etc that name the network, written into the launch's folder and bound over the image's. */
export async function networkFiles(folder: string, hostname: string, network: string): Promise<Mount[]> {
  const hosts = [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost ip6-loopback',
    'fe00:: ip6-localnet',
    'ff02::1 ip6-allnodes',
    'ff02::2 ip6-allrouters',
    `127.0.1.1 ${hostname}`,
    '',
  ].join('\n');
  await writeFile(join(folder, 'resolv.conf'), await resolvConf(network === 'pasta'), { mode: 0o644 });
  await writeFile(join(folder, 'hosts'), hosts, { mode: 0o644 });
  return ETC_FILES.map((name) => ({
    destination: `/etc/${name}`,
    type: 'bind',
    source: join(folder, name),
    options: ['bind', 'rprivate'],
  }));
}
