/** Tables for people: in colour and cut at the edge where they go to a terminal, whole where they do not. */
import { painter, type Style } from './colour.ts';
import type { ClientSession } from './session.ts';

const GAP = 3;

/** The first row is the head. `styleOf`: of a cell below it. */
export function peopleTable(
  session: ClientSession,
  rows: readonly (readonly string[])[],
  styleOf: (row: number, column: number) => Style | undefined = () => undefined,
): string {
  const { isTerminal, cols } = session.request;
  const edge = isTerminal[1] && cols > 0 ? cols : Number.POSITIVE_INFINITY;
  const paint = painter(session, 1);
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => [...(row[column] ?? '')].length)),
  );
  const lines = rows.map((row, at) => {
    let room = edge;
    return row
      .map((cell, column) => {
        const last = column === row.length - 1;
        const padded = last ? cell : cell.padEnd(cell.length + widths[column]! + GAP - [...cell].length);
        const shown = cut(padded, room);
        room -= [...padded].length;
        return paint(shown, at === 0 ? 'bold' : styleOf(at - 1, column));
      })
      .join('');
  });
  return lines.map((line) => `${line}\n`).join('');
}

function cut(text: string, room: number): string {
  const characters = [...text];
  if (characters.length <= room) return text;
  return room < 1 ? '' : `${characters.slice(0, room - 1).join('')}…`;
}

const UNITS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1],
] as const;

/** `3 minutes ago`. */
export function since(time: Date, now = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - time.getTime()) / 1000));
  const [unit, size] = UNITS.find(([, length]) => seconds >= length) ?? UNITS[3];
  const count = Math.floor(seconds / size);
  return `${count} ${unit}${count === 1 ? '' : 's'} ago`;
}
