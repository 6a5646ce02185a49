/** The guest's ordinary user, who has a systemd of its own (it lingers), and a place of its manager's in which to call. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configOf, type JsonObject } from '../integration/oci-suite/cases.ts';
import { giveTo, writeSmallRoot } from '../integration/oci-suite/host.ts';
import { temporaryFolder, uniqueId, wherryBinary } from '../support/paths.ts';
import { eventually, must, type RunOptions, type RunResult, run, stop } from '../support/run.ts';

/** scripts/guest-image.ts has it. */
const name = 'guest';
const uid = 1000;
const timeout = 90_000;

export class ManagedUser implements AsyncDisposable {
  readonly uid = uid;
  readonly folder = temporaryFolder();
  /** The manager's own cgroup, which is delegated to the user. */
  readonly part = `/user.slice/user-${uid}.slice/user@${uid}.service`;
  readonly env: NodeJS.ProcessEnv = {
    PATH: '/usr/bin:/bin:/usr/sbin:/sbin',
    HOME: `/home/${name}`,
    USER: name,
    XDG_RUNTIME_DIR: `/run/user/${uid}`,
  };
  readonly #scope = `${uniqueId('shell')}.scope`;
  #shell: ChildProcess | undefined;

  static async open(): Promise<ManagedUser> {
    const user = new ManagedUser();
    chmodSync(user.folder, 0o755);
    for (const folder of ['home', 'store']) {
      mkdirSync(join(user.folder, folder));
      chownSync(join(user.folder, folder), uid, uid);
    }
    const [program, args] = user.#asUser([
      'systemd-run',
      '--user',
      '--scope',
      '--unit',
      user.#scope,
      'sleep',
      '1000',
    ]);
    user.#shell = spawn(program, args, { env: user.env, stdio: 'ignore' });
    await eventually(
      "the shell's scope",
      () => readFileSync(`${user.#place()}/cgroup.procs`, 'utf8') !== '' || undefined,
      timeout,
    );
    return user;
  }

  #place(): string {
    return `/sys/fs/cgroup${this.part}/app.slice/${this.#scope}`;
  }

  #asUser(words: readonly string[]): [string, string[]] {
    return ['setpriv', ['--reuid', String(uid), '--regid', String(uid), '--init-groups', '--', ...words]];
  }

  /** In a scope of the user's manager, as a desktop's terminal is; `elsewhere`: where the tests are, which is root's. */
  as(words: readonly string[], options: RunOptions & { elsewhere?: boolean } = {}): Promise<RunResult> {
    const { elsewhere = false, ...rest } = options;
    const enter = elsewhere ? '' : `echo $$ > '${this.#place()}/cgroup.procs' && `;
    const [program, args] = this.#asUser(words);
    const script = `${enter}exec ${program} "$@"`;
    return run('sh', ['-c', script, 'sh', ...args], { env: this.env, timeout, ...rest });
  }

  wherry(args: readonly string[], options: RunOptions & { elsewhere?: boolean } = {}): Promise<RunResult> {
    return this.as([wherryBinary, ...args], options);
  }

  async must(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.wherry(args, options);
    if (result.code !== 0)
      throw new Error(`wherry ${args.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}`);
    return result.stdout;
  }

  /** Properties of one of the user's units. */
  async shown(unit: string, ...names: string[]): Promise<Record<string, string>> {
    const { stdout } = await this.as(['systemctl', '--user', 'show', unit, '-p', names.join(',')]);
    const pairs = stdout.trim().split('\n');
    return Object.fromEntries(pairs.map((line) => line.split('=', 2) as [string, string]));
  }

  /** A bundle that belongs to the user. */
  async bundle(id: string, config: JsonObject): Promise<string> {
    const bundle = join(this.folder, 'home', id);
    await writeSmallRoot(join(bundle, 'rootfs'), join(this.folder, 'store'));
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(configOf({ config }, { id, bundle })));
    giveTo(bundle, uid);
    return bundle;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.wherry(['daemon', 'stop', '--force']);
    if (this.#shell !== undefined) {
      await must('systemctl', ['--user', '-M', `${name}@`, 'stop', this.#scope], { timeout }).catch(() => {});
      await stop(this.#shell, 0);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
