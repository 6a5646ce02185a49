/**
 * What may differ between two runs of the same pods, under Wherry and under containerd's own shim: these patterns and nothing else. Exit
 * codes, outputs, keys and types never differ.
 */
export const allowedDifferences: readonly { what: string; pattern: RegExp; becomes: string }[] = [
  {
    what: 'name of a network namespace',
    pattern: /\bcni-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g,
    becomes: 'NETNS',
  },
  { what: 'id of a pod, container, exec, image', pattern: /\b[0-9a-f]{64}\b/g, becomes: 'HASH' },
  { what: 'folder of the node', pattern: /\/tmp\/wherry-t[\w-]+/g, becomes: 'FOLDER' },
  { what: "a snapshot's folder", pattern: /\/snapshots\/\d+\//g, becomes: '/snapshots/NUMBER/' },
  { what: "a container's streams' folder", pattern: /\/io\/\d+\//g, becomes: '/io/NUMBER/' },
  { what: 'time in nanoseconds', pattern: /\b1[6-9]\d{17}\b/g, becomes: 'TIME' },
  { what: 'time', pattern: /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g, becomes: 'TIME' },
  {
    what: 'time of an event',
    pattern: /\{"nanos":\d+,"seconds":\d+\}|\{"seconds":\d+(,"nanos":\d+)?\}/g,
    becomes: '"TIME"',
  },
  { what: "a pod's address", pattern: /\b10\.96\.\d+\.\d+\b/g, becomes: 'ADDRESS' },
  { what: 'the address of a network device', pattern: /\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b/g, becomes: 'MAC' },
  { what: "the host's side of a pod's network", pattern: /\bveth[0-9a-f]{8}\b/g, becomes: 'VETH' },
  { what: "a process's number in a path", pattern: /\/proc\/\d+\//g, becomes: '/proc/PID/' },
  { what: "a process's number in JSON", pattern: /"pid":\d+/g, becomes: '"pid":"PID"' },
  {
    what: "the runtime's own words around the reason that callers look for",
    pattern: /(OCI runtime \w+ failed: ).*(exec: "[^"]*": stat [^ ]*: no such file or directory).*/g,
    becomes: '$1$2',
  },
];

/** The text with everything that may differ replaced by its name. */
export function withoutDifferences(text: string): string {
  return allowedDifferences.reduce((result, { pattern, becomes }) => result.replace(pattern, becomes), text);
}

/** Fields that say which runtime it is: that is what was asked for. */
export const namesOfTheRuntime: readonly RegExp[] = [
  /^pod \d+\.info\.(runtimeHandler|runtimeType|sandboxMetadata\.Metadata\.RuntimeHandler)$/,
  /^pod \d+\.status\.runtime_handler$/,
  /\.info\.runtimeType$/,
  // Of the options that the handler's configuration has.
  /\.info\.runtimeOptions(\.|$)/,
];
