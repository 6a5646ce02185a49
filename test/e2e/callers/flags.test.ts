/**
 * Every command and flag that runc (Debian's 1.1 and its newest) and crun name in their --help exists here and takes a value or none as there, or
 * stands in flags-not-taken.ts and is refused by name.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type FlagSpec, globalFlags } from '../../../src/cli/grammar.ts';
import { commandsOf } from '../../../src/cli/parse.ts';
import { peers, unpackedTree } from '../../support/debs.ts';
import { run } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';
import { flagsNotTaken } from './flags-not-taken.ts';

interface Flag {
  /** With its dashes. */
  names: string[];
  takesValue: boolean;
}

type Help = (...words: string[]) => Promise<string>;

/** Flags of a help text: urfave/cli's (`--env value, -e value  what`) and argp's (`-e, --env=ENV  what`). */
function flagsIn(help: string): Flag[] {
  const found: Flag[] = [];
  for (const line of help.split('\n')) {
    const head = /^ {2,8}(-.*?)(?: {2,}|\t|$)/.exec(line)?.[1];
    if (head === undefined) continue;
    const names = [...head.matchAll(/(?:^|[\s,])(--?[A-Za-z?][\w-]*)/g)].map(([, name]) => name ?? '');
    // `[=TTY]` may be left out.
    found.push({ names, takesValue: /(?:--?[\w-]+[ =][\w<]+)/.test(head.replace(/, -/g, ',-')) });
  }
  return found;
}

function commandsIn(help: string): string[] {
  const part = /\nCOMMANDS:\n([\s\S]*?)\n\s*\n/.exec(help)?.[1] ?? '';
  return part
    .split('\n')
    .map((line) => line.trim().split(/[\s,]+/)[0] ?? '')
    .filter((name) => name !== '' && name !== 'help');
}

const ofHelp = new Set(['--help', '-h', '-?', '--usage', '--version', '-v', '-V']);

describe('flags of other runtimes', () => {
  let wherry: Wherry;
  const runtimes: [name: string, help: Help][] = [];
  before(async () => {
    wherry = new Wherry();
    const { runc, crun, crunLibraries } = await peers(['bookworm']);
    const libraries = { LD_LIBRARY_PATH: crunLibraries };
    runtimes.push(['runc', async (...words) => (await run(runc, words)).stdout]);
    runtimes.push(['crun', async (...words) => (await run(crun, words, { env: libraries })).stdout]);
    // They want a newer libc than the machine's.
    const tree = await unpackedTree('forky', ['runc', 'crun']);
    const folder = readdirSync(join(tree, 'usr/lib')).find((name) => name.endsWith('-linux-gnu')) ?? '';
    const lib = join(tree, 'usr/lib', folder);
    const loader = join(lib, readdirSync(lib).find((name) => name.startsWith('ld-linux')) ?? '');
    for (const [name, path] of [
      ['runc', 'usr/sbin/runc'],
      ['crun', 'usr/bin/crun'],
    ] as const) {
      const args = ['--library-path', lib, join(tree, path)];
      runtimes.push([name, async (...words) => (await run(loader, [...args, ...words])).stdout]);
    }
  });
  after(() => wherry[Symbol.asyncDispose]());

  test('exist with the same form, or are refused by name', async () => {
    const problems = new Set<string>();
    const used = new Set<string>();
    let seen = 0;
    for (const [name, help] of runtimes) {
      const own = commandsOf(name === 'runc' ? 'runc' : 'wherry');
      const check = (where: string, flags: Flag[], known: readonly FlagSpec[]): void => {
        for (const { names, takesValue } of flags) {
          const rest = names.filter((flag) => !ofHelp.has(flag));
          for (const flag of rest) {
            seen += 1;
            const id = `${where} ${flag}`;
            const spec = known.find((one) => `--${one.name}` === flag || `-${one.short ?? ''}` === flag);
            if (spec !== undefined && (spec.kind !== 'boolean') === takesValue) continue;
            if (flagsNotTaken[id] === undefined)
              problems.add(`${id}: ${spec === undefined ? 'unknown' : 'another form'}`);
            used.add(id);
          }
        }
      };
      const overview = await help('--help');
      check(name, flagsIn(overview), globalFlags);
      const commands = commandsIn(overview);
      assert.ok(commands.length > 12, `${name}: ${overview}`);
      for (const command of commands) {
        const groups = own.filter((one) => one.name === command || one.name.startsWith(`${command} `));
        if (groups.length === 0) {
          if (flagsNotTaken[`${name} ${command}`] === undefined)
            problems.add(`${name} ${command}: no such command`);
          used.add(`${name} ${command}`);
          continue;
        }
        check(
          `${name} ${command}`,
          flagsIn(await help(command, '--help')),
          groups.flatMap(({ flags }) => flags),
        );
      }
    }
    assert.deepEqual([...problems], []);
    assert.ok(seen > 200, `only ${seen} flags were found`);
    assert.deepEqual(
      Object.keys(flagsNotTaken).filter((id) => !used.has(id)),
      [],
      'reasons that are no longer needed',
    );
  });

  test('that are not taken are refused by name', async () => {
    for (const id of Object.keys(flagsNotTaken)) {
      const [, ...words] = id.split(' ');
      const { code, stderr } = await wherry.run(words);
      assert.notEqual(code, 0, id);
      assert.ok(stderr.includes((words.at(-1) ?? '').replace(/^-+/, '')), `${id}: ${stderr}`);
    }
  });

  test('every command of ours has its help', async () => {
    for (const { name } of commandsOf('wherry')) {
      const help = await wherry.must([...name.split(' '), '--help']);
      assert.match(help, new RegExp(`^wherry ${name}: `));
    }
  });
});
