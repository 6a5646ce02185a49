import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { CommandSpec, FlagSpec } from '../../../src/cli/grammar.ts';
import { globalFlags, helpFlag } from '../../../src/cli/grammar.ts';
import {
  commandsOf,
  type Invocation,
  parseCommand,
  parseGlobals,
  programName,
} from '../../../src/cli/parse.ts';
import { WherryError } from '../../../src/errors.ts';
import '../../support/property-seed.ts';

const commands = commandsOf('wherry');

function run(words: readonly string[]): Extract<Invocation, { kind: 'run' }> {
  const invocation = parseCommand(words, 'wherry');
  assert.equal(invocation.kind, 'run');
  return invocation as Extract<Invocation, { kind: 'run' }>;
}

function message(words: readonly string[]): string {
  try {
    const invocation = parseCommand(words, 'wherry');
    if (invocation.kind === 'unknown') return invocation.error.describe();
  } catch (error) {
    assert.ok(error instanceof WherryError);
    assert.equal(error.kind, 'invalid-argument');
    return error.describe();
  }
  assert.fail(`${words.join(' ')} was accepted`);
}

describe('flags', () => {
  const cases: [string, string[], (invocation: Extract<Invocation, { kind: 'run' }>) => unknown, unknown][] =
    [
      ['a value that follows', ['create', '--bundle', 'b', 'x'], ({ flags }) => flags.text('bundle'), 'b'],
      ['a value after =', ['create', '--bundle=b=c', 'x'], ({ flags }) => flags.text('bundle'), 'b=c'],
      ['one dash', ['create', '-bundle', 'b', 'x'], ({ flags }) => flags.text('bundle'), 'b'],
      ['a letter', ['create', '-b', 'b', 'x'], ({ flags }) => flags.text('bundle'), 'b'],
      [
        'a value that looks like a flag',
        ['create', '-b', '--help', 'x'],
        ({ flags }) => flags.text('bundle'),
        '--help',
      ],
      [
        'the last one counts',
        ['create', '-b', 'a', '-b', 'b', 'x'],
        ({ flags }) => flags.text('bundle'),
        'b',
      ],
      ['an empty text is none', ['create', '--bundle=', 'x'], ({ flags }) => flags.text('bundle'), undefined],
      [
        'flags after the argument',
        ['delete', 'x', '-f'],
        ({ flags, args }) => [flags.on('force'), args],
        [true, ['x']],
      ],
      ['false', ['delete', '--force=false', 'x'], ({ flags }) => flags.on('force'), false],
      ["Go's short true", ['delete', '--force=T', 'x'], ({ flags }) => flags.on('force'), true],
      [
        'nothing after --',
        ['delete', '--', '-f'],
        ({ flags, args }) => [flags.on('force'), args],
        [false, ['-f']],
      ],
      ['a dash is an argument', ['delete', '-'], ({ args }) => args, ['-']],
      [
        'lists grow',
        ['launch', '-e', 'A=1', '-e', 'B', 'ls'],
        ({ flags }) => flags.list('env'),
        ['A=1', 'B'],
      ],
      [
        "a launched command's flags are its own",
        ['launch', '-t', 'ls', '-l', '--', '-t'],
        ({ args }) => args,
        ['ls', '-l', '--', '-t'],
      ],
      ['numbers', ['create', '--preserve-fds', '3', 'x'], ({ flags }) => flags.integer('preserve-fds'), 3],
      [
        'two words',
        ['daemon', 'stop', '-f'],
        ({ command, flags }) => [command.name, flags.on('force')],
        ['daemon stop', true],
      ],
    ];
  for (const [title, words, read, expected] of cases) {
    it(title, () => assert.deepEqual(read(run(words)), expected));
  }
});

