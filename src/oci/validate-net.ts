/** linux.netDevices: names that the kernel takes, and a network namespace for them to go to (config-linux.md, "Network Devices"). */
import { formatPath } from './problems.ts';
import type { Linux } from './types.ts';

/** IFNAMSIZ of the kernel, less the NUL. */
const NAME_BYTES = 15;

/** dev_valid_name() of the kernel; `%` would be taken for a pattern (eth%d). */
function isName(name: string): boolean {
  return (
    name !== '' &&
    name !== '.' &&
    name !== '..' &&
    Buffer.byteLength(name) <= NAME_BYTES &&
    !/[/:%\s\0]/.test(name)
  );
}

export function validateNetDevices(
  linux: Linux,
  report: (path: string, expected: string, found: unknown) => void,
): void {
  const devices = Object.entries(linux.netDevices ?? {});
  if (devices.length === 0) return;
  const namespaces = linux.namespaces ?? [];
  const network = namespaces.find(({ type }) => type === 'network');
  const user = namespaces.find(({ type }) => type === 'user');
  if (network === undefined) {
    report('linux.netDevices', 'nothing without a network namespace in linux.namespaces', linux.netDevices);
  } else if (network.path === undefined && user?.path !== undefined) {
    // From inside the joined user namespace nothing of the host's network may be moved.
    report(
      'linux.netDevices',
      'nothing with a new network namespace in a joined user namespace',
      linux.netDevices,
    );
  }
  const taken = new Map<string, string>();
  const expected = `the name of a network device (1 to ${NAME_BYTES} bytes, no / : % or blank)`;
  for (const [from, { name }] of devices) {
    const path = formatPath(['linux', 'netDevices', from]);
    if (!isName(from)) report(path, expected, from);
    const to = name === undefined || name === '' ? from : name;
    if (!isName(to)) report(`${path}.name`, expected, to);
    const first = taken.get(to);
    if (first !== undefined) report(`${path}.name`, `each name once (the first is ${first})`, to);
    taken.set(to, path);
  }
}
