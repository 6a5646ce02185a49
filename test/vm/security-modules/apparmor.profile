# Of the configuration cases that need AppArmor: everything may be done, but one file not be touched.
profile wherry-test flags=(attach_disconnected, mediate_deleted) {
  file,
  capability,
  network,
  mount,
  umount,
  signal,
  ptrace,
  unix,
  deny /forbidden rw,
}
