/** Which kernel a test has before it. Under test/support/old-kernel.c it looks older than uname(2) says. */
import { release } from 'node:os';

const [major = 0, minor = 0] = (process.env['WHERRY_TEST_KERNEL'] ?? release()).split('.').map(Number);

/** A feature came with this release. */
export function kernelHas(since: `${number}.${number}`): boolean {
  const [wantedMajor = 0, wantedMinor = 0] = since.split('.').map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
