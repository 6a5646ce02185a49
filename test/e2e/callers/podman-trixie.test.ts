/** podman 5.4 with Wherry as its runtime. */
import { podmanCheckpoint } from './podman-checkpoint-suite.ts';
import { podmanExecBehaviours } from './podman-exec-suite.ts';
import { podmanBehaviours } from './podman-suite.ts';

podmanBehaviours('podman 5.4', { suite: 'trixie' });
podmanExecBehaviours('podman 5.4 and a running container', { suite: 'trixie' });
podmanCheckpoint('podman 5.4', { suite: 'trixie' });
