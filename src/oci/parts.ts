/** Parts of config.json that come alone: a process (`exec --process`) and resources (`update --resources`). */
import { type CheckedConfig, checkConfig } from './config.ts';
import { parseJson } from './json.ts';
import type { LinuxResources, Mount, Process } from './types.ts';

const linux = { namespaces: [{ type: 'mount' }] };
const around = { ociVersion: '1.0.0', root: { path: '/' }, linux };

/** Checked as `process` of a config.json; errors name the document and the field. */
export function checkProcess(raw: unknown, name = 'process.json'): { process: Process; warnings: string[] } {
  const { config, warnings } = checkConfig({ ...around, process: raw }, name);
  return { process: config.process, warnings: ownWarnings(warnings) };
}

export function parseProcess(
  bytes: Uint8Array | string,
  name = 'process.json',
): { process: Process; warnings: string[] } {
  return checkProcess(parseJson(bytes, name), name);
}

/** Checked as `linux.resources` of a config.json. */
export function parseResources(
  bytes: Uint8Array | string,
  name = 'resources',
): { resources: LinuxResources; warnings: string[] } {
  const raw = parseJson(bytes, name);
  const process = { args: ['-'], cwd: '/' };
  const { config, warnings }: CheckedConfig = checkConfig(
    { ...around, process, linux: { ...linux, resources: raw } },
    name,
  );
  return { resources: config.linux?.resources ?? {}, warnings: ownWarnings(warnings) };
}

/** Checked as `mounts` of a config.json. */
export function parseMounts(
  bytes: Uint8Array | string,
  name = 'mounts.json',
): { mounts: Mount[]; warnings: string[] } {
  const process = { args: ['-'], cwd: '/' };
  const { config, warnings } = checkConfig({ ...around, process, mounts: parseJson(bytes, name) }, name);
  return { mounts: config.mounts ?? [], warnings: ownWarnings(warnings) };
}

/** Those about the rest speak of a file that nobody wrote. */
function ownWarnings(warnings: readonly string[]): string[] {
  return warnings.filter((warning) => /process|resources|mounts/.test(warning));
}
