/** The table of the commands for mounts of running containers; the names and the file are crun's. */
import { id } from './common-specs.ts';
import type { ArgumentSpec, CommandSpec } from './grammar.ts';

const config: ArgumentSpec = {
  name: 'CONFIG',
  help: 'a file with a JSON list of mounts, as in config.json; - is standard input',
  optional: true,
};

export const mountsCommands: readonly CommandSpec[] = [
  {
    name: 'mounts add',
    summary: 'mount folders and files into a running container',
    description: [
      'Bind mounts and tmpfs, up to 32 at once: all of them or none. A place that is missing is made. Sources are paths of the',
      'host. "mounts remove" takes them away again.',
    ],
    flags: [
      {
        name: 'mount',
        kind: 'list',
        value: 'type=TYPE,src=HOST,dst=INSIDE[,OPTION]',
        help: 'one mount (bind when no type is named), with options of config.json; may be repeated',
      },
      {
        name: 'volume',
        short: 'v',
        kind: 'list',
        value: 'HOST:INSIDE[:OPTIONS]',
        help: 'show a folder or file of the host inside; options are those of launch; may be repeated',
      },
    ],
    arguments: [id, config],
    examples: [
      { line: 'mounts add -v /srv/data:/data:ro web1', says: 'show a folder, read-only' },
      { line: 'mounts add --mount type=tmpfs,dst=/scratch,size=16m web1', says: 'a new tmpfs' },
      { line: 'mounts add web1 mounts.json', says: 'as crun takes them' },
    ],
    runc: false,
  },
  {
    name: 'mounts remove',
    summary: 'take away what "mounts add" has mounted',
    description: ['Files that are open in it stay open.'],
    flags: [{ name: 'target', kind: 'list', value: 'INSIDE', help: 'where it is mounted; may be repeated' }],
    arguments: [id, config],
    examples: [
      { line: 'mounts remove --target /data web1', says: 'one of them' },
      { line: 'mounts remove web1 mounts.json', says: 'all that the file names' },
    ],
    runc: false,
  },
];
