/*
 * A keel that is started by a command of conmon (podman, cri-o) is adopted by conmon, which has made itself the reaper
 * of orphans (PR_SET_CHILD_SUBREAPER, prctl(2)). When its container has ended, conmon gives that up and waits for all
 * the children that it still has before it ends itself, and podman waits for conmon: a child that stays holds up both.
 *
 * So a process stands between the two, the guard. Once orphans no longer go to conmon it ends, and keel is nobody's.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_PAUSE 20  /* ms between two looks after keel has said that something may have happened, */
#define LAST_PAUSE 5000 /* and long after */

static pid_t guard;

/* Who adopts the orphans of this process; 0: unknown. The kernel tells nobody, so one is made. */
static pid_t reaper(void)
{
    int ends[2];
    pid_t found = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return 0;
    pid_t parent = fork();
    if (parent == 0) {
        if (fork() == 0) {
            close(ends[0]);
            bool orphan = read(ends[1], &found, sizeof found) == sizeof found;
            found = orphan ? getppid() : 0;
            _exit(write(ends[1], &found, sizeof found) < 0);
        }
        _exit(0);
    }
    close(ends[1]);
    if (parent < 0 || waitpid(parent, NULL, 0) < 0 || write(ends[0], &found, sizeof found) < 0 ||
        read(ends[0], &found, sizeof found) != sizeof found)
        found = 0;
    close(ends[0]);
    return found;
}

static bool is_conmon(pid_t pid)
{
    char path[32], name[16] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool known = fd >= 0 && read(fd, name, sizeof name - 1) > 0;
    if (fd >= 0)
        close(fd);
    return known && !strncmp(name, "conmon", 6);
}

static _Noreturn void stand_between(pid_t conmon, pid_t child, const sigset_t *poke)
{
    syscall(SYS_close_range, 0, ~0U, 0);
    prctl(PR_SET_NAME, "keel-guard");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct signalfd_siginfo info;
    struct pollfd seen[] = {{.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN},
                            {.fd = signalfd(-1, poke, SFD_NONBLOCK), .events = POLLIN}};
    for (int pause = FIRST_PAUSE; reaper() == conmon; pause = pause * 2 < LAST_PAUSE ? pause * 2 : LAST_PAUSE) {
        if (poll(seen, 2, pause) < 0 || seen[0].revents)
            break;
        if (seen[1].revents && read(seen[1].fd, &info, sizeof info) > 0)
            pause = FIRST_PAUSE / 2;
    }
    _exit(0);
}

void guard_between(void)
{
    sigset_t poke;
    signal(SIGCHLD, SIG_DFL); /* an ignored one leaves nothing to wait for */
    pid_t conmon = reaper();
    if (conmon <= 1 || !is_conmon(conmon))
        return;
    sigemptyset(&poke);
    sigaddset(&poke, SIGUSR1);
    sigprocmask(SIG_BLOCK, &poke, NULL); /* reset_process unblocks it in keel */
    pid_t child = fork();
    if (child > 0)
        stand_between(conmon, child, &poke);
    if (child == 0)
        guard = getppid();
}

void guard_poke(void)
{
    if (guard && getppid() == guard)
        kill(guard, SIGUSR1);
}
