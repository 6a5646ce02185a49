/* Telling wherryd what happens, and doing what it orders. */
#define _GNU_SOURCE
#include "keel_link.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- frames to wherryd --- */

void tell(uint16_t type, uint64_t id, const void *head, size_t n, const void *tail, size_t m)
{
    uint8_t header[HEADER_SIZE];
    if (wherryd.source.fd < 0 || (!keel.ready && type != FROM_KEEL_HELLO))
        return;
    frame_header(header, (uint32_t)(n + m), type, id);
    struct iovec iov[] = {{header, sizeof header}, {(void *)head, n}, {(void *)tail, m}};
    bool empty = !buf_len(&wherryd.out);
    if (send_or_queue(wherryd.source.fd, &wherryd.out, iov, 3, LINK_QUEUE_MAX) < 0) {
        buf_free(&wherryd.out);
        shutdown(wherryd.source.fd, SHUT_RDWR); /* its end-of-file event does the rest */
    }
    if (empty && buf_len(&wherryd.out))
        watch(&wherryd.source, EPOLLIN | EPOLLOUT);
    if (buf_len(&wherryd.out) > LINK_QUEUE_HIGH)
        conns_pause(true);
}

void reply(uint64_t id, int32_t result, const void *body, size_t n)
{
    tell(FROM_KEEL_REPLY, id, &result, sizeof result, body, n);
}

void link_hello(void)
{
    struct buf body = {0};
    if (put_u32(&body, PROTOCOL_VERSION) && put_u32(&body, keel.service) && put_str(&body, WHERRY_BUILD) &&
        put_str(&body, keel.run_dir))
        tell(FROM_KEEL_HELLO, keel.started_ns, body.data, buf_len(&body), NULL, 0);
    buf_free(&body);
}

/* --- its orders --- */

/*
 * The call for which a one-time act is done follows the act's own fields: connection, stream. An act that was done for
 * it with success is not done again.
 */
static bool *acted_of(struct reader *r)
{
    if (r->bad || r->at == r->end)
        return NULL;
    uint64_t connection = get_u64(r);
    return conn_acted(connection, get_u32(r));
}

static int open_fifo(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return -errno;
    if (!S_ISFIFO(st.st_mode))
        return -EINVAL; /* opening anything else could do more than let a container go */
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    close(fd);
    unlink(path); /* without it the container counts as started, whoever dies next */
    return 0;
}

static int go(struct reader *r)
{
    char path[4096];
    get_str(r, path, sizeof path);
    bool *acted = acted_of(r);
    int result = r->bad ? -EINVAL : acted && *acted ? 0 : open_fifo(path);
    if (acted)
        *acted = !result;
    return result;
}

static int listen_order(struct reader *r)
{
    char path[4096];
    uint64_t id = get_u64(r);
    get_str(r, path, sizeof path);
    return r->bad ? -EINVAL : listener_open(id, path);
}

static int signal_order(struct reader *r)
{
    uint64_t token = get_u64(r);
    int signal = (int)get_u32(r);
    bool *acted = acted_of(r);
    int result = r->bad ? -EINVAL : acted && *acted ? 0 : proc_signal(token, signal);
    if (acted)
        *acted = !result;
    return result;
}

static int resize_order(struct reader *r)
{
    uint64_t token = get_u64(r);
    uint32_t rows = get_u32(r), cols = get_u32(r);
    return r->bad || rows > UINT16_MAX || cols > UINT16_MAX ? -EINVAL
                                                            : proc_resize(token, (uint16_t)rows, (uint16_t)cols);
}

static void release_order(uint64_t id, struct reader *r)
{
    uint64_t token = get_u64(r);
    deposit_drop(token);
    proc_release(id, token, get_u32(r));
}

static int adopt_order(struct reader *r)
{
    uint64_t token = get_u64(r);
    uint32_t pid = get_u32(r);
    uint64_t start_time = get_u64(r);
    return r->bad ? -EINVAL : proc_adopt(token, pid, start_time);
}

