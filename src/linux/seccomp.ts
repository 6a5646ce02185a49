/**
 * Seccomp profiles to BPF programs, by libseccomp, with a cache in memory and one on disk: building docker's profile takes
 * milliseconds, and most containers of a node have the same one. Loading a program into the kernel is a system call of the container's tape.
 */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { release } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { getSystemErrorMap } from 'node:util';
import { WherryError } from '../errors.ts';
import { errnoNumbers } from './errno.ts';
import type { Pointer } from './library.ts';
import { type FilterMaker, filterKey } from './seccomp-key.ts';
import {
  Attribute,
  actionCodes,
  type LibSeccomp,
  libSeccomp,
  memoryFile,
  NO_SYSCALL,
  operatorCodes,
} from './seccomp-library.ts';
import { FilterStore } from './seccomp-store.ts';
import { enosysStub, type HighestCalls, INSTRUCTION_SIZE, MAX_INSTRUCTIONS } from './seccomp-stub.ts';

/** The shape of `linux.seccomp` in config.json; names are those of seccomp.h. */
export interface SeccompProfile {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: readonly string[];
  flags?: readonly string[];
  syscalls?: readonly SeccompRule[];
}

export interface SeccompRule {
  names: readonly string[];
  action: string;
  errnoRet?: number;
  args?: readonly SeccompArgument[];
}

export interface SeccompArgument {
  index: number;
  value: number | bigint;
  valueTwo?: number | bigint;
  op: string;
}

export interface CompiledSeccomp {
  /** struct sock_filter[], 8 bytes each. */
  filter: Uint8Array;
  /** For seccomp(2), SECCOMP_SET_MODE_FILTER. */
  flags: number;
  /** System calls that this libseccomp does not know: left to the default action, as runc does. */
  skipped: readonly string[];
}

/** linux/seccomp.h. TSYNC is left out: the one thread that loads the filter is the only one. */
const flagBits: Readonly<Record<string, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 0,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  // Only has a meaning for a filter with a listener; without one the kernel refuses it.
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 0,
};
const SPEC_ALLOW = 4;
const NEW_LISTENER = 8;
const WAIT_KILLABLE_RECV = 32;

/** Rules added before other work of this process gets its turn: about half a millisecond. */
const RULES_A_TURN = 64;
/** More rules than this: a binary tree instead of a chain, as runc has it. */
const TREE_RULES = 32;
const CACHE_SIZE = 64;

function fail(what: string, result: number, path: string): WherryError {
  const text = getSystemErrorMap().get(result)?.[1] ?? `error ${-result}`;
  return new WherryError('invalid-argument', `${path}: libseccomp refuses ${what}: ${text}`, {
    path,
    errno: -result,
  });
}

function actionCode(action: string, errno: number | undefined, path: string): number {
  const code = actionCodes[action];
  if (code === undefined) {
    throw new WherryError('unimplemented', `${path}: ${action} is not supported`, { path });
  }
  const carriesValue = action === 'SCMP_ACT_ERRNO' || action === 'SCMP_ACT_TRACE';
  return carriesValue ? (code | (errno ?? errnoNumbers.EPERM)) >>> 0 : code;
}

/** struct scmp_arg_cmp: u32 arg, enum op, u64 datum_a, u64 datum_b. */
const ARGUMENT_SIZE = 24;

function encodeArguments(args: readonly SeccompArgument[], path: string): Buffer {
  const bytes = Buffer.alloc(Math.max(1, args.length) * ARGUMENT_SIZE);
  for (const [position, { index, op, value, valueTwo = 0 }] of args.entries()) {
    const code = operatorCodes[op];
    if (code === undefined)
      throw new WherryError('invalid-argument', `${path}: unknown operator ${op}`, { path });
    const at = position * ARGUMENT_SIZE;
    bytes.writeUInt32LE(index, at);
    bytes.writeUInt32LE(code, at + 4);
    bytes.writeBigUInt64LE(BigInt(value), at + 8);
    bytes.writeBigUInt64LE(BigInt(valueTwo), at + 16);
  }
  return bytes;
}

/** libseccomp joins the conditions of a rule by "and" and takes one for each argument: more of them become rules. */
function conditionSets(args: readonly SeccompArgument[]): (readonly SeccompArgument[])[] {
  const distinct = new Set(args.map(({ index }) => index)).size;
  return distinct === args.length ? [args] : args.map((arg) => [arg]);
}

