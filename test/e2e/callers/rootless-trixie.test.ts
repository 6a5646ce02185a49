/** podman 5.4 as an ordinary user. */
import { rootlessPodman } from './rootless-suite.ts';

rootlessPodman('podman 5.4 as an ordinary user', 'trixie');
