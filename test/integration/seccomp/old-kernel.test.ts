/** The stand-in for an old kernel (test/support/old-kernel.c) does what it says: else a suite under it would show nothing. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { currentArch } from '../../../src/linux/arch.ts';
import { syscallNumber } from '../../../src/linux/syscalls.ts';
import { root } from '../../support/paths.ts';
import { must } from '../../support/run.ts';
import { compileProgram } from '../oci-suite/host.ts';

const { EBADF, EFAULT, EINVAL, ENOSYS, ENOTTY } = constants.errno;

test('a kernel that looks like 5.14 has nothing that is newer', async () => {
  const [oldKernel, tryCalls] = await Promise.all([
    compileProgram(join(root, 'test/support/old-kernel.c')),
    compileProgram(join(import.meta.dirname, 'try-calls.c')),
  ]);
  const folder = mkdtempSync(join(tmpdir(), 'wherry-test-old-'));
  try {
    const filter = join(folder, 'filter');
    // return SECCOMP_RET_ALLOW
    writeFileSync(filter, Uint8Array.of(6, 0, 0, 0, 0, 0, 0xff, 0x7f));
    const [memfd, ioctl] = (['memfd_create', 'ioctl'] as const).map((name) =>
      syscallNumber(name, currentArch()),
    );
    const calls = [
      ...['#434:0:0', '#448:0:0', '#449', '#462', '#9999'],
      ...[`#${memfd}:0:1`, `#${memfd}:0:16`, `#${memfd}:0:8`],
      // PIDFD_GET_INFO of a descriptor that is none, and TIOCGWINSZ of it.
      ...[`#${ioctl}:99:0xc050ff0b`, `#${ioctl}:99:0x5413`],
    ];
    const { stdout } = await must(oldKernel, [tryCalls, filter, '0', ...calls]);
    const errnos = stdout
      .trim()
      .split('\n')
      .map((line) => Number(line.split(' ')[1]));
    assert.deepEqual(errnos, [
      ...[EINVAL, ENOSYS, ENOSYS, ENOSYS, ENOSYS],
      ...[EFAULT, EINVAL, EINVAL],
      ...[ENOTTY, EBADF],
    ]);
    const status = (await must(oldKernel, ['sh', '-c', 'echo $$ $WHERRY_TEST_KERNEL; exit 0'])).stdout;
    assert.match(status, /^[2-9] 5\.14\n$/, 'process 1 is the stand-in, and /proc is its own');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