const architectureName = (name: string): string => name.replace(/^SCMP_ARCH_/, '').toLowerCase();

function addArchitectures(lib: LibSeccomp, filter: Pointer, names: readonly string[]): number[] {
  const tokens = new Set([lib.nativeArchitecture()]);
  for (const [index, name] of names.entries()) {
    const path = `linux.seccomp.architectures[${index}]`;
    const token = lib.architecture(architectureName(name));
    if (token === 0) {
      throw new WherryError('invalid-argument', `${path}: this libseccomp does not know ${name}`, { path });
    }
    if (tokens.has(token)) continue;
    const result = lib.addArchitecture(filter, token);
    if (result !== 0 && result !== -errnoNumbers.EEXIST) throw fail(name, result, path);
    tokens.add(token);
  }
  return [...tokens];
}

async function addRules(
  lib: LibSeccomp,
  filter: Pointer,
  profile: SeccompProfile,
  defaultAction: number,
): Promise<string[]> {
  const skipped: string[] = [];
  let added = 0;
  for (const [index, rule] of (profile.syscalls ?? []).entries()) {
    const path = `linux.seccomp.syscalls[${index}]`;
    const action = actionCode(rule.action, rule.errnoRet, `${path}.action`);
    // libseccomp refuses rules that say what the default says.
    if (action === defaultAction) continue;
    const sets = conditionSets(rule.args ?? []).map((args) => ({
      count: args.length,
      bytes: encodeArguments(args, `${path}.args`),
    }));
    for (const name of rule.names) {
      const syscall = lib.syscall(name);
      if (syscall === NO_SYSCALL) {
        skipped.push(name);
        continue;
      }
      for (const { count, bytes } of sets) {
        const result = lib.addRule(filter, action, syscall, count, bytes);
        if (result !== 0) throw fail(name, result, `${path}.names`);
      }
      added += 1;
      if (added % RULES_A_TURN === 0) await nextTurn();
    }
  }
  return skipped;
}

/** AUDIT_ARCH of x86_64, and libseccomp's own token for x32, which the kernel does not have. */
const AUDIT_ARCH_X86_64 = 0xc000_003e;
const TOKEN_X32 = 0x4000_003e;

function highestCalls(lib: LibSeccomp, profile: SeccompProfile, tokens: readonly number[]): HighestCalls[] {
  const names = new Set((profile.syscalls ?? []).flatMap(({ names }) => names));
  const highest = (token: number): number | undefined => {
    let most = -1;
    for (const name of names) most = Math.max(most, lib.syscallOf(token, name));
    return most < 0 ? undefined : most;
  };
  return tokens
    .filter((token) => token !== TOKEN_X32)
    .map((token) => {
      const hasX32Mode = token === AUDIT_ARCH_X86_64;
      const x32 = hasX32Mode && tokens.includes(TOKEN_X32) ? highest(TOKEN_X32) : undefined;
      return { audit: token, plain: highest(token), x32, hasX32Mode };
    });
}

/** A profile that allows what it does not name, or answers ENOSYS to it, needs no stub. */
function wantsStub(profile: SeccompProfile): boolean {
  const { defaultAction, defaultErrnoRet } = profile;
  if (['SCMP_ACT_ALLOW', 'SCMP_ACT_LOG', 'SCMP_ACT_TRACE'].includes(defaultAction)) return false;
  return !(defaultAction === 'SCMP_ACT_ERRNO' && defaultErrnoRet === errnoNumbers.ENOSYS);
}

async function exportFilter(lib: LibSeccomp, filter: Pointer): Promise<Buffer> {
  const descriptor = memoryFile('seccomp');
  if (descriptor < 0) throw new WherryError('resource-exhausted', 'no memory for a seccomp filter');
  try {
    // On a thread of libuv's pool: this is the longest step, and it waits for nothing.
    const result = await new Promise<number>((resolve, reject) => {
      lib.exportTo.async(filter, descriptor, (error, value) => (error ? reject(error) : resolve(value)));
    });
    if (result !== 0) throw fail('the export', result, 'linux.seccomp');
    const bytes = Buffer.alloc(fstatSync(descriptor).size);
    readSync(descriptor, bytes, 0, bytes.length, 0);
    return bytes;
  } finally {
    closeSync(descriptor);
  }
}

