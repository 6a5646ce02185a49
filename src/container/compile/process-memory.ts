/** linux.memoryPolicy and linux.personality: set last before the program, as both govern the memory that a process maps. */
import {
  bitMask,
  MAX_NODES,
  memoryFlags,
  memoryModes,
  parseNumberList,
  personalityDomains,
  personalityFlags,
} from '../../linux/process-flags.ts';
import type { Linux } from '../../oci/types.ts';
import type { Program } from './program.ts';

export function setMemoryPolicy(program: Program, policy: Linux['memoryPolicy']): void {
  if (policy === undefined) return;
  const { tape } = program;
  program.step('linux.memoryPolicy', `take memory by ${policy.mode}`);
  const flags = (policy.flags ?? []).reduce((bits, name) => bits | (memoryFlags[name] ?? 0), 0);
  const nodes = parseNumberList(policy.nodes ?? '', MAX_NODES) ?? [];
  const mode = (memoryModes[policy.mode] ?? 0) | flags;
  if (nodes.length === 0) {
    tape.syscall('set_mempolicy', [mode, 0, 0]);
    return;
  }
  const mask = bitMask(nodes);
  // The kernel takes one bit less than it is told (set_mempolicy(2), "Bugs" of maxnode).
  tape.syscall('set_mempolicy', [mode, tape.bytes(mask), mask.length * 8 + 1]);
}

/** personality(2) replaces the whole of it: what the starter had set is gone. */
export function setPersonality(program: Program, personality: Linux['personality']): void {
  if (personality === undefined) return;
  const flags = personality.flags ?? [];
  program.step('linux.personality', `take the personality ${[personality.domain, ...flags].join(' ')}`);
  const bits = flags.reduce(
    (all, name) => all | (personalityFlags[name] ?? 0),
    personalityDomains[personality.domain] ?? 0,
  );
  program.tape.syscall('personality', [bits]);
}
