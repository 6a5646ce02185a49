/* Players, the processes that registered, their exits and the stream ends kept for them. */
#define _GNU_SOURCE
#include "keel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "copy.h"
#include "fifo.h"
#include "pidinfo.h"
#include "spawn.h"
#include "state.h"

#define KINDS (STREAM_END_STDERR_PIPE + 1)
#define STOP_GRACE 10000 /* ms for a forced stop, the cleaning up by wherryd included */

struct player {
    uint64_t token;
    pid_t pid;
    int tape;
    uint64_t cancel; /* the request that waits for its end; 0: none */
    struct timer deadline;
    struct player *next;
};

/* A registered process, until its exit was acknowledged and nothing is kept for it any more, or until RELEASE. */
struct proc {
    uint64_t token, inode, start_time;
    pid_t pid;
    struct source pidfd; /* in the epoll set only when another process is the parent */
    int ends[KINDS];     /* stream ends by kind; -1: none */
    bool exited, acknowledged, known;
    int32_t status;
    uint64_t time, user, system, maxrss;
    struct copy in, out, err; /* of a terminal, or of pipes that others than the process may hold */
    struct timer probe, drain;
    unsigned probes;
    bool releasing;   /* as soon as the copies have ended, or at the end of `drain` */
    uint64_t release; /* the request that waits for it; 0: nobody */
    struct proc *next;
};

struct registration {
    uint64_t token;
    uint32_t count, zero;
    uint8_t kinds[16];
};

static struct player *players;
static struct proc *procs;
static struct source receiver = {.fd = -1};
static int sender = -1;

static uint64_t stop_request;
static bool stopping;
static void stop_late(struct timer *t);
static struct timer stop_timer = {.fire = stop_late};
static void stop_check(void);

static struct proc *proc_by_token(uint64_t token)
{
    struct proc *p = procs;
    while (p && p->token != token)
        p = p->next;
    return p;
}

/* --- what wherryd is told --- */

static void tell_registered(const struct proc *p)
{
    struct {
        uint32_t pid;
        uint64_t inode, start_time;
    } __attribute__((packed)) body = {(uint32_t)p->pid, p->inode, p->start_time};
    tell(FROM_KEEL_REGISTERED, p->token, &body, sizeof body, NULL, 0);
}

static void tell_exit(const struct proc *p)
{
    struct {
        int32_t status;
        uint8_t known;
        uint64_t time, user, system, maxrss;
    } __attribute__((packed)) body = {p->status, p->known, p->time, p->user, p->system, p->maxrss};
    tell(FROM_KEEL_EXIT, p->token, &body, sizeof body, NULL, 0);
}

void procs_report(void)
{
    for (struct player *pl = players; pl; pl = pl->next)
        pl->cancel = 0; /* of the wherryd before */
    for (struct proc *p = procs; p; p = p->next) {
        p->release = 0; /* of the wherryd before */
        tell_registered(p);
        if (p->exited && !p->acknowledged)
            tell_exit(p);
    }
}

/* --- kept stream ends --- */

static void end_drop(struct proc *p, int kind)
{
    if (p->ends[kind] >= 0)
        close(p->ends[kind]);
    p->ends[kind] = -1;
}

