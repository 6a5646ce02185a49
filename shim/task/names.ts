/** What a caller may name a container and a namespace: both become folder names. */
import { WherryError } from '../../src/errors.ts';

const identifier = /^[A-Za-z0-9][A-Za-z0-9_.+-]*$/;
const MAX_LENGTH = 128;

/** The value itself; invalid-argument naming the field where it is empty or no identifier. */
export function requireName(field: string, value: string): string {
  if (value === '') {
    throw new WherryError('invalid-argument', `${field}: must not be empty`, {
      path: field,
      hint: `set the field ${field} of the request`,
    });
  }
  if (value.length > MAX_LENGTH || !identifier.test(value)) {
    throw new WherryError(
      'invalid-argument',
      `${field}: ${JSON.stringify(value.slice(0, 64))} is not a name`,
      {
        path: field,
        hint: `use 1 to ${MAX_LENGTH} letters, digits and _ . + - and begin with a letter or digit`,
      },
    );
  }
  return value;
}
