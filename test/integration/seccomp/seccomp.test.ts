import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { WherryError } from '../../../src/errors.ts';
import { currentArch } from '../../../src/linux/arch.ts';
import { compileSeccomp, libseccompVersion, type SeccompProfile } from '../../../src/linux/seccomp.ts';
import { auditArchitectures, seccompVerdict } from '../../../src/linux/seccomp-verdict.ts';
import { dockerSeccomp } from '../../../src/oci/docker-profile.ts';
import { dockerCapabilities } from '../../../src/oci/launch.ts';

const { EBADF, EPERM, ENOSYS, EINVAL } = constants.errno;
const isX86 = currentArch() === 'x86_64';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'wherry-test-seccomp-'));
  const source = join(import.meta.dirname, 'try-calls.c');
  execFileSync('cc', [
    '-std=c17',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-static',
    '-O1',
    '-o',
    join(folder, 'try-calls'),
    source,
  ]);
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** What became of each call: 0 or the errno; and the signal that ended the program. */
async function tryCalls(profile: SeccompProfile, calls: string[]) {
  const { filter, flags } = await compileSeccomp(profile);
  const file = join(folder, 'filter');
  writeFileSync(file, filter);
  const { status, signal, stdout, stderr } = spawnSync(
    join(folder, 'try-calls'),
    [file, String(flags), ...calls],
    { encoding: 'utf8' },
  );
  assert.ok(status === 0 || signal !== null, `the program ended with ${status}: ${stderr}`);
  const lines = stdout.split('\n').filter((line) => line !== '');
  return { errnos: lines.map((line) => Number(line.split(' ')[1])), signal };
}

async function errnoOf(profile: SeccompProfile, call: string): Promise<number | undefined> {
  return (await tryCalls(profile, [call])).errnos[0];
}

const allowing = (...rules: NonNullable<SeccompProfile['syscalls']>): SeccompProfile => ({
  defaultAction: 'SCMP_ACT_ALLOW',
  syscalls: rules,
});

describe("docker's default profile", () => {
  const profile = () => dockerSeccomp(dockerCapabilities, currentArch());
  const newUser = 0x1000_0000;
  const cases: [call: string, errno: number, why: string][] = [
    ['getpid', 0, 'is allowed'],
    ['mount', EPERM, 'needs CAP_SYS_ADMIN'],
    ['unshare:0x10000000', EPERM, 'needs CAP_SYS_ADMIN'],
    ['bpf', EPERM, 'needs CAP_BPF'],
    ['keyctl', EPERM, 'is not named'],
    ['clone3', ENOSYS, 'has arguments that a filter cannot see'],
    [`clone:${newUser | constants.signals.SIGCHLD}`, EPERM, 'makes a namespace'],
    [`clone:${constants.signals.SIGCHLD}`, 0, 'makes a plain process'],
    ['personality:0', 0, 'is one of the five'],
    ['personality:0xffffffff', 0, 'only asks'],
    ['personality:0x40000', EPERM, 'would turn address randomisation off'],
    ['socket:2:2', 0, 'is AF_INET'],
    ['socket:40:1', EPERM, 'is AF_VSOCK'],
    ['socket:38:5', EPERM, 'is AF_ALG'],
    ['#9999', ENOSYS, 'is newer than the profile'],
  ];
  for (const [call, errno, why] of cases) {
    it(`${call}, which ${why}, gives ${errno}`, async () => {
      assert.equal(await errnoOf(profile(), call), errno);
    });
  }

  it('opens up with the capabilities that its rules name', async () => {
    const admin = dockerSeccomp([...dockerCapabilities, 'CAP_SYS_ADMIN'], currentArch());
    const { errnos } = await tryCalls(admin, ['clone3', 'unshare:0', 'keyctl']);
    assert.deepEqual(errnos, [EINVAL, 0, EPERM]);
  });

  it('covers 32-bit calls of a 64-bit machine', { skip: !isX86 }, async () => {
    // i386: 20 is getpid, 21 is mount.
    assert.deepEqual((await tryCalls(profile(), ['int80#20', 'int80#21', 'int80#9999'])).errnos, [
      0,
      EPERM,
      ENOSYS,
    ]);
  });
});

