/**
 * The formats of cgroup files (cgroup-v2.rst, "Format"; cgroup-v1/), read from bytes: stats are taken often and for
 * many containers, so that nothing is split, matched or kept. Malformed lines are left out, never an error.
 */
import type { BlkioEntry, Pressure, PressureLine, RdmaEntry } from './stats.ts';

/** The part of a buffer that a file's text fills. */
export interface Text {
  bytes: Buffer;
  length: number;
}

/** What "max" stands for in the v2 messages. */
export const UNLIMITED = 2n ** 64n - 1n;
const UNLIMITED_32 = 2 ** 32 - 1;

const NEWLINE = 10;
const SPACE = 32;
const MINUS = 45;
const DOT = 46;
const ZERO = 48;
const COLON = 58;
const EQUALS = 61;

/** So many a double holds without loss. */
const EXACT_DIGITS = 15;

const isDigit = (byte: number) => byte >= ZERO && byte < ZERO + 10;

/** Walks over a text word by word. Reads past the end give spaces, so that no step needs a check. */
export class Scanner {
  readonly #bytes: Buffer;
  readonly #length: number;
  #at = 0;

  constructor({ bytes, length }: Text) {
    this.#bytes = bytes;
    this.#length = length;
  }

  get done(): boolean {
    return this.#at >= this.#length;
  }

