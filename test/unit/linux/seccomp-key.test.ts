import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SeccompProfile } from '../../../src/linux/seccomp.ts';
import { type FilterMaker, filterKey } from '../../../src/linux/seccomp-key.ts';

const maker: FilterMaker = { kernel: '6.1.0', libseccomp: '2.5.4', build: 'one' };
const profile: SeccompProfile = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: 1,
  architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
  flags: ['SECCOMP_FILTER_FLAG_LOG'],
  syscalls: [
    { names: ['read', 'write'], action: 'SCMP_ACT_ALLOW' },
    {
      names: ['lseek'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: 7,
      args: [{ index: 1, op: 'SCMP_CMP_MASKED_EQ', value: 5, valueTwo: 1 }],
    },
  ],
};
const [rule, withArgs] = profile.syscalls ?? [];
const [argument] = withArgs?.args ?? [];
assert.ok(rule !== undefined && withArgs !== undefined && argument !== undefined);
const changed = (part: Partial<SeccompProfile>): SeccompProfile => ({ ...profile, ...part });
const ruled = (part: object): SeccompProfile => changed({ syscalls: [rule, { ...withArgs, ...part }] });
const argued = (part: object): SeccompProfile => ruled({ args: [{ ...argument, ...part }] });

describe('the name of a compiled filter', () => {
  const key = filterKey(profile, maker);
  const others: [name: string, profile: SeccompProfile, maker?: FilterMaker][] = [
    ['kernel', profile, { ...maker, kernel: '6.1.1' }],
    ['libseccomp', profile, { ...maker, libseccomp: '2.5.5' }],
    ['build', profile, { ...maker, build: 'two' }],
    ['defaultAction', changed({ defaultAction: 'SCMP_ACT_LOG' })],
    ['defaultErrnoRet', changed({ defaultErrnoRet: 2 })],
    ['architectures', changed({ architectures: ['SCMP_ARCH_X86_64'] })],
    ['flags', changed({ flags: [] })],
    ['flags that are absent', { ...changed({}), flags: undefined } as SeccompProfile],
    ['order of rules', changed({ syscalls: [withArgs, rule] })],
    ['a rule less', changed({ syscalls: [withArgs] })],
    ['names', ruled({ names: ['lseek', 'read'] })],
    ['names that only look alike', ruled({ names: ['lseek,read'] })],
    ['action', ruled({ action: 'SCMP_ACT_LOG' })],
    ['errnoRet of a rule', ruled({ errnoRet: 8 })],
    ['errnoRet that is absent', ruled({ errnoRet: undefined })],
    ['index', argued({ index: 2 })],
    ['op', argued({ op: 'SCMP_CMP_EQ' })],
    ['value', argued({ value: 6 })],
    ['a value of 64 bits', argued({ value: 2n ** 63n + 5n })],
    ['valueTwo', argued({ valueTwo: 0 })],
    ['a second condition', ruled({ args: [argument, argument] })],
  ];
  for (const [name, other, by = maker] of others) {
    it(`is another for another ${name}`, () => assert.notEqual(filterKey(other, by), key));
  }

  it('no two of these share one', () => {
    const keys = others.map(([, other, by = maker]) => filterKey(other, by));
    assert.equal(new Set(keys).size, keys.length);
  });

  it('does not know how a profile was written down', () => {
    const reversed = Object.fromEntries(Object.entries(profile).reverse()) as unknown as SeccompProfile;
    assert.equal(filterKey(reversed, maker), key);
    assert.equal(filterKey(argued({ value: 5n, valueTwo: 1n }), maker), key);
    const architectures = [...(profile.architectures ?? [])].reverse();
    assert.equal(filterKey(changed({ architectures }), maker), key);
    const elsewhere = { ...profile, listenerPath: '/run/agent.sock' };
    assert.equal(filterKey(elsewhere, maker), key);
  });
});