/** A filter that notifies comes with a listener; some of seccomp(2)'s flags are about it alone. */
function listenerFlags({ defaultAction, syscalls = [], flags = [] }: SeccompProfile): number {
  const notifies = [defaultAction, ...syscalls.map(({ action }) => action)].includes('SCMP_ACT_NOTIFY');
  if (!notifies) return 0;
  return NEW_LISTENER | (flags.includes('SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV') ? WAIT_KILLABLE_RECV : 0);
}

async function compile(profile: SeccompProfile): Promise<CompiledSeccomp> {
  const lib = libSeccomp();
  const defaultAction = actionCode(
    profile.defaultAction,
    profile.defaultErrnoRet,
    'linux.seccomp.defaultAction',
  );
  const filter = lib.init(defaultAction);
  if (!filter) throw new WherryError('resource-exhausted', 'no memory for a seccomp filter');
  try {
    const tokens = addArchitectures(lib, filter, profile.architectures ?? []);
    lib.setAttribute(filter, Attribute.CTL_NNP, 0);
    const rules = (profile.syscalls ?? []).reduce((sum, { names }) => sum + names.length, 0);
    // An old libseccomp does not have it: the chain is as right as the tree.
    if (rules > TREE_RULES) lib.setAttribute(filter, Attribute.CTL_OPTIMIZE, 2);
    const skipped = await addRules(lib, filter, profile, defaultAction);
    const stub = wantsStub(profile) ? enosysStub(highestCalls(lib, profile, tokens)) : Buffer.alloc(0);
    const program = Buffer.concat([stub, await exportFilter(lib, filter)]);
    const instructions = program.length / INSTRUCTION_SIZE;
    if (instructions > MAX_INSTRUCTIONS) {
      throw new WherryError(
        'invalid-argument',
        `linux.seccomp: expected rules of at most ${MAX_INSTRUCTIONS} instructions, found ${instructions}`,
        { path: 'linux.seccomp' },
      );
    }
    const flags = profile.flags?.reduce((bits, name) => bits | (flagBits[name] ?? 0), 0) ?? SPEC_ALLOW;
    return { filter: program, flags: flags | listenerFlags(profile), skipped };
  } finally {
    lib.release(filter);
  }
}

const cache = new Map<string, Promise<CompiledSeccomp>>();
let last: Promise<unknown> = Promise.resolve();
let saved: Promise<unknown> = Promise.resolve();
let store: FilterStore | undefined;
let maker: FilterMaker | undefined;
let build = '';

/** Filters are also kept in this folder, which is ours alone; `build` names the sources that make them. */
export function keepFilters(folder: string, sources: string): void {
  store = new FilterStore(folder);
  build = sources;
  maker = undefined;
}

/**
 * The BPF program and seccomp(2) flags of a profile that was checked (config.json's `linux.seccomp`). Never blocks for
 * longer than some rules take; callers with the same profile share one result, which they must not change.
 * @throws WherryError failed-precondition without libseccomp, invalid-argument with the rule's place
 */
export async function compileSeccomp(profile: SeccompProfile): Promise<CompiledSeccomp> {
  maker ??= { kernel: release(), libseccomp: libSeccomp().version, build };
  const key = filterKey(profile, maker);
  const known = cache.get(key);
  if (known !== undefined) {
    cache.delete(key);
    cache.set(key, known);
    return known;
  }
  const result = loadOrCompile(key, profile);
  cache.set(key, result);
  if (cache.size > CACHE_SIZE) cache.delete(cache.keys().next().value!);
  result.catch(() => cache.delete(key));
  return result;
}

async function loadOrCompile(key: string, profile: SeccompProfile): Promise<CompiledSeccomp> {
  const stored = await store?.load(key);
  if (stored !== undefined) return stored;
  // One at a time: a burst of different profiles must not take every thread of the pool.
  const result = last.then(() => compile(profile));
  last = result.catch(() => undefined);
  const compiled = await result;
  // A full disk costs the next wherryd some milliseconds, and nobody anything else.
  saved = Promise.allSettled([saved, store?.save(key, compiled)]);
  return compiled;
}

/** For a process that is about to end: what it made is on disk then, if it can be. */
export async function filtersKept(): Promise<void> {
  await saved;
}

/** `2.5.4`. @throws WherryError failed-precondition where libseccomp is not installed */
export function libseccompVersion(): string {
  return libSeccomp().version;
}
