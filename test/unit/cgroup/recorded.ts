/** Files as kernels show them (v1: 6.18, 5.15 for hugetlb and rdma; v2: 6.1), by path below the cgroup. */
const pressure = `some avg10=1.50 avg60=0.20 avg300=0.00 total=12345
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
`;

export const v1Files: Readonly<Record<string, string>> = {
  'pids/pids.current': '3\n',
  'pids/pids.max': 'max\n',
  'cpu/cpuacct.usage': '13221808\n',
  'cpu/cpuacct.usage_percpu': '13221808 0 \n',
  'cpu/cpuacct.stat': 'user 4\nsystem 7\n',
  'cpu/cpu.stat': 'nr_periods 2\nnr_throttled 1\nthrottled_time 15000\nnr_bursts 0\nburst_time 0\n',
  'memory/memory.stat': `cache 1916928
rss 49152
rss_huge 0
shmem 0
mapped_file 1351680
hierarchical_memory_limit 134217728
hierarchical_memsw_limit 268435456
total_cache 1916928
total_inactive_file 1916928
`,
  'memory/memory.usage_in_bytes': '2420736\n',
  'memory/memory.limit_in_bytes': '134217728\n',
  'memory/memory.max_usage_in_bytes': '2695168\n',
  'memory/memory.failcnt': '4\n',
  'memory/memory.memsw.usage_in_bytes': '2420740\n',
  'memory/memory.memsw.limit_in_bytes': '268435456\n',
  'memory/memory.memsw.max_usage_in_bytes': '2695170\n',
  'memory/memory.memsw.failcnt': '0\n',
  'memory/memory.kmem.usage_in_bytes': '245760\n',
  'memory/memory.kmem.limit_in_bytes': '9223372036854771712\n',
  'memory/memory.kmem.max_usage_in_bytes': '573440\n',
  'memory/memory.kmem.failcnt': '0\n',
  'memory/memory.kmem.tcp.usage_in_bytes': '0\n',
  'memory/memory.kmem.tcp.limit_in_bytes': '9223372036854771712\n',
  'memory/memory.kmem.tcp.max_usage_in_bytes': '0\n',
  'memory/memory.kmem.tcp.failcnt': '0\n',
  'memory/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 2\n',
  'blkio/blkio.bfq.io_service_bytes_recursive': 'Total 0\n',
  'blkio/blkio.throttle.io_service_bytes_recursive': `254:0 Read 4096
254:0 Write 0
254:0 Total 4096
Total 4096
`,
  'blkio/blkio.throttle.io_serviced_recursive': '254:0 Read 1\n254:0 Total 1\nTotal 1\n',
  'hugetlb/hugetlb.2MB.usage_in_bytes': '2097152\n',
  'hugetlb/hugetlb.2MB.max_usage_in_bytes': '4194304\n',
  'hugetlb/hugetlb.2MB.limit_in_bytes': '9223372036852678656\n',
  'hugetlb/hugetlb.2MB.failcnt': '1\n',
  'hugetlb/hugetlb.2MB.rsvd.usage_in_bytes': '0\n',
  'rdma/rdma.current': 'mlx4_0 hca_handle=2 hca_object=2000\n',
  'rdma/rdma.max': 'mlx4_0 hca_handle=3 hca_object=max\n',
};

export const v2Files: Readonly<Record<string, string>> = {
  'pids.current': '1\n',
  'pids.max': 'max\n',
  'cpu.stat':
    'usage_usec 123456\nuser_usec 100000\nsystem_usec 23456\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n',
  'cpu.pressure': pressure,
  'memory.stat': 'anon 49152\nfile 8192\nkernel_stack 16384\ninactive_file 4096\npgfault 653\n',
  'memory.current': '1048576\n',
  'memory.max': '134217728\n',
  'memory.swap.current': '0\n',
  'memory.swap.max': 'max\n',
  'memory.peak': '2097152\n',
  'memory.swap.peak': '10\n',
  'memory.pressure': pressure,
  'memory.events': 'low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n',
  'io.stat': '254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n',
  'io.pressure': pressure,
  'hugetlb.2MB.current': '0\n',
  'hugetlb.2MB.max': 'max\n',
  'hugetlb.2MB.events': 'max 7\n',
  'hugetlb.2MB.rsvd.current': '0\n',
  'rdma.current': 'mlx4_0 hca_handle=1 hca_object=20\n',
  'rdma.max': 'mlx4_0 hca_handle=2 hca_object=2000\n',
};
