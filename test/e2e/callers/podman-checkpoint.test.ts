/** podman 4.3's checkpoint and restore with Wherry as its runtime. */
import { podmanCheckpoint } from './podman-checkpoint-suite.ts';

podmanCheckpoint('podman 4.3', {});
