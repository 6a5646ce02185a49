#define _GNU_SOURCE
#include "reset.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void lower_oom_score(struct before *before)
{
    static const char lowest[] = "-999";
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, before->oom_score, sizeof before->oom_score - 1);
    if (n > 0 && pwrite(fd, lowest, sizeof lowest - 1, 0) > 0)
        before->oom_score[n] = 0;
    else
        before->oom_score[0] = 0; /* it needs CAP_SYS_RESOURCE */
    if (fd >= 0)
        close(fd);
}

const char *reset_process(struct before *before)
{
    sigset_t none;
    cpu_set_t all;
    for (int n = 1; n < 65; n++)
        signal(n, n == SIGPIPE ? SIG_IGN : SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    memset(&all, 0xff, sizeof all);
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    setpriority(PRIO_PROCESS, 0, 0);
    sched_setaffinity(0, sizeof all, &all);
    syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, 0);
    personality(PER_LINUX);
    umask(022);
    setsid();
    syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, "wherry");
    lower_oom_score(before);
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_DUMPABLE, 0);
    if (chdir("/") < 0)
        return "cannot change to /";
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return "cannot become the parent of containers (PR_SET_CHILD_SUBREAPER)";
    getrlimit(RLIMIT_NOFILE, &before->nofile);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){before->nofile.rlim_max, before->nofile.rlim_max});
    return NULL;
}

int reset_descriptors(int first, int *kept)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), moved = -1;
    while (null >= 0 && null < 3)
        null = fcntl(null, F_DUPFD, 0);
    if (null < 0 || dup2(null, 0) < 0)
        return -1;
    if (*kept >= 0 && (moved = fcntl(*kept, F_DUPFD_CLOEXEC, first + 2)) < 0)
        return -1;
    for (int fd = 3; fd < first + 2; fd++) /* places taken, so that nothing else comes to lie there */
        if (dup3(0, fd, O_CLOEXEC) < 0)
            return -1;
    if (moved >= 0 && dup3(moved, first + 1, O_CLOEXEC) < 0)
        return -1;
    *kept = moved < 0 ? -1 : first + 1;
    close_range((unsigned)first + 2, ~0U, 0);
    return first;
}
