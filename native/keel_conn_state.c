/* Listeners, connections and their unanswered calls are handed on to the keel that comes after this one. */
#define _GNU_SOURCE
#include "keel_conn.h"

#include <stdlib.h>

#include "state.h"

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
