/*
 * What keel answers itself while wherryd does not come up: task.State, Connect, Pids, Kill with SIGKILL, and Wait
 * for a process that has ended. For each process wherryd deposits what it would answer to State; keel adds what it
 * knows better, since of a field that comes twice the last one counts in protobuf. keel_conn.c refuses everything else.
 */
#define _GNU_SOURCE
#include "keel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keel_calls.h"
#include "state.h"

#define BUCKETS 1024
#define NS_PER_S 1000000000ULL
#define NS_PER_MS 1000000ULL /* wherryd tells no shorter times */
#define PATH_SIZE 4096
#define UNKNOWN_STATUS 255 /* nobody told keel how it ended */

/* Of containerd's messages. */
enum { RESPONSE_PAYLOAD = 2 };
enum { STATE_PID = 3, STATE_STATUS = 4, STATE_EXIT_STATUS = 9, STATE_EXITED_AT = 10 };
enum { WAIT_EXIT_STATUS = 1, WAIT_EXITED_AT = 2 };
enum { CONNECT_SHIM_PID = 1, CONNECT_TASK_PID = 2 };
enum { PIDS_PROCESSES = 1, INFO_PID = 1 };
enum { ASKED_ID = 1, ASKED_EXEC_ID = 2, ASKED_SIGNAL = 3 };
enum { CREATED = 1, RUNNING = 2, STOPPED = 3 }; /* containerd.v1.types.Status */

struct text {
    const uint8_t *at;
    size_t n;
};

struct deposit {
    uint64_t token;
    struct facts last; /* pid 0: of a process that is still registered, or has never been */
    bool stale;        /* this wherryd has not named it yet */
    struct deposit *next;
    size_t size;
    uint8_t order[]; /* as it came: docs/internals.md, DEPOSIT */
};

/* The fields of an order. */
struct fields {
    uint64_t listener;
    uint32_t status, pid;
    struct text id, exec, fifo, state;
};

static struct deposit *deposits[BUCKETS];

static struct text get_text(struct reader *r)
{
    struct text t = {.n = get_u32(r)};
    if (r->bad || t.n > (size_t)(r->end - r->at)) {
        r->bad = true;
        return (struct text){0};
    }
    t.at = r->at;
    r->at += t.n;
    return t;
}

static bool read_order(const uint8_t *order, size_t n, struct fields *f)
{
    struct reader r = {.at = order, .end = order + n};
    f->listener = get_u64(&r);
    f->status = get_u32(&r);
    f->pid = get_u32(&r);
    f->id = get_text(&r);
    f->exec = get_text(&r);
    f->fifo = get_text(&r);
    f->state = (struct text){r.at, (size_t)(r.end - r.at)};
    return !r.bad && f->fifo.n < PATH_SIZE;
}

/* --- the deposits --- */

static struct deposit **deposit_at(uint64_t token)
{
    struct deposit **at = &deposits[token % BUCKETS];
    while (*at && (*at)->token != token)
        at = &(*at)->next;
    return at;
}

void deposit_drop(uint64_t token)
{
    struct deposit **at = deposit_at(token), *d = *at;
    if (d) {
        *at = d->next;
        free(d);
    }
}

void deposit_put(uint64_t token, const uint8_t *order, size_t n)
{
    struct fields f;
    struct deposit **at = deposit_at(token), *d = read_order(order, n, &f) ? malloc(sizeof *d + n) : NULL;
    if (!d) {
        log_line("error", "msg=\"deposit refused: no memory, or not as docs/internals.md has it\" token=%llu",
                 (unsigned long long)token);
        return;
    }
    *d = (struct deposit){.token = token, .size = n};
    memcpy(d->order, order, n);
    if (*at)
        d->last = (*at)->last;
    deposit_drop(token);
    d->next = *at;
    *at = d;
}

void deposits_expect(void)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct deposit *d = deposits[i]; d; d = d->next)
            d->stale = true;
}

void deposits_settle(void)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct deposit *d = deposits[i], *next; d; d = next) {
            next = d->next;
            if (d->stale)
                deposit_drop(d->token);
        }
}

void deposit_facts(uint64_t token, const struct facts *f)
{
    struct deposit *d = *deposit_at(token);
    if (d)
        d->last = *f;
}

static bool same(struct text a, struct text b)
{
    return a.n == b.n && (!a.n || !memcmp(a.at, b.at, a.n));
}

