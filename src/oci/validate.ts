/** What several fields of config.json say together: each rule is one the specification or the kernel makes. */
import { type Problem, problem } from './problems.ts';
import type { LinuxResources, LinuxSeccomp, Mount, NamespaceType, Process, Spec } from './types.ts';
import { validateNetDevices } from './validate-net.ts';
import { validateAttributes, validateMemory } from './validate-process.ts';
import { validateSysctl } from './validate-sysctl.ts';

/** __NEW_UTS_LEN of the kernel. */
const UTS_NAME_BYTES = 64;

type Report = (path: string, expected: string, found: unknown) => void;

function checkDuplicates(names: readonly string[], place: (index: number) => string, report: Report): void {
  const seen = new Map<string, number>();
  for (const [index, name] of names.entries()) {
    const first = seen.get(name);
    if (first === undefined) seen.set(name, index);
    else report(place(index), `each type once (the first is ${place(first)})`, name);
  }
}

function checkProcess(process: Process, report: Report): void {
  if (process.args[0] === '') report('process.args[0]', 'the name of a program', '');
  const rlimits = process.rlimits ?? [];
  checkDuplicates(
    rlimits.map(({ type }) => type),
    (index) => `process.rlimits[${index}].type`,
    report,
  );
  for (const [index, { soft, hard }] of rlimits.entries()) {
    if (soft > hard) report(`process.rlimits[${index}].soft`, `at most the hard limit, ${hard}`, soft);
  }
  validateAttributes(process, report);
  const { effective = [], permitted = [] } = process.capabilities ?? {};
  const stray = effective.findIndex((name) => !permitted.includes(name));
  if (stray >= 0) {
    report(
      `process.capabilities.effective[${stray}]`,
      'a capability that permitted has too',
      effective[stray],
    );
  }
}

function checkMount(mount: Mount, path: string, report: Report): void {
  const binds = mount.options?.some((option) => option === 'bind' || option === 'rbind') ?? false;
  const bindType = mount.type === 'bind' || mount.type === 'rbind';
  if (!binds && !bindType && (mount.type === undefined || mount.type === '')) {
    report(`${path}.type`, 'the type of a filesystem, or the option bind or rbind', mount.type);
  }
  if ((binds || bindType) && (mount.source === undefined || mount.source === '')) {
    report(`${path}.source`, 'the path that is bound', mount.source);
  }
}

function checkNamespaces(config: Spec, report: Report): void {
  const { linux } = config;
  const namespaces = linux?.namespaces ?? [];
  checkDuplicates(
    namespaces.map(({ type }) => type),
    (index) => `linux.namespaces[${index}].type`,
    report,
  );
  const types = new Set(namespaces.map(({ type }) => type));
  const needs = (type: NamespaceType, path: string, value: unknown): void => {
    const empty = value === undefined || value === '' || (Array.isArray(value) && value.length === 0);
    if (!empty && !types.has(type))
      report(path, `nothing without a ${type} namespace in linux.namespaces`, value);
  };
  needs('uts', 'hostname', config.hostname);
  needs('uts', 'domainname', config.domainname);
  needs('mount', 'linux.maskedPaths', linux?.maskedPaths);
  needs('mount', 'linux.readonlyPaths', linux?.readonlyPaths);
  if (linux !== undefined && !types.has('mount')) checkSharedMounts(config, report);
  needs('user', 'linux.uidMappings', linux?.uidMappings);
  needs('user', 'linux.gidMappings', linux?.gidMappings);
  if (Object.keys(linux?.timeOffsets ?? {}).length > 0)
    needs('time', 'linux.timeOffsets', linux?.timeOffsets);
  for (const name of ['hostname', 'domainname'] as const) {
    if (Buffer.byteLength(config[name] ?? '') > UTS_NAME_BYTES) {
      report(name, `at most ${UTS_NAME_BYTES} bytes`, config[name]);
    }
  }
  validateSysctl(linux?.sysctl ?? {}, types, report);
}

function checkResources(resources: LinuxResources, report: Report): void {
  const at = (field: string): string => `linux.resources.${field}`;
  const { memory = {}, cpu = {} } = resources;
  const { limit = 0, swap = 0, swappiness = 0 } = memory;
  if (limit > 0 && swap > 0 && swap < limit) {
    report(at('memory.swap'), `memory and swap together, at least memory.limit (${limit})`, swap);
  }
  if (swappiness > 100) report(at('memory.swappiness'), 'an integer from 0 to 100', swappiness);
  const { quota = 0, period = 0, burst = 0 } = cpu;
  if (quota > 0 && quota < 1000) report(at('cpu.quota'), 'at least 1000 µs, or -1 for no limit', quota);
  if (period !== 0 && (period < 1000 || period > 1_000_000)) {
    report(at('cpu.period'), 'from 1000 to 1000000 µs', period);
  }
  if (quota > 0 && burst > quota) report(at('cpu.burst'), `at most cpu.quota (${quota})`, burst);
  for (const [index, device] of (resources.blockIO?.weightDevice ?? []).entries()) {
    if (device.weight === undefined && device.leafWeight === undefined) {
      report(at(`blockIO.weightDevice[${index}].weight`), 'weight or leafWeight', undefined);
    }
  }
}

