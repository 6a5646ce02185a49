/* Players and registered processes are handed on to the keel that comes after this one. */
#define _GNU_SOURCE
#include "keel_proc.h"

#include <stdlib.h>
#include <sys/epoll.h>

#include "state.h"

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
