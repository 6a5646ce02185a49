/** A new filesystem by the mount API: made and configured where nobody can see it, to be attached at a descriptor later. */
import { WherryError } from '../../errors.ts';
import {
  FSCONFIG_CMD_CREATE,
  FSCONFIG_SET_FLAG,
  FSCONFIG_SET_STRING,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
} from '../../linux/constants.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import type { MountOptions } from './mount-options.ts';
import type { Program } from './program.ts';

/** fsconfig(2): a string value holds at most 255 bytes. */
const FSCONFIG_STRING_MAX = 255;

/** An option does not fit into fsconfig(2); mount(2) may still take it. */
export function needsText({ parameters }: Pick<MountOptions, 'parameters'>): boolean {
  return parameters.some(([, value]) => value !== undefined && tooLong(value));
}

function tooLong(value: string): boolean {
  // No character has more than three bytes for each of its units.
  return value.length > FSCONFIG_STRING_MAX / 3 && Buffer.byteLength(value) > FSCONFIG_STRING_MAX;
}

/** fsopen, parameters, fsmount: a mount that is nowhere yet. */
export function newFilesystem(
  program: Program,
  type: string,
  source: string | DataRef,
  options: Pick<MountOptions, 'parameters' | 'attrSet'>,
  path: string,
): Reg {
  const { tape } = program;
  const context = tape.syscall('fsopen', [type, FSOPEN_CLOEXEC]);
  tape.perform('fsconfig', [context, FSCONFIG_SET_STRING, 'source', source, 0]);
  for (const [name, value] of options.parameters) {
    if (value === undefined) {
      tape.perform('fsconfig', [context, FSCONFIG_SET_FLAG, name, 0, 0]);
      continue;
    }
    if (tooLong(value)) {
      throw new WherryError(
        'invalid-argument',
        `${path}.options: ${name} has more than ${FSCONFIG_STRING_MAX} bytes`,
        {
          path: `${path}.options`,
        },
      );
    }
    tape.perform('fsconfig', [context, FSCONFIG_SET_STRING, name, value, 0]);
  }
  tape.perform('fsconfig', [context, FSCONFIG_CMD_CREATE, 0, 0, 0]);
  const tree = tape.syscall('fsmount', [context, FSMOUNT_CLOEXEC, options.attrSet]);
  program.close(context);
  return tree;
}
