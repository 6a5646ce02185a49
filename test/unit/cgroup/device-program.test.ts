import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { deviceProgram } from '../../../src/cgroup/device-program.ts';
import type { LinuxDeviceRule } from '../../../src/oci/types.ts';
import '../../support/property-seed.ts';

interface Request {
  type: 'b' | 'c';
  major: number;
  minor: number;
  /** Of m, r, w; at least one. */
  access: string;
}

const bits: Record<string, number> = { m: 1, r: 2, w: 4 };
const denyAll: LinuxDeviceRule = { allow: false, access: 'rwm' };
const allowAll: LinuxDeviceRule = { allow: true, type: 'a', access: 'rwm' };

/** The few instructions of the BPF instruction set that matter here, as its document says; anything else is a mistake. */
function run(code: Uint8Array, { type, major, minor, access }: Request): number {
  const mask = [...access].reduce((all, letter) => all | bits[letter]!, 0);
  const context = [(mask << 16) | (type === 'b' ? 1 : 2), major, minor];
  const view = Buffer.from(code);
  // undefined: not written yet; the verifier refuses a read of it.
  const registers: (number | undefined)[] = [undefined, -1];
  const read = (register: number): number => {
    const value = registers[register];
    assert.ok(value !== undefined, `r${register} is read before it is written`);
    return value;
  };
  for (let pc = 0; ; pc++) {
    assert.ok(pc * 8 < view.length, 'runs off its end');
    const at = pc * 8;
    const dst = view[at + 1]! & 15;
    const src = view[at + 1]! >> 4;
    const offset = view.readInt16LE(at + 2);
    const immediate = view.readInt32LE(at + 4);
    const jump = (taken: boolean): void => {
      assert.ok(offset >= 0, 'a jump goes back');
      if (taken) pc += offset;
    };
    switch (view[at]) {
      case 0x61:
        assert.equal(src, 1, 'loads are from the context');
        assert.ok([0, 4, 8].includes(offset));
        registers[dst] = context[offset / 4]!;
        break;
      case 0x54:
        registers[dst] = (read(dst) & immediate) >>> 0;
        break;
      case 0x74:
        registers[dst] = read(dst) >>> immediate;
        break;
      case 0xbc:
        registers[dst] = read(src);
        break;
      case 0xb4:
        registers[dst] = immediate >>> 0;
        break;
      case 0x05:
        jump(true);
        break;
      case 0x55:
        jump(read(dst) !== immediate);
        break;
      case 0x45:
        jump((read(dst) & immediate) !== 0);
        break;
      case 0x95:
        return read(0);
      default:
        assert.fail(`instruction ${view[at]?.toString(16)}`);
    }
  }
}

/** What the rules say: for each right the last rule that speaks of it. */
function expected(rules: readonly LinuxDeviceRule[], request: Request): boolean {
  const always: LinuxDeviceRule[] = [
    { allow: true, type: 'c', access: 'm' },
    { allow: true, type: 'b', access: 'm' },
    ...[3, 5, 7, 8, 9].map((minor): LinuxDeviceRule => ({ allow: true, type: 'c', major: 1, minor })),
    ...[0, 2].map((minor): LinuxDeviceRule => ({ allow: true, type: 'c', major: 5, minor })),
    { allow: true, type: 'c', major: 10, minor: 200 },
    { allow: true, type: 'c', major: 136 },
  ];
  const any = (value: LinuxDeviceRule['major']) => value === undefined || value < 0;
  const wildcard = ({ type }: LinuxDeviceRule) => type === undefined || type === 'a';
  return [...request.access].every((letter) => {
    const speaks = (rule: LinuxDeviceRule) =>
      wildcard(rule) ||
      (rule.type === request.type &&
        (any(rule.major) || Number(rule.major) === request.major) &&
        (any(rule.minor) || Number(rule.minor) === request.minor) &&
        (rule.access || 'rwm').includes(letter));
    return [...rules, ...always].findLast(speaks)?.allow ?? false;
  });
}

const allowed = (rules: readonly LinuxDeviceRule[], request: Request): boolean => {
  const code = deviceProgram(rules);
  return code === undefined || run(code, request) === 1;
};

test('nothing is needed where nothing is denied', () => {
  assert.equal(deviceProgram([allowAll]), undefined);
  assert.equal(deviceProgram([denyAll, allowAll]), undefined);
  assert.notEqual(deviceProgram([]), undefined);
});

test('the usual devices, mknod of any, and nothing else', () => {
  const ask = (type: 'b' | 'c', major: number, minor: number, access: string) =>
    allowed([denyAll], { type, major, minor, access });
  assert.equal(ask('c', 1, 3, 'rw'), true);
  assert.equal(ask('c', 136, 17, 'rw'), true);
  assert.equal(ask('c', 1, 1, 'r'), false, '/dev/mem');
  assert.equal(ask('b', 8, 0, 'm'), true);
  assert.equal(ask('b', 8, 0, 'rm'), false, 'one right of two is not enough');
});

test('a request may be allowed by two rules together, and denied by one', () => {
  const rules: LinuxDeviceRule[] = [
    denyAll,
    { allow: true, type: 'b', major: 8, minor: 0, access: 'r' },
    { allow: true, type: 'b', major: 8, access: 'w' },
  ];
  const request: Request = { type: 'b', major: 8, minor: 0, access: 'rw' };
  assert.equal(allowed(rules, request), true);
  assert.equal(allowed([...rules, { allow: false, type: 'b', major: 8, access: 'w' }], request), false);
  assert.equal(allowed([allowAll, { allow: false, type: 'b', major: 8 }], { ...request, major: 9 }), true);
});

test('any rules, any request: as the rules say', () => {
  const number = fc.constantFrom(1, 3, 5, 8, 136);
  const access = fc
    .uniqueArray(fc.constantFrom('r', 'w', 'm'), { minLength: 1 })
    .map((letters) => letters.join(''));
  const rule = fc.record({
    allow: fc.boolean(),
    type: fc.constantFrom('a', 'b', 'c', undefined),
    major: fc.option(number, { nil: undefined }),
    minor: fc.constantFrom(-1, 0, 3, 8),
    access,
  }) as fc.Arbitrary<LinuxDeviceRule>;
  const request = fc.record({
    type: fc.constantFrom('b' as const, 'c' as const),
    major: number,
    minor: number,
    access,
  });
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 6 }), request, (rules, asked) => {
      const code = deviceProgram(rules);
      if (code !== undefined) assert.equal(run(code, asked) === 1, expected(rules, asked));
      else assert.equal(expected(rules, asked), true);
    }),
    { numRuns: 2000 },
  );
});
