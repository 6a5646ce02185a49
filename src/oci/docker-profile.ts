/** Docker's default seccomp profile as data, and the choice of the rules that hold for one container. */
import * as z from 'zod';
import dockerDefault from './profiles/docker-default.json' with { type: 'json' };
import { seccompSchema } from './schema-seccomp.ts';
import type { LinuxSeccomp, LinuxSyscall } from './types.ts';

const condition = z.strictObject({
  /** All of them are in the container's bounding set. */
  caps: z.array(z.string()).optional(),
  /** The machine is one of them, in Go's names. */
  arches: z.array(z.string()).optional(),
  /** Always fulfilled: Wherry needs a newer kernel than any that a profile names. */
  minKernel: z.string().optional(),
});

const ruleSchema = seccompSchema.shape.syscalls
  .unwrap()
  .element.extend({ includes: condition.optional(), excludes: condition.optional() });

const profileSchema = seccompSchema.extend({
  archMap: z.array(
    z.strictObject({
      architecture: z.string(),
      subArchitectures: seccompSchema.shape.architectures.unwrap(),
    }),
  ),
  syscalls: z.array(ruleSchema),
});

type Condition = z.infer<typeof condition>;

const machines = {
  x86_64: { go: 'amd64', seccomp: 'SCMP_ARCH_X86_64' },
  aarch64: { go: 'arm64', seccomp: 'SCMP_ARCH_AARCH64' },
} as const;

export type Machine = keyof typeof machines;

/**
 * The rules of docker's default profile for a container with these capabilities on this machine, without conditions.
 * Source: the names and rules of moby's profiles/seccomp/default.json.
 */
export function dockerSeccomp(capabilities: Iterable<string>, machine: Machine): LinuxSeccomp {
  // Checking copies: nobody can change the profile of the next container.
  const parsed = profileSchema.parse(dockerDefault);
  const granted = new Set(capabilities);
  const { go, seccomp } = machines[machine];
  const included = (when: Condition | undefined): boolean =>
    (when?.caps?.every((name) => granted.has(name)) ?? true) && (when?.arches?.includes(go) ?? true);
  const excluded = (when: Condition | undefined): boolean =>
    (when?.caps?.some((name) => granted.has(name)) ?? false) || (when?.arches?.includes(go) ?? false);
  const syscalls: LinuxSyscall[] = [];
  for (const { includes, excludes, ...rule } of parsed.syscalls) {
    if (included(includes) && !excluded(excludes)) syscalls.push(rule);
  }
  const others = parsed.archMap.find(({ architecture }) => architecture === seccomp)?.subArchitectures ?? [];
  return {
    defaultAction: parsed.defaultAction,
    defaultErrnoRet: parsed.defaultErrnoRet,
    architectures: [seccomp, ...others],
    syscalls,
  };
}
