/** process.args, env and cwd: which file is executed, found as execvp(3) does, but before `start`, so that create can fail. */
import { WherryError } from '../../errors.ts';
import { AT_EACCESS, AT_FDCWD, S_IFDIR, S_IFMT, STATX_TYPE, X_OK } from '../../linux/constants.ts';
import { fieldOf, sizeOf } from '../../linux/structs-layout.ts';
import type { Spec } from '../../oci/types.ts';
import type { DataRef, Label, Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

/** Where to look when env has no PATH, as runc and execvp do. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface FoundProgram {
  path: Reg;
  argv: DataRef;
  envp: DataRef;
}

export function findProgram(program: Program, spec: Spec): FoundProgram {
  const { tape } = program;
  const { args, env = [] } = spec.process;
  const name = args[0] ?? '';
  if (name === '') {
    throw new WherryError(
      'invalid-argument',
      'config.json: process.args[0]: expected the name of a program, found nothing',
      {
        path: 'process.args[0]',
      },
    );
  }
  const found = tape.reg('program');
  const ready = tape.label('found');
  const byPath = name.includes('/');
  const candidates = byPath
    ? [name]
    : searchPath(env).map((folder) => `${folder === '' ? '.' : folder}/${name}`);
  const denied = tape.reg('denied');
  const stat = tape.space(sizeOf('statx'));
  for (const candidate of candidates) {
    program.step('process.args[0]', byPath ? `exec: "${name}": stat ${name}` : `look for ${candidate}`);
    checkCandidate(program, candidate, { found, ready, denied, stat }, byPath);
  }
  if (!byPath) {
    const missing = tape.label('missing');
    tape.jumpIfEqual(denied, 0, missing);
    program.step('process.args[0]', `exec: "${name}"`);
    tape.fail('EACCES');
    tape.place(missing);
    program.step('process.args[0]', `exec: "${name}": executable file not found in $PATH`);
    tape.fail('ENOENT');
  }
  tape.place(ready);
  return {
    path: found,
    argv: tape.pointers([...args.map((arg) => tape.cstr(arg)), null]),
    envp: tape.pointers([...env.map((entry) => tape.cstr(entry)), null]),
  };
}

function checkCandidate(
  program: Program,
  candidate: string,
  { found, ready, denied, stat }: { found: Reg; ready: Label; denied: Reg; stat: DataRef },
  only: boolean,
): void {
  const { tape } = program;
  const next = tape.label('next');
  const refused = tape.label('refused');
  const absent = only
    ? {}
    : { ENOENT: next, ENOTDIR: next, EACCES: refused, ELOOP: next, ENAMETOOLONG: next };
  tape.perform('statx', [AT_FDCWD, candidate, 0, STATX_TYPE, stat], absent);
  const mode = tape.load(stat.at(fieldOf('statx', 'stx_mode')[0], 4), 4);
  tape.jumpIf(mode, S_IFMT, S_IFDIR, refused);
  const unfit = only ? { EACCES: refused } : { any: refused };
  tape.perform('faccessat2', [AT_FDCWD, candidate, X_OK, AT_EACCESS], unfit);
  tape.set(candidate, found);
  tape.jump(ready);
  tape.place(refused);
  if (only) {
    program.step('process.args[0]', `exec: "${candidate}"`);
    tape.fail('EACCES');
  } else {
    tape.set(1, denied);
  }
  tape.place(next);
}

function searchPath(env: readonly string[]): string[] {
  // The last definition wins, as with execve and a shell.
  const entry = env.findLast((variable) => variable.startsWith('PATH='));
  return (entry === undefined ? DEFAULT_PATH : entry.slice('PATH='.length)).split(':');
}