function checkSeccomp(seccomp: LinuxSeccomp, report: Report): void {
  const at = (field: string): string => `linux.seccomp.${field}`;
  const checkErrno = (path: string, action: string, errno: number | undefined): void => {
    if (errno === undefined || action === 'SCMP_ACT_ERRNO' || action === 'SCMP_ACT_TRACE') return;
    report(path, `no errno with ${action}`, errno);
  };
  checkErrno(at('defaultErrnoRet'), seccomp.defaultAction, seccomp.defaultErrnoRet);
  for (const [index, rule] of (seccomp.syscalls ?? []).entries()) {
    checkErrno(at(`syscalls[${index}].errnoRet`), rule.action, rule.errnoRet);
  }
  const notifying = [seccomp.defaultAction, ...(seccomp.syscalls ?? []).map(({ action }) => action)];
  if (notifying.includes('SCMP_ACT_NOTIFY') && !seccomp.listenerPath?.startsWith('/')) {
    report(at('listenerPath'), 'the absolute path of a socket, with SCMP_ACT_NOTIFY', seccomp.listenerPath);
  }
  if (seccomp.listenerMetadata && !seccomp.listenerPath) {
    report(at('listenerMetadata'), 'nothing without listenerPath', seccomp.listenerMetadata);
  }
}

/** In the host's mount namespace a container gets another root and nothing else: whatever mounts would do so on the host. */
function checkSharedMounts({ mounts, root, process, linux }: Spec, report: Report): void {
  const user = (linux?.namespaces ?? []).findIndex(({ type }) => type === 'user');
  if (user >= 0) {
    // Devices can be neither made nor bound from inside one.
    report(`linux.namespaces[${user}]`, 'a mount namespace beside a user namespace', 'user');
  }
  const without = 'nothing without a mount namespace in linux.namespaces';
  if (mounts !== undefined && mounts.length > 0) report('mounts', without, mounts);
  if (root.readonly === true) report('root.readonly', without, true);
  if (process.terminal === true) report('process.terminal', without, true);
  if (linux?.rootfsPropagation !== undefined) {
    report('linux.rootfsPropagation', without, linux.rootfsPropagation);
  }
}

function checkIntelRdt(rdt: NonNullable<NonNullable<Spec['linux']>['intelRdt']>, report: Report): void {
  const at = (field: string): string => `linux.intelRdt.${field}`;
  const { closID = '', l3CacheSchema = '', memBwSchema = '', schemata = [] } = rdt;
  if (closID !== '/' && (/[/\n]/.test(closID) || closID === '.' || closID === '..')) {
    report(at('closID'), 'the name of a group, or / for the default one', closID);
  }
  if (l3CacheSchema.includes('\n\n')) report(at('l3CacheSchema'), 'lines of a schemata file', l3CacheSchema);
  if (memBwSchema !== '' && !/^MB:[^\n]*$/.test(memBwSchema)) {
    report(at('memBwSchema'), 'one line that starts with MB:', memBwSchema);
  }
  for (const [index, line] of schemata.entries()) {
    if (/^[^\n:]+:[^\n]+$/.test(line)) continue;
    report(`${at('schemata')}[${index}]`, 'one line such as L3:0=ff;1=ff', line);
  }
}

/** Every broken rule, in the order of the document; none: an empty list. */
export function validate(config: Spec): Problem[] {
  const problems: Problem[] = [];
  const report: Report = (path, expected, found) => {
    problems.push(problem(path, expected, found));
  };
  const { linux } = config;
  checkProcess(config.process, report);
  for (const [index, mount] of (config.mounts ?? []).entries()) checkMount(mount, `mounts[${index}]`, report);
  checkNamespaces(config, report);
  for (const [index, device] of (linux?.devices ?? []).entries()) {
    if (device.type === 'p') continue;
    for (const part of ['major', 'minor'] as const) {
      if (device[part] === undefined) report(`linux.devices[${index}].${part}`, 'a device number', undefined);
    }
  }
  if (linux?.cgroupsPath?.split('/').includes('..')) {
    report('linux.cgroupsPath', 'a path without ..', linux.cgroupsPath);
  }
  if (linux !== undefined) {
    validateMemory(linux, report);
    validateNetDevices(linux, report);
    if (linux.intelRdt !== undefined) checkIntelRdt(linux.intelRdt, report);
  }
  if (linux?.resources !== undefined) checkResources(linux.resources, report);
  if (linux?.seccomp !== undefined) checkSeccomp(linux.seccomp, report);
  return problems;
}
