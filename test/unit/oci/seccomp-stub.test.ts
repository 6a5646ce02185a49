import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { enosysStub, type HighestCalls } from '../../../src/linux/seccomp-stub.ts';
import { seccompVerdict } from '../../../src/linux/seccomp-verdict.ts';

const X86_64 = 0xc000_003e;
const I386 = 0x4000_0003;
const AARCH64 = 0xc000_00b7;
const X32 = 0x4000_0000;

/** BPF_RET | BPF_K, SECCOMP_RET_LOG: what the filter behind the stub answers to everything. */
const filter = Buffer.from('060000000000fc7f', 'hex');

function answer(calls: HighestCalls[], audit: number, number: number): string {
  const { action, value } = seccompVerdict(Buffer.concat([enosysStub(calls), filter]), audit, number);
  return action === 'log' ? 'filter' : `${action} ${value}`;
}

describe('the instructions in front of a filter', () => {
  const all: HighestCalls[] = [
    { audit: X86_64, plain: 400, x32: X32 + 500, hasX32Mode: true },
    { audit: I386, plain: 450, hasX32Mode: false },
    { audit: AARCH64, plain: 300, hasX32Mode: false },
  ];
  const cases: [name: string, audit: number, number: number, result: string][] = [
    ['x86_64, the highest', X86_64, 400, 'filter'],
    ['x86_64, one above', X86_64, 401, 'errno 38'],
    ['x32, the highest', X86_64, X32 + 500, 'filter'],
    ['x32, one above', X86_64, X32 + 501, 'errno 38'],
    ['i386, the highest', I386, 450, 'filter'],
    ['i386, one above', I386, 451, 'errno 38'],
    ['aarch64, the highest', AARCH64, 300, 'filter'],
    ['aarch64, one above', AARCH64, 301, 'errno 38'],
    ['an architecture that is not named', 0x28, 5000, 'filter'],
    ['a negative number, as a tracer sets it', X86_64, -1, 'errno 38'],
  ];
  for (const [name, audit, number, result] of cases) {
    it(`${name}: ${result}`, () => assert.equal(answer(all, audit, number), result));
  }

  it('leave x32 to the filter where the profile does not have it', () => {
    const calls = [{ audit: X86_64, plain: 400, hasX32Mode: true }];
    assert.equal(answer(calls, X86_64, X32 + 5000), 'filter');
    assert.equal(answer(calls, X86_64, 5000), 'errno 38');
  });

  it('are none where the profile names no call', () => {
    assert.equal(enosysStub([{ audit: X86_64, hasX32Mode: true }]).length, 0);
  });
});
