/* Registration: the init of a container, and of an exec, tells keel of itself before it does anything else. */
#define _GNU_SOURCE
#include "keel_proc.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pidinfo.h"

struct source receiver = {.fd = -1};
int sender = -1;

struct registration {
    uint64_t token;
    uint32_t count, zero;
    uint8_t kinds[16];
};

/* A later message of the same process: its terminal, which it could only make in its own root. */
static bool registered_more(const struct registration *r, const int *fds, pid_t pid)
{
    struct proc *p = proc_by_token(r->token);
    if (!p || p->pid != pid || p->exited)
        return false;
    for (uint32_t i = 0; i < r->count; i++) {
        end_drop(p, r->kinds[i]);
        p->ends[r->kinds[i]] = fds[i];
    }
    streams_begin(p);
    return true;
}

static void register_process(const struct registration *r, const int *fds, pid_t pid)
{
    struct stat out, err;
    unsigned long long fields[STAT_FIELDS] = {0};
    if (registered_more(r, fds, pid))
        return;
    struct proc *p = calloc(1, sizeof *p);
    if (!p || proc_by_token(r->token)) {
        log_line("error", "msg=\"registration refused: %s\" token=%llu pid=%d", p ? "the token is in use" : "no memory",
                 (unsigned long long)r->token, pid);
        for (uint32_t i = 0; i < r->count; i++)
            close(fds[i]);
        free(p);
        return;
    }
    *p = (struct proc){.token = r->token, .pid = pid, .pidfd = {.fd = -1, .ready = foreign_exit}, .next = procs};
    p->probe.fire = probe_again;
    p->drain.fire = drain_late;
    for (int kind = 0; kind < KINDS; kind++)
        p->ends[kind] = -1;
    for (uint32_t i = 0; i < r->count; i++)
        p->ends[r->kinds[i]] = fds[i];
    p->pidfd.fd = p->ends[STREAM_END_PIDFD];
    p->ends[STREAM_END_PIDFD] = -1;
    if (p->pidfd.fd < 0)
        p->pidfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    streams_begin(p);
    /* One FIFO for both streams: one pair of ends is enough, and two would take each other for a reader. */
    if (fstat(p->ends[STREAM_END_STDOUT_WRITER], &out) == 0 && fstat(p->ends[STREAM_END_STDERR_WRITER], &err) == 0 &&
        out.st_dev == err.st_dev && out.st_ino == err.st_ino) {
        end_drop(p, STREAM_END_STDERR_READER);
        end_drop(p, STREAM_END_STDERR_WRITER);
    }
    bool ours = read_stat(pid, fields) && fields[STAT_PPID] == (unsigned long long)getpid();
    p->start_time = fields[STAT_START_TIME];
    p->inode = pidfd_inode(p->pidfd.fd);
    procs = p;
    keel.alive++;
    keel.known++;
    tell_registered(p);
    if (!ours && p->pidfd.fd >= 0)
        watch(&p->pidfd, EPOLLIN | EPOLLET);
    else if (!ours)
        proc_exited(p, 0, false, &(struct rusage){0});
    idle_check();
}

/* False: nothing is left in the socket. */
static bool registration_read(void)
{
    struct registration r;
    int fds[RECEIVE_FDS];
    uint32_t count, seen = 0;
    struct ucred who = {0};
    bool complete;
    ssize_t n = receive(receiver.fd, &r, sizeof r, MSG_DONTWAIT, fds, &count, &who, &complete);
    if (n < 0)
        return errno == EINTR;
    bool good = n == sizeof r && r.count == count && who.pid > 0 && complete;
    for (uint32_t i = 0; good && i < count; i++) {
        good = r.kinds[i] >= STREAM_END_PIDFD && r.kinds[i] < KINDS && !(seen & 1U << r.kinds[i]);
        seen |= good ? 1U << r.kinds[i] : 0;
    }
    if (good) {
        register_process(&r, fds, who.pid);
        return true;
    }
    log_line("error", "msg=\"registration refused: not as docs/internals.md has it\" bytes=%zd descriptors=%u pid=%d",
             n, count, who.pid);
    for (uint32_t i = 0; i < count; i++)
        close(fds[i]);
    return true;
}

void registrations_read(void)
{
    while (registration_read())
        continue;
}

void registration_ready(struct source *s, uint32_t events)
{
    (void)s;
    (void)events;
    registrations_read();
}

int registration_open(void)
{
    int pair[2], on = 1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
        setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return -errno;
    receiver = (struct source){.fd = pair[0], .ready = registration_ready};
    sender = pair[1];
    watch(&receiver, EPOLLIN);
    return 0;
}

int registration_sender(void)
{
    return sender;
}

int proc_adopt(uint64_t token, uint32_t pid, uint64_t start_time)
{
    unsigned long long fields[STAT_FIELDS] = {0};
    if (proc_by_token(token))
        return 0;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return -errno;
    if (!read_stat((pid_t)pid, fields) || fields[STAT_START_TIME] != start_time) {
        close(fd);
        return -ESRCH;
    }
    register_process(&(struct registration){.token = token, .count = 1, .kinds = {STREAM_END_PIDFD}}, &fd, (pid_t)pid);
    return 0;
}
