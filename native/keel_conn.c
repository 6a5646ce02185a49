/* Sockets: listeners, connections, and cutting what comes in into whole frames. */
#define _GNU_SOURCE
#include "keel.h"
#include "guard.h"
#include "keel_calls.h"
#include "state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TTRPC_MAX (TTRPC_HEADER + (4u << 20))
#define BACKLOG 4096
#define CALLS_MAX (16u << 20) /* bytes of unanswered calls; the connection is not read on then */
#define TOLD_MAX 5 /* wherryds that may die over one call */

struct listener {
    struct source source;
    uint64_t id;
    uint8_t kind;
    char path[sizeof ((struct sockaddr_un *)0)->sun_path];
    struct listener *next;
};

struct conn {
    struct source source;
    uint64_t id; /* serial << 20 | descriptor */
    uint64_t listener;
    struct ucred peer;
    uint8_t kind;
    bool finishing;
    bool acting; /* a client whose command has begun: it cannot begin again */
    struct calls calls;
    struct cutter cutter;
    struct buf out;
};

static struct listener *listeners;
static struct conn **conns; /* by descriptor */
static size_t conns_size;
static uint64_t serial;
static bool paused;
static const char *refusal; /* wherryd does not come up: what callers are told */

static void accept_again(struct timer *t);
static struct timer full = {.fire = accept_again};

/* --- connections --- */

static void conn_events(struct conn *c)
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

static struct conn *conn_by_id(uint64_t id)
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

/* A connection in its place; NULL: no memory, and fd is closed. */
static struct conn *conn_new(int fd, uint8_t kind)
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

static void conn_open(int fd, const struct listener *l, const struct ucred *peer)
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

/* --- listeners --- */

static void accept_again(struct timer *t)
{
    (void)t;
    accept_when_ready();
}

void accept_when_ready(void)
{
    bool open = (keel.ready || refusal) && !paused && !full.at;
    for (struct listener *l = listeners; l; l = l->next)
        watch(&l->source, open ? EPOLLIN : 0);
}

static void listener_ready(struct source *s, uint32_t events)
{
    struct listener *l = (struct listener *)s;
    struct ucred peer;
    socklen_t size = sizeof peer;
    (void)events;
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            log_line("error", "msg=\"cannot accept: %s\" path=\"%s\"", strerror(errno), l->path);
            timer_set(&full, 100);
            accept_when_ready();
        }
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || (peer.uid && peer.uid != geteuid())) {
        log_line("warn", "msg=\"connection refused: not our user\" path=\"%s\" uid=%u", l->path, peer.uid);
        close(fd);
        return;
    }
    conn_open(fd, l, &peer);
}

static int listener_add(uint64_t id, uint8_t kind, const char *path)
{
    struct listener *l = calloc(1, sizeof *l);
    int fd = l ? listen_at(path, BACKLOG) : -ENOMEM;
    if (fd < 0) {
        free(l);
        return fd;
    }
    *l = (struct listener){.source = {.fd = fd, .ready = listener_ready}, .id = id, .kind = kind, .next = listeners};
    strcpy(l->path, path);
    listeners = l;
    watch(&l->source, 0);
    accept_when_ready();
    return 0;
}

static struct listener **listener_at(uint64_t id)
{
    struct listener **p = &listeners;
    while (*p && ((*p)->kind != CONNECTION_KIND_TTRPC || (*p)->id != id))
        p = &(*p)->next;
    return p;
}

int listener_open(uint64_t id, const char *path)
{
    char folder[sizeof ((struct listener *)0)->path];
    for (struct listener *l = listeners; l; l = l->next) {
        bool same = l->kind == CONNECTION_KIND_TTRPC && l->id == id;
        if (same && strcmp(l->path, path))
            return -EEXIST;
        if (!strcmp(l->path, path) && l->kind == CONNECTION_KIND_TTRPC) {
            l->id = id; /* a wherryd that died before it could write the old one down */
            return 0;
        }
        if (!strcmp(l->path, path))
            return -EADDRINUSE;
    }
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || strlen(path) >= sizeof folder)
        return path[0] == '/' ? -ENAMETOOLONG : -EINVAL;
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = 0;
    int failed = folder[0] ? make_dirs(folder, 0700) : 0;
    if (failed)
        return failed;
    int fd = unix_connect(path, SOCK_NONBLOCK);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || fd == -EAGAIN)
        return -EADDRINUSE;
    if (fd == -ECONNREFUSED)
        unlink(path);
    return listener_add(id, CONNECTION_KIND_TTRPC, path);
}

static void listener_drop(struct listener **at)
{
    struct listener *l = *at;
    *at = l->next;
    unlink(l->path);
    unwatch(&l->source);
    free(l);
}

int listener_close(uint64_t id)
{
    struct listener **at = listener_at(id);
    if (!*at)
        return -ENOENT;
    listener_drop(at);
    return 0;
}

