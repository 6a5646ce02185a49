/** Colour for people: only on a terminal, and not where NO_COLOR (https://no-color.org) or a dumb terminal asks for none. */
import type { ClientSession } from './session.ts';

/** Select Graphic Rendition (console_codes(4)). */
const STYLES = { bold: 1, red: 31, green: 32, yellow: 33 } as const;
export type Style = keyof typeof STYLES;
export type Paint = (text: string, style: Style | undefined) => string;

export function painter({ request }: ClientSession, descriptor: 1 | 2): Paint {
  const { env, isTerminal } = request;
  const plain = !isTerminal[descriptor] || (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb';
  return plain
    ? (text) => text
    : (text, style) => (style === undefined ? text : `\u001b[${STYLES[style]}m${text}\u001b[0m`);
}
