/* What the kernel tells about a process that may be another's child. */
#ifndef WHERRY_PIDINFO_H
#define WHERRY_PIDINFO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STAT_FIELDS 50
enum { STAT_PPID = 1, STAT_START_TIME = 19, STAT_EXIT_CODE = 49 }; /* proc(5)'s number less 3 */

/* Fields of /proc/PID/stat from the third on; [0], the state, is a letter. False: there is no such process. */
bool read_stat(pid_t pid, unsigned long long fields[STAT_FIELDS]);

uint64_t pidfd_inode(int pidfd); /* unique for ever on pidfs (Linux 6.9); 0 before */

/*
 * The wait status of a process whose pidfd has become readable. 1: *status is set. 0: the kernel will never tell.
 * -1: not before its parent has reaped it; the pidfd then hangs up, and `hung_up` is to be true.
 */
int exit_status(pid_t pid, int pidfd, bool hung_up, int *status);

#endif
