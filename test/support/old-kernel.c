/*
 * old-kernel PROGRAM ARGS...: runs a program on a kernel that looks like Linux 5.14, the oldest that Wherry runs on. A
 * seccomp filter answers ENOSYS to every system call that is newer, and as a kernel of that time would to newer flags of
 * memfd_create(2) and newer requests to a pidfd. The program lives in a pid namespace of its own, whose process 1 (this
 * one) has the filter too: what asks whether it is narrower than process 1 finds that it is not. Tests are told by
 * WHERRY_TEST_KERNEL=5.14 (kernel.ts).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* memfd_secret(2), the last of 5.14 under the numbers that all architectures share; x32's have a high bit. */
#define LAST 447
#define X32 0x40000000
/* MFD_NOEXEC_SEAL and MFD_EXEC, Linux 6.3. */
#define NEW_MEMFD_FLAGS (8 | 16)
/* Type of the requests that a pidfd knows since Linux 6.11 (linux/pidfd.h). */
#define PIDFD_REQUESTS 0xff00

#define WORD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ARG(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (n))
#define ANSWER(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static struct sock_filter filter[] = {
    WORD(nr),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, LAST, 1, 2),
    ALLOW,
    ANSWER(ENOSYS),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 4),
    ARG(1),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NEW_MEMFD_FLAGS, 0, 1),
    ANSWER(EINVAL),
    ALLOW,
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
    ARG(1),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PIDFD_REQUESTS, 1, 0),
    ALLOW,
    ANSWER(ENOTTY),
};

static pid_t child;

static void pass_on(int number)
{
    if (child > 0)
        kill(child, number);
}

/* Waits for everything, as process 1 has to; ends with the program. */
static int wait_for_all(void)
{
    for (;;) {
        int status;
        pid_t pid = wait(&status);
        if (pid == child)
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        if (pid < 0 && errno != EINTR)
            return 125;
    }
}

static int run(char **argv)
{
    child = fork();
    if (child == 0) {
        execvp(argv[0], argv);
        perror(argv[0]);
        _exit(127);
    }
    return child < 0 ? 125 : wait_for_all();
}

int main(int argc, char **argv)
{
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (argc < 2) {
        fprintf(stderr, "usage: old-kernel PROGRAM ARGS...\n");
        return 2;
    }
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 || unshare(CLONE_NEWPID | CLONE_NEWNS) < 0) {
        perror("old-kernel");
        return 125;
    }
    setenv("WHERRY_TEST_KERNEL", "5.14", 1);
    signal(SIGTERM, pass_on);
    signal(SIGINT, pass_on);
    child = fork();
    if (child == 0) {
        /* Goes with whoever started it: nothing may be left of an aborted run. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (mount("", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0) {
            perror("old-kernel: /proc");
            _exit(125);
        }
        _exit(run(argv + 1));
    }
    return child < 0 ? 125 : wait_for_all();
}
