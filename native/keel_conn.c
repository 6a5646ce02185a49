/* Connections, and cutting what comes in into whole frames. */
#define _GNU_SOURCE
#include "keel_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "guard.h"

#define TTRPC_MAX (TTRPC_HEADER + (4u << 20))
#define CALLS_MAX (16u << 20) /* bytes of unanswered calls; the connection is not read on then */
#define TOLD_MAX 5 /* wherryds that may die over one call */

struct conn **conns;
size_t conns_size;
uint64_t serial;
static bool paused;
static const char *refusal; /* wherryd does not come up: what callers are told */

void conn_events(struct conn *c)
{
    bool read = c->finishing || (!paused && c->calls.bytes < CALLS_MAX);
    watch(&c->source, (read ? EPOLLIN : 0) | (buf_len(&c->out) ? EPOLLOUT : 0));
}

static void conn_close(struct conn *c, bool report)
{
    if (report)
        tell(FROM_KEEL_CONN_CLOSE, c->id, NULL, 0, NULL, 0);
    conns[c->source.fd] = NULL;
    keel.connections--;
    keel.clients -= c->kind == CONNECTION_KIND_CLIENT;
    guard_poke();
    unwatch(&c->source);
    buf_free(&c->out);
    buf_free(&c->cutter.partial);
    calls_free(&c->calls);
    free(c);
    idle_check();
}

struct conn *conn_by_id(uint64_t id)
{
    size_t fd = id & 0xfffff;
    return fd < conns_size && conns[fd] && conns[fd]->id == id ? conns[fd] : NULL;
}

/* A peer that is gone or reads nothing is closed by its end-of-file event, so that no caller loses what it holds. */
static void conn_write(struct conn *c, const struct iovec *iov, int n)
{
    size_t before = buf_len(&c->out);
    if (send_or_queue(c->source.fd, &c->out, iov, n, CONN_QUEUE_MAX) < 0) {
        if (errno == ENOBUFS)
            log_line("warn", "msg=\"connection closed: its peer reads nothing\" connection=%llu",
                     (unsigned long long)c->id);
        buf_free(&c->out);
        shutdown(c->source.fd, SHUT_RDWR);
    }
    if (!before != !buf_len(&c->out))
        conn_events(c);
}

static void answer_failure(struct conn *c, uint32_t stream, uint8_t code, const char *text)
{
    uint8_t frame[TTRPC_FAILURE_MAX];
    size_t size = ttrpc_failure(frame, stream, code, text);
    conn_write(c, &(struct iovec){frame, size}, 1);
}

/* Its command has not begun: it prints why, and ends. */
static void refuse_client(struct conn *c, const char *why)
{
    uint8_t out[HEADER_SIZE + 1] = {0}, leave[HEADER_SIZE + 4] = {0};
    static const char name[] = "wherry: ", end[] = "\n";
    if (c->finishing)
        return;
    c->finishing = true;
    frame_header(out, (uint32_t)(1 + strlen(name) + strlen(why) + strlen(end)), TO_CLIENT_OUT, 0);
    out[HEADER_SIZE] = 2;
    frame_header(leave, 4, TO_CLIENT_EXIT, 0);
    leave[HEADER_SIZE] = 1;
    struct iovec iov[] = {{out, sizeof out},           {(void *)name, strlen(name)}, {(void *)why, strlen(why)},
                          {(void *)end, strlen(end)}, {leave, sizeof leave}};
    conn_write(c, iov, 5);
}

/* Nobody but keel is there to answer. Calls that wait for the end of a process that runs go on waiting. */
static void refuse_call(struct conn *c, struct call *call, const char *why)
{
    struct buf answer = {0};
    if (c->kind != CONNECTION_KIND_TTRPC) {
        refuse_client(c, why);
        return call_drop(&c->calls, call);
    }
    bool answered = call_answer(&answer, c->listener, call);
    if (answered)
        conn_write(c, &(struct iovec){answer.data, buf_len(&answer)}, 1);
    else if (!call->waits)
        answer_failure(c, call->stream, CODE_UNAVAILABLE, why);
    buf_free(&answer);
    if (answered || !call->waits)
        call_drop(&c->calls, call);
}

