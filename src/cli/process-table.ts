/** Processes as `ps -ef` of procps shows them, from /proc (proc(5)); no program of the host is started for it. */
import { readFile } from 'node:fs/promises';

/** USER_HZ: 100 on every architecture that Wherry runs on. */
const TICKS = 100;

const HEAD = 'UID          PID    PPID  C STIME TTY          TIME CMD';

/** Processes that have ended meanwhile are left out. */
export async function processTable(pids: readonly number[]): Promise<string> {
  const [names, started] = await Promise.all([userNames(), bootTime()]);
  const now = new Date();
  const lines = await Promise.all(pids.map((pid) => processLine(pid, names, started, now)));
  return `${[HEAD, ...lines.filter((line) => line !== undefined)].join('\n')}\n`;
}

async function processLine(
  pid: number,
  names: ReadonlyMap<string, string>,
  boot: number,
  now: Date,
): Promise<string | undefined> {
  let stat: string;
  let status: string;
  let command: string;
  try {
    [stat, status, command] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'latin1'),
      readFile(`/proc/${pid}/status`, 'utf8'),
      readFile(`/proc/${pid}/cmdline`, 'utf8'),
    ]);
  } catch {
    return undefined;
  }
  // The name in parentheses may hold anything; the fields after it are numbered from 3.
  const open = stat.indexOf('(');
  const close = stat.lastIndexOf(')');
  const field = stat.slice(close + 2).split(' ');
  const number = (position: number) => Number(field[position - 3] ?? 0);
  const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1] ?? '0';
  const seconds = (number(14) + number(15)) / TICKS;
  const started = new Date(boot + (number(22) * 1000) / TICKS);
  const elapsed = Math.max(1, (now.getTime() - started.getTime()) / 1000);
  const name = names.get(uid) ?? uid;
  const words = command.replace(/\0+$/, '').replaceAll('\0', ' ');
  return [
    name.length > 8 ? `${name.slice(0, 7)}+` : name.padEnd(8),
    String(pid).padStart(7),
    String(number(4)).padStart(7),
    String(Math.min(99, Math.floor((seconds * 100) / elapsed))).padStart(2),
    startText(started, now),
    terminalName(number(7)).padEnd(8),
    timeText(seconds),
    words === '' ? `[${stat.slice(open + 1, close)}]` : words,
  ].join(' ');
}

function startText(started: Date, now: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  if (started.toDateString() === now.toDateString())
    return `${two(started.getHours())}:${two(started.getMinutes())}`;
  if (started.getFullYear() !== now.getFullYear()) return ` ${started.getFullYear()}`;
  return `${started.toLocaleString('en-US', { month: 'short' })}${two(started.getDate())}`;
}

function timeText(seconds: number): string {
  const whole = Math.floor(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  const days = Math.floor(whole / 86_400);
  const clock = `${two(Math.floor(whole / 3600) % 24)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return days === 0 ? clock : `${days}-${clock}`;
}

/** Device number as the kernel encodes it in tty_nr: minor in bits 0-7 and 20-31, major in 8-19. */
function terminalName(device: number): string {
  if (device === 0) return '?';
  const major = (device >> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >>> 12) & 0xfff00);
  if (major >= 136 && major <= 143) return `pts/${minor + (major - 136) * 256}`;
  return major === 4 ? (minor < 64 ? `tty${minor}` : `ttyS${minor - 64}`) : '?';
}

async function userNames(): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  try {
    for (const line of (await readFile('/etc/passwd', 'utf8')).split('\n')) {
      const [name, , uid] = line.split(':');
      if (name !== undefined && uid !== undefined && !names.has(uid)) names.set(uid, name);
    }
  } catch {
    // Without the file numbers are shown.
  }
  return names;
}

/** Milliseconds since the epoch. */
async function bootTime(): Promise<number> {
  return Number(/^btime (\d+)/m.exec(await readFile('/proc/stat', 'latin1'))?.[1] ?? 0) * 1000;
}
