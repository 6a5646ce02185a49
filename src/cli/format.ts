/** The texts that callers of runc read: state, list and time, byte for byte. */
import type { ContainerState } from '../container/types.ts';

/** The keys of `state` and `list` in runc's order; `annotations` only where there are some. */
export function stateObject(state: ContainerState, owner: string): Record<string, unknown> {
  const names = Object.keys(state.annotations).sort();
  return {
    ociVersion: state.ociVersion,
    id: state.key.id,
    pid: state.status === 'stopped' ? 0 : state.pid,
    status: state.status,
    bundle: state.bundle,
    rootfs: state.rootfs,
    created: rfc3339(state.createdAt),
    ...(names.length > 0 && {
      annotations: Object.fromEntries(names.map((name) => [name, state.annotations[name]])),
    }),
    ...(state.exit?.reason !== undefined && { exit: exitObject(state) }),
    owner,
  };
}

/** Not in runc's: why it ended. Callers that do not know the key pass over it. */
function exitObject({ exit, oomKills, oomCgroup }: ContainerState): Record<string, unknown> {
  return {
    status: exit?.exitStatus,
    reason: exit?.reason,
    ...(exit?.signal !== undefined && { signal: exit.signal }),
    ...(exit !== undefined && { time: rfc3339(exit.exitedAt) }),
    ...(oomKills > 0 && { oomKills, oomCgroup }),
  };
}

/** RFC 3339 with as many digits of the second as there are, as Go's RFC3339Nano. */
export function rfc3339(time: Date): string {
  return time.toISOString().replace(/\.?0+Z$/, 'Z');
}

/** RFC 3339 with whole seconds. */
export function rfc3339Seconds(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}

/** JSON as Go writes it: <, >, & and the line separators are escaped. */
export function goJson(value: unknown, indent?: string): string {
  const text = JSON.stringify(value, plainNumbers, indent) ?? 'null';
  return text.replace(
    /[<>&\u2028\u2029]/g,
    (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function plainNumbers(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

const rawJson = JSON as typeof JSON & { rawJSON(text: string): unknown };

/** The same, with every digit of integers that a double cannot hold. */
export function exactGoJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'bigint' ? rawJson.rawJSON(member.toString()) : member,
  );
}

/** Go's tabwriter with cells of at least 12, 3 blanks between them, as runc lists. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.slice(0, -1).forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 12, [...cell].length + 3);
    });
  }
  const line = (row: readonly string[]) =>
    row.map((cell, column) => (column === row.length - 1 ? cell : pad(cell, widths[column] ?? 0))).join('');
  return rows.map((row) => `${line(row)}\n`).join('');
}

function pad(cell: string, width: number): string {
  return cell + ' '.repeat(Math.max(0, width - [...cell].length));
}