static void proc_forget(struct proc *p)
{
    for (struct proc **at = &procs; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    for (int kind = 0; kind < KINDS; kind++)
        end_drop(p, kind);
    copy_stop(&p->in);
    copy_stop(&p->out);
    copy_stop(&p->err);
    timer_clear(&p->probe);
    timer_clear(&p->drain);
    if (p->release)
        reply(p->release, 0, NULL, 0);
    unwatch(&p->pidfd);
    keel.alive -= !p->exited;
    keel.known--;
    free(p);
    idle_check();
    stop_check();
}

/* Lets go of a stream's FIFO when it may end: when its copy has ended, or without one the process. */
static enum settled { FREE, UNREAD, IN_USE } stream_settle(struct proc *p, const struct copy *c, int reader, int writer)
{
    if (copy_runs(c) || !(c->owner || p->exited))
        return IN_USE;
    return fifo_keep(&p->ends[reader], &p->ends[writer]) ? UNREAD : FREE;
}

/* True when p is gone. */
static bool proc_settle(struct proc *p)
{
    enum settled out = stream_settle(p, &p->out, STREAM_END_STDOUT_READER, STREAM_END_STDOUT_WRITER);
    enum settled err = stream_settle(p, &p->err, STREAM_END_STDERR_READER, STREAM_END_STDERR_WRITER);
    if (out == UNREAD || err == UNREAD)
        timer_set(&p->probe, p->probes++ < 100 ? 10 : 100);
    else
        timer_clear(&p->probe);
    bool released = p->releasing && out != IN_USE && err != IN_USE;
    if (!released && (out != FREE || err != FREE || !p->acknowledged))
        return false;
    proc_forget(p);
    return true;
}

static void probe_again(struct timer *t)
{
    proc_settle((struct proc *)((char *)t - offsetof(struct proc, probe)));
}

/* Somebody still holds the other end, or nobody reads: the stream ends here. */
static void drain_late(struct timer *t)
{
    proc_forget((struct proc *)((char *)t - offsetof(struct proc, drain)));
}

/* --- streams that keel carries --- */

static void copied(void *owner)
{
    proc_settle(owner);
}

static int another(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void streams_begin(struct proc *p)
{
    int *ends = p->ends, master = ends[STREAM_END_MASTER];
    if (master >= 0 && !p->out.owner) {
        copy_start(&p->out, another(master), another(ends[STREAM_END_STDOUT_WRITER]), copied, p);
        if (ends[STREAM_END_STDIN_READER] >= 0)
            copy_start(&p->in, ends[STREAM_END_STDIN_READER], another(master), copied, p);
        ends[STREAM_END_STDIN_READER] = -1;
    }
    if (ends[STREAM_END_STDOUT_PIPE] >= 0)
        copy_start(&p->out, ends[STREAM_END_STDOUT_PIPE], another(ends[STREAM_END_STDOUT_WRITER]), copied, p);
    if (ends[STREAM_END_STDERR_PIPE] >= 0)
        copy_start(&p->err, ends[STREAM_END_STDERR_PIPE], another(ends[STREAM_END_STDERR_WRITER]), copied, p);
    ends[STREAM_END_STDOUT_PIPE] = ends[STREAM_END_STDERR_PIPE] = -1;
}

/* --- exits --- */

static void proc_exited(struct proc *p, int status, bool status_known, const struct rusage *usage)
{
    p->exited = true;
    p->status = status;
    p->known = status_known;
    p->time = wall_ns();
    p->user = (uint64_t)usage->ru_utime.tv_sec * 1000000 + (uint64_t)usage->ru_utime.tv_usec;
    p->system = (uint64_t)usage->ru_stime.tv_sec * 1000000 + (uint64_t)usage->ru_stime.tv_usec;
    p->maxrss = (uint64_t)usage->ru_maxrss;
    keel.alive--;
    unwatch(&p->pidfd);
    tell_exit(p);
    copy_stop(&p->in);
    end_drop(p, STREAM_END_STDIN_WRITER);
    end_drop(p, STREAM_END_STDIN_READER);
    end_drop(p, STREAM_END_MASTER); /* the copy of its output has one of its own */
    proc_settle(p);
    stop_check();
}

/* The exit of a process that is another's child. */
static void foreign_exit(struct source *s, uint32_t events)
{
    struct proc *p = (struct proc *)((char *)s - offsetof(struct proc, pidfd));
    uint64_t token = p->token;
    int status = 0;
    reap(); /* its parent may have died and left it to us */
    p = proc_by_token(token);
    if (!p || p->exited)
        return;
    int told = exit_status(p->pid, p->pidfd.fd, events & (EPOLLHUP | EPOLLERR), &status);
    if (told >= 0)
        proc_exited(p, status, told, &(struct rusage){0});
}

static void player_ended(struct player *pl, int status)
{
    uint8_t page[PLAYED_PAGE] = {0};
    int32_t value = status;
    for (struct player **at = &players; *at; at = &(*at)->next)
        if (*at == pl) {
            *at = pl->next;
            break;
        }
    if (pread(pl->tape, page, sizeof page, 0) < 0)
        log_line("error", "msg=\"cannot read the shared page: %s\"", strerror(errno));
    tell(FROM_KEEL_PLAYED, pl->token, &value, sizeof value, page, sizeof page);
    if (pl->cancel)
        reply(pl->cancel, 0, NULL, 0);
    timer_clear(&pl->deadline);
    close(pl->tape);
    free(pl);
    keel.playing--;
    idle_check();
    stop_check();
}

static void registrations_read(void);

/*
 * Who a zombie was is looked up before it is reaped, while its number cannot be another's. A container registers
 * before it does anything else, so a zombie that is unknown after the socket was read is nobody's: an orphan that came
 * to us.
 */
void reap(void)
{
    registrations_read();
    for (;;) {
        siginfo_t info = {0};
        struct rusage usage;
        int status = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 || !info.si_pid)
            return;
        pid_t pid = info.si_pid;
        struct player *pl = players;
        struct proc *p = procs;
        while (pl && pl->pid != pid)
            pl = pl->next;
        if (!pl)
            registrations_read();
        for (p = procs; p && (p->exited || p->pid != pid); p = p->next)
            continue;
        if (wait4(pid, &status, WNOHANG | __WALL, &usage) != pid)
            return;
        if (pl)
            player_ended(pl, status);
        else if (p)
            proc_exited(p, status, true, &usage);
        else
            (void)(upgrade_child(pid, status) || wherryd_exited(pid, status));
    }
}

/* --- registration --- */

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

static void registrations_read(void)
{
    while (registration_read())
        continue;
}

static void registration_ready(struct source *s, uint32_t events)
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

/* --- orders --- */

static void player_kill(const struct player *pl)
{
    kill(-pl->pid, SIGKILL); /* its group: it has not been reaped, so the number is its own */
    kill(pl->pid, SIGKILL);
}

static void deadline_passed(struct timer *t)
{
    struct player *pl = (struct player *)((char *)t - offsetof(struct player, deadline));
    log_line("warn", "msg=\"player killed: its deadline has passed\" token=%llu", (unsigned long long)pl->token);
    player_kill(pl);
    registrations_read();
    proc_signal(pl->token, SIGKILL);
}

void player_cancel(uint64_t request, uint64_t token)
{
    struct player *pl = players;
    while (pl && pl->token != token)
        pl = pl->next;
    if (pl)
        player_kill(pl);
    registrations_read();
    proc_signal(token, SIGKILL);
    if (pl)
        pl->cancel = request;
    else
        reply(request, 0, NULL, 0);
}

/* The start time is compared once the pidfd holds the process, so the number cannot become another's in between. */
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

void player_spawn(uint64_t token, const uint8_t *payload, size_t n)
{
    struct reader r = {.at = payload, .end = payload + n};
    struct player *pl = calloc(1, sizeof *pl);
    uint32_t deadline = get_u32(&r);
    get_u32(&r);
    int tape = r.bad ? -EINVAL : pl ? tape_file(r.at, (size_t)(r.end - r.at)) : -ENOMEM;
    pid_t pid = tape < 0 ? tape
                         : spawn_player(&(struct spawn){.player = keel.player, .tape = tape, .registration = sender,
                                                        .console = -1, .null = keel.null, .before = &keel.before});
    if (pid < 0) {
        struct {
            int32_t status, step, pc, error, state;
        } page = {127 << 8, 0, 0, -pid, 3};
        static const uint8_t rest[PLAYED_PAGE - 16];
        log_line("error", "msg=\"cannot start the player: %s\" token=%llu", strerror(-pid), (unsigned long long)token);
        tell(FROM_KEEL_PLAYED, token, &page, sizeof page, rest, sizeof rest);
        if (tape >= 0)
            close(tape);
        free(pl);
        return;
    }
    *pl = (struct player){.token = token, .pid = pid, .tape = tape, .next = players};
    pl->deadline.fire = deadline_passed;
    players = pl;
    keel.playing++;
    if (deadline)
        timer_set(&pl->deadline, deadline);
    idle_check();
}

int proc_signal(uint64_t token, int signal)
{
    struct proc *p = proc_by_token(token);
    if (!p || p->exited)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, p->pidfd.fd, signal, NULL, 0) < 0 ? -errno : 0;
}

