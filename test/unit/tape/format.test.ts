import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { currentArch } from '../../../src/linux/arch.ts';
import * as format from '../../../src/tape/format.ts';
import { cValues } from '../linux/c-values.ts';

test('format.ts and native/tape.h agree', () => {
  const pairs: Record<string, number> = {
    'sizeof(struct tape_header)': format.HEADER_BYTES,
    'sizeof(struct tape_instruction)': format.INSTRUCTION_BYTES,
    'sizeof(struct tape_lane)': format.LANE_BYTES,
    TAPE_ARCH: format.archNumbers[currentArch()],
    TAPE_REGISTERS: format.REGISTERS,
    TAPE_MAX_ARGS: format.MAX_ARGS,
    TAPE_PAGE: format.PAGE_BYTES,
    TAPE_LANES: format.LANES,
    TAPE_SLOTS: format.SLOTS,
    TAPE_SLOTS_OFFSET: format.SLOTS_OFFSET,
    TAPE_DECIMAL_BYTES: format.DECIMAL_BYTES,
    'TAPE_SLOTS_OFFSET + 8 * TAPE_SLOTS': format.REPORT_BYTES,
    [`__builtin_strcmp(TAPE_MAGIC, "${format.MAGIC}")`]: 0,
    'offsetof(struct tape_lane, state)': 12,
    'offsetof(struct tape_lane, value)': 16,
    'offsetof(struct tape_lane, order)': 24,
    'offsetof(struct tape_header, relocation_count)': 32,
  };
  for (const [name, value] of Object.entries(format.Op)) pairs[`OP_${name}`] = value;
  for (const [name, value] of Object.entries(format.Kind)) pairs[`KIND_${name}`] = value;
  for (const [name, value] of Object.entries(format.LaneState)) pairs[`LANE_${name}`] = value;
  for (const [name, value] of Object.entries(format.Field))
    pairs[`offsetof(struct tape_instruction, ${name.toLowerCase()})`] = value;

  const header = JSON.stringify(resolve(import.meta.dirname, '../../../native/tape.h'));
  const values = cValues([header], Object.keys(pairs));
  Object.entries(pairs).forEach(([expression, value], index) => {
    assert.equal(BigInt(value), values[index], expression);
  });
});
