/**
 * The configuration of a container, config.json, as runtime-spec 1.3 has it for Linux: one source for its check and its
 * types. Only the shape of single fields is said here; what several fields say together is in validate.ts.
 */
import { rlimitNames } from './names.ts';
import { idMappings, linuxSchema } from './schema-linux.ts';
import {
  absolutePath,
  cpuList,
  filledText,
  flag,
  id,
  int32,
  integer,
  list,
  named,
  oneOf,
  record,
  text,
  textMap,
  uint,
  uint64,
} from './schema-values.ts';

const capabilityName = 'a capability such as CAP_CHOWN';
const capabilities = list(
  text(capabilityName).regex(/^CAP_[A-Z0-9_]+$/, { error: capabilityName }),
  'a list of capabilities',
).optional();

const variable = 'a variable such as NAME=value';

const userSchema = record({
  uid: id.default(0),
  gid: id.default(0),
  umask: integer(0, 0o777).optional(),
  additionalGids: list(id, 'a list of group ids').optional(),
  username: text().optional(),
});

const schedulerSchema = record({
  policy: oneOf([
    'SCHED_OTHER',
    'SCHED_FIFO',
    'SCHED_RR',
    'SCHED_BATCH',
    'SCHED_ISO',
    'SCHED_IDLE',
    'SCHED_DEADLINE',
  ]),
  nice: int32.optional(),
  priority: int32.optional(),
  flags: list(
    oneOf([
      'SCHED_FLAG_RESET_ON_FORK',
      'SCHED_FLAG_RECLAIM',
      'SCHED_FLAG_DL_OVERRUN',
      'SCHED_FLAG_KEEP_POLICY',
      'SCHED_FLAG_KEEP_PARAMS',
      'SCHED_FLAG_UTIL_CLAMP_MIN',
      'SCHED_FLAG_UTIL_CLAMP_MAX',
    ]),
    'a list of flags',
  ).optional(),
  runtime: uint64.optional(),
  deadline: uint64.optional(),
  period: uint64.optional(),
});

/** `process`: config.md, "Process". */
export const processSchema = record({
  terminal: flag.optional(),
  consoleSize: record({ height: uint, width: uint }).optional(),
  user: userSchema.default({ uid: 0, gid: 0 }),
  args: list(text(), 'a list of at least one string').min(1, { error: 'a list of at least one string' }),
  env: list(text(variable).regex(/^[^=\0]+=[^\0]*$/, { error: variable }), 'a list of strings').optional(),
  cwd: absolutePath,
  capabilities: record({
    bounding: capabilities,
    effective: capabilities,
    inheritable: capabilities,
    permitted: capabilities,
    ambient: capabilities,
  }).optional(),
  rlimits: list(
    record({
      type: named(rlimitNames, 'a resource limit such as RLIMIT_NOFILE'),
      soft: uint64,
      hard: uint64,
    }),
    'a list of resource limits',
  ).optional(),
  noNewPrivileges: flag.optional(),
  apparmorProfile: text().optional(),
  oomScoreAdj: integer(-1000, 1000).optional(),
  scheduler: schedulerSchema.optional(),
  selinuxLabel: text().optional(),
  ioPriority: record({
    class: oneOf(['IOPRIO_CLASS_RT', 'IOPRIO_CLASS_BE', 'IOPRIO_CLASS_IDLE']),
    priority: integer(0, 7).optional(),
  }).optional(),
  execCPUAffinity: record({ initial: cpuList.optional(), final: cpuList.optional() }).optional(),
});

/** `mounts[]`: config.md, "Mounts". */
const mountSchema = record({
  destination: filledText('a path'),
  type: text().optional(),
  source: text().optional(),
  options: list(text(), 'a list of mount options').optional(),
  uidMappings: idMappings.optional(),
  gidMappings: idMappings.optional(),
});

const hooks = list(
  record({
    path: absolutePath,
    args: list(text(), 'a list of strings').optional(),
    env: list(text(), 'a list of strings').optional(),
    timeout: integer(1, 0x7fff_ffff).optional(),
  }),
  'a list of hooks',
).optional();

/** Configurations of one major version fit every runtime of it (config.md, "Specification version"). */
const version = 'a version 1.x.y of the runtime specification';

/** The whole of config.json. */
export const specSchema = record({
  ociVersion: text(version).regex(/^1\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]*)?$/, { error: version }),
  root: record({ path: filledText('a path'), readonly: flag.optional() }),
  process: processSchema,
  hostname: text().optional(),
  domainname: text().optional(),
  mounts: list(mountSchema, 'a list of mounts').optional(),
  hooks: record({
    prestart: hooks,
    createRuntime: hooks,
    createContainer: hooks,
    startContainer: hooks,
    poststart: hooks,
    poststop: hooks,
  }).optional(),
  annotations: textMap.optional(),
  linux: linuxSchema.optional(),
});
