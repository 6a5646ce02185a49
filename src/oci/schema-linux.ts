import * as z from 'zod';
import { namespaceTypes } from './names.ts';
import { resourcesSchema } from './schema-resources.ts';
import { seccompSchema } from './schema-seccomp.ts';
import {
  absolutePath,
  cpuList,
  filledText,
  flag,
  id,
  int64,
  list,
  oneOf,
  record,
  text,
  textMap,
  uint32,
} from './schema-values.ts';

export const idMappings = list(
  record({ containerID: uint32, hostID: uint32, size: uint32 }),
  'a list of id mappings',
);

const paths = list(absolutePath, 'a list of absolute paths');

const device = record({
  type: oneOf(['c', 'b', 'u', 'p']),
  path: absolutePath,
  major: int64.optional(),
  minor: int64.optional(),
  fileMode: uint32.optional(),
  uid: id.optional(),
  gid: id.optional(),
});

const intelRdt = record({
  closID: text().optional(),
  schemata: list(text(), 'a list of schemata lines').optional(),
  l3CacheSchema: text().optional(),
  memBwSchema: text().optional(),
  enableCMT: flag.optional(),
  enableMBM: flag.optional(),
  enableMonitoring: flag.optional(),
});

const memoryModes = [
  'MPOL_DEFAULT',
  'MPOL_BIND',
  'MPOL_INTERLEAVE',
  'MPOL_WEIGHTED_INTERLEAVE',
  'MPOL_PREFERRED',
  'MPOL_PREFERRED_MANY',
  'MPOL_LOCAL',
] as const;
const memoryFlags = ['MPOL_F_NUMA_BALANCING', 'MPOL_F_RELATIVE_NODES', 'MPOL_F_STATIC_NODES'] as const;

/** `linux`: config-linux.md. */
export const linuxSchema = record({
  namespaces: list(
    record({
      type: oneOf(namespaceTypes),
      /** Empty or absent: a new namespace. */
      path: text('an absolute path')
        .regex(/^(\/.*)?$/s, { error: 'an absolute path' })
        .optional(),
    }),
    'a list of namespaces',
  ).optional(),
  uidMappings: idMappings.optional(),
  gidMappings: idMappings.optional(),
  timeOffsets: z
    .partialRecord(
      oneOf(['monotonic', 'boottime']),
      record({ secs: int64.optional(), nanosecs: uint32.optional() }),
      { error: 'an object of clock offsets (monotonic, boottime)' },
    )
    .optional(),
  devices: list(device, 'a list of devices').optional(),
  netDevices: z
    .record(z.string(), record({ name: text().optional() }), { error: 'an object of network devices' })
    .optional(),
  cgroupsPath: text().optional(),
  resources: resourcesSchema.optional(),
  sysctl: textMap.optional(),
  seccomp: seccompSchema.optional(),
  rootfsPropagation: oneOf([
    'shared',
    'slave',
    'private',
    'unbindable',
    'rshared',
    'rslave',
    'rprivate',
    'runbindable',
    '',
  ]).optional(),
  maskedPaths: paths.optional(),
  readonlyPaths: paths.optional(),
  mountLabel: text().optional(),
  intelRdt: intelRdt.optional(),
  memoryPolicy: record({
    mode: oneOf(memoryModes),
    nodes: cpuList.optional(),
    flags: list(oneOf(memoryFlags), 'a list of flags').optional(),
  }).optional(),
  personality: record({
    domain: oneOf(['LINUX', 'LINUX32']),
    flags: list(filledText('a flag'), 'a list of flags').optional(),
  }).optional(),
});
