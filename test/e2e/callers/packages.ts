/**
 * test/e2e/callers: programs that call a runtime's command line (podman, buildah, docker), from Debian's packages. Here: where
 * they are, and scripts that start them with their libraries.
 */
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unpackedDebs } from '../../support/debs.ts';
import { markVariable, wherryBinary } from '../../support/paths.ts';

/** Unpacked beside one another, never installed: with the libraries that a plain machine lacks. */
const packages = [
  'podman',
  'conmon',
  'buildah',
  'docker.io',
  'tini',
  'uidmap',
  'libgpgme11',
  'libassuan0',
  'libgpg-error0',
  'libsubid4',
  'libdevmapper1.02.1',
];

export class CallerPrograms {
  readonly #root: string;
  /** Value of LD_LIBRARY_PATH. */
  readonly libraries: string;

  private constructor(root: string) {
    this.#root = root;
    const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
    this.libraries = `${join(root, 'usr/lib', triplet)}:${join(root, 'lib', triplet)}`;
  }

  static async open(): Promise<CallerPrograms> {
    return new CallerPrograms(await unpackedDebs('bookworm', packages));
  }

  /** Files below the unpacked root; a library folder counts as one. */
  get root(): string {
    return this.#root;
  }

  path(name: string): string {
    const found = ['usr/bin', 'usr/sbin', 'sbin']
      .map((folder) => join(this.#root, folder, name))
      .find((path) => existsSync(path));
    if (found === undefined) throw new Error(`no ${name} in ${this.#root}`);
    return found;
  }

  /** Callers hand little of their environment on: what a program needs is set by a script in front of it. */
  script(path: string, program: string, env: Record<string, string>): string {
    return writeScript(path, program, { ...env, LD_LIBRARY_PATH: this.libraries });
  }
}

/** A shell script at `path` that becomes `program`, with these variables and all arguments. */
export function writeScript(path: string, program: string, env: Record<string, string>): string {
  const variables = Object.entries(env).map(([name, value]) => `export ${name}='${value}'\n`);
  writeFileSync(path, `#!/bin/sh\n${variables.join('')}exec '${program}' "$@"\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Wherry as a caller's runtime, with a run folder of its own. */
export function runtimeScript(folder: string, runDir: string, program = wherryBinary): string {
  return writeScript(join(folder, 'runtime'), program, { WHERRY_RUN_DIR: runDir, ...mark() });
}

/** How the leak check knows the processes of a run. */
export function mark(): Record<string, string> {
  const value = process.env[markVariable];
  return value === undefined ? {} : { [markVariable]: value };
}

/** podman's words that load the image which lies in its folder, by the policy that lies there. */
export function loadImage(folder: string): string[] {
  return ['load', '-q', '--signature-policy', join(folder, 'policy.json'), '-i', join(folder, 'image.tar')];
}