describe('bad calls', () => {
  const cases: [string[], string][] = [
    [
      ['create', '--frob', 'x'],
      'flag provided but not defined: --frob; "wherry create --help" lists the flags',
    ],
    [['create', '--bundel', 'b', 'x'], 'flag provided but not defined: --bundel; did you mean --bundle?'],
    [['list', '--root', '/x'], 'flag provided but not defined: --root; --root goes before the command'],
    [['kill', 'x', '-9'], 'flag provided but not defined: -9; write a signal without a dash'],
    [['create', 'x', '--bundle'], 'flag needs an argument: --bundle; write --bundle DIR'],
    [
      ['create', '--preserve-fds', 'abc', 'x'],
      'invalid value "abc" for flag --preserve-fds: expected a whole number from 0 to 65536',
    ],
    [
      ['create', '--preserve-fds=-1', 'x'],
      'invalid value "-1" for flag --preserve-fds: expected a whole number from 0 to 65536',
    ],
    [
      ['create', '--preserve-fds', '1e3', 'x'],
      'invalid value "1e3" for flag --preserve-fds: expected a whole number from 0 to 65536',
    ],
    [
      ['kill', '--all=maybe', 'x'],
      'invalid boolean value "maybe" for --all; wherry kill: write true or false',
    ],
    [['list', '-f', 'xml'], 'invalid value "xml" for flag -f: expected table or json'],
    [['create'], '"create" requires exactly 1 argument(s), found 0; usage: wherry create [flags] ID'],
    [
      ['create', 'a', 'a'],
      '"create" requires exactly 1 argument(s), found 2; usage: wherry create [flags] ID',
    ],
    [['kill'], '"kill" requires a minimum of 1 argument(s), found 0; usage: wherry kill [flags] ID [SIGNAL]'],
    [
      ['kill', 'a', '9', '8'],
      '"kill" requires a maximum of 2 argument(s), found 3; usage: wherry kill [flags] ID [SIGNAL]',
    ],
    [
      ['launch'],
      '"launch" requires a minimum of 1 argument(s), found 0; usage: wherry launch [flags] -- COMMAND [ARGUMENT…]',
    ],
    [
      ['run', 'ls', '/tmp'],
      '"run" requires exactly 1 argument(s), found 2; to run a command without a bundle: wherry launch -- ls /tmp',
    ],
    [['crate', 'x'], 'unknown command "crate"; did you mean "wherry create"?'],
    [['strat', 'x'], 'unknown command "strat"; did you mean "wherry start"?'],
    [['deamon', 'stop'], 'unknown command "deamon"; did you mean "wherry daemon"?'],
    [['daemon', 'stpo'], 'unknown command "daemon stpo"; did you mean "wherry daemon stop"?'],
    [['zzzzzz'], 'unknown command "zzzzzz"; wherry --help lists the commands'],
  ];
  for (const [words, expected] of cases) it(words.join(' '), () => assert.equal(message(words), expected));

  it('control characters and length of what was typed do not reach the message', () => {
    const text = message(['create', `--${'x'.repeat(5000)}\n\u001b[31m`, 'x']);
    assert.ok(text.length < 400, text);
    assert.doesNotMatch(text, /[\u0000-\u001f]/);
  });
});

describe('help and names', () => {
  it('-h, --help and help lead to the same', () => {
    for (const words of [
      ['kill', '--help'],
      ['kill', '-h'],
      ['kill', 'x', '--help'],
      ['help', 'kill'],
      ['h', 'kill'],
    ]) {
      const invocation = parseCommand(words, 'wherry');
      assert.ok(invocation.kind === 'help' && invocation.command?.name === 'kill', words.join(' '));
    }
  });

  it('no command is a request for help', () => {
    assert.deepEqual(parseCommand([], 'wherry'), { kind: 'help' });
    assert.deepEqual(parseCommand(['daemon'], 'wherry'), { kind: 'help', group: 'daemon' });
  });

  it("called as runc, only runc's commands exist", () => {
    assert.equal(programName(['/usr/local/bin/runc']), 'runc');
    assert.equal(programName(['/usr/local/bin/wherry']), 'wherry');
    assert.equal(programName([]), 'wherry');
    const invocation = parseCommand(['launch', 'ls'], 'runc');
    assert.ok(invocation.kind === 'unknown');
    assert.equal(
      invocation.error.describe(),
      'unknown command "launch"; it exists under the name wherry: wherry launch',
    );
    assert.equal(parseCommand(['state', 'x'], 'runc').kind, 'run');
  });
});

