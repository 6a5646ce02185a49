/**
 * A container's lines of the host's own ps(1), as `runc ps` has them: it is run with the caller's options over all processes, and the lines
 * whose column PID names one of the container's are kept.
 */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../errors.ts';
import { findProgram, USUAL_PATH } from '../linux/program-path.ts';
import { playError, readSlot } from '../tape/outcome.ts';
import { compileHostPs, PS_STATUS } from './compile/host-ps.ts';
import type { PlayHost } from './play.ts';

/** It looks at every process of the host once. */
const DEADLINE_MS = 60_000;
/** The variables that change what it prints (ps(1), "ENVIRONMENT VARIABLES"). */
const HEEDED =
  /^(COLUMNS|LINES|LANG|LC_\w+|TZ|POSIXLY_CORRECT|PS_\w+|UNIX95|_XPG|I_WANT_A_BROKEN_PS|CMD_ENV)$/;

export interface HostPsRequest {
  options: readonly string[];
  /** The caller's. */
  env: Readonly<Record<string, string | undefined>>;
}

/** All that it prints, errors included. */
export async function hostPs(
  { options, env }: HostPsRequest,
  { host, token, runDir }: { host: PlayHost; token: bigint; runDir: string },
): Promise<string> {
  const path = `${process.env['PATH'] ?? ''}:${USUAL_PATH}`;
  const program = await findProgram('ps', path);
  if (program === undefined) {
    throw new WherryError('failed-precondition', 'ps is not installed', {
      path: 'OPTION',
      hint: 'leave the options out, or install procps',
    });
  }
  const environment = Object.entries(env).flatMap(([name, value]) =>
    HEEDED.test(name) && value !== undefined ? [`${name}=${value}`] : [],
  );
  const output = join(runDir, `ps-${token}`);
  const file = await open(output, 'wx+', 0o600);
  try {
    const tape = compileHostPs({ program, options, environment: [`PATH=${path}`, ...environment], output });
    const result = await host.play(token, tape.image, { deadline: DEADLINE_MS });
    const error = playError(tape, result);
    if (error !== undefined) throw error;
    const text = await file.readFile('utf8');
    const status = Number(readSlot(result.page, PS_STATUS));
    if (status !== 0) throw failed(status, text);
    return text;
  } finally {
    await file.close();
    await rm(output, { force: true });
  }
}

function failed(status: number, text: string): WherryError {
  const signal = status & 0x7f;
  const how = signal === 0 ? `exit status ${status >> 8}` : `signal ${signal}`;
  // What follows is how to use it.
  const said = text.trim().split('\n')[0] ?? '';
  return new WherryError('invalid-argument', `ps: ${how}: ${said}`, {
    path: 'OPTION',
    hint: "the options are those of this host's ps(1)",
  });
}

/** The first line, and those of these processes. */
export function linesOf(pids: readonly number[], table: string): string {
  const [head = '', ...lines] = table.split('\n');
  const column = head.trim().split(/\s+/).indexOf('PID');
  if (column < 0) {
    throw new WherryError('invalid-argument', 'ps: these options print no column PID', {
      path: 'OPTION',
      hint: 'the lines of a container are found by it: -o pid,…',
    });
  }
  const wanted = new Set(pids.map(String));
  const kept = lines.filter((line) => wanted.has(line.trim().split(/\s+/)[column] ?? ''));
  return [head, ...kept, ''].join('\n');
}
