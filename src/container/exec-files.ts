/**
 * Execs that outlive wherryd: a file `exec.<token>` each in the container's state directory, lines of JSON. The first says what was asked
 * for, later ones what has become of it.
 */
import { appendFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ErrorKind } from '../errors.ts';
import { boundary } from '../fault.ts';
import type { ExecRecord } from './exec-record.ts';
import type { ExecRequest } from './types.ts';

export interface StoredExec {
  token: string;
  /** The call that added it, and which life of keel that was: numbers of calls begin anew with each. */
  addedBy: string;
  boot: string;
  request: Omit<ExecRequest, 'key' | 'caller'>;
  /** Its start was told. */
  started?: true;
  /** Token of its logger (binary://). */
  logger?: string;
  /** Its start has failed. */
  failed?: { kind: ErrorKind; message: string };
  /** Its exit was told, and is this: keel keeps it only until a Delete releases it. `true`: of an earlier version, which asked keel. */
  ended?: true | { pid: number; exitStatus: number; exitedAt: string };
}

export type ExecNews = Pick<StoredExec, 'started' | 'logger' | 'failed' | 'ended'>;

const PREFIX = 'exec.';

/** Written by no caller of its own: theirs die with their command. */
export function saveExec(exec: ExecRecord, boot: bigint): void {
  const { key: _key, caller: _caller, ...request } = exec.request;
  const stored: StoredExec = {
    token: String(exec.token),
    addedBy: exec.addedBy,
    boot: String(boot),
    request,
  };
  boundary('exec');
  writeFileSync(pathOf(exec), `${JSON.stringify(stored, plain)}\n`, { mode: 0o600 });
  boundary('exec written');
}

/**
 * One append: the death of wherryd cannot fall into the middle of it. Where there is no room for it the exec goes on all the same: then a
 * later wherryd may tell an event again.
 */
export function noteExec(exec: ExecRecord, news: ExecNews): void {
  const [what] = Object.keys(news);
  boundary('exec news', what);
  try {
    appendFileSync(pathOf(exec), `${JSON.stringify(news)}\n`, { mode: 0o600 });
  } catch {
    // See above.
  }
  boundary('exec news written', what);
}

export function removeExecFile(exec: ExecRecord): void {
  boundary('exec remove');
  rmSync(pathOf(exec), { force: true });
  boundary('exec removed');
}

/** All of a state directory. Rejected files are removed: of an exec without a whole first line nothing was made. */
export function loadExecs(dir: string): StoredExec[] {
  const found: StoredExec[] = [];
  for (const name of readdirSync(dir)) {
    if (!/^exec\.\d+$/.test(name)) continue;
    const path = join(dir, name);
    try {
      const lines = readFileSync(path, 'utf8').trim().split('\n');
      const parts = lines.map((line) => JSON.parse(line, revive) as Partial<StoredExec>);
      found.push(Object.assign({}, ...parts) as StoredExec);
    } catch {
      rmSync(path, { force: true });
    }
  }
  return found.sort((a, b) => Number(BigInt(a.token) - BigInt(b.token)));
}

function pathOf(exec: ExecRecord): string {
  return join(exec.container.dir, `${PREFIX}${exec.token}`);
}

/** Limits may be more than a number holds. */
function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? { bigint: String(value) } : value;
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { bigint } = value as { bigint?: unknown };
  return typeof bigint === 'string' && Object.keys(value).length === 1 ? BigInt(bigint) : value;
}
