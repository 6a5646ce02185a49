/** Numbers as the names that the manual pages use. */
import type { Arch } from '../linux/arch.ts';
import * as constants from '../linux/constants.ts';

/** Name and value; a table is a list of them. */
type Named = readonly [name: string, value: bigint];

const all = Object.entries(constants).flatMap(([name, value]): Named[] =>
  typeof value === 'number' || typeof value === 'bigint' ? [[name, BigInt(value)]] : [],
);

/** The constants with these prefixes (`CLONE_`) or exactly these names (`AT_REMOVEDIR`). */
export function table(...wanted: string[]): readonly Named[] {
  const exact = new Set(wanted.filter((name) => !name.endsWith('_')));
  const prefixes = wanted.filter((name) => name.endsWith('_'));
  return all.filter(([name]) => exact.has(name) || prefixes.some((prefix) => name.startsWith(prefix)));
}

export const signalTable = all.filter(([name]) => /^SIG[A-Z0-9]+$/.test(name));

/** One of a set: a command, a signal. */
export function oneOf(named: readonly Named[], value: bigint): string {
  return named.find(([, known]) => known === value)?.[0] ?? number(value);
}

/** Flags joined by `|`; what has no name comes last in hexadecimal; `0` if none is set. */
export function flagsOf(named: readonly Named[], value: bigint): string {
  const names: string[] = [];
  let rest = BigInt.asUintN(64, value);
  // Flags that contain others (O_SYNC, O_TMPFILE) go first.
  const bySize = named.filter(([, bits]) => bits > 0n).sort((a, b) => bitCount(b[1]) - bitCount(a[1]));
  const found = new Set<string>();
  for (const [name, bits] of bySize) {
    if ((rest & bits) !== bits) continue;
    found.add(name);
    rest &= ~bits;
  }
  for (const [name] of named) if (found.has(name)) names.push(name);
  if (rest !== 0n) names.push(`0x${rest.toString(16)}`);
  return names.length === 0 ? '0' : names.join('|');
}

const openTable = table('O_').filter(([name]) => !['O_RDONLY', 'O_WRONLY', 'O_RDWR'].includes(name));

/** Flags of open(2), by the numbers of the tape's architecture. */
export function openFlagsOf(value: bigint, arch: Arch): string {
  const special = constants.openFlags[arch];
  const named = openTable.map(([name, bits]): Named => {
    if (name === 'O_TMPFILE') return [name, BigInt(0o20000000 | special.O_DIRECTORY)];
    const own = (special as Record<string, number>)[name];
    return own === undefined ? [name, bits] : [name, BigInt(own)];
  });
  const access = ['O_RDONLY', 'O_WRONLY', 'O_RDWR'][Number(value & 3n)] ?? '3';
  const rest = flagsOf(named, value & ~3n);
  if (rest === '0') return access;
  return access === 'O_RDONLY' && (value & BigInt(constants.O_PATH)) !== 0n ? rest : `${access}|${rest}`;
}

const capTable = table('CAP_').filter(([name]) => name !== 'CAP_LAST_CAP');
const allCaps = (1n << BigInt(constants.CAP_LAST_CAP + 1)) - 1n;

/** A set of capabilities, one bit each. */
export function capabilitiesOf(set: bigint): string {
  if (set === 0n) return 'none';
  if (set === allCaps) return 'all';
  return flagsOf(
    capTable.map(([name, bit]): Named => [name, 1n << bit]),
    set,
  );
}

export function capabilityOf(bit: bigint): string {
  return oneOf(capTable, bit);
}

const typeTable = table('S_IFSOCK', 'S_IFLNK', 'S_IFREG', 'S_IFBLK', 'S_IFDIR', 'S_IFCHR', 'S_IFIFO');

/** `S_IFCHR|0666`. */
export function modeOf(mode: bigint): string {
  const type = mode & BigInt(constants.S_IFMT);
  const bits = octal(mode & ~BigInt(constants.S_IFMT));
  return type === 0n ? bits : `${oneOf(typeTable, type)}|${bits}`;
}

/** `1:3` of the encoding that mknod(2) takes (makedev(3)). */
export function deviceOf(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

export function octal(value: bigint): string {
  return value === 0n ? '0' : `0${value.toString(8)}`;
}

/** Small negative numbers as such, large ones in hexadecimal. */
export function number(value: bigint): string {
  const signed = BigInt.asIntN(64, value);
  if (signed < 0n && signed > -4096n) return signed.toString();
  return value > 0xffffn ? `0x${value.toString(16)}` : value.toString();
}

function bitCount(value: bigint): number {
  return value.toString(2).replaceAll('0', '').length;
}
