/**
 * `npm run soak [-- --rounds N] [--containerd 1.6,1.7,1.7-grpc,2.1]`: the behaviours of a shim (docs/shim-behaviours.md) with their full numbers: a
 * thousand connections, ten thousand short processes, five hundred execs, a gigabyte of output. Takes an hour or more. Needs root and a built tree.
 */
import { parseArgs } from 'node:util';
import { root } from '../test/support/paths.ts';
import { node, show } from './tools.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '1000' },
    containerd: { type: 'string', default: '1.6,1.7,1.7-grpc,2.1' },
  },
});

const files = values.containerd.split(',').map((name) => `${root}/test/e2e/shim/containerd-${name}.test.ts`);
const options = ['--test', '--test-concurrency=1', '--test-timeout=7200000', '--test-reporter=spec'];
process.exitCode = show(node, [...options, ...files], {
  env: { ...process.env, WHERRY_SOAK: values.rounds },
  timeout: 4 * 7_200_000,
});
