/**
 * A container with every capability in its user namespace watches others being set up in its pid namespace (CVE-2016-9962):
 * as long as such a process still has the host's root, folders and descriptors nobody may look into it.
 */
import assert from 'node:assert/strict';
import {
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
import { after, before, describe, it } from 'node:test';
import { temporaryFolder, uniqueId, wherryBinary } from '../../support/paths.ts';
import { eventually, type RunOptions, type RunResult, run } from '../../support/run.ts';
import { configOf, type JsonObject } from '../oci-suite/cases.ts';
import { compileProgram, giveTo, writeSmallRoot } from '../oci-suite/host.ts';

const ROUNDS = 15;
/** An id that nobody has. */
const user = 41_235;
const everything = [
  ...[
    'CHOWN',
    'DAC_OVERRIDE',
    'DAC_READ_SEARCH',
    'FOWNER',
    'KILL',
    'SETGID',
    'SETUID',
    'SETPCAP',
    'NET_ADMIN',
  ],
  ...['SYS_PTRACE', 'SYS_ADMIN', 'SYS_CHROOT', 'SYS_RESOURCE', 'SYS_NICE', 'MKNOD', 'AUDIT_WRITE', 'SETFCAP'],
].map((name) => `CAP_${name}`);
const capabilities = {
  bounding: everything,
  effective: everything,
  permitted: everything,
  inheritable: [],
  ambient: [],
};

for (const ordinary of [false, true]) {
  describe(`a container that spies, as ${ordinary ? 'an ordinary user' : 'root'}`, () => {
    let folder: string;
    let spy: { id: string; pid: number; output: string };
    before(async () => {
      folder = temporaryFolder();
      for (const name of ['store', 'home', 'run']) mkdirSync(join(folder, name));
      writeFileSync(join(folder, 'home/secret'), 'of the host');
      chmodSync(folder, 0o755);
      chmodSync(join(folder, 'run'), 0o700);
      if (ordinary) giveTo(join(folder, 'home'), user);
      if (ordinary) chownSync(join(folder, 'run'), user, user);
      const [bundle, id] = await bundleOf('spy', {
        process: { args: ['/spy', join(folder, 'home/secret')], capabilities },
        linux: own,
      });
      const output = join(folder, 'spy.out');
      writeFileSync(output, '');
      const made = await wherry(['create', '-b', bundle, id], { outputFile: output });
      assert.equal(made.code, 0, readFileSync(output, 'utf8'));
      await must('start', id);
      const { pid } = JSON.parse(await must('state', id)) as { pid: number };
      spy = { id, pid, output };
      await eventually('the spy looks', () => readFileSync(output, 'utf8').includes('on\n') || undefined);
    });
    after(async () => {
      if (existsSync(join(folder, 'run/keel.sock'))) await wherry(['daemon', 'stop', '--force']);
      rmSync(folder, { recursive: true, force: true });
    });

    const mappings: JsonObject = ordinary
      ? {}
      : {
          uidMappings: [{ containerID: 0, hostID: 100_000, size: 65_536 }],
          gidMappings: [{ containerID: 0, hostID: 100_000, size: 65_536 }],
        };
    const own: JsonObject = {
      cgroupsPath: null,
      namespaces: [...(ordinary ? [] : ['user']), 'pid', 'network', 'mount', 'ipc', 'uts'].map((type) => ({
        type,
      })),
      ...mappings,
    };

    function wherry(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
      const as = ['--reuid', String(user), '--regid', String(user), '--clear-groups', '--'];
      const [command = '', ...rest] = [...(ordinary ? ['setpriv', ...as] : []), wherryBinary, ...args];
      const env = {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        HOME: join(folder, 'home'),
        WHERRY_RUN_DIR: join(folder, 'run'),
      };
      return run(command, rest, { env, ...options });
    }

    async function must(...args: string[]): Promise<string> {
      const result = await wherry(args);
      assert.equal(result.code, 0, `${args.join(' ')}: ${result.stderr}`);
      return result.stdout;
    }

    async function bundleOf(name: string, config: JsonObject): Promise<[bundle: string, id: string]> {
      const id = uniqueId(name);
      const bundle = join(folder, 'home', id);
      const rootfs = join(bundle, 'rootfs');
      await writeSmallRoot(rootfs, join(folder, 'store'));
      copyFileSync(await compileProgram(join(import.meta.dirname, 'spy.c')), join(rootfs, 'spy'));
      writeFileSync(join(bundle, 'config.json'), JSON.stringify(configOf({ config }, { id, bundle })));
      giveTo(bundle, ordinary ? user : 100_000);
      return [bundle, id];
    }

    /** Everything that it saw of others than its own exec'ed neighbours, who belong to it. */
    const reached = (): string[] => [
      ...new Set(
        readFileSync(spy.output, 'utf8')
          .split('\n')
          .filter((line) => /reached by (root|cwd)/.test(line)),
      ),
    ];

    it('reaches no host through an exec into it', async () => {
      for (let round = 0; round < ROUNDS; round++) await must('exec', spy.id, '/bin/true');
      assert.deepEqual(reached(), []);
    });

    it('reaches no host through a container that joins its user and pid namespaces', async () => {
      const ns = `/proc/${spy.pid}/ns`;
      const [bundle, id] = await bundleOf('joins', {
        process: { args: ['/bin/true'] },
        linux: {
          cgroupsPath: null,
          uidMappings: null,
          gidMappings: null,
          namespaces: [
            { type: 'user', path: `${ns}/user` },
            { type: 'pid', path: `${ns}/pid` },
            ...['network', 'mount', 'ipc', 'uts'].map((type) => ({ type })),
          ],
        },
      });
      let joined = 0;
      for (let round = 0; round < ROUNDS; round++) {
        if ((await wherry(['run', '-b', bundle, `${id}-${round}`])).code === 0) joined++;
      }
      // An ordinary user may be refused: that reaches nothing either.
      assert.ok(ordinary || joined === ROUNDS, `${joined} of ${ROUNDS} containers joined`);
      assert.deepEqual(reached(), []);
    });
  });
}