void proc_acknowledge(uint64_t token)
{
    struct proc *p = proc_by_token(token);
    if (!p || !p->exited)
        return;
    p->acknowledged = true;
    if (!proc_settle(p))
        stop_check();
}

int proc_close_stdin(uint64_t token)
{
    struct proc *p = proc_by_token(token);
    if (!p)
        return -ESRCH;
    end_drop(p, STREAM_END_STDIN_WRITER);
    return 0;
}

int proc_resize(uint64_t token, uint16_t rows, uint16_t cols)
{
    struct proc *p = proc_by_token(token);
    struct winsize size = {.ws_row = rows, .ws_col = cols};
    if (!p || p->exited)
        return -ESRCH;
    if (p->ends[STREAM_END_MASTER] < 0)
        return -ENOTTY;
    return ioctl(p->ends[STREAM_END_MASTER], TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

void proc_release(uint64_t request, uint64_t token, uint32_t drain)
{
    struct proc *p = proc_by_token(token);
    if (!p)
        return reply(request, -ESRCH, NULL, 0);
    p->release = request;
    if (drain && p->exited && (copy_runs(&p->out) || copy_runs(&p->err))) {
        p->releasing = true;
        timer_set(&p->drain, drain);
    } else {
        proc_forget(p);
    }
}

/* --- handing on --- */

enum { RECORD_REGISTRATION = 20, RECORD_PLAYER = 21, RECORD_PROC = 22 };

static void save_copy(struct state *s, const struct copy *c)
{
    bool runs = copy_runs(c);
    state_u32(s, c->owner ? 1 : 0);
    state_fd(s, runs ? c->from.fd : -1);
    state_fd(s, runs ? c->to.fd : -1);
    state_bytes(s, runs && c->left ? c->left + c->start : NULL, runs && c->left ? c->size - c->start : 0);
}

static void load_copy(struct state_reader *s, struct copy *c, struct proc *p)
{
    size_t n;
    bool owned = get_u32(&s->record);
    int from = state_get_fd(s), to = state_get_fd(s);
    const uint8_t *left = state_get_bytes(s, &n);
    if (!p || s->record.bad)
        return;
    if (owned && from >= 0)
        copy_resume(c, from, to, copied, p, left, n);
    else if (owned)
        *c = (struct copy){.from = {.fd = -1}, .to = {.fd = -1}, .ended = copied, .owner = p};
}

void procs_save(struct state *s)
{
    state_record(s, RECORD_REGISTRATION);
    state_fd(s, receiver.fd);
    state_fd(s, sender);
    for (struct player *pl = players; pl; pl = pl->next) {
        state_record(s, RECORD_PLAYER);
        state_u64(s, pl->token);
        state_u32(s, (uint32_t)pl->pid);
        state_fd(s, pl->tape);
        state_u64(s, pl->deadline.at);
    }
    for (struct proc *p = procs; p; p = p->next) {
        state_record(s, RECORD_PROC);
        state_u64(s, p->token);
        state_u64(s, p->inode);
        state_u64(s, p->start_time);
        state_u32(s, (uint32_t)p->pid);
        state_fd(s, p->pidfd.fd);
        state_u32(s, p->pidfd.events); /* another process' child: its end comes as an event */
        state_u32(s, (uint32_t)(p->exited | p->acknowledged << 1 | p->known << 2 | p->releasing << 3));
        state_u32(s, (uint32_t)p->status);
        state_u64(s, p->time);
        state_u64(s, p->user);
        state_u64(s, p->system);
        state_u64(s, p->maxrss);
        state_u64(s, p->drain.at);
        state_u32(s, KINDS);
        for (int kind = 0; kind < KINDS; kind++)
            state_fd(s, p->ends[kind]);
        save_copy(s, &p->in);
        save_copy(s, &p->out);
        save_copy(s, &p->err);
    }
}

static void timer_at(struct timer *t, uint64_t at)
{
    if (at)
        timer_set(t, at > now_ms() ? at - now_ms() : 0);
}

static void load_player(struct state_reader *s, bool trial)
{
    struct player *pl = calloc(1, sizeof *pl), **last = &players;
    if (!pl) {
        s->record.bad = true;
        return;
    }
    pl->token = get_u64(&s->record);
    pl->pid = (pid_t)get_u32(&s->record);
    pl->tape = state_get_fd(s);
    pl->deadline.fire = deadline_passed;
    uint64_t at = get_u64(&s->record);
    if (trial) {
        free(pl);
        return;
    }
    timer_at(&pl->deadline, at);
    while (*last)
        last = &(*last)->next;
    *last = pl;
    keel.playing++;
}

static void load_proc(struct state_reader *s, bool trial)
{
    struct reader *r = &s->record;
    struct proc *p = calloc(1, sizeof *p), **last = &procs;
    if (!p) {
        r->bad = true;
        return;
    }
    p->token = get_u64(r);
    p->inode = get_u64(r);
    p->start_time = get_u64(r);
    p->pid = (pid_t)get_u32(r);
    p->pidfd = (struct source){.fd = state_get_fd(s), .ready = foreign_exit};
    uint32_t events = get_u32(r), bits = get_u32(r);
    p->exited = bits & 1;
    p->acknowledged = bits & 2;
    p->known = bits & 4;
    p->releasing = bits & 8;
    p->status = (int32_t)get_u32(r);
    p->time = get_u64(r);
    p->user = get_u64(r);
    p->system = get_u64(r);
    p->maxrss = get_u64(r);
    p->probe.fire = probe_again;
    p->drain.fire = drain_late;
    uint64_t drain = get_u64(r);
    uint32_t kinds = get_u32(r);
    for (uint32_t kind = 0; kind < KINDS || kind < kinds; kind++) {
        int fd = kind < kinds ? state_get_fd(s) : -1;
        if (kind < KINDS)
            p->ends[kind] = fd;
        if (r->bad)
            break;
    }
    load_copy(s, &p->in, trial ? NULL : p);
    load_copy(s, &p->out, trial ? NULL : p);
    load_copy(s, &p->err, trial ? NULL : p);
    if (trial || r->bad) {
        free(p);
        return;
    }
    while (*last)
        last = &(*last)->next;
    *last = p;
    keel.known++;
    keel.alive += !p->exited;
    timer_at(&p->drain, drain);
    if (events && p->pidfd.fd >= 0)
        watch(&p->pidfd, events);
    if (p->exited)
        timer_set(&p->probe, 10);
}

bool procs_load(struct state_reader *s, uint32_t type, bool trial)
{
    if (type == RECORD_REGISTRATION) {
        receiver = (struct source){.fd = state_get_fd(s), .ready = registration_ready};
        sender = state_get_fd(s);
        if (!trial)
            watch(&receiver, EPOLLIN);
    } else if (type == RECORD_PLAYER) {
        load_player(s, trial);
    } else if (type == RECORD_PROC) {
        load_proc(s, trial);
    }
    return type >= RECORD_REGISTRATION && type <= RECORD_PROC;
}

/* --- a forced stop --- */

static void stop_done(int result)
{
    stopping = false;
    timer_clear(&stop_timer);
    reply(stop_request, result, NULL, 0);
    if (!result)
        keel_end();
}

static void stop_late(struct timer *t)
{
    (void)t;
    log_line("error", "msg=\"a forced stop took too long\" containers=%u players=%u", keel.alive, keel.playing);
    stop_done(keel.alive || keel.playing ? -ETIMEDOUT : 0);
}

/* wherryd cleans up after each exit and then acknowledges it, so all acknowledged is all cleaned up. */
static void stop_check(void)
{
    if (!stopping || keel.alive || keel.playing)
        return;
    for (struct proc *p = procs; p; p = p->next)
        if (!p->acknowledged)
            return;
    stop_done(0);
}

void procs_kill(uint64_t request)
{
    stopping = true;
    stop_request = request;
    timer_set(&stop_timer, STOP_GRACE);
    for (struct proc *p = procs; p; p = p->next)
        if (!p->exited)
            syscall(SYS_pidfd_send_signal, p->pidfd.fd, SIGKILL, NULL, 0);
    for (struct player *pl = players; pl; pl = pl->next)
        kill(-pl->pid, SIGKILL);
}
