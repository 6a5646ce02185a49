import { containerdSuite } from './containerd-suite.ts';

containerdSuite('containerd 2.1 over ttrpc', '2.1');