/* A listener is one namespace's of one containerd, so with its id a process has a full name. */
static const struct deposit *find(uint64_t listener, struct text id, struct text exec, struct fields *f)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct deposit *d = deposits[i]; d; d = d->next)
            if (read_order(d->order, d->size, f) && f->listener == listener && same(f->id, id) && same(f->exec, exec))
                return d;
    return NULL;
}

/* --- answers --- */

static bool put_varint(struct buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; v > 0x7f; v >>= 7)
        bytes[n++] = (uint8_t)(v | 0x80);
    bytes[n++] = (uint8_t)v;
    return buf_put(b, bytes, n);
}

static bool put_number(struct buf *b, unsigned field, uint64_t v)
{
    return put_varint(b, field << 3) && put_varint(b, v);
}

static bool put_bytes(struct buf *b, unsigned field, const void *bytes, size_t n)
{
    return put_varint(b, field << 3 | 2) && put_varint(b, n) && buf_put(b, bytes, n);
}

/* Both fields of google.protobuf.Timestamp, since messages are merged. */
static bool put_time(struct buf *b, unsigned field, uint64_t ns)
{
    struct buf time = {0};
    bool good = put_number(&time, 1, ns / NS_PER_S) && put_number(&time, 2, ns % NS_PER_S / NS_PER_MS * NS_PER_MS) &&
                put_bytes(b, field, time.data, buf_len(&time));
    buf_free(&time);
    return good;
}

static uint32_t exit_code(const struct facts *f)
{
    if (!f->known)
        return UNKNOWN_STATUS;
    return (uint32_t)(WIFSIGNALED(f->status) ? 128 + WTERMSIG(f->status) : WEXITSTATUS(f->status));
}

/* An init that waits to be started has a FIFO, which goes with the start; an exec has none. */
static bool started(const struct fields *f)
{
    char path[PATH_SIZE];
    struct stat st;
    memcpy(path, f->fifo.at, f->fifo.n);
    path[f->fifo.n] = 0;
    return !f->fifo.n || lstat(path, &st) < 0;
}

static bool state_answer(struct buf *b, const struct fields *f, const struct facts *now)
{
    bool runs = f->status == CREATED && now->pid && started(f);
    uint32_t status = now->exited ? STOPPED : runs ? RUNNING : f->status;
    return buf_put(b, f->state.at, f->state.n) && put_number(b, STATE_STATUS, status) &&
           (!now->pid || put_number(b, STATE_PID, (uint32_t)now->pid)) &&
           (!now->exited || (put_number(b, STATE_EXIT_STATUS, exit_code(now)) &&
                             put_time(b, STATE_EXITED_AT, now->time)));
}

static bool wait_answer(struct buf *b, const struct facts *now)
{
    return now->exited && put_number(b, WAIT_EXIT_STATUS, exit_code(now)) && put_time(b, WAIT_EXITED_AT, now->time);
}

/* 0; ESRCH: it has ended; or another errno: wherryd's to decide, as of a frozen process, which SIGKILL may not reach */
static int kill_answer(uint64_t token, const struct fields *f, const struct facts *now)
{
    if (now->exited || f->status == STOPPED)
        return ESRCH;
    if (!now->pid || (f->status != CREATED && f->status != RUNNING))
        return EAGAIN;
    return -proc_signal(token, SIGKILL);
}

/* The processes that keel knows: of an init's and execs' children it knows nothing. */
static bool pids_answer(struct buf *b, const struct fields *asked)
{
    struct fields f;
    struct facts now;
    bool good = true;
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct deposit *d = deposits[i]; d && good; d = d->next) {
            bool init = read_order(d->order, d->size, &f) && !f.exec.n;
            if (f.listener != asked->listener || !same(f.id, asked->id))
                continue;
            if (!proc_facts(d->token, &now))
                now = d->last;
            struct buf info = {0};
            if (now.pid ? init || !now.exited : init && f.pid)
                good = put_number(&info, INFO_PID, now.pid ? (uint32_t)now.pid : f.pid) &&
                       put_bytes(b, PIDS_PROCESSES, info.data, buf_len(&info));
            buf_free(&info);
        }
    return good;
}

static bool is(struct text t, const char *word)
{
    return t.n == strlen(word) && !memcmp(t.at, word, t.n);
}

