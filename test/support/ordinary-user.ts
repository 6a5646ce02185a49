/**
 * An ordinary user for tests: known in a copy of /etc only, which stands over the machine's own in a mount namespace that ends with
 * the test, with ranges of subordinate ids and the programs that map them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { CallerPrograms } from '../e2e/callers/packages.ts';
import { copyEtc } from './copy-etc.ts';
import { markVariable, temporaryFolder, wherryBinary } from './paths.ts';
import { type RunOptions, type RunResult, run, stop } from './run.ts';

export interface UserOptions {
  uid?: number;
  /** In /etc/subuid and /etc/subgid: `first:count`. */
  ranges?: readonly string[];
  /** newuidmap and newgidmap are installed. */
  helpers?: boolean;
  /** The user has an entry in /etc/passwd. */
  known?: boolean;
  /** Mode of /dev/net/tun: 0666 from udev, other where there is none. */
  tun?: number;
}

/** Ends by itself when nobody ends it. */
const LIFETIME_S = 900;

export class OrdinaryUser implements AsyncDisposable {
  readonly folder = temporaryFolder();
  readonly uid: number;
  readonly env: NodeJS.ProcessEnv;
  #holder: ChildProcess | undefined;

  private constructor({ uid = 4242 }: UserOptions) {
    this.uid = uid;
    const mark = process.env[markVariable];
    this.env = {
      PATH: `${this.folder}/bin:/usr/bin:/bin`,
      HOME: this.home,
      XDG_RUNTIME_DIR: join(this.folder, 'run'),
      ...(mark !== undefined && { [markVariable]: mark }),
    };
  }

  get home(): string {
    return join(this.folder, 'home');
  }

  /** The run folder of the user's wherryd. */
  get runDir(): string {
    return join(this.folder, 'run/wherry');
  }

  static async make(options: UserOptions = {}): Promise<OrdinaryUser> {
    const user = new OrdinaryUser(options);
    const { folder, uid } = user;
    const at = (...names: string[]): string => join(folder, ...names);
    for (const name of ['home', 'run', 'bin', 'store']) mkdirSync(at(name), { mode: 0o755 });
    chmodSync(folder, 0o755);
    chmodSync(at('run'), 0o700);
    for (const name of ['', 'home', 'run']) chownSync(at(name), uid, uid);
    await copyEtc(at('etc'));
    if (options.known !== false) {
      appendFileSync(at('etc/passwd'), `sailor:x:${uid}:${uid}::${user.home}:/bin/sh\n`);
      appendFileSync(at('etc/group'), `sailor:x:${uid}:\n`);
    }
    for (const name of ['subuid', 'subgid'])
      writeFileSync(at('etc', name), (options.ranges ?? []).map((range) => `sailor:${range}\n`).join(''));
    if (options.helpers === true) {
      const programs = await CallerPrograms.open();
      for (const name of ['newuidmap', 'newgidmap']) {
        copyFileSync(programs.path(name), at('bin', name));
        chmodSync(at('bin', name), 0o4755);
      }
    }
    await user.#enter(options.tun);
    return user;
  }

  /** What the user's programs live in: without what other tests have mounted in /tmp, which changes how `launch` shows it. */
  async #enter(tun?: number): Promise<void> {
    const node = join(this.folder, 'tun');
    const script = [
      // One that is gone already went with its folder, which another test has removed.
      `{ awk '$5 ~ "^/tmp/" { print $5 }' /proc/self/mountinfo | tac | xargs -r umount --lazy 2>/dev/null || :; }`,
      `mount --bind '${this.folder}/etc' /etc`,
      ...(tun === undefined
        ? []
        : [
            `mknod -m ${tun.toString(8)} '${node}' c 10 200`,
            `{ [ ! -e /dev/net/tun ] || mount --bind '${node}' /dev/net/tun; }`,
          ]),
      `echo`,
      `exec sleep ${LIFETIME_S}`,
    ].join(' && ');
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#holder = holder;
    await new Promise((resolve, reject) => {
      holder.stdout?.once('data', resolve);
      holder.once('error', reject);
      holder.once('exit', () => reject(new Error('no mount namespace for the user')));
    });
  }

  /** Program and arguments with which another user than this one runs something in the same place. */
  command(uid: number, words: readonly string[]): [string, string[]] {
    const user = ['--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--'];
    return ['nsenter', [`--mount=/proc/${this.#holder?.pid}/ns/mnt`, '--', 'setpriv', ...user, ...words]];
  }

  as(words: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const [program, args] = this.command(this.uid, words);
    return run(program, args, { env: this.env, ...options });
  }

  wherry(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return this.as([wherryBinary, ...args], options);
  }

  async must(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.wherry(args, options);
    if (result.code !== 0)
      throw new Error(
        `wherry ${args.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}\n${this.log()}`,
      );
    return result.stdout;
  }

  log(): string {
    const path = join(this.runDir, 'wherryd.log');
    return existsSync(path)
      ? `--- wherryd.log\n${readFileSync(path, 'utf8').split('\n').slice(-20).join('\n')}`
      : '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (existsSync(join(this.runDir, 'keel.sock'))) await this.wherry(['daemon', 'stop', '--force']);
    if (this.#holder !== undefined) await stop(this.#holder, 0);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
