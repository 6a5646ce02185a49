/** What a person sees: tables, names that are mistyped, JSON for scripts, a terminal's colour, and how to get away again. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { uniqueId, wherryBinary } from '../support/paths.ts';
import { Tmux } from '../support/tmux.ts';
import { Wherry } from '../support/wherry.ts';

describe('for people', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(() => wherry?.[Symbol.asyncDispose]());
  const launch = async (name: string, ...words: string[]): Promise<string> => {
    const id = uniqueId(name);
    await wherry.must(['launch', '-d', '--name', id, ...words]);
    return id;
  };

  test('ps: what runs, what has ended and how; ids alone for scripts', async () => {
    const [runs, fails] = [
      await launch('runs', '--', 'sleep', '1000'),
      await launch('fails', '--', 'sh', '-c', 'exit 3'),
    ];
    assert.equal(await wherry.must(['wait', '--format', 'json', fails]), `{"id":"${fails}","status":3}\n`);
    const text = await wherry.must(['ps', '-a']);
    assert.match(text, new RegExp(`^${runs} +running +\\d+ +default +\\d+ \\w+ ago +sleep 1000$`, 'm'));
    assert.match(
      text,
      new RegExp(`^${fails} +stopped \\(3\\) +- +default +\\d+ \\w+ ago +sh -c 'exit 3'$`, 'm'),
    );
    assert.deepEqual((await wherry.must(['ps', '-q'])).trim().split('\n').sort(), [fails, runs].sort());
    const rows = JSON.parse(await wherry.must(['ps', '--format', 'json'])) as {
      id: string;
      command: string;
    }[];
    assert.equal(rows.find(({ id }) => id === runs)?.command, 'sleep 1000');
    // Kept over the end of wherryd.
    process.kill((await wherry.daemon()).wherryd, 'SIGKILL');
    assert.match(await wherry.must(['ps']), /sleep 1000$/m);
    await wherry.must(['rm', '-f', runs, fails]);
  });

  test('names that are no container: each is told, with what was meant', async () => {
    const id = await launch('real', '--', 'sleep', '1000');
    const slip = `${id.slice(0, -1)}!`.replace('!', id.endsWith('x') ? 'y' : 'x');
    const { code, stdout, stderr } = await wherry.run(['stop', slip, 'nothing-like-it', id]);
    assert.deepEqual([code, stdout], [1, `${id}\n`]);
    assert.equal(
      stderr,
      `wherry: container does not exist: ${slip}; did you mean ${id}?\ncontainer does not exist: nothing-like-it; "wherry ps" lists all there are\n`,
    );
    await wherry.must(['rm', id]);
  });

  test('rm of what runs says how to end it', async () => {
    const id = await launch('busy', '--', 'sleep', '1000');
    const { code, stderr } = await wherry.run(['rm', id]);
    assert.equal(code, 1);
    assert.ok(
      stderr.endsWith(
        `that is not stopped: running; end it first: wherry stop ${id}, or at once: wherry rm -f ${id}\n`,
      ),
      stderr,
    );
    await wherry.must(['rm', '-f', id]);
  });

  test('usage names what may be repeated; a flag may be half typed', async () => {
    assert.match((await wherry.run(['stop'])).stderr, /usage: wherry stop \[flags\] ID \[ID…\]\n$/);
    assert.match((await wherry.run(['launch', '--net', 'host', 'ls'])).stderr, /did you mean --network\?\n$/);
    assert.match((await wherry.run(['comp', 'bash'])).stderr, /did you mean "wherry completion"\?\n$/);
    const versions = JSON.parse(await wherry.must(['version', '--format', 'json'])) as { version: string };
    assert.ok((await wherry.must(['version'])).startsWith(`wherry version ${versions.version}\n`));
  });

  test('on a terminal: colour, one line a container, statistics in one place, a way out of attach', async () => {
    const long = await launch('long', '--', 'sh', '-c', `sleep 1000 # ${'x'.repeat(100)}`);
    await using terminal = await Tmux.start(`sh -c 'PS1="> " NO_COLOR= exec sh -i'`, {
      ...wherry.env,
      PATH: `${wherryBinary.replace(/\/wherry$/, '')}:${wherry.env['PATH']}`,
    });
    await terminal.type('clear; wherry ps', 'Enter');
    const screen = await terminal.shows(/ sh -c '/);
    assert.match(screen, new RegExp(`^${long} .*…$`, 'm'));
    assert.match(await terminal.screen({ escapes: true }), /\u001b\[32mrunning/);
    await terminal.type('clear; wherry stats --interval 200ms; echo status $?', 'Enter');
    await terminal.shows(/no limit/);
    // So many samples would fill the screen.
    for (let look = 0; look < 5; look++) {
      await sleep(250);
      const now = await terminal.screen();
      assert.ok([...now.matchAll(/^ID /gm)].length <= 1, now);
    }
    await terminal.type('C-c');
    await terminal.type(`clear; wherry attach ${long}`, 'Enter');
    await terminal.shows(/\[ctrl-c leaves it running\]/);
    await terminal.type('C-c');
    await terminal.type('clear; wherry ps -q', 'Enter');
    await terminal.shows(new RegExp(`^${long}$`, 'm'));
    assert.match(await wherry.must(['ps']), /running/);
    await wherry.must(['rm', '-f', long]);
  });
});
