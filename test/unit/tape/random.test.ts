import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { disassemble } from '../../../src/tape/disassemble.ts';
import { readImage } from '../../../src/tape/image.ts';
import { TapeError } from '../../../src/tape/refs.ts';
import { build, programs } from './random-program.ts';
import '../../support/property-seed.ts';

test('any program assembles to the same bytes and text each time, with every act in it', () => {
  fc.assert(
    fc.property(programs, (program) => {
      const first = build(program).assemble();
      const second = build(program).assemble();
      assert.deepEqual(first.image, second.image);
      assert.equal(disassemble(first), disassemble(second));
      const steps = new Set(readImage(first.image).instructions.map(({ step }) => step));
      for (let step = 1; step <= program.length; step++) assert.ok(steps.has(step));
    }),
  );
});

test('jumps of any program go forward and stay inside', () => {
  fc.assert(
    fc.property(programs, (program) => {
      const { instructions } = readImage(build(program).assemble().image);
      instructions.forEach(({ op, target }, pc) => {
        if (op === 2 || op === 5) assert.ok(target > pc && target < instructions.length);
      });
    }),
  );
});

test('damaged bytes are explained or refused with a TapeError', () => {
  const damage = fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255) }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(programs, damage, fc.nat(), (program, hits, length) => {
      const tape = build(program).assemble();
      const image = Buffer.from(tape.image);
      for (const { at, byte } of hits) image[at % image.length] = byte;
      const cut = length % 4 === 0 ? image.subarray(0, length % image.length) : image;
      try {
        assert.equal(typeof disassemble({ ...tape, image: cut }), 'string');
      } catch (error) {
        assert.ok(error instanceof TapeError, String(error));
      }
    }),
  );
});
