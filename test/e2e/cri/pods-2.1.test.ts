import { podSuite } from './pods.ts';

podSuite('2.1', { wherry: 20, path: 4 });
