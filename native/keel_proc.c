/* Players, the processes that have registered, their exits and the stream ends kept for them. */
#define _GNU_SOURCE
#include "keel_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fifo.h"
#include "pidinfo.h"
#include "spawn.h"

#define STOP_GRACE 10000 /* ms for a forced stop, the cleaning up by wherryd included */

struct player *players;
struct proc *procs;

static uint64_t stop_request;
static bool stopping;
static void stop_late(struct timer *t);
static struct timer stop_timer = {.fire = stop_late};
static void stop_check(void);

static struct player *player_by_token(uint64_t token)
{
    struct player *pl = players;
    while (pl && pl->token != token)
        pl = pl->next;
    return pl;
}

struct proc *proc_by_token(uint64_t token)
{
    struct proc *p = procs;
    while (p && p->token != token)
        p = p->next;
    return p;
}

/* --- what wherryd is told --- */

void tell_registered(const struct proc *p)
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

static struct facts facts_of(const struct proc *p)
{
    return (struct facts){.pid = p->pid, .exited = p->exited, .known = p->known, .status = p->status, .time = p->time};
}

bool proc_facts(uint64_t token, struct facts *f)
{
    const struct proc *p = proc_by_token(token);
    if (p)
        *f = facts_of(p);
    return p;
}

/* --- kept stream ends --- */

void end_drop(struct proc *p, int kind)
{
    if (p->ends[kind] >= 0)
        close(p->ends[kind]);
    p->ends[kind] = -1;
}

static void proc_forget(struct proc *p)
{
    struct facts last = facts_of(p);
    deposit_facts(p->token, &last);
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
    /* Its player has a reader of its own until it ends, which is nobody who reads. */
    return player_by_token(p->token) || fifo_keep(&p->ends[reader], &p->ends[writer]) ? UNREAD : FREE;
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

void probe_again(struct timer *t)
{
    proc_settle((struct proc *)((char *)t - offsetof(struct proc, probe)));
}

/* Somebody still holds the other end, or nobody reads: the stream ends here. */
void drain_late(struct timer *t)
{
    proc_forget((struct proc *)((char *)t - offsetof(struct proc, drain)));
}

/* --- streams that keel carries --- */

void copied(void *owner)
{
    proc_settle(owner);
}

static int another(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

void streams_begin(struct proc *p)
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

void proc_exited(struct proc *p, int status, bool status_known, const struct rusage *usage)
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
    conns_exited();
}

/* The exit of a process that is another's child. */
void foreign_exit(struct source *s, uint32_t events)
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
    keel.playing--;
    struct proc *p = proc_by_token(pl->token);
    free(pl);
    if (p)
        proc_settle(p); /* it was taken for UNREAD as long as this player lived */
    idle_check();
    stop_check();
}

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

/* --- orders --- */

static void player_kill(const struct player *pl)
{
    kill(-pl->pid, SIGKILL); /* its group: it has not been reaped, so the number is its own */
    kill(pl->pid, SIGKILL);
}

void deadline_passed(struct timer *t)
{
    struct player *pl = (struct player *)((char *)t - offsetof(struct player, deadline));
    log_line("warn", "msg=\"player killed: its deadline has passed\" token=%llu", (unsigned long long)pl->token);
    player_kill(pl);
    registrations_read();
    proc_signal(pl->token, SIGKILL);
}

void player_cancel(uint64_t request, uint64_t token)
{
    struct player *pl = player_by_token(token);
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
