/** Names of containers: what runc allows (libcontainer's validateID), and names made up for `launch`. */
import { randomInt } from 'node:crypto';
import { WherryError } from '../errors.ts';
import { shown } from './parse.ts';

const MAX_LENGTH = 1024;

/** The id when it is a valid one; invalid-argument naming what is wrong. */
export function checkId(id: string, path = 'ID'): string {
  if (id === '') {
    throw new WherryError('invalid-argument', 'container id cannot be empty', {
      path,
      hint: 'give it a name',
    });
  }
  if (id.length > MAX_LENGTH) {
    throw new WherryError('invalid-argument', `invalid container ID format: ${id.length} characters`, {
      path,
      hint: `at most ${MAX_LENGTH} are allowed`,
    });
  }
  if (!/^[\w+-.]+$/.test(id) || id === '.' || id === '..') {
    throw new WherryError('invalid-argument', `invalid container ID format: "${shown(id)}"`, {
      path,
      hint: 'use letters, digits and _ + , - . only',
    });
  }
  return id;
}

const manners = [
  'brisk',
  'calm',
  'deft',
  'fair',
  'glad',
  'keen',
  'lucky',
  'merry',
  'neat',
  'proud',
  'quick',
  'steady',
];
const boats = [
  'barge',
  'canoe',
  'coble',
  'cutter',
  'dinghy',
  'ferry',
  'gig',
  'ketch',
  'punt',
  'skiff',
  'sloop',
  'yawl',
];

/** A name that can be read aloud and is not taken: "brisk-skiff-4821". */
export function makeId(taken: (id: string) => boolean): string {
  for (;;) {
    const id = `${manners[randomInt(manners.length)]}-${boats[randomInt(boats.length)]}-${randomInt(1000, 10_000)}`;
    if (!taken(id)) return id;
  }
}
