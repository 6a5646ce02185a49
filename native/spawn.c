#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tape.h"
#include "wire.h"

_Static_assert(TAPE_FD == FD_TAPE && GO_FD == FD_GO, "the player finds them where they are put");

int tape_file(const void *image, size_t len)
{
    int fd = memfd_create("tape", MFD_CLOEXEC | 8U /* MFD_NOEXEC_SEAL, Linux 6.3 */);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("tape", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int failed = len ? tape_write(fd, image, len) : 0;
    if (!failed)
        return fd;
    close(fd);
    return failed;
}

int tape_write(int tape, const void *image, size_t len)
{
    errno = 0;
    if (pwrite(tape, image, len, SHARED_PAGE) == (ssize_t)len)
        return 0;
    return errno ? -errno : -EIO;
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

/* A sealed memfd; where the kernel refuses to execute those, the file itself on a read-only mount of its own. */
int seal_player(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    int fd = memfd_create("player", MFD_CLOEXEC | MFD_ALLOW_SEALING | 16U /* MFD_EXEC, Linux 6.3 */);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("player", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
        close(file);
        fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (fd >= 0 && syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
            return -1;
        return fd;
    }
    ssize_t n;
    while ((n = sendfile(fd, file, NULL, 1 << 20)) > 0)
        continue;
    close(file);
    if (n < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return -1;
    return fd;
}

/* Runs in the memory of its parent: system calls only. */
static _Noreturn void child(const struct spawn *s, pid_t parent)
{
    int low = s->preserve > 0 ? FD_PRESERVED + s->preserve : FD_GO + 1;
    int player = fcntl(s->player, F_DUPFD_CLOEXEC, low);
    int tape = fcntl(s->tape, F_DUPFD_CLOEXEC, low);
    int registration = fcntl(s->registration, F_DUPFD_CLOEXEC, low);
    int console = s->console < 0 ? -1 : fcntl(s->console, F_DUPFD_CLOEXEC, low);
    int go = s->go > 0 ? fcntl(s->go, F_DUPFD_CLOEXEC, low) : 0;
    if (player < 0 || tape < 0 || registration < 0 || (s->console >= 0 && console < 0) || go < 0)
        goto failed;
    for (int i = s->preserve - 1; i >= 0; i--) /* from above: a target may be the source of a later one */
        if (dup2(3 + i, FD_PRESERVED + i) < 0 && errno != EBADF)
            goto failed;
    if (dup2(tape, FD_TAPE) < 0 || dup2(registration, FD_REGISTRATION) < 0)
        goto failed;
    if (console >= 0 && dup2(console, FD_CONSOLE) < 0)
        goto failed;
    if (go > 0 && dup2(go, FD_GO) < 0)
        goto failed;
    if (go == 0) /* the caller's own, which the player would wait for */
        close(FD_GO);
    for (int i = 0; s->null >= 0 && i < 3; i++)
        if (dup2(s->null, i) < 0)
            goto failed;
    if (s->null >= 0)
        setpgid(0, 0);
    else if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        goto failed; /* a client's player ends with it: nobody would know what it has made */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (s->before)
        setrlimit(RLIMIT_NOFILE, &s->before->nofile);
    if (s->before && s->before->oom_score[0]) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, s->before->oom_score, strlen(s->before->oom_score)) < 0)
            goto failed;
    }
    char *const argv[] = {"player", NULL}, *const env[] = {NULL};
    syscall(SYS_execveat, player, "", argv, env, AT_EMPTY_PATH);
failed:
    tape_failed(s->tape, errno);
    _exit(127);
}

pid_t spawn_player(const struct spawn *s)
{
    pid_t self = getpid(), pid = vfork();
    if (pid == 0)
        child(s, self);
    return pid < 0 ? -errno : pid;
}
