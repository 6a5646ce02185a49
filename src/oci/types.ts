/** The types of config.json, taken from the schema. Names follow specs-go, without its platform prefixes' twins. */
import type * as z from 'zod';
import type { specSchema } from './schema.ts';

export type { Int64 } from './schema-values.ts';

export type Spec = z.infer<typeof specSchema>;

export type Process = Spec['process'];
export type User = Process['user'];
export type Capabilities = NonNullable<Process['capabilities']>;
export type Rlimit = NonNullable<Process['rlimits']>[number];
export type Root = Spec['root'];
export type Mount = NonNullable<Spec['mounts']>[number];
export type Hooks = NonNullable<Spec['hooks']>;
export type Hook = NonNullable<Hooks['prestart']>[number];

export type Linux = NonNullable<Spec['linux']>;
export type LinuxNamespace = NonNullable<Linux['namespaces']>[number];
export type NamespaceType = LinuxNamespace['type'];
export type LinuxIdMapping = NonNullable<Linux['uidMappings']>[number];
export type LinuxDevice = NonNullable<Linux['devices']>[number];
export type LinuxSeccomp = NonNullable<Linux['seccomp']>;
export type LinuxSyscall = NonNullable<LinuxSeccomp['syscalls']>[number];
export type LinuxSeccompArg = NonNullable<LinuxSyscall['args']>[number];
export type SeccompAction = LinuxSeccomp['defaultAction'];

export type LinuxResources = NonNullable<Linux['resources']>;
export type LinuxDeviceRule = NonNullable<LinuxResources['devices']>[number];
export type LinuxMemory = NonNullable<LinuxResources['memory']>;
export type LinuxCpu = NonNullable<LinuxResources['cpu']>;
