/** Flags of `launch` that need more than a look: environment files, volumes, capabilities. */
import { stat } from 'node:fs/promises';
import { WherryError } from '../../errors.ts';
import { capabilityNumbers } from '../../oci/names.ts';
import type { Mount } from '../../oci/types.ts';
import { reason } from '../bundle.ts';
import { readCallerFile } from '../caller-file.ts';
import { type CommandContext, callerPath } from '../context.ts';
import { assertSameView } from '../namespaces.ts';
import { invalidValue, shown } from '../parse.ts';

const ENV_FILE_MAX = 2 ** 20;

/** --env-file and --env, in this order; as in docker, a variable that the caller does not have is not set. */
export async function environment(context: CommandContext, terminal: boolean): Promise<string[]> {
  const { env: callers } = context.session.request;
  const variables = terminal && callers['TERM'] ? [`TERM=${callers['TERM']}`] : [];
  const take = (entry: string, flag: string): void => {
    const name = entry.split('=', 1)[0]!;
    if (name === '')
      throw invalidValue(flag, entry, 'expected KEY=VALUE, or KEY to hand on the value of the caller');
    if (name !== entry) variables.push(entry);
    else if (callers[name] !== undefined) variables.push(`${name}=${callers[name]}`);
  };
  for (const file of context.flags.list('env-file')) {
    for (const line of await envLines(context, file)) take(line, '--env-file');
  }
  for (const entry of context.flags.list('env')) take(entry, '--env');
  return variables;
}

/** docker's format: a variable a line; empty lines and those that begin with # are passed over; nothing is unquoted. */
async function envLines(context: CommandContext, file: string): Promise<string[]> {
  const bytes = await readCallerFile(context, file, '--env-file', ENV_FILE_MAX);
  return bytes
    .toString('utf8')
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

const VOLUME_OPTIONS = new Set([
  'ro',
  'rw',
  'rro',
  'nosuid',
  'nodev',
  'noexec',
  'private',
  'rprivate',
  'slave',
  'rslave',
  'shared',
  'rshared',
]);

/** `HOST:INSIDE[:OPTION,…]` → recursive bind mounts. */
export async function volumes(context: CommandContext): Promise<Mount[]> {
  const mounts: Mount[] = [];
  for (const entry of context.flags.list('volume')) {
    const [host = '', inside = '', options, ...more] = entry.split(':');
    if (host === '' || !inside.startsWith('/') || inside === '/' || more.length > 0)
      throw invalidValue(
        '--volume',
        entry,
        'expected HOST:INSIDE or HOST:INSIDE:OPTIONS with an absolute path inside',
      );
    const wanted = options === undefined || options === '' ? [] : options.split(',');
    const strange = wanted.find((option) => !VOLUME_OPTIONS.has(option));
    if (strange !== undefined)
      throw invalidValue(
        '--volume',
        entry,
        `unknown option "${shown(strange)}"; there are ${[...VOLUME_OPTIONS].join(', ')}`,
      );
    const source = callerPath(context, host);
    await assertSameView(context.session, source, '--volume');
    try {
      await stat(source);
    } catch (error) {
      throw new WherryError('not-found', `--volume: ${host}: ${reason(error)}`, {
        path: '--volume',
        hint: 'the file or folder of the host must be there',
        cause: error,
      });
    }
    const propagation = wanted.some((option) => /^r?(private|slave|shared)$/.test(option))
      ? []
      : ['rprivate'];
    mounts.push({ destination: inside, type: 'bind', source, options: ['rbind', ...wanted, ...propagation] });
  }
  return mounts;
}

/** --cap-add and --cap-drop, by name with or without CAP_, or ALL. As in docker, what is dropped by name beats ALL added, and the reverse. */
export function capabilities(context: CommandContext, base: readonly string[]): string[] {
  const all = [...capabilityNumbers.keys()];
  const named = (flag: string) =>
    context.flags.list(flag).map((text) => {
      const name = text.toUpperCase() === 'ALL' ? 'ALL' : `CAP_${text.toUpperCase().replace(/^CAP_/, '')}`;
      if (name !== 'ALL' && !capabilityNumbers.has(name))
        throw invalidValue(`--${flag}`, text, 'no such capability; write a name such as NET_ADMIN, or ALL');
      return name;
    });
  const add = named('cap-add');
  const drop = named('cap-drop');
  const start = add.includes('ALL') ? all : drop.includes('ALL') ? [] : base;
  const given = new Set([...start, ...add.filter((name) => name !== 'ALL')]);
  for (const name of drop) if (name !== 'ALL') given.delete(name);
  return all.filter((name) => given.has(name));
}
