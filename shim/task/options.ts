/** The `options` Any of Create: runc's own message, or CRI's wrapper around TOML. */
import { join } from 'node:path';
import type { ContainerKey, ProcessSettings } from '../../src/container/types.ts';
import { WherryError } from '../../src/errors.ts';
import { CheckpointOptions, Options } from '../gen/containerd/runc/v1/oci.ts';
import type { Any } from '../gen/google/protobuf/any.ts';
import { Options as RuntimeOptions } from '../gen/runtimeoptions/v1/api.ts';

/** The message's full name: what follows the last slash. */
export function typeName(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf('/') + 1);
}

/** Absent options are all defaults. invalid-argument for a message of another type or one that cannot be decoded. */
export function parseOptions(any: Any | undefined): Options {
  if (any === undefined || (any.typeUrl === '' && any.value.length === 0)) return Options.fromPartial({});
  const name = typeName(any.typeUrl);
  try {
    if (name === 'containerd.runc.v1.Options') return Options.decode(any.value);
    if (name === 'runtimeoptions.v1.Options') {
      const { configPath, configBody } = RuntimeOptions.decode(any.value);
      if (configPath !== '' && configBody.length === 0)
        throw bad('options.config_path', 'a file is not read: give the options themselves');
      return optionsFromToml(configBody.toString('utf8'));
    }
  } catch (cause) {
    if (cause instanceof WherryError) throw cause;
    throw new WherryError(
      'invalid-argument',
      `options: cannot be decoded as ${name}: ${(cause as Error).message}`,
      { path: 'options', cause },
    );
  }
  throw new WherryError('invalid-argument', `options: the type "${any.typeUrl}" is not known`, {
    path: 'options',
    hint: 'send containerd.runc.v1.Options or runtimeoptions.v1.Options',
  });
}

/** Of Checkpoint; absent ones are all defaults. invalid-argument as above. */
export function parseCheckpointOptions(any: Any | undefined): CheckpointOptions {
  if (any === undefined || (any.typeUrl === '' && any.value.length === 0))
    return CheckpointOptions.fromPartial({});
  if (typeName(any.typeUrl) !== 'containerd.runc.v1.CheckpointOptions') {
    throw new WherryError('invalid-argument', `options: the type "${any.typeUrl}" is not known`, {
      path: 'options',
      hint: 'send containerd.runc.v1.CheckpointOptions',
    });
  }
  try {
    return CheckpointOptions.decode(any.value);
  } catch (cause) {
    throw new WherryError('invalid-argument', `options: cannot be decoded: ${(cause as Error).message}`, {
      path: 'options',
      cause,
    });
  }
}

/** CRI's names of the keys. */
const tomlKeys = {
  NoPivotRoot: 'noPivotRoot',
  NoNewKeyring: 'noNewKeyring',
  ShimCgroup: 'shimCgroup',
  IoUid: 'ioUid',
  IoGid: 'ioGid',
  BinaryName: 'binaryName',
  Root: 'root',
  CriuPath: 'criuPath',
  SystemdCgroup: 'systemdCgroup',
  CriuImagePath: 'criuImagePath',
  CriuWorkPath: 'criuWorkPath',
} as const;

const tomlLine =
  /^\s*"?([A-Za-z_]+)"?\s*=\s*(?:(true|false)|(\d+)|"((?:[^"\\]|\\.)*)"|'([^']*)')\s*(?:#.*)?$/;

/** The flat table of scalars that CRI writes. invalid-argument naming the key, or the line, that cannot be followed. */
export function optionsFromToml(text: string): Options {
  const fields: Record<string, unknown> = {};
  for (const line of text.split('\n')) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const match = tomlLine.exec(line.trimEnd());
    const key = match?.[1];
    if (match === null || key === undefined)
      throw bad('options.config_body', `${JSON.stringify(line)} is not one key = value`);
    if (!Object.hasOwn(tomlKeys, key)) throw bad(`options.${key}`, 'is not known');
    const [, , boolean, number, basic, literal] = match;
    const field = tomlKeys[key as keyof typeof tomlKeys];
    const value =
      boolean !== undefined
        ? boolean === 'true'
        : number !== undefined
          ? Number(number)
          : basic !== undefined
            ? withoutEscapes(basic)
            : literal;
    if (typeof value !== typeof defaults[field])
      throw bad(`options.${key}`, `must be a ${typeof defaults[field]}`);
    fields[field] = value;
  }
  return Options.fromPartial(fields);
}

/** TOML's basic strings escape as JSON does, but for \U, which no option needs. */
function withoutEscapes(text: string): string {
  return JSON.parse(`"${text}"`) as string;
}

const defaults = Options.fromPartial({});

/** The runtimes whose part Wherry's own core takes. */
const ownBinaries = new Set(['', 'runc', 'wherry']);

/** For Create and -info: another runtime's binary is never executed. */
export function requireOwnBinary({ binaryName }: Pick<Options, 'binaryName'>): void {
  if (ownBinaries.has(binaryName)) return;
  throw new WherryError(
    'invalid-argument',
    `options.binary_name: ${JSON.stringify(binaryName)} is not a runtime that this shim executes`,
    {
      path: 'options.binary_name',
      hint: 'leave BinaryName out, or use the runtime type io.containerd.runc.v2 for another runtime',
    },
  );
}

/** What `start` was told for the containers of one socket. */
export interface GroupSettings {
  /** How long Delete waits for output; undefined: as containerd 1.7 and later do. */
  drainMs?: number;
  /** SCHED_CORE was set. */
  schedCore: boolean;
  /** With schedCore: the init of a living container of the group. */
  schedCoreWith?: number;
}

/** What the options and the group say of every process of a container. */
export function processSettings(
  { ioUid, ioGid, shimCgroup }: Options,
  { drainMs, schedCore }: GroupSettings,
): ProcessSettings {
  return {
    // 0 is both root and "not set".
    ...(ioUid !== 0 && { ioUid }),
    ...(ioGid !== 0 && { ioGid }),
    ...(shimCgroup !== '' && { playerCgroup: shimCgroup }),
    ...(schedCore && { schedCore }),
    ...(drainMs !== undefined && { drainMs }),
  };
}

/** Root names the folder of all namespaces' state; without it the run folder is used. */
export function stateDirOf({ root }: Pick<Options, 'root'>, key: ContainerKey): { stateDir?: string } {
  if (root === '') return {};
  if (!root.startsWith('/')) throw bad('options.root', `${JSON.stringify(root)} is not an absolute path`);
  return { stateDir: join(root, key.namespace, key.id) };
}

/** Content of options.json: the proto names, zero values left out (the form that Go's shim writes and reads). */
export function optionsJson(options: Options): string {
  const json: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(options)) {
    if (value === '' || value === 0 || value === false) continue;
    json[key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)] = value;
  }
  return JSON.stringify(json);
}

function bad(path: string, problem: string): WherryError {
  return new WherryError('invalid-argument', `${path}: ${problem}`, {
    path,
    hint: `the options are ${Object.keys(tomlKeys).join(', ')}`,
  });
}
