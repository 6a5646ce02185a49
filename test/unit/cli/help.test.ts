import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { renderCliDocs, renderCommand, renderOverview } from '../../../src/cli/help.ts';
import { commandCode } from '../../../src/cli/main.ts';
import { commandsOf, parseCommand } from '../../../src/cli/parse.ts';
import { call, callAs } from './support.ts';

const docs = new URL('../../../docs/cli.md', import.meta.url);

describe('help', () => {
  it('docs/cli.md is current: it holds the help of every command', async () => {
    assert.equal(
      await readFile(docs, 'utf8'),
      renderCliDocs(),
      'docs/cli.md is not what renderCliDocs() of src/cli/help.ts gives: npm run docs',
    );
    for (const command of commandsOf('wherry')) {
      assert.ok(renderCliDocs().includes(renderCommand(command, 'wherry')), command.name);
    }
  });

  it('every command of the grammar has code, and no code is without a command', () => {
    assert.deepEqual(
      commandsOf('wherry')
        .map(({ name }) => name)
        .sort(),
      Object.keys(commandCode).sort(),
    );
  });

  it('every example is a call that parses as its command', () => {
    for (const command of commandsOf('wherry')) {
      for (const { line } of command.examples) {
        const invocation = parseCommand(line.split(' '), 'wherry');
        assert.equal(invocation.kind, 'run', line);
        if (!['create', 'daemon start'].includes(command.name)) {
          assert.ok(invocation.kind === 'run' && invocation.command === command, line);
        }
      }
    }
  });

  it('fits a terminal of 100 columns', () => {
    const texts = [
      renderOverview('wherry'),
      ...commandsOf('wherry').map((command) => renderCommand(command, 'wherry')),
    ];
    // Descriptions are wrapped by hand.
    for (const line of texts.join('').split('\n')) assert.ok(line.length <= 125, line);
  });

  it('goes to standard output with status 0', async () => {
    for (const argv of [
      [],
      ['--help'],
      ['-h'],
      ['help'],
      ['help', 'run'],
      ['run', '--help'],
      ['daemon'],
      ['daemon', '-h'],
    ]) {
      const { code, out, err } = await call(argv);
      assert.deepEqual([code, err], [0, ''], argv.join(' '));
      assert.match(out, /Usage: wherry/);
    }
  });

  it("as runc, it shows runc's commands only", async () => {
    const { out } = await callAs('/usr/bin/runc', ['--help']);
    assert.match(out, /Usage: runc /);
    assert.match(out, /^ {2}create /m);
    assert.doesNotMatch(out, /launch|explain|daemon/);
  });
});
