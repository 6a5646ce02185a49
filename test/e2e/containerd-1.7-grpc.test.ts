import { containerdSuite, isWherry } from './containerd-suite.ts';

// containerd 1.7 alone can speak gRPC to a shim for longer than a moment: see "Truth about gRPC" in the README.
if (isWherry) containerdSuite('containerd 1.7 over gRPC', '1.7', { wherryConfig: { protocol: 'grpc' } });