describe('actions', () => {
  for (const action of ['SCMP_ACT_KILL', 'SCMP_ACT_KILL_THREAD', 'SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_TRAP']) {
    it(`${action} ends the program by SIGSYS, after the calls before`, async () => {
      const profile = allowing({ names: ['chdir'], action });
      assert.deepEqual(await tryCalls(profile, ['getpid', 'chdir', 'getpid']), {
        errnos: [0],
        signal: 'SIGSYS',
      });
    });
  }

  it('errnoRet is the errno, EPERM without it', async () => {
    const profile = allowing(
      { names: ['getpid'], action: 'SCMP_ACT_ERRNO', errnoRet: 99 },
      { names: ['getppid'], action: 'SCMP_ACT_ERRNO' },
    );
    assert.deepEqual((await tryCalls(profile, ['getpid', 'getppid'])).errnos, [99, EPERM]);
  });

  it('SCMP_ACT_LOG lets the call through, also with every flag set', async () => {
    const flags = ['TSYNC', 'LOG', 'SPEC_ALLOW', 'WAIT_KILLABLE_RECV'].map(
      (name) => `SECCOMP_FILTER_FLAG_${name}`,
    );
    const profile = { ...allowing({ names: ['getpid'], action: 'SCMP_ACT_LOG' }), flags };
    assert.equal((await compileSeccomp(profile)).flags, 2 | 4);
    assert.equal(await errnoOf(profile, 'getpid'), 0);
  });

  it('another architecture than the named ones is killed', { skip: !isX86 }, async () => {
    assert.equal(
      (await tryCalls(allowing({ names: ['chdir'], action: 'SCMP_ACT_ERRNO' }), ['int80#20'])).signal,
      'SIGSYS',
    );
  });
});