  #peek(): number {
    return this.#at < this.#length ? this.#bytes[this.#at]! : NEWLINE;
  }

  /** True at the end of a line, too. */
  get lineEnd(): boolean {
    return this.#peek() === NEWLINE;
  }

  nextLine(): void {
    while (!this.done && this.#bytes[this.#at] !== NEWLINE) this.#at++;
    this.#at++;
  }

  skip(byte: number): boolean {
    if (this.#peek() !== byte) return false;
    this.#at++;
    return true;
  }

  spaces(): void {
    while (this.#peek() === SPACE) this.#at++;
  }

  /** Up to the next space, line end, or one of the two given separators. */
  word(separator = SPACE, other = SPACE): string {
    const start = this.#at;
    for (
      let byte = this.#peek();
      byte !== SPACE && byte !== NEWLINE && byte !== separator && byte !== other;
    ) {
      this.#at++;
      byte = this.#peek();
    }
    return this.#bytes.toString('latin1', start, this.#at);
  }

  /** The word if it is the expected one, else undefined and nothing is passed: spares making the string. */
  expect(word: string): boolean {
    for (let index = 0; index < word.length; index++) {
      if (this.#bytes[this.#at + index] !== word.charCodeAt(index)) return false;
    }
    const end = this.#at + word.length;
    const next = end < this.#length ? this.#bytes[end] : NEWLINE;
    if (next !== SPACE && next !== NEWLINE) return false;
    this.#at = end;
    return true;
  }

  /** A decimal integer; undefined and nothing passed where none stands. */
  integer(): bigint | undefined {
    const start = this.#at;
    const negative = this.skip(MINUS);
    const digits = this.#at;
    let small = 0;
    while (isDigit(this.#peek())) {
      small = small * 10 + (this.#peek() - ZERO);
      this.#at++;
    }
    if (this.#at === digits) {
      this.#at = start;
      return undefined;
    }
    const value =
      this.#at - digits <= EXACT_DIGITS
        ? BigInt(small)
        : BigInt(this.#bytes.toString('latin1', digits, this.#at));
    return negative ? -value : value;
  }

  /** `12.34`; undefined where none stands. */
  decimal(): number | undefined {
    const start = this.#at;
    while (isDigit(this.#peek()) || this.#peek() === DOT) this.#at++;
    return this.#at === start ? undefined : Number(this.#bytes.toString('latin1', start, this.#at));
  }
}

/** One number or "max". */
export function parseCount(text: Text, max = UNLIMITED): bigint | undefined {
  const { bytes, length } = text;
  const value = digits(bytes, 0, length);
  // Anything else is rare.
  return value ?? signedOrMax(new Scanner(text), max);
}

function signedOrMax(scanner: Scanner, max: bigint): bigint | undefined {
  return scanner.integer() ?? (scanner.expect('max') ? max : undefined);
}

/** Behind the last digit that digits() took. */
let behind = 0;

/** The number whose first digit is at `start`; undefined where none is. */
function digits(bytes: Buffer, start: number, end: number): bigint | undefined {
  let at = start;
  let small = 0;
  for (; at < end; at++) {
    const digit = bytes[at]! - ZERO;
    if (digit < 0 || digit > 9) break;
    small = small * 10 + digit;
  }
  behind = at;
  if (small === 0) return at === start ? undefined : 0n;
  return at - start <= EXACT_DIGITS ? BigInt(small) : BigInt(bytes.toString('latin1', start, at));
}

/** Numbers in one line: cpuacct.usage_percpu. */
export function parseList(text: Text): bigint[] {
  const scanner = new Scanner(text);
  const values: bigint[] = [];
  for (;;) {
    scanner.spaces();
    const value = scanner.integer();
    if (value === undefined) return values;
    values.push(value);
  }
}

/**
 * `name value` lines. `names` are those of the last time, by line, and are updated: they rarely change, so that no name
 * is made twice.
 */
export function parseKeyed({ bytes, length }: Text, names: string[] = []): Record<string, bigint> {
  const values: Record<string, bigint> = {};
  let at = 0;
  for (let line = 0; at < length; line++) {
    let name = names[line] ?? '';
    let end = at + name.length;
    if (name === '' || end >= length || bytes[end] !== SPACE || !isAt(name, bytes, at)) {
      end = at;
      while (end < length && bytes[end] !== SPACE && bytes[end] !== NEWLINE) end++;
      name = bytes.toString('latin1', at, end);
      names[line] = name;
    }
    while (end < length && bytes[end] === SPACE) end++;
    const value = digits(bytes, end, length);
    if (value !== undefined && name !== '') values[name] = value;
    at = behind;
    while (at < length && bytes[at] !== NEWLINE) at++;
    at++;
  }
  return values;
}

function isAt(name: string, bytes: Buffer, at: number): boolean {
  for (let index = 0; index < name.length; index++) {
    if (bytes[at + index] !== name.charCodeAt(index)) return false;
  }
  return true;
}

/** `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same with full (psi.rst). */
export function parsePressure(text: Text): Pressure | undefined {
  const scanner = new Scanner(text);
  const pressure: Pressure = {};
  for (; !scanner.done; scanner.nextLine()) {
    const kind = scanner.word();
    if (kind !== 'some' && kind !== 'full') continue;
    const line: PressureLine = { avg10: 0, avg60: 0, avg300: 0, total: 0n };
    while (!scanner.lineEnd) {
      scanner.spaces();
      const key = scanner.word(EQUALS);
      if (!scanner.skip(EQUALS)) break;
      if (key === 'total') line.total = scanner.integer() ?? 0n;
      else if (key === 'avg10' || key === 'avg60' || key === 'avg300') line[key] = scanner.decimal() ?? 0;
      else scanner.word();
    }
    pressure[kind] = line;
  }
  return pressure.some === undefined && pressure.full === undefined ? undefined : pressure;
}

export interface IoUsage {
  major: bigint;
  minor: bigint;
  rbytes: bigint;
  wbytes: bigint;
  rios: bigint;
  wios: bigint;
}

/** io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`; devices that never did anything have no keys. */
export function parseIoStat(text: Text): IoUsage[] {
  const scanner = new Scanner(text);
  const usage: IoUsage[] = [];
  for (; !scanner.done; scanner.nextLine()) {
    const major = scanner.integer();
    const minor = scanner.skip(COLON) ? scanner.integer() : undefined;
    if (major === undefined || minor === undefined) continue;
    const entry = { major, minor, rbytes: 0n, wbytes: 0n, rios: 0n, wios: 0n };
    while (!scanner.lineEnd) {
      scanner.spaces();
      const key = scanner.word(EQUALS);
      if (!scanner.skip(EQUALS)) break;
      if (key === 'rbytes' || key === 'wbytes' || key === 'rios' || key === 'wios')
        entry[key] = scanner.integer() ?? 0n;
      // Cost models and latency targets add keys of other shapes.
      else scanner.word();
    }
    usage.push(entry);
  }
  return usage;
}

/** v1 blkio.*: `8:0 Read 4096`, or `8:0 4096` where there are no operations; the sum of all devices is left out. */
export function parseBlkio(text: Text, deviceName: (major: bigint, minor: bigint) => string): BlkioEntry[] {
  const scanner = new Scanner(text);
  const entries: BlkioEntry[] = [];
  for (; !scanner.done; scanner.nextLine()) {
    const major = scanner.integer();
    const minor = scanner.skip(COLON) ? scanner.integer() : undefined;
    if (major === undefined || minor === undefined) continue;
    scanner.spaces();
    let value = scanner.integer();
    let op = '';
    if (value === undefined) {
      op = scanner.word();
      scanner.spaces();
      value = scanner.integer();
    }
    if (value !== undefined) entries.push({ op, device: deviceName(major, minor), major, minor, value });
  }
  return entries;
}

/** rdma.current and rdma.max: `mlx4_0 hca_handle=2 hca_object=max`. */
export function parseRdma(text: Text): RdmaEntry[] {
  const scanner = new Scanner(text);
  const entries: RdmaEntry[] = [];
  const count = () => {
    const value = scanner.integer();
    if (value !== undefined) return Number(value);
    return scanner.word() === 'max' ? UNLIMITED_32 : 0;
  };
  for (; !scanner.done; scanner.nextLine()) {
    const device = scanner.word();
    if (device === '') continue;
    const entry = { device, hcaHandles: 0, hcaObjects: 0 };
    while (!scanner.lineEnd) {
      scanner.spaces();
      const key = scanner.word(EQUALS);
      if (!scanner.skip(EQUALS)) break;
      if (key === 'hca_handle') entry.hcaHandles = count();
      else if (key === 'hca_object') entry.hcaObjects = count();
      else scanner.word();
    }
    entries.push(entry);
  }
  return entries;
}

/** /proc/partitions: device file by `major:minor`. */
export function parsePartitions(text: string): Map<string, string> {
  const names = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [major, minor, , name] = line.trim().split(/\s+/);
    if (name !== undefined && name !== 'name') names.set(`${major}:${minor}`, `/dev/${name}`);
  }
  return names;
}