static bool put_response(struct buf *out, uint32_t stream, const struct buf *body)
{
    struct buf response = {0};
    uint8_t header[TTRPC_HEADER] = {0};
    bool good = put_bytes(&response, RESPONSE_PAYLOAD, body->data + body->head, buf_len(body));
    uint32_t size = htonl((uint32_t)buf_len(&response));
    stream = htonl(stream);
    memcpy(header, &size, 4);
    memcpy(header + 4, &stream, 4);
    header[8] = TTRPC_RESPONSE;
    good = good && buf_put(out, header, sizeof header) && buf_put(out, response.data, buf_len(&response));
    buf_free(&response);
    return good;
}

static bool put_failure(struct buf *out, uint32_t stream, const char *text)
{
    uint8_t frame[TTRPC_FAILURE_MAX];
    return buf_put(out, frame, ttrpc_failure(frame, stream, CODE_NOT_FOUND, text));
}

/* The last of each field of ttrpc's Request, or of a request of the task service; `signal` of Kill's. */
static void read_texts(struct text message, struct text *texts, uint64_t count, uint64_t *signal)
{
    struct proto_field field;
    for (const uint8_t *at = message.at; message.n && proto_next(&at, message.at + message.n, &field);)
        if (field.bytes && field.number < count)
            texts[field.number] = (struct text){field.bytes, field.value};
        else if (!field.bytes && field.number == ASKED_SIGNAL && signal)
            *signal = field.value;
}

bool call_answer(struct buf *out, uint64_t listener, const struct call *call)
{
    struct text request[REQUEST_PAYLOAD + 1] = {0}, asked[ASKED_EXEC_ID + 1] = {0};
    struct text whole = {call->frame + TTRPC_HEADER, call->size - TTRPC_HEADER};
    uint64_t signal = 0;
    read_texts(whole, request, REQUEST_PAYLOAD + 1, NULL);
    if (!is(request[REQUEST_SERVICE], "containerd.task.v2.Task") &&
        !is(request[REQUEST_SERVICE], "containerd.task.v3.Task"))
        return false;
    read_texts(request[REQUEST_PAYLOAD], asked, ASKED_EXEC_ID + 1, &signal);

    struct fields f;
    struct facts now;
    const struct deposit *d = find(listener, asked[ASKED_ID], asked[ASKED_EXEC_ID], &f);
    if (!d)
        return false;
    if (!proc_facts(d->token, &now))
        now = d->last;
    struct text method = request[REQUEST_METHOD];
    struct buf body = {0};
    bool good = false;
    if (is(method, "State")) {
        good = state_answer(&body, &f, &now);
    } else if (is(method, "Wait")) {
        good = wait_answer(&body, &now);
    } else if (is(method, "Connect")) {
        good = put_number(&body, CONNECT_SHIM_PID, (uint32_t)getpid()) &&
               put_number(&body, CONNECT_TASK_PID, now.pid ? (uint32_t)now.pid : f.pid);
    } else if (is(method, "Pids")) {
        good = pids_answer(&body, &f);
    } else if (is(method, "Kill") && (signal == SIGKILL || call->acted)) {
        int failed = call->acted ? 0 : kill_answer(d->token, &f, &now);
        if (failed == ESRCH)
            return put_failure(out, call->stream, "process already finished");
        good = !failed;
    }
    good = good && put_response(out, call->stream, &body);
    buf_free(&body);
    return good;
}

/* --- handing on --- */

enum { RECORD_DEPOSIT = 30 };

void deposits_save(struct state *s)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct deposit *d = deposits[i]; d; d = d->next) {
            state_record(s, RECORD_DEPOSIT);
            state_u64(s, d->token);
            state_bytes(s, d->order, d->size);
            state_u32(s, (uint32_t)d->last.pid);
            state_u32(s, (uint32_t)(d->last.exited | d->last.known << 1));
            state_u32(s, (uint32_t)d->last.status);
            state_u64(s, d->last.time);
        }
}

bool deposits_load(struct state_reader *s, uint32_t type, bool check)
{
    size_t n;
    if (type != RECORD_DEPOSIT)
        return false;
    uint64_t token = get_u64(&s->record);
    const uint8_t *order = state_get_bytes(s, &n);
    struct facts last = {.pid = (pid_t)get_u32(&s->record)};
    uint32_t bits = get_u32(&s->record);
    last.exited = bits & 1;
    last.known = bits & 2;
    last.status = (int32_t)get_u32(&s->record);
    last.time = get_u64(&s->record);
    if (!check && !s->record.bad) {
        deposit_put(token, order, n);
        deposit_facts(token, &last);
    }
    return true;
}
