/** `npm run test:vm`: suites that need a guest of their own (cgroup v2 alone, systemd). */
import { globSync } from 'node:fs';
import { root } from '../test/support/paths.ts';
import { fail, say } from './tools.ts';

if (globSync('test/vm/**/*.test.ts', { cwd: root }).length > 0)
  fail('test/vm has tests, but nothing here starts a guest for them');
say(
  'SKIPPED: there is no guest suite yet. Cgroup v2 without v1 and the systemd driver are not tested by this run.',
);
