#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wire.h"

int tape_file(const void *image, size_t len)
{
    int fd = memfd_create("tape", MFD_CLOEXEC | 8U /* MFD_NOEXEC_SEAL, Linux 6.3 */);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("tape", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (pwrite(fd, image, len, SHARED_PAGE) == (ssize_t)len)
        return fd;
    int failed = errno ? errno : EIO;
    close(fd);
    return -failed;
}

void tape_failed(int tape, int error)
{
    struct {
        uint32_t step, pc;
        int32_t error;
        uint32_t state;
    } lane = {0, 0, error, 3};
    if (pwrite(tape, &lane, sizeof lane, 0) < 0)
        return; /* the exit status still tells */
}

/* Runs in the memory of its parent: system calls only. */
static _Noreturn void child(const struct spawn *s)
{
    int low = s->preserve > 0 ? FD_PRESERVED + s->preserve : FD_CONSOLE + 1;
    int player = fcntl(s->player, F_DUPFD_CLOEXEC, low);
    int tape = fcntl(s->tape, F_DUPFD_CLOEXEC, low);
    int registration = fcntl(s->registration, F_DUPFD_CLOEXEC, low);
    int console = s->console < 0 ? -1 : fcntl(s->console, F_DUPFD_CLOEXEC, low);
    if (player < 0 || tape < 0 || registration < 0 || (s->console >= 0 && console < 0))
        goto failed;
    for (int i = 0; i < s->preserve; i++)
        if (dup3(3 + i, FD_PRESERVED + i, O_CLOEXEC) < 0 && errno != EBADF)
            goto failed;
    if (dup2(tape, FD_TAPE) < 0 || dup2(registration, FD_REGISTRATION) < 0)
        goto failed;
    if (console >= 0 && dup2(console, FD_CONSOLE) < 0)
        goto failed;
    for (int i = 0; s->null >= 0 && i < 3; i++)
        if (dup2(s->null, i) < 0)
            goto failed;
    if (s->null >= 0)
        setpgid(0, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (s->nofile)
        setrlimit(RLIMIT_NOFILE, s->nofile);
    char *const argv[] = {"player", NULL}, *const env[] = {NULL};
    syscall(SYS_execveat, player, "", argv, env, AT_EMPTY_PATH);
failed:
    tape_failed(s->tape, errno);
    _exit(127);
}

pid_t spawn_player(const struct spawn *s)
{
    pid_t pid = vfork();
    if (pid == 0)
        child(s);
    return pid < 0 ? -errno : pid;
}
