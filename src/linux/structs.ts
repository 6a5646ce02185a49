/**
 * Structs that the kernel reads or fills, encoded byte by byte; the layouts are the same on x86_64 and aarch64. A unit
 * test compares every size and offset with `sizeof` and `offsetof` of the C headers.
 */

/** Bytes of a struct, and where in them an address belongs. `Ref` is what the caller means by a place in memory. */
export interface EncodedStruct<Ref> {
  bytes: Uint8Array;
  pointers: readonly { offset: number; to: Ref }[];
}
