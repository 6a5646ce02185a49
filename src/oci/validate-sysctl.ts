import { formatPath } from './problems.ts';
import type { NamespaceType } from './types.ts';

/** Kernel parameters that belong to a namespace, and so may differ in a container (namespaces(7), sysctl(5)). */
const ipcNames = new Set([
  'kernel.msgmax',
  'kernel.msgmnb',
  'kernel.msgmni',
  'kernel.sem',
  'kernel.shmall',
  'kernel.shmmax',
  'kernel.shmmni',
  'kernel.shm_rmid_forced',
]);

function namespaceOf(name: string): NamespaceType | undefined {
  if (ipcNames.has(name) || name.startsWith('fs.mqueue.')) return 'ipc';
  if (name.startsWith('net.')) return 'network';
  if (name === 'kernel.domainname') return 'uts';
  if (name.startsWith('user.')) return 'user';
  return undefined;
}

/** `net/ipv4/conf/eth0.1/forwarding` and `net.ipv4.conf.eth0/1.forwarding` name one file: the first separator decides. */
export function sysctlPath(name: string): string {
  const separator = /[./]/.exec(name)?.[0];
  if (separator !== '.') return name;
  return name.replaceAll(/[./]/g, (mark) => (mark === '.' ? '/' : '.'));
}

/** Only parameters of namespaces that the container has of its own: any other would change the host's. */
export function validateSysctl(
  sysctl: Readonly<Record<string, string>>,
  types: ReadonlySet<NamespaceType>,
  report: (path: string, expected: string, found: unknown) => void,
): void {
  for (const [name, value] of Object.entries(sysctl)) {
    const path = formatPath(['linux', 'sysctl', name]);
    const file = sysctlPath(name);
    if (file.split('/').some((part) => part === '' || part === '.' || part === '..')) {
      report(path, 'the name of a kernel parameter', name);
      continue;
    }
    const dotted = file.split('/').join('.');
    const type = namespaceOf(dotted);
    if (dotted === 'kernel.hostname') report(path, 'the field hostname instead', value);
    else if (type === undefined) {
      report(path, 'a parameter of a namespace (fs.mqueue, kernel.msg, sem, shm, net, user)', value);
    } else if (!types.has(type))
      report(path, `nothing without a ${type} namespace in linux.namespaces`, value);
  }
}
