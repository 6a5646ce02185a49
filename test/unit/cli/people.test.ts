import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { peopleTable, since } from '../../../src/cli/people-table.ts';
import type { ClientRequest, ClientSession } from '../../../src/cli/session.ts';
import { nearestOrBegun } from '../../../src/cli/suggest.ts';
import { commandText } from '../../../src/container/command-text.ts';

const session = (request: Partial<ClientRequest>): ClientSession =>
  ({ request: { env: {}, isTerminal: [false, false, false], cols: 0, ...request } }) as ClientSession;

describe('tables for people', () => {
  const rows = [
    ['ID', 'WHAT'],
    ['a', 'short'],
    ['longer-id', 'ä'.repeat(30)],
  ];
  const wide = 'ID          WHAT\na           short\n';

  it('are whole and plain where they go to no terminal', () => {
    const text = peopleTable(session({ cols: 20 }), rows, () => 'red');
    assert.equal(text, `${wide}longer-id   ${'ä'.repeat(30)}\n`);
  });

  it('are cut at the edge of a terminal, and coloured', () => {
    const request = { cols: 20, isTerminal: [true, true, true] } as const;
    const styled = peopleTable(session(request), rows, (row, column) =>
      row === 0 && column === 1 ? 'red' : undefined,
    );
    assert.ok(styled.includes('\u001b[31mshort\u001b[0m'), styled);
    assert.ok(styled.startsWith('\u001b[1mID '), styled);
    const plain = peopleTable(session({ ...request, env: { NO_COLOR: '1' } }), rows, () => 'red');
    assert.equal(plain, `${wide}longer-id   ${'ä'.repeat(7)}…\n`);
    const dumb = peopleTable(session({ ...request, env: { TERM: 'dumb' }, cols: 10 }), rows, () => 'red');
    assert.equal(dumb, 'ID       …\na        …\nlonger-id…\n');
  });

  it('tell times as people do', () => {
    const ago = (seconds: number) => since(new Date(0), seconds * 1000);
    assert.deepEqual(
      [-5, 0, 1, 59, 60, 7200, 86_399, 86_400 * 3].map(ago),
      ['0 seconds', '0 seconds', '1 second', '59 seconds', '1 minute', '2 hours', '23 hours', '3 days'].map(
        (text) => `${text} ago`,
      ),
    );
  });
});

describe('a command as people read it', () => {
  it('is what a shell would take, in one line', () => {
    assert.equal(commandText(['sh', '-c', "echo 'a b'; exit", '']), `sh -c 'echo '\\''a b'\\''; exit' ''`);
    assert.equal(commandText(['a\u001b[2J\nb']), "'a?[2J?b'");
  });

  it('is cut where it is long', () => {
    const text = commandText(['x'.repeat(1000), ...Array.from({ length: 1000 }, () => 'y')]);
    assert.equal(text, `${'x'.repeat(119)}…`);
  });
});

describe('what was meant', () => {
  it('is the nearest word, or the only one that begins so', () => {
    const known = ['network', 'memory', 'name', 'completion', 'create'];
    assert.deepEqual(
      ['net', 'mem', 'comp', 'nam', 'n', 'c', 'cre', 'xyz'].map((word) => nearestOrBegun(word, known)),
      ['network', 'memory', 'completion', 'name', undefined, undefined, 'create', undefined],
    );
  });
});
