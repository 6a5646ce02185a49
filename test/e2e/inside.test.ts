/** What a program sees from inside is what it sees under runc: the same bundle, run by both, asked the same questions. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { openTool, type RuntimeTool } from '../support/runtimes.ts';

describe('inside a container, as under runc', () => {
  const tools: RuntimeTool[] = [];
  before(async () => {
    tools.push(await openTool('runc'), await openTool('wherry'));
  });
  after(async () => {
    for (const tool of tools) await tool[Symbol.asyncDispose]();
  });

  /** Output of the same script under both, runc's first. */
  async function both(
    name: string,
    script: string,
    edit: (config: SpecConfig) => void = () => {},
  ): Promise<string[]> {
    const id = uniqueId(name);
    const outputs: string[] = [];
    for (const tool of tools) {
      const bundle = await makeBundle(tool.folder, id, ['/bin/sh', '-c', script], (config) => {
        config.linux['cgroupsPath'] = `/${id}`;
        edit(config);
      });
      const result = await tool.run(['run', '-b', bundle, id]);
      assert.equal(result.code, 0, `${tool.name}: ${result.stderr}`);
      outputs.push(result.stdout);
    }
    return outputs;
  }
  const same = (name: string, script: string, edit?: (config: SpecConfig) => void): void => {
    test(name, async () => {
      const [runc, wherry] = await both(name.replaceAll(/\W+/g, '-'), script, edit);
      assert.equal(wherry, runc);
    });
  };

  same(
    'identity, signals and privileges',
    'grep -vE "^(.*ctxt|Vm|Rss|Threads|SigQ|Mems|Cpus|Hugetlb|Name|State|Seccomp_filters|Speculation|x86_)" /proc/self/status | grep -vE "^(Pid|Tgid|PPid|Ngid|NS|FDSize|CoreDumping|THP|untag|Kthread)"',
  );
  same('limits', 'cat /proc/self/limits');
  same(
    'scheduling',
    'cat /proc/self/oom_score_adj; cut -d" " -f18,19,40,41 /proc/self/stat; grep -E "^policy|^prio" /proc/self/sched',
  );
  same('descriptors', 'ls -l /proc/self/fd | sed "s/.* \\([0-9]*\\) -> .*/\\1/" | sort');
  same(
    'devices',
    'ls -ln /dev | sed "s/ *[A-Z][a-z][a-z] .* \\(\\S*\\)/ \\1/; s/[A-Z][a-z][a-z] *[0-9]* *[0-9:]* //"',
  );
  same('environment, folder and umask', 'env | sort | grep -vE "^(SHLVL|HOME)="; pwd; umask; hostname');
  same('sessions and groups', 'cut -d" " -f1,4,5,6,7,8 /proc/1/stat');
  same(
    'network',
    'cat /proc/net/dev | cut -d: -f1; cat /sys/class/net/lo/flags; ip -o addr | sed "s/valid_lft.*//"',
  );
  same('cgroup', 'cat /proc/self/cgroup');
  same(
    'masked and read-only paths',
    'ls -la /proc/acpi /proc/scsi 2>&1 | wc -l; wc -c < /proc/kcore; echo x 2>/dev/null > /proc/sysrq-trigger; echo $?; echo 1 2>/dev/null > /proc/sys/kernel/shmmax; echo $?',
  );
  same(
    'the root filesystem is read-only as the bundle says',
    'touch /x 2>/dev/null; echo $?; touch /dev/shm/x; echo $?',
  );

  test('HOME comes from the passwd file', async () => {
    const [runc, wherry] = await both('home', 'echo $HOME');
    assert.equal(wherry, runc);
  });

  test('mounts', async () => {
    const [runc = '', wherry = ''] = await both('mounts', 'cat /proc/self/mountinfo');
    assert.deepEqual(mountTable(wherry), mountTable(runc));
    // The bundle asks for a read-only cgroup mount; runc leaves the folder of the hierarchies writable.
    assert.match(wherry, / \/sys\/fs\/cgroup ro,/);
  });
});

/** A difference that is meant: the folder of cgroup hierarchies is read-only. */
function withoutKnown(row: string): string {
  if (row.startsWith('/sys/fs/cgroup ')) return row.replace(/\br[ow]\b/, 'r?');
  return row;
}

/** Mount points with type and options, without ids, sources and the sizes that differ from host to host. */
function mountTable(mountinfo: string): string[] {
  const lines = mountinfo.trim().split('\n');
  return lines
    .map((line) => {
      const [left = '', right = ''] = line.split(' - ');
      const [, , , , point, options, ...tags] = left.split(' ');
      const [type] = right.split(' ');
      const row = `${point} ${type} ${options?.split(',').sort().join(',')} ${tags.map((tag) => tag.split(':')[0]).join(',')}`;
      return withoutKnown(row);
    })
    .sort();
}
