/** Streams of a container in a user namespace get their owner from the player, who still has the host's rights. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Program } from '../../../src/container/compile/program.ts';
import { giveStreamsToMapped, hostId } from '../../../src/container/compile/user-namespace.ts';
import { checkConfig } from '../../../src/oci/config.ts';
import type { Spec } from '../../../src/oci/types.ts';
import { disassemble } from '../../../src/tape/disassemble.ts';
import { configOf, type JsonObject } from '../../integration/oci-suite/cases.ts';

const ranges = [
  { containerID: 0, hostID: 100_000, size: 10 },
  { containerID: 10, hostID: 200_000, size: 10 },
];

function specOf(user: boolean): Spec {
  const namespaces = ['pid', 'mount', 'uts', 'network', 'ipc', ...(user ? ['user'] : [])].map((type) => ({
    type,
  }));
  const linux: JsonObject = user ? { namespaces, uidMappings: ranges, gidMappings: ranges } : { namespaces };
  return checkConfig(configOf({ config: { linux, process: { user: { uid: 12, gid: 3 } } } }, {})).config;
}

function owners(input: { spec: Spec; settings?: { ioUid: number; ioGid: number } }): string[] {
  const program = new Program();
  const stdout = program.tape.syscall('dup', [1]);
  giveStreamsToMapped(program, input, [{ container: undefined }, { container: stdout }]);
  const text = disassemble(program.tape.assemble());
  return [...text.matchAll(/fchown\(\w+, (.*?)\)/g)].map(([, ids]) => ids ?? '');
}

it('the ids are those that the user has on the host', () => {
  assert.deepEqual(owners({ spec: specOf(true) }), ['200002, 100003']);
});

it('what the caller names comes first', () => {
  assert.deepEqual(owners({ spec: specOf(true), settings: { ioUid: 7, ioGid: 8 } }), ['7, 8']);
});

it('without a user namespace it is not the player who does it', () => {
  assert.deepEqual(owners({ spec: specOf(false) }), []);
});

it('an id outside of every range is nobody on the host', () => {
  assert.equal(hostId(ranges, 19), 200_009);
  assert.equal(hostId(ranges, 20), undefined);
});
