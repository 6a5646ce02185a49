import * as z from 'zod';
import {
  cpuList,
  filledText,
  flag,
  int64,
  integer,
  list,
  oneOf,
  record,
  text,
  textMap,
  uint16,
  uint32,
  uint64,
} from './schema-values.ts';

const deviceRule = record({
  allow: flag,
  type: oneOf(['a', 'c', 'b', '']).optional(),
  major: int64.optional(),
  minor: int64.optional(),
  access: text('a combination of r, w and m')
    .regex(/^[rwm]*$/, { error: 'a combination of r, w and m' })
    .optional(),
});

const memory = record({
  limit: int64.optional(),
  reservation: int64.optional(),
  swap: int64.optional(),
  kernel: int64.optional(),
  kernelTCP: int64.optional(),
  swappiness: uint64.optional(),
  disableOOMKiller: flag.optional(),
  useHierarchy: flag.optional(),
  checkBeforeUpdate: flag.optional(),
});

const cpu = record({
  shares: uint64.optional(),
  quota: int64.optional(),
  burst: uint64.optional(),
  period: uint64.optional(),
  realtimeRuntime: int64.optional(),
  realtimePeriod: uint64.optional(),
  cpus: cpuList.optional(),
  mems: cpuList.optional(),
  idle: integer(0, 1).optional(),
});

const weightDevice = record({
  major: int64,
  minor: int64,
  weight: uint16.optional(),
  leafWeight: uint16.optional(),
});
const throttleDevices = list(
  record({ major: int64, minor: int64, rate: uint64 }),
  'a list of throttle rules',
).optional();

const blockIO = record({
  weight: uint16.optional(),
  leafWeight: uint16.optional(),
  weightDevice: list(weightDevice, 'a list of device weights').optional(),
  throttleReadBpsDevice: throttleDevices,
  throttleWriteBpsDevice: throttleDevices,
  throttleReadIOPSDevice: throttleDevices,
  throttleWriteIOPSDevice: throttleDevices,
});

const pageSize = 'a page size such as 64KB, 2MB or 1GB';

/** `linux.resources`: config-linux.md, "Control groups". Bytes and microseconds as there. */
export const resourcesSchema = record({
  devices: list(deviceRule, 'a list of device rules').optional(),
  memory: memory.optional(),
  cpu: cpu.optional(),
  pids: record({ limit: int64.optional() }).optional(),
  blockIO: blockIO.optional(),
  hugepageLimits: list(
    record({
      pageSize: text(pageSize).regex(/^[1-9][0-9]*[KMGTPE]?B$/, { error: pageSize }),
      limit: uint64,
    }),
    'a list of huge page limits',
  ).optional(),
  network: record({
    classID: uint32.optional(),
    priorities: list(
      record({ name: filledText('the name of an interface'), priority: uint32 }),
      'a list of priorities',
    ).optional(),
  }).optional(),
  rdma: z
    .record(z.string(), record({ hcaHandles: uint32.optional(), hcaObjects: uint32.optional() }), {
      error: 'an object of RDMA limits',
    })
    .optional(),
  unified: textMap.optional(),
});
