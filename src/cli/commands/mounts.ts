/** `mounts add` and `mounts remove`: mounts of a container that runs. */
import { WherryError } from '../../errors.ts';
import { isBindMount } from '../../oci/mounts.ts';
import { parseMounts } from '../../oci/parts.ts';
import type { Mount } from '../../oci/types.ts';
import { documentName, readDocument } from '../caller-file.ts';
import { type CommandContext, callerPath, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';
import { volumes } from '../launched/options.ts';

export async function mountsAddCommand(context: CommandContext): Promise<number> {
  const { deps, flags, operation } = context;
  const key = keyOf(context, checkId(context.args[0] ?? ''));
  deps.runtime.state(key);
  const mounts = [
    ...(await listed(context)),
    ...flags.list('mount').map((text) => fromText(context, text)),
    ...(await volumes(context)),
  ];
  await deps.runtime.addMounts(key, mounts, operation);
  return 0;
}

export async function mountsRemoveCommand(context: CommandContext): Promise<number> {
  const { deps, flags, operation } = context;
  const key = keyOf(context, checkId(context.args[0] ?? ''));
  deps.runtime.state(key);
  const places = [...(await listed(context)).map(({ destination }) => destination), ...flags.list('target')];
  await deps.runtime.removeMounts(key, places, operation);
  return 0;
}

/** crun's way: a JSON list of mounts, as in config.json. */
async function listed(context: CommandContext): Promise<Mount[]> {
  const file = context.args[1];
  if (file === undefined) return [];
  const { mounts, warnings } = parseMounts(await readDocument(context, file, 'CONFIG'), documentName(file));
  for (const warning of warnings) context.warn(warning);
  return mounts.map((mount) => ({
    ...mount,
    ...(isBindMount(mount) && mount.source !== undefined && { source: callerPath(context, mount.source) }),
  }));
}

/** `type=bind,src=DIR,dst=DIR,ro`: docker's words for the fields, every other word is an option. */
function fromText(context: CommandContext, text: string): Mount {
  let type = 'bind';
  let source: string | undefined;
  let destination = '';
  const options: string[] = [];
  for (const word of text.split(',')) {
    const equals = word.indexOf('=');
    const [name, value] = equals < 0 ? [word, ''] : [word.slice(0, equals), word.slice(equals + 1)];
    if (name === 'type') type = value;
    else if (name === 'src' || name === 'source') source = value;
    else if (name === 'dst' || name === 'destination' || name === 'target') destination = value;
    else if (name === 'readonly') options.push('ro');
    else if (word !== '') options.push(word);
  }
  if (!destination.startsWith('/')) {
    throw new WherryError(
      'invalid-argument',
      `invalid value ${JSON.stringify(text)} for flag --mount: dst is missing`,
      {
        path: '--mount',
        hint: 'write type=bind,src=/of/the/host,dst=/inside,ro',
      },
    );
  }
  if (type !== 'bind') return { destination, type, ...(source !== undefined && { source }), options };
  const recursive = options.includes('bind') || options.includes('rbind') ? [] : ['rbind'];
  return {
    destination,
    type,
    ...(source !== undefined && source !== '' && { source: callerPath(context, source) }),
    options: [...recursive, ...options],
  };
}
