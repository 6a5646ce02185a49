/** `org.systemd.property.NAME` annotations as properties of the container's unit. Source: runc's docs/systemd.md. */
import { WherryError } from '../errors.ts';
import { parseGVariant } from '../linux/gvariant.ts';
import { type BusProperty, type Variant, variant } from '../linux/sdbus.ts';

const ANNOTATION = 'org.systemd.property.';

/** Values are in GVariant's text format; of a name that ends in Sec the value is in seconds, and it becomes USec. */
export function annotationProperties(annotations: Readonly<Record<string, string>>): BusProperty[] {
  return Object.entries(annotations)
    .filter(([name]) => name.startsWith(ANNOTATION))
    .map(([annotation, text]): BusProperty => {
      const path = `annotations["${annotation}"]`;
      const name = annotation.slice(ANNOTATION.length);
      if (!/^[A-Z][A-Za-z0-9]{2,}$/.test(name)) {
        throw new WherryError(
          'invalid-argument',
          `${path}: ${JSON.stringify(name)} is not a property of a unit`,
          { path },
        );
      }
      const value = parsed(text, path);
      if (!name.endsWith('Sec') || name.endsWith('USec')) return [name, value];
      return [`${name.slice(0, -3)}USec`, variant('t', microseconds(value, path))];
    });
}

function parsed(text: string, path: string): Variant {
  try {
    return parseGVariant(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new WherryError(
      'invalid-argument',
      `${path}: ${JSON.stringify(text)} is not a value that is understood: ${error.message}`,
      { path, hint: "write true, 'text', uint64 5 or ['a', 'b']" },
    );
  }
}

function microseconds({ signature, value }: Variant, path: string): bigint {
  const number = 'nqiuxty'.includes(signature) ? BigInt(value as bigint) * 1_000_000n : undefined;
  const result =
    number ?? (signature === 'd' && Number.isFinite(value) ? BigInt(Math.round(Number(value) * 1e6)) : -1n);
  if (result < 0n || result > 0xffff_ffff_ffff_ffffn)
    throw new WherryError('invalid-argument', `${path}: seconds are a number from 0 on`, { path });
  return result;
}