static void status_order(uint64_t id)
{
    struct {
        uint32_t pid, registered, players, connections;
        uint64_t started;
    } s = {(uint32_t)getpid(), keel.alive, keel.playing, keel.connections, keel.started_ns};
    struct buf body = {0};
    if (buf_put(&body, &s, sizeof s))
        upgrade_outcome(&body);
    reply(id, 0, body.data, buf_len(&body));
    buf_free(&body);
}

static void ready_order(struct reader *r)
{
    char build[256];
    get_str(r, build, sizeof build);
    keel.ready = true;
    wherryd.unready = 0;
    conns_refuse(NULL);
    deposits_settle();
    upgrade_proven();
    log_line("info", "msg=\"wherryd is ready\" build=\"%s\" after_ms=%llu", build,
             (unsigned long long)(now_ms() - wherryd.started_ms));
    procs_report();
    conns_report();
    accept_when_ready();
}

static void stop_order(uint64_t id, struct reader *r)
{
    bool force = get_u32(r) & 1;
    if (keel.alive || keel.playing) {
        if (force)
            procs_kill(id);
        else
            reply(id, -EBUSY, NULL, 0);
        return;
    }
    reply(id, 0, NULL, 0);
    keel_end();
}

static bool order(void *context, const uint8_t *frame, size_t size)
{
    (void)context;
    uint16_t type;
    uint64_t id;
    if (!size) {
        log_line("error", "msg=\"wherryd sent a frame over the limit\"");
        return false;
    }
    memcpy(&type, frame + 4, sizeof type);
    memcpy(&id, frame + 8, sizeof id);
    const uint8_t *payload = frame + HEADER_SIZE;
    struct reader r = {.at = payload, .end = frame + size};
    switch (type) {
    case TO_KEEL_CONN_DATA: conn_send(id, payload, size - HEADER_SIZE); break;
    case TO_KEEL_CONN_CLOSE: conn_finish(id); break;
    case TO_KEEL_SPAWN: player_spawn(id, payload, size - HEADER_SIZE); break;
    case TO_KEEL_EXIT_ACK: proc_acknowledge(id); break;
    case TO_KEEL_SIGNAL: reply(id, signal_order(&r), NULL, 0); break;
    case TO_KEEL_GO: reply(id, go(&r), NULL, 0); break;
    case TO_KEEL_LISTEN: reply(id, listen_order(&r), NULL, 0); break;
    case TO_KEEL_UNLISTEN: reply(id, listener_close(get_u64(&r)), NULL, 0); break;
    case TO_KEEL_CLOSE_STDIN: reply(id, proc_close_stdin(get_u64(&r)), NULL, 0); break;
    case TO_KEEL_RELEASE: release_order(id, &r); break;
    case TO_KEEL_RESIZE: reply(id, resize_order(&r), NULL, 0); break;
    case TO_KEEL_IDLE:
        keel.idle_seconds = get_u32(&r);
        idle_restart();
        break;
    case TO_KEEL_STOP: stop_order(id, &r); break;
    case TO_KEEL_PONG: wherryd.silent = 0; break;
    case TO_KEEL_CANCEL: player_cancel(id, get_u64(&r)); break;
    case TO_KEEL_ADOPT: reply(id, adopt_order(&r), NULL, 0); break;
    case TO_KEEL_ACTING: conn_acting(id); break;
    case TO_KEEL_UPGRADE: upgrade_order(id, &r); break;
    case TO_KEEL_DEPOSIT: deposit_put(id, payload, size - HEADER_SIZE); break;
    case TO_KEEL_READY: ready_order(&r); break;
    case TO_KEEL_STATUS: status_order(id); break;
    default: /* what a newer wherryd may say */
        break;
    }
    return true;
}

void link_ready(struct source *s, uint32_t events)
{
    if (events & EPOLLOUT) {
        if (flush_queue(s->fd, &wherryd.out) < 0)
            buf_free(&wherryd.out);
        if (!buf_len(&wherryd.out))
            watch(s, EPOLLIN);
        if (buf_len(&wherryd.out) < LINK_QUEUE_LOW)
            conns_pause(false);
    }
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    ssize_t n = recv(s->fd, scratch, sizeof scratch, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && cut(&wherryd.cutter, scratch, (size_t)n, order, NULL))
        return;
    unwatch(s); /* it closed its link, or speaks nonsense */
    wherryd_unlinked();
}
