/** docker 26 with Wherry as its runtime: as a shim by its type, and our command line under containerd's Go shim. */
import { dockerBehaviours } from './docker-suite.ts';

dockerBehaviours('docker 26, runtimeType io.containerd.wherry.v1', { suite: 'trixie', as: 'shim' });
dockerBehaviours('docker 26, --runtime with our command line', { suite: 'trixie', as: 'command line' });
