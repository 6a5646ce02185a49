/** Sizes and offsets of kernel structs: field to [offset, bytes]. The same on x86_64 and aarch64; a test asks the C headers. */

export type Layout = Readonly<{
  size: number;
  fields: Readonly<Record<string, readonly [offset: number, bytes: number]>>;
}>;

export const layouts = {
  /** clone3(2), linux/sched.h */
  clone_args: {
    size: 88,
    fields: {
      flags: [0, 8],
      pidfd: [8, 8],
      child_tid: [16, 8],
      parent_tid: [24, 8],
      exit_signal: [32, 8],
      stack: [40, 8],
      stack_size: [48, 8],
      tls: [56, 8],
      set_tid: [64, 8],
      set_tid_size: [72, 8],
      cgroup: [80, 8],
    },
  },
  /** openat2(2), linux/openat2.h */
  open_how: { size: 24, fields: { flags: [0, 8], mode: [8, 8], resolve: [16, 8] } },
  /** mount_setattr(2), linux/mount.h */
  mount_attr: {
    size: 32,
    fields: { attr_set: [0, 8], attr_clr: [8, 8], propagation: [16, 8], userns_fd: [24, 8] },
  },
  /** capset(2), linux/capability.h; the names are those of the C types */
  __user_cap_header_struct: { size: 8, fields: { version: [0, 4], pid: [4, 4] } },
  __user_cap_data_struct: { size: 12, fields: { effective: [0, 4], permitted: [4, 4], inheritable: [8, 4] } },
  /** seccomp(2), linux/filter.h */
  sock_filter: { size: 8, fields: { code: [0, 2], jt: [2, 1], jf: [3, 1], k: [4, 4] } },
  sock_fprog: { size: 16, fields: { len: [0, 2], filter: [8, 8] } },
  /** sendmsg(2), recvmsg(2), cmsg(3), sys/socket.h */
  msghdr: {
    size: 56,
    fields: {
      msg_name: [0, 8],
      msg_namelen: [8, 4],
      msg_iov: [16, 8],
      msg_iovlen: [24, 8],
      msg_control: [32, 8],
      msg_controllen: [40, 8],
      msg_flags: [48, 4],
    },
  },
  iovec: { size: 16, fields: { iov_base: [0, 8], iov_len: [8, 8] } },
  cmsghdr: { size: 16, fields: { cmsg_len: [0, 8], cmsg_level: [8, 4], cmsg_type: [12, 4] } },
  ucred: { size: 12, fields: { pid: [0, 4], uid: [4, 4], gid: [8, 4] } },
  sockaddr_un: { size: 110, fields: { sun_family: [0, 2], sun_path: [2, 108] } },
  /** netdevice(7), linux/if.h */
  ifreq: { size: 40, fields: { ifr_name: [0, 16], ifr_flags: [16, 2], ifr_ifindex: [16, 4] } },
  /** prlimit(2), linux/resource.h */
  rlimit64: { size: 16, fields: { rlim_cur: [0, 8], rlim_max: [8, 8] } },
  /** rt_sigaction(2), asm/signal.h: the kernel's, not libc's */
  sigaction: {
    size: 32,
    fields: { sa_handler: [0, 8], sa_flags: [8, 8], sa_restorer: [16, 8], sa_mask: [24, 8] },
  },
  /** sched_setattr(2), linux/sched/types.h */
  sched_attr: {
    size: 56,
    fields: {
      size: [0, 4],
      sched_policy: [4, 4],
      sched_flags: [8, 8],
      sched_nice: [16, 4],
      sched_priority: [20, 4],
      sched_runtime: [24, 8],
      sched_deadline: [32, 8],
      sched_period: [40, 8],
      sched_util_min: [48, 4],
      sched_util_max: [52, 4],
    },
  },
  /** statx(2), linux/stat.h */
  statx: {
    size: 256,
    fields: {
      stx_mask: [0, 4],
      stx_attributes: [8, 8],
      stx_nlink: [16, 4],
      stx_uid: [20, 4],
      stx_gid: [24, 4],
      stx_mode: [28, 2],
      stx_ino: [32, 8],
      stx_size: [40, 8],
      stx_attributes_mask: [56, 8],
      stx_rdev_major: [128, 4],
      stx_rdev_minor: [132, 4],
      stx_dev_major: [136, 4],
      stx_dev_minor: [140, 4],
      stx_mnt_id: [144, 8],
    },
  },
  /** linux/time_types.h */
  timespec: { size: 16, fields: { tv_sec: [0, 8], tv_nsec: [8, 8] } },
  /** ppoll(2) */
  pollfd: { size: 8, fields: { fd: [0, 4], events: [4, 2], revents: [6, 2] } },
  /** ioctl_tty(2), asm/termios.h */
  winsize: { size: 8, fields: { ws_row: [0, 2], ws_col: [2, 2], ws_xpixel: [4, 2], ws_ypixel: [6, 2] } },
  /** TCGETS, TCSETS: asm/termbits.h, the kernel's, not libc's */
  termios: {
    size: 36,
    fields: {
      c_iflag: [0, 4],
      c_oflag: [4, 4],
      c_cflag: [8, 4],
      c_lflag: [12, 4],
      c_line: [16, 1],
      c_cc: [17, 19],
    },
  },
} as const satisfies Record<string, Layout>;

export type StructName = keyof typeof layouts;
export type FieldName<S extends StructName> = keyof (typeof layouts)[S]['fields'] & string;

export function sizeOf(struct: StructName): number {
  return layouts[struct].size;
}

/** [offset, bytes] of a field, for `DataRef.at(...fieldOf('clone_args', 'cgroup'))`. */
export function fieldOf<S extends StructName>(struct: S, field: FieldName<S>): readonly [number, number] {
  return (layouts[struct].fields as Record<string, readonly [number, number]>)[field]!;
}
