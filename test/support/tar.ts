/** Just enough of POSIX ustar to write a container layer: folders, files and symbolic links with short names. */

export interface TarEntry {
  /** Without a leading slash; at most 100 bytes. */
  name: string;
  mode: number;
  /** A file's content. */
  content?: Uint8Array;
  /** A symbolic link's target. */
  link?: string;
}

const block = 512;

/** Entries without content and link are folders. Times and owners are 0, so equal entries give equal bytes. */
export function tar(entries: readonly TarEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const entry of entries) {
    const size = entry.content?.length ?? 0;
    parts.push(header(entry, size));
    if (entry.content !== undefined)
      parts.push(entry.content, Buffer.alloc((block - (size % block)) % block));
  }
  parts.push(Buffer.alloc(2 * block));
  return Buffer.concat(parts);
}

function header(entry: TarEntry, size: number): Buffer {
  const kind = entry.link !== undefined ? '2' : entry.content !== undefined ? '0' : '5';
  const buffer = Buffer.alloc(block);
  const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;
  buffer.write(kind === '5' ? `${entry.name}/` : entry.name, 0, 100);
  buffer.write(octal(entry.mode, 8), 100);
  buffer.write(octal(0, 8), 108);
  buffer.write(octal(0, 8), 116);
  buffer.write(octal(size, 12), 124);
  buffer.write(octal(0, 12), 136);
  buffer.write('        ', 148);
  buffer.write(kind, 156);
  buffer.write(entry.link ?? '', 157, 100);
  buffer.write('ustar\x0000', 257);
  const sum = buffer.reduce((total, byte) => total + byte, 0);
  buffer.write(`${octal(sum, 7)} `, 148);
  return buffer;
}
