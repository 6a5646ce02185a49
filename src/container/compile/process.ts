/** What `process`, `linux.personality` and `linux.memoryPolicy` say about the program, as long as the set-up may still do it. */
import type { Spec } from '../../oci/types.ts';
import { setLabels } from './lsm.ts';
import { setMemoryPolicy, setPersonality } from './process-memory.ts';
import { setCoreScheduling, setScheduling } from './process-scheduling.ts';
import type { Program } from './program.ts';

/** In the container's pid namespace; before the user changes, no_new_privs and the seccomp filter. */
export function setAttributes(program: Program, spec: Spec): void {
  setLabels(program, spec.process);
  setScheduling(program, spec.process);
  setCoreScheduling(program, spec);
  setMemoryPolicy(program, spec.linux?.memoryPolicy);
  setPersonality(program, spec.linux?.personality);
}
