/**
 * The small schemas that the specification is made of. Every schema's error text is what is allowed there, worded so that
 * "expected <text>, found <value>" is a sentence; nothing else may be put into an error text.
 */
import * as z from 'zod';

/** A number where it is exact, else a bigint: `BigInt(value)` and template strings take both. */
export type Int64 = number | bigint;

const MAX_INT64 = 2n ** 63n - 1n;
const MIN_INT64 = -(2n ** 63n);
const MAX_UINT64 = 2n ** 64n - 1n;

const within = (value: unknown, least: bigint, most: bigint): boolean =>
  typeof value === 'number'
    ? Number.isSafeInteger(value) && value >= least && value <= most
    : typeof value === 'bigint' && value >= least && value <= most;

/** Signed 64 bit. */
export const int64 = z.custom<Int64>((value) => within(value, MIN_INT64, MAX_INT64), {
  error: 'an integer of 64 bits',
});
/** Unsigned 64 bit. */
export const uint64 = z.custom<Int64>((value) => within(value, 0n, MAX_UINT64), {
  error: 'an integer from 0 to 18446744073709551615',
});

export const integer = (least: number, most: number) => {
  const error = `an integer from ${least} to ${most}`;
  return z.int({ error }).min(least, { error }).max(most, { error });
};
export const uint16 = integer(0, 0xffff);
export const uint32 = integer(0, 0xffff_ffff);
export const int32 = integer(-0x8000_0000, 0x7fff_ffff);
/** Go's `uint` in the specification's bindings; no field of it needs more than 32 bits. */
export const uint = uint32;

/** A uid or gid: 4294967295 is the kernel's "none". */
export const id = integer(0, 0xffff_fffe);

export const flag = z.boolean({ error: 'true or false' });

/** Text that may be handed to the kernel: the kernel ends strings at NUL. */
export const text = (error = 'a string without NUL bytes') =>
  z.string({ error }).regex(/^[^\0]*$/, { error });
export const filledText = (error: string) => z.string({ error }).regex(/^[^\0]+$/, { error });

/** `/`-rooted, any content but NUL. Not cleaned: path safety is the business of whoever opens it. */
export const absolutePath = z
  .string({ error: 'an absolute path' })
  .regex(/^\/[^\0]*$/, { error: 'an absolute path' });

export const oneOf = <const T extends readonly string[]>(names: T) =>
  z.enum(names, { error: `one of ${names.filter((name) => name !== '').join(', ')}` });

/** One of many names, too many to list. */
export const named = <const T extends readonly string[]>(names: T, error: string) => z.enum(names, { error });

export const list = <T extends z.ZodType>(item: T, error: string) => z.array(item, { error });
export const textMap = z.record(z.string(), text(), { error: 'an object of strings' });

/** An object; properties that are not named are dropped (config.md, "Extensibility"). */
export const record = <T extends z.core.$ZodLooseShape>(shape: T) => z.object(shape, { error: 'an object' });

/** List of CPUs or memory nodes as cpuset(7) has it: `0-3,7`. */
export const cpuList = z
  .string({ error: 'a list such as 0-3,7' })
  .regex(/^[0-9,\s-]*$/, { error: 'a list such as 0-3,7' });