static bool conn_frame(void *context, const uint8_t *frame, size_t size)
{
    struct conn *c = context;
    if (c->finishing)
        return true;
    if (c->kind == CONNECTION_KIND_TTRPC && (frame[8] < TTRPC_REQUEST || frame[8] > TTRPC_DATA))
        return true;
    if (!size) {
        log_line("warn", "msg=\"frame over the limit\" connection=%llu", (unsigned long long)c->id);
        if (c->kind == CONNECTION_KIND_CLIENT)
            return false;
        answer_failure(c, ttrpc_stream(frame), CODE_RESOURCE_EXHAUSTED, "message is over the limit of 4194304 bytes");
        return true;
    }
    if (c->kind == CONNECTION_KIND_TTRPC ? frame[8] == TTRPC_REQUEST : !c->acting) {
        struct call *call = call_add(&c->calls, frame, size, c->kind == CONNECTION_KIND_TTRPC);
        if (!call)
            log_line("error", "msg=\"no memory to keep a call\"");
        else if (refusal)
            refuse_call(c, call, refusal);
        else
            call->told = keel.ready;
        if (c->calls.bytes >= CALLS_MAX)
            conn_events(c);
    }
    tell(FROM_KEEL_CONN_DATA, c->id, frame, size, NULL, 0);
    return true;
}

static void conn_ready(struct source *s, uint32_t events)
{
    struct conn *c = (struct conn *)s;
    if (events & EPOLLOUT) {
        if (flush_queue(s->fd, &c->out) < 0)
            buf_free(&c->out);
        if (!buf_len(&c->out)) {
            if (c->finishing)
                return conn_close(c, false);
            conn_events(c);
        }
    }
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    ssize_t n = recv(s->fd, scratch, sizeof scratch, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || (!c->finishing && !cut(&c->cutter, scratch, (size_t)n, conn_frame, c)))
        conn_close(c, !c->finishing);
}

/* The player and the registration socket ride on the first frame, so that a client can play tapes itself. */
static void greet_client(struct conn *c)
{
    struct buf body = {0};
    uint8_t header[HEADER_SIZE];
    if (!put_str(&body, WHERRY_BUILD))
        return;
    frame_header(header, (uint32_t)buf_len(&body), TO_CLIENT_HELLO, 0);
    struct iovec iov[] = {{header, sizeof header}, {body.data, buf_len(&body)}};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&msg);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(rights), (int[]){keel.player, registration_sender()}, 2 * sizeof(int));
    if (sendmsg(c->source.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        shutdown(c->source.fd, SHUT_RDWR);
    buf_free(&body);
}

static void tell_open(const struct conn *c)
{
    struct {
        uint8_t kind;
        uint32_t pid, uid, gid;
        uint64_t listener;
    } __attribute__((packed)) who = {c->kind, (uint32_t)c->peer.pid, c->peer.uid, c->peer.gid, c->listener};
    tell(FROM_KEEL_CONN_OPEN, c->id, &who, sizeof who, NULL, 0);
}

struct conn *conn_new(int fd, uint8_t kind)
{
    if ((size_t)fd >= conns_size) {
        size_t size = (size_t)fd * 2;
        struct conn **grown = realloc(conns, size * sizeof *conns);
        if (!grown) {
            close(fd);
            return NULL;
        }
        memset(grown + conns_size, 0, (size - conns_size) * sizeof *conns);
        conns = grown;
        conns_size = size;
    }
    struct conn *c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return NULL;
    }
    bool client = kind == CONNECTION_KIND_CLIENT;
    *c = (struct conn){.source = {.fd = fd, .ready = conn_ready}, .kind = kind};
    c->cutter = client ? (struct cutter){.header = HEADER_SIZE, .max = MAX_FRAME, .size = link_frame_size}
                       : (struct cutter){.header = TTRPC_HEADER, .max = TTRPC_MAX, .size = ttrpc_frame_size};
    conns[fd] = c;
    keel.connections++;
    keel.clients += client;
    return c;
}

