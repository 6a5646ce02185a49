/**
 * The text of a small file of the kernel (cgroups, /proc), read on the spot: four calls through FFI cost less than half of Node's
 * readFileSync, which also throws an error with a stack for a file that is not there. Only for filesystems that always answer.
 */
import { O_CLOEXEC, O_RDONLY } from './constants.ts';
import { fileCalls } from './file-calls.ts';

/** A file of cgroups or /proc gives a page at a time. */
const PAGE = 4096;

const block = Buffer.alloc(PAGE);

/** A byte a character; undefined when it cannot be opened or read. */
export function readShortFile(path: string): string | undefined {
  const { open, pread, close } = fileCalls();
  const file = open(path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return undefined;
  let text = '';
  let length: number;
  do {
    length = Number(pread(file, block, PAGE, text.length));
    if (length > 0) text += block.toString('latin1', 0, length);
  } while (length > 0);
  close(file);
  return length < 0 ? undefined : text;
}
