/**
 * Who the program is: limits, groups, ids, capabilities, no_new_privs, seccomp. The order is that of capabilities(7):
 * the bounding set while CAP_SETPCAP is there, ids with kept capabilities, then the final sets, then the ambient set.
 */
import { WherryError } from '../../errors.ts';
import * as constants from '../../linux/constants.ts';
import {
  CAP_LAST_CAP,
  CAP_SYS_ADMIN,
  PR_CAP_AMBIENT,
  PR_CAP_AMBIENT_CLEAR_ALL,
  PR_CAP_AMBIENT_RAISE,
  PR_CAPBSET_DROP,
  PR_SET_KEEPCAPS,
  PR_SET_NO_NEW_PRIVS,
  SECCOMP_SET_MODE_FILTER,
} from '../../linux/constants.ts';
import { capData, capHeader, rlimit64, sockFprog } from '../../linux/structs.ts';
import type { Spec } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';
import { listens } from './seccomp-listener.ts';
import { inUserNamespace } from './user-namespace.ts';

export function setLimits(program: Program, spec: Spec): void {
  const { tape } = program;
  (spec.process.rlimits ?? []).forEach(({ type, soft, hard }, index) => {
    const number = numberOf(type);
    program.step(`process.rlimits[${index}]`, `set ${type} to ${soft}, at most ${hard}`);
    tape.perform('prlimit64', [0, number, tape.struct(rlimit64(BigInt(soft), BigInt(hard))), 0]);
  });
}

const CAPABILITIES = CAP_LAST_CAP + 1;

/** By the number of a capability: is it in the set? */
type CapabilitySet = Uint8Array;

function capabilitySet(names: readonly string[] | undefined): CapabilitySet {
  const set = new Uint8Array(CAPABILITIES);
  if (names !== undefined)
    for (let index = 0; index < names.length; index++) set[numberOf(names[index]!)] = 1;
  return set;
}

/** As capset(2) has it. */
function maskOf(set: CapabilitySet): bigint {
  let low = 0;
  let high = 0;
  for (let capability = 0; capability < CAPABILITIES; capability++) {
    if (set[capability] === 0) continue;
    if (capability < 32) low |= 1 << capability;
    else high |= 1 << (capability - 32);
  }
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

export function becomeUser(
  program: Program,
  spec: Spec,
  seccomp: { filter: Uint8Array; flags: number } | undefined,
  onListener?: (listener: Reg) => void,
): void {
  const { tape } = program;
  const { user, noNewPrivileges } = spec.process;
  const { bounding, effective, permitted, inheritable, ambient } = spec.process.capabilities ?? {};
  const kept = capabilitySet(bounding);
  const sets = {
    effective: maskOf(capabilitySet(effective)),
    permitted: maskOf(capabilitySet(permitted)),
    inheritable: maskOf(capabilitySet(inheritable)),
  };
  program.step('process.capabilities.bounding', 'drop what is not in the bounding set');
  for (let capability = 0; capability < CAPABILITIES; capability++) {
    if (kept[capability] !== 0) continue;
    // Every kernel that got this far (mount_setattr is of Linux 5.12) knows all of them; the last one is of 5.9.
    tape.perform('prctl', [PR_CAPBSET_DROP, capability, 0, 0, 0]);
  }

  program.step('process.user', `become user ${user.uid}, group ${user.gid}`);
  tape.perform('prctl', [PR_SET_KEEPCAPS, 1, 0, 0, 0]);
  const groups = user.additionalGids ?? [];
  const list = new Uint8Array(Uint32Array.from(groups.length === 0 ? [0] : groups).buffer);
  // Given up together with the mapping of ids by an ordinary user; then there are none to be dropped either.
  const denied = tape.label('setgroups_denied');
  const mayFail = groups.length === 0 && inUserNamespace(spec);
  tape.perform('setgroups', [groups.length, tape.bytes(list)], mayFail ? { EPERM: denied } : undefined);
  tape.place(denied);
  tape.perform('setresgid', [user.gid, user.gid, user.gid]);
  tape.perform('setresuid', [user.uid, user.uid, user.uid]);
  tape.perform('prctl', [PR_SET_KEEPCAPS, 0, 0, 0, 0]);

  if (noNewPrivileges === true) {
    program.step('process.noNewPrivileges', 'give up gaining privileges by exec');
    tape.perform('prctl', [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
  } else if (seccomp !== undefined) {
    // Without no_new_privs loading a filter needs CAP_SYS_ADMIN, so it comes before the last capset (seccomp(2)).
    const interim = sets.permitted | sets.effective | (1n << BigInt(CAP_SYS_ADMIN));
    setCapabilities(program, { ...sets, effective: interim, permitted: interim });
    loadFilter(program, seccomp, onListener);
  }
  setCapabilities(program, sets);
  program.step('process.capabilities.ambient', 'set the ambient capabilities');
  const none = tape.label('no_ambient');
  tape.perform('prctl', [PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0], { EINVAL: none });
  tape.place(none);
  const raised = capabilitySet(ambient);
  for (let capability = 0; capability < CAPABILITIES; capability++) {
    if (raised[capability] === 0) continue;
    const refused = tape.label('refused');
    // Not permitted or not inheritable: runc ignores it with a warning, and so does the kernel's rule for exec.
    tape.perform('prctl', [PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0], { EPERM: refused });
    tape.place(refused);
  }
}

function setCapabilities(program: Program, sets: Parameters<typeof capData>[0]): void {
  program.step('process.capabilities', 'set the effective, permitted and inheritable capabilities');
  program.tape.perform('capset', [program.tape.struct(capHeader()), program.tape.struct(capData(sets))]);
}

/** With SECCOMP_FILTER_FLAG_NEW_LISTENER the call's result is a descriptor: `onListener` says what becomes of it. */
export function loadFilter(
  program: Program,
  seccomp: { filter: Uint8Array; flags: number },
  onListener?: (listener: Reg) => void,
): void {
  const { tape } = program;
  program.step('linux.seccomp', `load the seccomp filter of ${seccomp.filter.length / 8} instructions`);
  const filter = tape.struct(sockFprog(seccomp.filter.length / 8, tape.bytes(seccomp.filter)));
  const listener = tape.syscall('seccomp', [SECCOMP_SET_MODE_FILTER, seccomp.flags, filter]);
  if (listens(seccomp)) onListener?.(listener);
}

/** Those of CAP_… and RLIMIT_…. */
const numbers = new Map(Object.entries(constants).filter(([name]) => /^(CAP|RLIMIT)_/.test(name)));

/** CAP_CHOWN or RLIMIT_CORE as a number. */
function numberOf(name: string): number {
  const value = numbers.get(name);
  if (typeof value !== 'number') {
    throw new WherryError('invalid-argument', `${name} is unknown`, {
      path: name.startsWith('CAP_') ? 'process.capabilities' : 'process.rlimits',
    });
  }
  return value;
}
