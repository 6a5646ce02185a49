/** The functions and constants of libseccomp (seccomp.h) that a filter is made with. */
import { type KoffiFunc, libc, loadLibrary, type Pointer, readMemory } from './library.ts';

/** seccomp_attr_set(3). */
export const Attribute = { CTL_NNP: 3, CTL_OPTIMIZE: 8 } as const;

/** seccomp_rule_add(3); the low 16 bits of ERRNO and TRACE carry a value. */
export const actionCodes: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: 0,
  SCMP_ACT_KILL_THREAD: 0,
  SCMP_ACT_KILL_PROCESS: 0x8000_0000,
  SCMP_ACT_TRAP: 0x0003_0000,
  SCMP_ACT_ERRNO: 0x0005_0000,
  SCMP_ACT_NOTIFY: 0x7fc0_0000,
  SCMP_ACT_TRACE: 0x7ff0_0000,
  SCMP_ACT_LOG: 0x7ffc_0000,
  SCMP_ACT_ALLOW: 0x7fff_0000,
};

/** enum scmp_compare. */
export const operatorCodes: Readonly<Record<string, number>> = {
  SCMP_CMP_NE: 1,
  SCMP_CMP_LT: 2,
  SCMP_CMP_LE: 3,
  SCMP_CMP_EQ: 4,
  SCMP_CMP_GE: 5,
  SCMP_CMP_GT: 6,
  SCMP_CMP_MASKED_EQ: 7,
};

/** Where a name is not known (__NR_SCMP_ERROR). */
export const NO_SYSCALL = -1;

export interface LibSeccomp {
  version: string;
  init: (action: number) => Pointer;
  release: (filter: Pointer) => void;
  addArchitecture: (filter: Pointer, token: number) => number;
  setAttribute: (filter: Pointer, attribute: number, value: number) => number;
  /** Token of `x86_64`, `aarch64` …; 0: unknown. */
  architecture: (name: string) => number;
  nativeArchitecture: () => number;
  syscall: (name: string) => number;
  syscallOf: (token: number, name: string) => number;
  /** `rules`: struct scmp_arg_cmp[count]. All results are 0 or -errno. */
  addRule: (filter: Pointer, action: number, syscall: number, count: number, rules: Uint8Array) => number;
  exportTo: KoffiFunc<(filter: Pointer, descriptor: number) => number>;
}

let known: LibSeccomp | undefined;

/** @throws WherryError failed-precondition where libseccomp is not installed */
export function libSeccomp(): LibSeccomp {
  if (known !== undefined) return known;
  const library = loadLibrary(['libseccomp.so.2'], 'libseccomp2');
  // struct scmp_version: major, minor, micro.
  const version = readMemory(library.func('const void *seccomp_version()')(), 'unsigned int', 3);
  known = {
    version: version.join('.'),
    init: library.func('void *seccomp_init(uint32_t)'),
    release: library.func('void seccomp_release(void *)'),
    addArchitecture: library.func('int seccomp_arch_add(void *, uint32_t)'),
    setAttribute: library.func('int seccomp_attr_set(void *, int, uint32_t)'),
    architecture: library.func('uint32_t seccomp_arch_resolve_name(const char *)'),
    nativeArchitecture: library.func('uint32_t seccomp_arch_native()'),
    syscall: library.func('int seccomp_syscall_resolve_name(const char *)'),
    syscallOf: library.func('int seccomp_syscall_resolve_name_arch(uint32_t, const char *)'),
    addRule: library.func('int seccomp_rule_add_array(void *, uint32_t, int, unsigned int, const void *)'),
    exportTo: library.func('int seccomp_export_bpf(void *, int)') as LibSeccomp['exportTo'],
  };
  return known;
}

let createMemfd: ((name: string, flags: number) => number) | undefined;
const MFD_CLOEXEC = 1;

/** A descriptor of memory that a library can write to; -1 on failure. */
export function memoryFile(name: string): number {
  createMemfd ??= libc().func('int memfd_create(const char *, unsigned int)');
  return createMemfd(name, MFD_CLOEXEC);
}
