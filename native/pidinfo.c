#define _GNU_SOURCE
#include "pidinfo.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PIDFS_MAGIC 0x50494446 /* linux/magic.h of 6.9: PID_FS_MAGIC */

struct pidfd_info { /* linux/pidfd.h of 6.13; the exit status of 6.15 */
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
#define PIDFD_GET_INFO _IOWR(0xFF, 11, struct pidfd_info)
#define PIDFD_INFO_EXIT (1U << 3)

bool read_stat(pid_t pid, unsigned long long fields[STAT_FIELDS])
{
    char path[32], text[2048];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    char *at = strrchr(text, ')'); /* the name before it may hold anything */
    if (!at || !at[1] || !at[2])
        return false;
    fields[0] = (unsigned char)at[2];
    at += 3;
    for (int i = 1; i < STAT_FIELDS; i++)
        fields[i] = strtoull(at, &at, 10);
    return true;
}

uint64_t pidfd_inode(int pidfd)
{
    struct statfs fs;
    struct stat st;
    return fstatfs(pidfd, &fs) == 0 && fs.f_type == PIDFS_MAGIC && fstat(pidfd, &st) == 0 ? st.st_ino : 0;
}

int exit_status(pid_t pid, int pidfd, bool hung_up, int *status)
{
    struct pidfd_info info = {.mask = PIDFD_INFO_EXIT};
    unsigned long long fields[STAT_FIELDS];
    bool told = ioctl(pidfd, PIDFD_GET_INFO, &info) == 0;
    if (told && info.mask & PIDFD_INFO_EXIT) {
        *status = info.exit_code;
        return 1;
    }
    /* A zombie's status stands in /proc, for root; that it is still this process is asked afterwards. */
    if (!geteuid() && read_stat(pid, fields) && fields[0] == 'Z' &&
        syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0) {
        *status = (int)fields[STAT_EXIT_CODE];
        return 1;
    }
    return told && !hung_up ? -1 : 0;
}
