/**
 * One script of commands for any runtime with runc's command line, and what each of them answered as named fields:
 * `<step>.exit`, `<step>.error`, `<step>.out.<path in the JSON>`, `<step>.out[row].<column>`.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeBundle } from '../../support/bundle.ts';
import { eventually, type RunOptions, type RunResult, run } from '../../support/run.ts';

export type Fields = Record<string, string>;

export interface Subject {
  name: 'wherry' | 'runc' | 'crun';
  /** Starts the program inside the surroundings that it needs, its own globals included. */
  command: readonly string[];
  env: NodeJS.ProcessEnv;
  /** Private; --root lies in it. */
  folder: string;
}

/** crun 1.8.1 refuses hosts with both kinds of cgroups: it gets a view without the second. */
export const withoutUnified = [
  ...['unshare', '--mount', '--propagation', 'private', 'sh', '-c'],
  'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"',
  'sh',
];

/** The container ignores TERM, so that its end is always the KILL of the script. */
const program = ['/bin/sh', '-c', 'trap "" TERM; while :; do sleep 0.05; done'];

export async function playScenario(subject: Subject, id: string): Promise<Fields> {
  const fields: Fields = {};
  const bundle = await makeBundle(subject.folder, 'bundle', program, (config) => {
    config.linux['cgroupsPath'] = `/${id}`;
    Object.assign(config, { annotations: { 'org.example.colour': 'blue' } });
  });
  const log = join(subject.folder, 'log.json');
  const call = (args: readonly string[], options: RunOptions = {}): Promise<RunResult> => {
    const [first = '', ...rest] = subject.command;
    const globals = ['--root', join(subject.folder, 'root'), '--log', log, '--log-format', 'json'];
    return run(first, [...rest, ...globals, ...args], { env: subject.env, cwd: subject.folder, ...options });
  };
  const hide = (text: string): string => text.replaceAll(subject.folder, 'FOLDER').replaceAll(id, 'ID');
  const step = async (name: string, args: readonly string[], options: RunOptions = {}): Promise<void> => {
    rmSync(log, { force: true });
    const result = await call(args, options);
    fields[`${name}.exit`] = String(result.code);
    for (const [field, value] of Object.entries(outputFields(hide(result.stdout))))
      fields[`${name}.${field}`] = value;
    if (result.code !== 0) fields[`${name}.error`] = hide(lastError(log));
  };
  // A container keeps its starter's output open.
  const detached = { outputFile: join(subject.folder, 'output') };
  const until = (status: string) =>
    eventually(`${id} is ${status}`, async () => {
      const { stdout } = await call(['state', id]);
      return stdout.includes(`"${status}"`) || undefined;
    });

  await step('empty list', ['list', '--format', 'json']);
  await step(
    'create',
    ['create', '--bundle', bundle, '--pid-file', join(subject.folder, 'pid'), id],
    detached,
  );
  fields['create.pid file'] = hidePid(readFileSync(join(subject.folder, 'pid'), 'utf8'));
  await step('create again', ['create', '--bundle', bundle, id], detached);
  await step('state of created', ['state', id]);
  await step('ps of created', ['ps', '--format', 'json', id]);
  await step('exec in created', ['exec', id, '/bin/echo', 'early']);
  await step('start', ['start', id]);
  await step('start again', ['start', id]);
  await step('state of running', ['state', id]);
  await step('list', ['list', '--format', 'json']);
  await step('table', ['list']);
  await step('quiet list', ['list', '--quiet']);
  await step('delete of running', ['delete', id]);
  await step('exec', ['exec', id, '/bin/sh', '-c', 'echo inside; exit 6']);
  await step('exec of nothing', ['exec', id, '/not/there']);
  await step('pause', ['pause', id]);
  // It gives up on a busy freezer at times.
  if (subject.name === 'runc')
    await eventually('it is paused', async () => {
      if (fields['pause.exit'] === '0') return true;
      delete fields['pause.error'];
      await step('pause', ['pause', id]);
      return undefined;
    });
  await step('state of paused', ['state', id]);
  await step('exec in paused', ['exec', id, '/bin/true']);
  await step('resume', ['resume', id]);
  await step('resume again', ['resume', id]);
  await step('update', ['update', '--pids-limit', '77', id]);
  await step('kill with an unknown signal', ['kill', id, 'NOSUCH']);
  await step('kill 0', ['kill', id, '0']);
  await step('kill', ['kill', id, 'KILL']);
  await until('stopped');
  await step('state of stopped', ['state', id]);
  await step('list of stopped', ['list', '--format', 'json']);
  await step('ps of stopped', ['ps', '--format', 'json', id]);
  await step('kill of stopped', ['kill', id, 'KILL']);
  await step('start of stopped', ['start', id]);
  await step('exec in stopped', ['exec', id, '/bin/true']);
  await step('pause of stopped', ['pause', id]);
  await step('delete', ['delete', id]);
  for (const command of ['state', 'start', 'kill', 'delete', 'ps', 'pause', 'resume'])
    await step(`${command} of unknown`, [command, id]);
  await step('exec in unknown', ['exec', id, '/bin/true']);
  await step('delete --force of unknown', ['delete', '--force', id]);
  await step('run', [
    'run',
    '--bundle',
    await oneShot(subject.folder, 'fine', ['/bin/sh', '-c', 'echo out; exit 5']),
    id,
  ]);
  await step('run killed', [
    'run',
    '--bundle',
    await oneShot(subject.folder, 'killed', [
      '/bin/sh',
      '-c',
      'sh -c "kill -9 \\$PPID"; kill -9 $$; sh -c "exit 9"; exit 9',
    ]),
    id,
  ]);
  await step('run of nothing', [
    'run',
    '--bundle',
    await oneShot(subject.folder, 'none', ['/not/there']),
    id,
  ]);
  await step('run of a folder', ['run', '--bundle', await oneShot(subject.folder, 'folder', ['/etc']), id]);
  await step('run without PATH entry', [
    'run',
    '--bundle',
    await oneShot(subject.folder, 'path', ['not-there']),
    id,
  ]);
  await step('no such bundle', ['create', '--bundle', join(subject.folder, 'nowhere'), id], detached);
  await step('bundle without config', ['create', '--bundle', subject.folder, id], detached);
  await step('bad id', ['create', '--bundle', bundle, 'a/b'], detached);
  await step('no id', ['create', '--bundle', bundle], detached);
  await step('unknown command', ['flurb']);
  await step('unknown flag', ['create', '--flurb', id]);
  fields['left over'] = String(existsSync(join(subject.folder, 'root', id)));
  return fields;
}

