import { capabilityNumbers } from './names.ts';
import type { Spec } from './types.ts';

const SWAPPINESS_UNSET = 2n ** 64n - 1n;
const capabilitySets = ['bounding', 'effective', 'inheritable', 'permitted', 'ambient'] as const;

/**
 * Brings several spellings of one thing to one, in place, and drops what the specification says is to be ignored.
 * Returns a warning for each thing dropped.
 */
export function normalise(config: Spec): string[] {
  const warnings: string[] = [];
  const { process, linux } = config;

  // config.md: capabilities that this kernel cannot have "MUST be logged as a warning" and do not fail the container.
  const unknown = new Set<string>();
  for (const set of capabilitySets) {
    const names = process.capabilities?.[set];
    if (names === undefined || names.every((name) => capabilityNumbers.has(name))) continue;
    for (const name of names) if (!capabilityNumbers.has(name)) unknown.add(name);
    process.capabilities![set] = names.filter((name) => capabilityNumbers.has(name));
  }
  if (unknown.size > 0) {
    warnings.push(`process.capabilities: not known and not granted: ${[...unknown].join(', ')}`);
  }

  for (const [index, mount] of (config.mounts ?? []).entries()) {
    if (mount.destination.startsWith('/')) continue;
    warnings.push(
      `mounts[${index}].destination: ${JSON.stringify(mount.destination)} is relative, taken from /`,
    );
    mount.destination = `/${mount.destination}`;
  }

  warnings.push(...deprecated(config));

  for (const namespace of linux?.namespaces ?? []) if (namespace.path === '') delete namespace.path;
  if (linux?.rootfsPropagation === '') delete linux.rootfsPropagation;
  for (const rule of linux?.resources?.devices ?? []) if (rule.type === '') delete rule.type;
  // docker and its heirs write -1, as unsigned, for "leave it".
  const memory = linux?.resources?.memory;
  if (memory?.swappiness === SWAPPINESS_UNSET) delete memory.swappiness;
  return warnings;
}

/** What the specification advises against; it is applied all the same. */
function deprecated({ hooks, linux }: Spec): string[] {
  const { kernel, kernelTCP, useHierarchy } = linux?.resources?.memory ?? {};
  const { enableCMT, enableMBM } = linux?.intelRdt ?? {};
  const found: [path: string, set: boolean, advice: string][] = [
    [
      'hooks.prestart',
      (hooks?.prestart ?? []).length > 0,
      'use createRuntime, createContainer or startContainer',
    ],
    ['linux.resources.memory.kernel', kernel !== undefined, 'kernels ignore it'],
    ['linux.resources.memory.kernelTCP', kernelTCP !== undefined, 'cgroup v2 has no such limit'],
    ['linux.resources.memory.useHierarchy', useHierarchy !== undefined, 'kernels always do'],
    ['linux.intelRdt.enableCMT', enableCMT !== undefined, 'use enableMonitoring'],
    ['linux.intelRdt.enableMBM', enableMBM !== undefined, 'use enableMonitoring'],
  ];
  return found.filter(([, set]) => set).map(([path, , advice]) => `${path} is deprecated: ${advice}`);
}
