/**
 * criu's RPC messages (images/rpc.proto of criu, criu.org/RPC): requests as bytes, answers read. Field numbers are the contract; the
 * conversation itself is held by a tape (compile/criu.ts).
 */
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';

/** enum criu_req_type */
export const RequestType = { DUMP: 1, RESTORE: 2, PRE_DUMP: 4, NOTIFY: 6 } as const;

/** enum criu_cg_mode */
export const CgroupsMode = { ignore: 0, soft: 3, full: 4, strict: 5, default: 6 } as const;
export type CgroupsModeName = keyof typeof CgroupsMode;

/** enum criu_network_lock_method */
export const NetworkLock = { iptables: 1, nftables: 2, skip: 3 } as const;
export type NetworkLockName = keyof typeof NetworkLock;

/** A name in the image and what stands for it: a path, a descriptor. */
export interface Named<Value> {
  key: string;
  value: Value;
}

/** message criu_opts, as far as a runtime asks for it. Descriptors of folders are the player's, others criu's own. */
export interface CriuOptions {
  imagesDir: number;
  workDir?: number;
  pid?: number;
  root?: string;
  logFile: string;
  logLevel: number;
  leaveRunning?: boolean;
  extUnixSk?: boolean;
  tcpEstablished?: boolean;
  tcpSkipInFlight?: boolean;
  tcpClose?: boolean;
  evasiveDevices?: boolean;
  shellJob?: boolean;
  fileLocks?: boolean;
  linkRemap?: boolean;
  lazyPages?: boolean;
  autoDedup?: boolean;
  trackMemory?: boolean;
  restoreSibling?: boolean;
  pageServer?: { address: string; port: number };
  parentImage?: string;
  cgroupsMode: CgroupsModeName;
  /** The hierarchy's controller ('' is cgroup v2) → the path that takes the dumped root's place. */
  cgroupRoots?: readonly Named<string>[];
  freezeCgroup?: string;
  /** Dump: place in the container → name in the image. Restore: name in the image → path on the host. */
  externalMounts?: readonly Named<string>[];
  /** `net[INODE]:NAME`, `file[MOUNT:INODE]:…` */
  externals?: readonly string[];
  /** Restore: name in the image → criu's own descriptor. */
  inherited?: readonly Named<number>[];
  /** Restore: type of namespace (`ipc`) → path. */
  joined?: readonly Named<string>[];
  /** CLONE_NEW* of namespaces whose content is left out. */
  emptyNamespaces?: number;
  configFile?: string;
  lsmProfile?: string;
  lsmMountContext?: string;
  networkLock?: NetworkLockName;
}

const WIRE_VARINT = 0;
const WIRE_BYTES = 2;

export function encodeRequest(
  type: (typeof RequestType)[keyof typeof RequestType],
  options: CriuOptions,
): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WIRE_VARINT).int32(type);
  writer.tag(2, WIRE_BYTES).bytes(encodeOptions(options));
  return writer.finish();
}

/** The answer to each notification: go on. */
export function encodeGoOn(): Uint8Array {
  return new BinaryWriter()
    .tag(1, WIRE_VARINT)
    .int32(RequestType.NOTIFY)
    .tag(3, WIRE_VARINT)
    .bool(true)
    .finish();
}

function encodeOptions(options: CriuOptions): Uint8Array {
  const writer = new BinaryWriter();
  const flag = (field: number, value: boolean | undefined) => {
    if (value === true) writer.tag(field, WIRE_VARINT).bool(true);
  };
  const number = (field: number, value: number | undefined) => {
    if (value !== undefined) writer.tag(field, WIRE_VARINT).int32(value);
  };
  const text = (field: number, value: string | undefined) => {
    if (value !== undefined) writer.tag(field, WIRE_BYTES).string(value);
  };
  const pairs = (field: number, all: readonly Named<string | number>[] | undefined) => {
    for (const { key, value } of all ?? []) {
      const pair = new BinaryWriter().tag(1, WIRE_BYTES).string(key);
      if (typeof value === 'string') pair.tag(2, WIRE_BYTES).string(value);
      else pair.tag(2, WIRE_VARINT).int32(value);
      writer.tag(field, WIRE_BYTES).bytes(pair.finish());
    }
  };
  number(1, options.imagesDir);
  number(2, options.pid);
  flag(3, options.leaveRunning);
  flag(4, options.extUnixSk);
  flag(5, options.tcpEstablished);
  flag(6, options.evasiveDevices);
  flag(7, options.shellJob);
  flag(8, options.fileLocks);
  number(9, options.logLevel);
  text(10, options.logFile);
  if (options.pageServer !== undefined) {
    const { address, port } = options.pageServer;
    const server = new BinaryWriter().tag(1, WIRE_BYTES).string(address).tag(2, WIRE_VARINT).int32(port);
    writer.tag(11, WIRE_BYTES).bytes(server.finish());
  }
  flag(12, true); // notify_scripts
  text(13, options.root);
  text(14, options.parentImage);
  flag(15, options.trackMemory);
  flag(16, options.autoDedup);
  number(17, options.workDir);
  flag(18, options.linkRemap);
  pairs(23, options.externalMounts);
  flag(24, options.cgroupsMode !== 'ignore'); // manage_cgroups, for versions before its modes
  for (const { key, value } of options.cgroupRoots ?? []) {
    const root = new BinaryWriter();
    if (key !== '') root.tag(1, WIRE_BYTES).string(key);
    writer.tag(25, WIRE_BYTES).bytes(root.tag(2, WIRE_BYTES).string(value).finish());
  }
  flag(26, options.restoreSibling);
  pairs(27, options.inherited);
  number(34, CgroupsMode[options.cgroupsMode]);
  for (const name of options.externals ?? []) text(37, name);
  if ((options.emptyNamespaces ?? 0) !== 0) writer.tag(38, WIRE_VARINT).uint32(options.emptyNamespaces ?? 0);
  pairs(39, options.joined);
  text(44, options.freezeCgroup);
  flag(46, options.tcpSkipInFlight);
  flag(48, options.lazyPages);
  flag(50, true); // orphan_pts_master: terminals whose master is outside
  text(51, options.configFile);
  flag(52, options.tcpClose);
  text(53, options.lsmProfile);
  text(63, options.lsmMountContext);
  if (options.networkLock !== undefined) number(64, NetworkLock[options.networkLock]);
  return writer.finish();
}

/** message criu_resp */
export interface CriuAnswer {
  type: number;
  success: boolean;
  /** errno, as criu saw it last. */
  errno?: number;
}

/** Reads what there is of an answer whose end may be missing. */
export function decodeAnswer(bytes: Uint8Array): CriuAnswer {
  const answer: CriuAnswer = { type: 0, success: false };
  const reader = new BinaryReader(bytes);
  try {
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag();
      if (field === 1) answer.type = reader.int32();
      else if (field === 2) answer.success = reader.bool();
      else if (field === 7) answer.errno = reader.int32();
      else reader.skip(wire);
    }
  } catch {
    // Cut off: what was read holds.
  }
  return answer;
}
