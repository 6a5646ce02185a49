/** docker 20.10 with Wherry as its runtime: our command line under containerd's Go shim. */
import { dockerBehaviours } from './docker-suite.ts';

dockerBehaviours('docker 20.10, --runtime with our command line', { as: 'command line' });
