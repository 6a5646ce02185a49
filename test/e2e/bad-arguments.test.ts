/**
 * Every command with arguments that cannot be: the exit code is runc's, the text one plain line that says what is wrong, nothing is left, and
 * the daemon goes on. Where Wherry answers otherwise than runc, the reason stands in `otherwise`.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { allCgroups, mounts } from '../support/cgroups.ts';
import { uniqueId } from '../support/paths.ts';
import { openTool, type RuntimeTool } from '../support/runtimes.ts';
import { daemonPids } from '../support/wherry.ts';
import { commands, flags, ids, type Line } from './bad-lines.ts';

interface Answer {
  code: number;
  /** Both outputs. */
  text: string;
}

/** One plain line, whatever the caller wrote. */
function faults(text: string, longest: number): string[] {
  const found: string[] = [];
  if (!/^[^\n]+\n$/.test(text)) found.push('not one line');
  if (text.length > 1000 + longest) found.push(`${text.length} characters`);
  if (/[\u0000-\u0009\u000b-\u001f\u007f]/.test(text)) found.push('control characters');
  if (/\s+at .*:\d+:\d+/.test(text)) found.push('a stack');
  return found;
}

describe('arguments that cannot be', () => {
  let runc: RuntimeTool;
  let wherry: RuntimeTool;
  const bundles = new Map<RuntimeTool, string>();
  const live = uniqueId('live');
  let daemon: number;

  before(async () => {
    [runc, wherry] = [await openTool('runc'), await openTool('wherry')];
    for (const tool of [runc, wherry]) {
      const make = (name: string, args: string[]) =>
        makeBundle(tool.folder, name, args, (config) => {
          config.linux['cgroupsPath'] = `/${live}-${tool.name}-${name}`;
        });
      bundles.set(tool, await make('bundle', ['/bin/true']));
      const { code, text } = await call(tool, [
        'run',
        '-d',
        '-b',
        await make('live', ['/bin/sleep', '1000']),
        live,
      ]);
      assert.equal(code, 0, text);
    }
    daemon = await daemonPid();
  });
  after(async () => {
    for (const tool of [runc, wherry]) {
      await tool?.run(['delete', '--force', live]);
      await tool?.[Symbol.asyncDispose]();
    }
  });

  const daemonPid = async (): Promise<number> =>
    daemonPids((await wherry.run(['daemon', 'status', '--format', 'json'])).stdout).wherryd;
  /** What it prints goes to a file: a container that it makes after all may hold its output open. */
  async function call(tool: RuntimeTool, words: readonly string[], id = ''): Promise<Answer> {
    const meant: Record<string, string> = { ID: id, BUNDLE: bundles.get(tool) ?? '', LIVE: live };
    const outputFile = join(tool.folder, 'output');
    rmSync(outputFile, { force: true });
    const args = words.map((word) =>
      word.replace(/(?<![A-Z])(ID|BUNDLE|LIVE)\b/, (name) => meant[name] ?? name),
    );
    const { code } = await tool.run(args, { cwd: tool.folder, outputFile });
    return { code, text: readFileSync(outputFile, 'utf8') };
  }

  async function problemOf({ words, own, otherwise }: Line, id?: string): Promise<string[]> {
    const { code, text } = await call(wherry, words, id);
    const wanted = otherwise?.[0] ?? (own === true ? undefined : (await call(runc, words, id)).code);
    // What was made after all.
    if (/^(create|run|restore)$/.test(words[0] ?? ''))
      for (const tool of [runc, wherry]) await tool.run(['delete', '--force', 'x']);
    const problems: string[] = [];
    if (wanted === undefined ? code === 0 : code !== wanted)
      problems.push(`exit code ${code}, not ${wanted}`);
    if (code !== 0) problems.push(...faults(text, Math.max(...words.map((word) => word.length))));
    return problems.map(
      (problem) =>
        `${words.join(' ').slice(0, 200)} (${JSON.stringify(id)?.slice(0, 20)}): ${problem}: ${text.slice(0, 300)}`,
    );
  }

  for (const [name, id] of Object.entries(ids)) {
    test(`an id ${name}`, async () => {
      const problems: string[] = [];
      for (const line of commands) problems.push(...(await problemOf(line, id)));
      assert.deepEqual(problems, []);
    });
  }

  test('flags and numbers of arguments', async () => {
    const problems: string[] = [];
    for (const line of flags) problems.push(...(await problemOf(line)));
    assert.deepEqual(problems, []);
  });

  test('nothing is left, and the daemon is the one that it was', async () => {
    assert.equal(await daemonPid(), daemon);
    const state = JSON.parse((await wherry.run(['state', live])).stdout) as { status: string };
    assert.equal(state.status, 'running');
    const others = (paths: readonly string[]): string[] =>
      paths.filter((path) => path.includes(wherry.folder) || /\/wherry\/(x|LIVE|-x)/.test(path));
    assert.deepEqual(others(mounts()), []);
    assert.deepEqual(others(allCgroups()), []);
    const states = join(wherry.env['WHERRY_RUN_DIR'] ?? '', 'containers/local/default');
    assert.deepEqual(readdirSync(states), [live]);
  });
});
