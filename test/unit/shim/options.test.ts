import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Options } from '../../../shim/gen/containerd/runc/v1/oci.ts';
import { optionsFromToml } from '../../../shim/task/options.ts';

describe('the options in TOML', () => {
  it('are a flat table', () => {
    const options = optionsFromToml(
      '# all of it\n\nBinaryName = "/usr/bin/\\"q\\"" # which\nRoot = \'/run/x\'\nNoPivotRoot=true\n  IoGid = 7\r\n',
    );
    assert.deepEqual(
      options,
      Options.fromPartial({ binaryName: '/usr/bin/"q"', root: '/run/x', noPivotRoot: true, ioGid: 7 }),
    );
  });

  for (const [text, message] of [
    ['IoUid = "no number"', /options\.IoUid: must be a number/],
    ['Unknown = 1', /options\.Unknown: is not known/],
    ['[table]', /options\.config_body: "\[table\]" is not one key = value/],
  ] as const) {
    it(`refuse ${text}`, () => {
      assert.throws(() => optionsFromToml(text), { kind: 'invalid-argument', message });
    });
  }
});
