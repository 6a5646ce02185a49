import { podSuite } from './pods.ts';

// 1.6 pays no attention to runtime_path.
podSuite('1.6', { wherry: 20 });
