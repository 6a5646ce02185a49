/** What somebody has mounted inside of a container's root filesystem on the host. Source: proc_pid_mountinfo(5). */
import { readFileSync } from 'node:fs';

/** Mount points strictly below `folder`, deepest and youngest first. */
export function mountsBelow(folder: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, unescapeOctal))
    .filter((point) => point.startsWith(`${folder}/`))
    .reverse()
    .toSorted((a, b) => b.split('/').length - a.split('/').length);
}

function unescapeOctal(_match: string, digits: string): string {
  return String.fromCharCode(Number.parseInt(digits, 8));
}
