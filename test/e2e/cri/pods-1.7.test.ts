import { podSuite } from './pods.ts';

podSuite('1.7', { wherry: 20, path: 4 });
