/** podman 4.3 with Wherry as its runtime, and a container that runs. */
import { podmanExecBehaviours } from './podman-exec-suite.ts';

podmanExecBehaviours('podman 4.3 and a running container', {});
