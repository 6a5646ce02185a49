/** Hosts to plan for, from the texts that their kernels show. */
import { type CgroupHost, describeCgroups } from '../../../src/cgroup/hierarchy.ts';
import type { CgroupProbe } from '../../../src/cgroup/probe.ts';

const PROC_CGROUPS = `#subsys_name\thierarchy\tnum_cgroups\tenabled
cpuset\t3\t1\t1
cpu\t1\t1\t1
cpuacct\t2\t1\t1
blkio\t7\t1\t1
memory\t4\t13\t1
devices\t5\t1\t1
freezer\t6\t1\t1
hugetlb\t0\t1\t1
pids\t8\t1\t1
net_cls\t9\t1\t0
`;

export const hybridHost: CgroupHost = describeCgroups({
  mountinfo: `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 31 0:36 / /var/lib/some\\040where/pids rw,relatime - cgroup cgroup rw,pids
`,
  cgroups: PROC_CGROUPS,
  own: `8:pids:/
7:cpu,cpuacct:/system.slice/wherry.service
4:memory:/odd:name
1:name=systemd:/system.slice/wherry.service
0::/system.slice/wherry.service
`,
  controllers: () => '\n',
});

export const v2Host: CgroupHost = describeCgroups({
  mountinfo:
    '26 22 0:23 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n',
  cgroups: PROC_CGROUPS,
  own: '0::/system.slice/wherry.service\n',
  controllers: () => 'cpuset cpu io memory hugetlb pids rdma misc\n',
});

/** A cgroup filesystem of the given files; every folder on the way exists. */
export function probeOf(files: Record<string, string>, folders: string[] = []): CgroupProbe {
  const known = [...Object.keys(files), ...folders];
  return {
    exists: (path) => known.some((name) => name === path || name.startsWith(`${path}/`)),
    read: (path) => files[path],
  };
}
