import { containerdSuite } from './containerd-suite.ts';

containerdSuite('containerd 1.7 over ttrpc', '1.7');