void conn_open(int fd, const struct listener *l, const struct ucred *peer)
{
    struct conn *c = conn_new(fd, l->kind);
    if (!c)
        return;
    c->id = ++serial << 20 | (uint64_t)fd;
    c->listener = l->id;
    c->peer = *peer;
    conn_events(c);
    if (c->kind == CONNECTION_KIND_CLIENT)
        greet_client(c);
    tell_open(c);
    idle_check();
    if (!paused)
        conn_ready(&c->source, EPOLLIN); /* what it asked may be there already */
}

void conn_send(uint64_t id, const uint8_t *bytes, size_t n)
{
    struct conn *c = conn_by_id(id);
    if (!c || c->finishing)
        return;
    bool held = c->calls.bytes >= CALLS_MAX;
    if (c->kind == CONNECTION_KIND_TTRPC)
        calls_answered(&c->calls, bytes, n);
    conn_write(c, &(struct iovec){(void *)bytes, n}, 1);
    if (held)
        conn_events(c);
}

void conn_acting(uint64_t id)
{
    struct conn *c = conn_by_id(id);
    if (!c || c->kind != CONNECTION_KIND_CLIENT)
        return;
    c->acting = true;
    calls_free(&c->calls);
    conn_events(c);
}

bool *conn_acted(uint64_t id, uint32_t stream)
{
    struct conn *c = conn_by_id(id);
    struct call *call = c ? call_find(&c->calls, stream) : NULL;
    return call ? &call->acted : NULL;
}

void conn_finish(uint64_t id)
{
    struct conn *c = conn_by_id(id);
    if (!c)
        return;
    c->finishing = true;
    if (buf_len(&c->out))
        conn_events(c);
    else
        conn_close(c, false);
}

void conns_pause(bool pause)
{
    if (paused == pause)
        return;
    paused = pause;
    for (size_t fd = 0; fd < conns_size; fd++)
        if (conns[fd])
            conn_events(conns[fd]);
    accept_when_ready();
}

void conns_orphaned(void)
{
    for (size_t fd = 0; fd < conns_size; fd++)
        if (conns[fd] && conns[fd]->acting)
            conn_close(conns[fd], false);
}

void conns_refuse(const char *why)
{
    refusal = why;
    for (size_t fd = 0; why && fd < conns_size; fd++)
        for (struct call *call = conns[fd] ? conns[fd]->calls.first : NULL, *next; call; call = next) {
            next = call->next;
            refuse_call(conns[fd], call, why);
        }
    accept_when_ready();
}

void conns_exited(void)
{
    if (refusal)
        conns_refuse(refusal);
}

/* Calls whose callers have given up meanwhile are not done any more. */
void conns_report(void)
{
    for (size_t fd = 0; fd < conns_size; fd++) {
        struct conn *c = conns[fd];
        if (!c || c->finishing)
            continue;
        tell_open(c);
        for (struct call *call = c->calls.first, *next; call; call = next) {
            next = call->next;
            if (call->until && call->until <= now_ms())
                call_drop(&c->calls, call);
            else if (call->told++ >= TOLD_MAX && !call->waits && c->kind == CONNECTION_KIND_TTRPC)
                refuse_call(c, call, "wherryd has died over this call several times; see its log");
            else
                tell(FROM_KEEL_CONN_DATA, c->id, call->frame, call->size, NULL, 0);
        }
        conn_events(c);
    }
}

uint32_t clients_acting(void)
{
    uint32_t n = 0;
    for (size_t fd = 0; fd < conns_size; fd++)
        n += conns[fd] && conns[fd]->acting;
    return n;
}

void conns_close(void)
{
    for (size_t fd = 0; fd < conns_size; fd++)
        if (conns[fd])
            conn_close(conns[fd], false);
}

bool conns_taken(void)
{
    return (keel.ready || refusal) && !paused;
}