describe('argument rules', () => {
  const REFUSED = 100;
  const wide = 2n ** 40n + 7n;
  const at = (op: string, value: number | bigint, valueTwo?: number | bigint) =>
    allowing({
      names: ['lseek'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: REFUSED,
      args: [{ index: 1, op: `SCMP_CMP_${op}`, value, valueTwo }],
    });
  // Results for an offset below, equal to and above the rule's 64-bit value.
  const table: [op: string, refused: [boolean, boolean, boolean]][] = [
    ['NE', [true, false, true]],
    ['LT', [true, false, false]],
    ['LE', [true, true, false]],
    ['EQ', [false, true, false]],
    ['GE', [false, true, true]],
    ['GT', [false, false, true]],
  ];
  for (const [op, refused] of table) {
    it(`${op} compares all 64 bits`, async () => {
      const calls = [wide - 1n, wide, wide + 1n].map((offset) => `lseek:0xffffffffffffffff:${offset}`);
      assert.deepEqual(
        (await tryCalls(at(op, wide), calls)).errnos,
        refused.map((yes) => (yes ? REFUSED : EBADF)),
      );
    });
  }

  it('MASKED_EQ compares the bits of value with valueTwo', async () => {
    const calls = [0x1234n, 0x1134n, 0xff34n].map((offset) => `lseek:-1:${offset}`);
    assert.deepEqual((await tryCalls(at('MASKED_EQ', 0x0f00, 0x0200), calls)).errnos, [
      REFUSED,
      EBADF,
      EBADF,
    ]);
  });

  it('conditions on different arguments hold together, on one argument each by itself', async () => {
    const rule = (...args: { index: number; value: number; op: string }[]) =>
      allowing({ names: ['lseek'], action: 'SCMP_ACT_ERRNO', errnoRet: REFUSED, args });
    const equal = (index: number, value: number) => ({ index, value, op: 'SCMP_CMP_EQ' });
    const calls = ['lseek:-1:5:1', 'lseek:-1:5:2', 'lseek:-1:6:1'];
    assert.deepEqual((await tryCalls(rule(equal(1, 5), equal(2, 1)), calls)).errnos, [REFUSED, EBADF, EBADF]);
    assert.deepEqual((await tryCalls(rule(equal(1, 5), equal(1, 6)), calls)).errnos, [
      REFUSED,
      REFUSED,
      REFUSED,
    ]);
  });
});

describe('system calls newer than the profile', () => {
  const few = (defaultErrnoRet?: number): SeccompProfile => ({
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet,
    syscalls: [{ names: ['write', 'exit_group', 'no_such_call'], action: 'SCMP_ACT_ALLOW' }],
  });

  it('are ENOSYS above the highest number named, the default below it', async () => {
    // clone3 has a higher number than exit_group on every architecture; lseek has a lower one.
    assert.deepEqual((await tryCalls(few(), ['lseek', 'clone3', '#9999'])).errnos, [EPERM, ENOSYS, ENOSYS]);
  });

  it('an x32 call is left to the filter, which kills it as a strange architecture', {
    skip: !isX86,
  }, async () => {
    assert.equal((await tryCalls(few(), [`#${0x4000_0000 + 9999}`])).signal, 'SIGSYS');
  });

  it('names that libseccomp does not know are skipped and told', async () => {
    assert.deepEqual((await compileSeccomp(few())).skipped, ['no_such_call']);
  });

  it('a profile whose default is ENOSYS needs no instructions for it', async () => {
    const [plain, stubbed] = await Promise.all([compileSeccomp(few(ENOSYS)), compileSeccomp(few(7))]);
    assert.ok(plain.filter.length < stubbed.filter.length);
    assert.equal(await errnoOf(few(ENOSYS), '#9999'), ENOSYS);
  });
});

describe('what is said of a filter beforehand', () => {
  // The kernel's own answers are in the suites above; numbers are x86_64's.
  const audit = auditArchitectures.x86_64;
  const cases: [name: string, number: number, args: bigint[], action: string, value: number][] = [
    ['execve', 59, [], 'allow', 0],
    ['mount', 165, [], 'errno', EPERM],
    ['clone3', 435, [], 'errno', ENOSYS],
    ['clone, a plain process', 56, [17n], 'allow', 0],
    ['clone, a namespace', 56, [0x1000_0011n], 'errno', EPERM],
    ['personality, only asked', 135, [0xffff_ffffn], 'allow', 0],
    ['personality, 64 bits of it', 135, [0x1_0000_0000n], 'errno', EPERM],
    ['socket, AF_INET', 41, [2n], 'allow', 0],
    ['socket, AF_VSOCK', 41, [40n], 'errno', EPERM],
    ['one that is newer', 9999, [], 'errno', ENOSYS],
  ];
  for (const [name, number, args, action, value] of cases) {
    it(`${name}: ${action} ${value}`, { skip: !isX86 }, async () => {
      const { filter } = await compileSeccomp(dockerSeccomp(dockerCapabilities, 'x86_64'));
      assert.deepEqual(seccompVerdict(filter, audit, number, args), { action, value });
    });
  }
});

describe('compiling', () => {
  it('equal profiles share one result, also while it is being made', async () => {
    const profile = () => allowing({ names: ['chdir'], action: 'SCMP_ACT_ERRNO', errnoRet: 77 });
    const [first, second] = await Promise.all([compileSeccomp(profile()), compileSeccomp(profile())]);
    assert.equal(first, second);
    assert.equal(await compileSeccomp(profile()), first);
  });

  it('profiles that differ in an errno alone do not share', async () => {
    const profile = (errnoRet: number) => allowing({ names: ['getpid'], action: 'SCMP_ACT_ERRNO', errnoRet });
    assert.equal(await errnoOf(profile(71), 'getpid'), 71);
    assert.equal(await errnoOf(profile(72), 'getpid'), 72);
  });

  it('a rule that libseccomp refuses is named, and the next profile compiles', async () => {
    const wrong = allowing(
      { names: ['getpid'], action: 'SCMP_ACT_ERRNO' },
      { names: ['chdir'], action: 'SCMP_ACT_ERRNO', args: [{ index: 6, value: 0, op: 'SCMP_CMP_EQ' }] },
    );
    await assert.rejects(compileSeccomp(wrong), (error: unknown) => {
      assert.ok(error instanceof WherryError);
      assert.equal(error.details.path, 'linux.seccomp.syscalls[1].names');
      return true;
    });
    assert.equal(await errnoOf(allowing({ names: ['getpid'], action: 'SCMP_ACT_ERRNO' }), 'getpid'), EPERM);
  });

  it('tells the version of libseccomp', () => assert.match(libseccompVersion(), /^2\.\d+\.\d+$/));
});
