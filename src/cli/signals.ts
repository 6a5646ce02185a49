/** Signals by name or number, as kill(1) and runc take them. */
import { constants } from 'node:os';
import { WherryError } from '../errors.ts';
import { shown } from './parse.ts';
import { nearest } from './suggest.ts';

/** signal(7): glibc keeps 32 and 33 for itself. */
const SIGRTMIN = 34;
const SIGRTMAX = 64;

/** @throws WherryError invalid-argument for names and numbers that are no signal; 0 is allowed and only asks. */
export function parseSignal(text: string): number {
  if (/^\d+$/.test(text)) {
    const number = Number(text);
    if (number > SIGRTMAX) throw unknownSignal(text, `numbers go from 0 to ${SIGRTMAX}`);
    return number;
  }
  const name = text.toUpperCase().replace(/^SIG/, '');
  const realTime = /^RT(?:MIN(?:\+(\d{1,2}))?|MAX(?:-(\d{1,2}))?)$/.exec(name);
  if (realTime !== null) {
    const number = name.startsWith('RTMIN')
      ? SIGRTMIN + Number(realTime[1] ?? 0)
      : SIGRTMAX - Number(realTime[2] ?? 0);
    if (number < SIGRTMIN || number > SIGRTMAX) throw unknownSignal(text, 'use RTMIN to RTMIN+30');
    return number;
  }
  const known: Readonly<Record<string, number>> = constants.signals;
  const number = Object.hasOwn(known, `SIG${name}`) ? known[`SIG${name}`] : undefined;
  if (number !== undefined) return number;
  const near = nearest(`SIG${name}`, Object.keys(known));
  throw unknownSignal(
    text,
    near === undefined ? 'use a name such as TERM or a number' : `did you mean ${near}?`,
  );
}

function unknownSignal(text: string, hint: string): WherryError {
  return new WherryError('invalid-argument', `unknown signal "${shown(text)}"`, { path: 'SIGNAL', hint });
}