describe('globals', () => {
  it('stand before the command', () => {
    const { globals, rest } = parseGlobals(
      ['wherry', '--root', '/r', '--log=/l', '--log-format', 'json', '--systemd-cgroup', 'state', '-x'],
      'wherry',
    );
    assert.equal(globals.text('root'), '/r');
    assert.equal(globals.text('log'), '/l');
    assert.equal(globals.text('log-format'), 'json');
    assert.equal(globals.on('systemd-cgroup'), true);
    assert.deepEqual(rest, ['state', '-x']);
  });

  it("what runc's callers pass is taken", () => {
    const { globals } = parseGlobals(
      ['runc', '--debug', '--criu', '/x', '--rootless=auto', '--rootless', 'true', 'list'],
      'runc',
    );
    assert.equal(globals.on('debug'), true);
  });
});

describe('the tables', () => {
  it('have no flag twice', () => {
    for (const command of commands) {
      const names = [helpFlag, ...command.flags].flatMap(({ name, short }) =>
        short === undefined ? [name] : [name, short],
      );
      assert.deepEqual(names, [...new Set(names)], command.name);
    }
  });

  const sampleOf = (flag: FlagSpec): fc.Arbitrary<string> => {
    if (flag.kind === 'choice') return fc.constantFrom(...flag.choices!);
    if (flag.kind === 'integer') return fc.integer({ min: flag.min, max: flag.max }).map(String);
    return fc.string({ minLength: 1 });
  };

  const written = (flag: FlagSpec): fc.Arbitrary<{ flag: FlagSpec; words: string[]; value: string }> =>
    fc
      .record({
        dashes: fc.constantFrom('-', '--'),
        short: fc.boolean(),
        joined: fc.boolean(),
        value: sampleOf(flag),
      })
      .map(({ dashes, short, joined, value }) => {
        const head = `${dashes}${short && flag.short !== undefined ? flag.short : flag.name}`;
        if (flag.kind === 'boolean') return { flag, words: [head], value: 'true' };
        return { flag, words: joined ? [`${head}=${value}`] : [head, value], value };
      });

  const callOf = (command: CommandSpec) =>
    fc.record({
      command: fc.constant(command),
      flags: fc.tuple(...command.flags.map((flag) => fc.option(written(flag), { nil: undefined }))),
      // Words that neither are flags nor end them.
      args: fc.array(
        fc.string({ minLength: 1 }).filter((word) => word[0] !== '-'),
        {
          minLength: command.arguments.filter(({ optional }) => optional !== true).length,
          maxLength: command.arguments.at(-1)?.rest === true ? 5 : command.arguments.length,
        },
      ),
      flagsFirst: fc.boolean(),
    });

  it('what is written is what is read, in any order and spelling', () => {
    fc.assert(
      fc.property(fc.constantFrom(...commands).chain(callOf), ({ command, flags, args, flagsFirst }) => {
        const given = flags.filter((flag) => flag !== undefined);
        const words = given.flatMap((flag) => flag.words);
        const first = flagsFirst || command.flagsEndAtArgument === true;
        const parsed = run([
          ...command.name.split(' '),
          ...(first ? [...words, ...args] : [...args, ...words]),
        ]);
        assert.equal(parsed.command, command);
        assert.deepEqual(parsed.args, args);
        for (const { flag, value } of given) {
          const { flags: values } = parsed;
          if (flag.kind === 'boolean') assert.equal(values.on(flag.name), true);
          else if (flag.kind === 'integer') assert.equal(values.integer(flag.name), Number(value));
          else if (flag.kind === 'list') assert.deepEqual(values.list(flag.name), [value]);
          else assert.equal(values.text(flag.name), value);
        }
        assert.deepEqual(parsed.flags.names().sort(), given.map(({ flag }) => flag.name).sort());
      }),
    );
  });

  it('any words at all give a command, help or one located error', () => {
    const names = [
      ...commands.flatMap(({ name }) => name.split(' ')),
      ...globalFlags.map(({ name }) => `--${name}`),
    ];
    const word = fc.oneof(fc.constantFrom(...names, '-b', '--', '-', '--=', '-='), fc.string());
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), (words) => {
        try {
          const { rest } = parseGlobals(['wherry', ...words], 'wherry');
          const invocation = parseCommand(rest, 'wherry');
          assert.ok(['run', 'help', 'unknown'].includes(invocation.kind));
        } catch (error) {
          assert.ok(error instanceof WherryError, String(error));
          assert.equal(error.kind, 'invalid-argument');
          assert.doesNotMatch(error.describe(), /[\u0000-\u001f]/);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
