// Stands where wherryd does: hands its link to the test that listens on the socket named by the first argument, and
// writes what it was started with beside it.
import { readdirSync, readFileSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { connect, Socket } from 'node:net';

const path = process.argv[2];
const descriptors = {};
for (const fd of readdirSync('/proc/self/fd')) {
  try {
    descriptors[fd] = readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The one that listed them.
  }
}
const status = readFileSync('/proc/self/status', 'utf8');
// Whole or not at all: a test may read the one of the relay before.
writeFileSync(
  `${path}.json.${process.pid}`,
  JSON.stringify({ env: process.env, descriptors, status, cwd: process.cwd(), pid: process.pid }),
);
renameSync(`${path}.json.${process.pid}`, `${path}.json`);

const link = new Socket({ fd: 3, readable: true, writable: true });
const test = connect(path);
link.pipe(test);
test.pipe(link);
for (const end of [link, test]) {
  end.on('error', () => process.exit(1));
  end.on('close', () => process.exit(0));
}