function oneShot(folder: string, name: string, args: readonly string[]): Promise<string> {
  return makeBundle(folder, name, args);
}

/** The message of the last line of level error. */
function lastError(log: string): string {
  if (!existsSync(log)) return '';
  const lines = readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
  const errors = lines
    .map((line) => JSON.parse(line) as { level: string; msg: string })
    .filter(({ level }) => level === 'error');
  return (errors.at(-1)?.msg ?? '').trim();
}

function outputFields(text: string): Fields {
  const fields: Fields = {};
  const trimmed = text.trim();
  if (/^[[{]|^null$/.test(trimmed)) flatten('out', JSON.parse(trimmed), fields);
  else if (/^(ID|NAME) +PID/.test(trimmed)) tableFields(trimmed, fields);
  else fields['out'] = text.length > 400 ? '(help)' : text;
  return fields;
}

function flatten(path: string, value: unknown, into: Fields): void {
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    if (entries.length === 0) into[path] = Array.isArray(value) ? '[]' : '{}';
    for (const [name, inner] of entries)
      flatten(Array.isArray(value) ? `${path}[${name}]` : `${path}.${name}`, inner, into);
  } else {
    into[path] =
      path.endsWith('.pid') || /^out\[\d+\]$/.test(path) ? hidePid(String(value)) : hideTime(String(value));
  }
}

function tableFields(text: string, into: Fields): void {
  const [head = '', ...rows] = text.split('\n');
  const names = head.trim().split(/\s{2,}/);
  into['out.head'] = names.join(' | ');
  rows.forEach((row, index) => {
    row
      .trim()
      .split(/\s+/)
      .forEach((cell, column) => {
        into[`out[${index}].${names[column] ?? column}`] =
          names[column] === 'PID' ? hidePid(cell) : hideTime(cell);
      });
  });
}

function hidePid(text: string): string {
  return /^[1-9]\d*$/.test(text) ? 'PID' : text;
}

function hideTime(text: string): string {
  return text.replace(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, 'TIME');
}
