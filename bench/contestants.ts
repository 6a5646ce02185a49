/** The command-line runtimes that are measured, each with what it needs to run here. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Peers } from '../test/support/debs.ts';
import { wherryBinary } from '../test/support/paths.ts';
import { must, type RunResult, run } from '../test/support/run.ts';
import type { Wherry } from '../test/support/wherry.ts';
import { Timed } from './timed.ts';

export interface Contestant extends Disposable {
  readonly name: string;
  /** What it says about itself, first line. */
  readonly version: string;
  readonly timed: Timed;
  /** The command that runs a bundle to its end. */
  command(bundle: string, id: string): string[];
  /** The same, with its output. */
  run(bundle: string, id: string): Promise<RunResult>;
}

interface Recipe {
  name: string;
  program: string;
  globals: string[];
  env: NodeJS.ProcessEnv;
  /** Starts a program inside the surroundings that the runtime needs. */
  inside?: string[];
}

/**
 * crun 1.8.1 refuses hosts that have both kinds of cgroups, so its launcher lives in a mount namespace without the second kind: entered
 * once, not in the samples. It then works on the same v1 hierarchies as the others.
 */
const withoutUnified = [
  'unshare',
  '--mount',
  '--propagation',
  'private',
  'sh',
  '-c',
  'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"',
  'sh',
];

export async function contestants(peers: Peers, wherry: Wherry): Promise<Contestant[]> {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
  const root = (name: string): string => {
    const folder = join(wherry.folder, name);
    mkdirSync(folder);
    return folder;
  };
  const recipes: Recipe[] = [
    { name: 'wherry', program: wherryBinary, globals: [], env: wherry.env },
    { name: 'runc', program: peers.runc, globals: ['--root', root('runc')], env },
    {
      name: 'crun',
      program: peers.crun,
      globals: ['--root', root('crun')],
      env: { ...env, LD_LIBRARY_PATH: peers.crunLibraries },
      inside: withoutUnified,
    },
  ];
  return Promise.all(recipes.map(open));
}

async function open({ name, program, globals, env, inside = [] }: Recipe): Promise<Contestant> {
  const version = (await must(program, ['--version'], { env })).stdout.split('\n')[0] ?? '';
  const timed = new Timed(env, inside);
  const command = (bundle: string, id: string): string[] => [
    program,
    ...globals,
    'run',
    '--bundle',
    bundle,
    id,
  ];
  return {
    name,
    version,
    timed,
    command,
    run: (bundle, id) => {
      const [first = '', ...rest] = [...inside, ...command(bundle, id)];
      return run(first, rest, { env });
    },
    [Symbol.dispose]: () => timed[Symbol.dispose](),
  };
}
