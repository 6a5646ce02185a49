/** `daemon start | status | stop`. */
import { WherryError } from '../../errors.ts';
import type { CommandContext } from '../context.ts';
import { rfc3339Seconds } from '../format.ts';

/** The client starts keel before it sends anything, so whoever gets here has found or made a daemon. */
export async function daemonStart(context: CommandContext): Promise<number> {
  const { pid, startedAt } = await context.deps.daemon.status();
  if (context.flags.on('foreground')) {
    throw new WherryError('failed-precondition', `the daemon already runs: keel has pid ${pid}`, {
      hint: 'stop it with "wherry daemon stop", then start the service',
    });
  }
  context.print(`the daemon runs: keel has pid ${pid}, started ${rfc3339Seconds(startedAt)}\n`);
  return 0;
}

export async function daemonStatus(context: CommandContext): Promise<number> {
  const { deps, flags, print } = context;
  const status = await deps.daemon.status();
  const { keel, wherryd, node } = deps.versions;
  if (flags.text('format') === 'json') {
    const { pid, registered, players, connections, startedAt } = status;
    const shown = {
      runDir: deps.paths.runDir,
      startedAt: rfc3339Seconds(startedAt),
      keel: { pid, build: keel },
      wherryd: { pid: process.pid, build: wherryd, node },
      containers: registered,
      players,
      connections,
    };
    print(`${JSON.stringify(shown)}\n`);
    return 0;
  }
  const lines = [
    ['run folder', deps.paths.runDir],
    ['started', rfc3339Seconds(status.startedAt)],
    ['keel', `pid ${status.pid}, build ${keel}`],
    ['wherryd', `pid ${process.pid}, build ${wherryd}, node ${node}`],
    ['containers', `${status.registered} alive`],
    ['players', String(status.players)],
    ['connections', `${status.connections}, this one included`],
  ];
  print(lines.map(([name, value]) => `${`${name}:`.padEnd(13)}${value}\n`).join(''));
  return 0;
}

export async function daemonStop(context: CommandContext): Promise<number> {
  await context.deps.daemon.stop(context.flags.on('force'));
  return 0;
}
