/** The `options` Any of Create: runc's own message, or CRI's wrapper around TOML. */
import { WherryError } from '../../src/errors.ts';
import { Options } from '../gen/containerd/runc/v1/oci.ts';
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
      return optionsFromToml(RuntimeOptions.decode(any.value).configBody.toString('utf8'));
    }
  } catch (cause) {
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

/** The flat table of scalars that CRI writes. Keys that are not ours and lines of another shape are passed over. */
export function optionsFromToml(text: string): Options {
  const fields: Record<string, unknown> = {};
  for (const line of text.split('\n')) {
    const match = tomlLine.exec(line);
    const key = match?.[1];
    if (match === null || key === undefined || !Object.hasOwn(tomlKeys, key)) continue;
    const [, , boolean, number, basic, literal] = match;
    const field = tomlKeys[key as keyof typeof tomlKeys];
    const value =
      boolean !== undefined
        ? boolean === 'true'
        : number !== undefined
          ? Number(number)
          : basic !== undefined
            ? basic.replace(/\\(["\\])/g, '$1')
            : literal;
    if (typeof value === typeof defaults[field]) fields[field] = value;
  }
  return Options.fromPartial(fields);
}

const defaults = Options.fromPartial({});

/** Content of options.json: the proto names, zero values left out (the form that Go's shim writes and reads). */
export function optionsJson(options: Options): string {
  const json: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(options)) {
    if (value === '' || value === 0 || value === false) continue;
    json[key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)] = value;
  }
  return JSON.stringify(json);
}