int own_socket_open(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/keel.sock", keel.run_dir);
    unlink(path);
    return listener_add(0, CONNECTION_KIND_CLIENT, path);
}

void listeners_close(void)
{
    char path[4096];
    while (listeners)
        listener_drop(&listeners);
    snprintf(path, sizeof path, "%s/grpc.sock", keel.run_dir);
    unlink(path);
    close(grpc_socket);
}

/* --- handing on --- */

enum { RECORD_LISTENER = 10, RECORD_CONN = 11, RECORD_CALL = 12 };

static void save_conn(struct state *s, const struct conn *c)
{
    const struct buf *out = &c->out, *partial = &c->cutter.partial;
    state_record(s, RECORD_CONN);
    state_fd(s, c->source.fd);
    state_u64(s, c->id);
    state_u64(s, c->listener);
    state_u32(s, (uint32_t)c->peer.pid);
    state_u32(s, c->peer.uid);
    state_u32(s, c->peer.gid);
    state_u32(s, c->kind);
    state_u32(s, (uint32_t)(c->finishing | c->acting << 1));
    state_u64(s, c->cutter.skip);
    state_bytes(s, out->data + out->head, buf_len(out));
    state_bytes(s, partial->data + partial->head, buf_len(partial));
    for (const struct call *call = c->calls.first; call; call = call->next) {
        state_record(s, RECORD_CALL);
        state_u64(s, c->id);
        state_u32(s, call->told);
        state_u32(s, call->acted);
        state_u64(s, call->until);
        state_bytes(s, call->frame, call->size);
    }
}

void conns_save(struct state *s)
{
    for (const struct listener *l = listeners; l; l = l->next) {
        state_record(s, RECORD_LISTENER);
        state_u64(s, serial);
        state_fd(s, l->source.fd);
        state_u64(s, l->id);
        state_u32(s, l->kind);
        state_text(s, l->path);
    }
    for (size_t fd = 0; fd < conns_size; fd++)
        if (conns[fd])
            save_conn(s, conns[fd]);
}

static void load_listener(struct state_reader *s, bool check)
{
    struct listener *l = calloc(1, sizeof *l);
    serial = get_u64(&s->record);
    int fd = state_get_fd(s);
    uint64_t id = get_u64(&s->record);
    uint8_t kind = (uint8_t)get_u32(&s->record);
    if (l)
        get_str(&s->record, l->path, sizeof l->path);
    s->record.bad |= !l;
    if (check || !l) {
        free(l);
        return;
    }
    l->source = (struct source){.fd = fd, .ready = listener_ready};
    l->id = id;
    l->kind = kind;
    l->next = listeners;
    listeners = l;
    watch(&l->source, 0);
}

static void load_conn(struct state_reader *s, bool check)
{
    struct reader *r = &s->record;
    size_t unsent, begun;
    int fd = state_get_fd(s);
    uint64_t id = get_u64(r), listener = get_u64(r);
    struct ucred peer = {.pid = (pid_t)get_u32(r)};
    peer.uid = get_u32(r);
    peer.gid = get_u32(r);
    uint8_t kind = (uint8_t)get_u32(r);
    uint32_t bits = get_u32(r);
    uint64_t skip = get_u64(r);
    const uint8_t *out = state_get_bytes(s, &unsent), *partial = state_get_bytes(s, &begun);
    struct conn *c = check || r->bad || fd < 0 ? NULL : conn_new(fd, kind);
    if (!c)
        return;
    c->id = id;
    c->listener = listener;
    c->peer = peer;
    c->finishing = bits & 1;
    c->acting = bits & 2;
    c->cutter.skip = skip;
    if (!buf_put(&c->out, out, unsent) || !buf_put(&c->cutter.partial, partial, begun))
        shutdown(fd, SHUT_RDWR);
    conn_events(c);
}

static void load_call(struct state_reader *s, bool check)
{
    size_t n;
    uint64_t id = get_u64(&s->record);
    uint32_t told = get_u32(&s->record), acted = get_u32(&s->record);
    uint64_t until = get_u64(&s->record);
    const uint8_t *frame = state_get_bytes(s, &n);
    struct conn *c = check || s->record.bad ? NULL : conn_by_id(id);
    bool ttrpc = c && c->kind == CONNECTION_KIND_TTRPC;
    struct call *call = c && n >= (ttrpc ? TTRPC_HEADER : HEADER_SIZE) ? call_add(&c->calls, frame, n, ttrpc) : NULL;
    if (!call)
        return;
    call->told = told;
    call->acted = acted;
    call->until = until;
    conn_events(c);
}

bool conns_load(struct state_reader *s, uint32_t type, bool check)
{
    if (type == RECORD_LISTENER)
        load_listener(s, check);
    else if (type == RECORD_CONN)
        load_conn(s, check);
    else if (type == RECORD_CALL)
        load_call(s, check);
    return type >= RECORD_LISTENER && type <= RECORD_CALL;
}
