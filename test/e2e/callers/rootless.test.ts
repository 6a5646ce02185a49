/** podman 4.3 as an ordinary user. */
import { rootlessPodman } from './rootless-suite.ts';

rootlessPodman('podman 4.3 as an ordinary user', 'bookworm');
