/** linux.rootfsPropagation and its kin: who hears of whose mounts (mount_namespaces(7), "Shared subtrees"). */
import {
  AT_FDCWD,
  AT_RECURSIVE,
  MS_PRIVATE,
  MS_SHARED,
  MS_SLAVE,
  MS_UNBINDABLE,
} from '../../linux/constants.ts';
import { mountAttr } from '../../linux/structs.ts';
import type { Spec } from '../../oci/types.ts';
import type { Program } from './program.ts';

const propagationFlags: Record<string, number> = {
  shared: MS_SHARED,
  slave: MS_SLAVE,
  private: MS_PRIVATE,
  unbindable: MS_UNBINDABLE,
};

/** With a shared root, bind mounts stay peers of their sources: what is mounted in them is seen on the host. */
export function keepsPeers(spec: Spec): boolean {
  return /^r?shared$/.test(spec.linux?.rootfsPropagation ?? '');
}

/** Of the mounts of the host that the new namespace has copies of. Where peers are kept, only the place of the root is cut off. */
export function cutOffHost(program: Program, spec: Spec): void {
  const { tape } = program;
  program.step('linux.rootfsPropagation', 'cut the mounts off from the host');
  const peers = keepsPeers(spec);
  const attributes = mountAttr(0, 0, peers ? MS_PRIVATE : MS_SLAVE);
  tape.perform('mount_setattr', [
    AT_FDCWD,
    '/',
    peers ? 0 : AT_RECURSIVE,
    tape.struct(attributes),
    attributes.bytes.length,
  ]);
}

/** After the root has changed, so that it means the new one. */
export function propagateRoot(program: Program, spec: Spec): void {
  const propagation = spec.linux?.rootfsPropagation ?? '';
  if (propagation === '') return;
  program.step('linux.rootfsPropagation', `make the root ${propagation}`);
  const recursive = propagation.startsWith('r');
  const flag = propagationFlags[recursive ? propagation.slice(1) : propagation] ?? MS_PRIVATE;
  program.setAttributes(program.root, { propagation: flag }, recursive);
}
