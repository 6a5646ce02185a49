import assert from 'node:assert/strict';
import { WherryError } from '../../../src/errors.ts';
import { defaultSpec } from '../../../src/oci/defaults.ts';

/** Any JSON value that a test may change at will. */
// biome-ignore lint/suspicious/noExplicitAny: wrong shapes are what these tests are about
export type Loose = any;

/** A valid configuration, changed. */
export function configWith(edit: (config: Loose) => void): Loose {
  const config: Loose = structuredClone(defaultSpec());
  edit(config);
  return config;
}

/** The invalid-argument error that the call throws. */
export function invalid(call: () => unknown): WherryError {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof WherryError, String(error));
    assert.equal(error.kind, 'invalid-argument');
    return error;
  }
  assert.fail('expected an error');
}
