import { containerdSuite } from './containerd-suite.ts';

containerdSuite('containerd 1.6 over ttrpc', '1.6');
