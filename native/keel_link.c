/* wherryd: starting it, ending it, telling it what happens, and doing what it orders. */
#define _GNU_SOURCE
#include "keel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_FIRST 10 /* ms, doubling */
#define BACKOFF_LAST 5000
#define BACKOFF_SERVED 500 /* of one that was ready before it died: its callers wait */
#define GIVE_UP_AFTER 6 /* starts without a READY, when nothing needs keel */
#define HANG_UP_GRACE 5000
#define PING_EVERY 5000
#define SILENT_MAX 3    /* pings; then it hangs */
#define READY_MAX 60000 /* ms from its start to READY; then it hangs, too */
#define CRASH_LOOP 2    /* starts in a row without READY: callers are told */
#define STEADY 1000 /* a wherryd that lived so long starts the back-off anew */

int grpc_socket = -1;

static struct {
    pid_t pid;
    struct source source;
    struct cutter cutter;
    struct buf out;
    uint64_t started_ms;
    unsigned unready; /* starts in a row that never came to READY */
    uint32_t backoff;
    unsigned silent; /* pings in a row without an answer */
} wherryd = {.source.fd = -1};

static void restart(struct timer *t);
/* A wherryd whose event loop stands still serves nobody: the next one does. */
static void look(struct timer *t)
{
    if (wherryd.pid <= 0 || keel.ending)
        return;
    if (keel.ready ? wherryd.silent >= SILENT_MAX : now_ms() - wherryd.started_ms > READY_MAX) {
        log_line("error", "msg=\"wherryd does not answer: killed\" pid=%d ready=%d", wherryd.pid, keel.ready);
        kill(wherryd.pid, SIGKILL);
        return;
    }
    if (keel.ready) {
        wherryd.silent++;
        tell(FROM_KEEL_PING, wherryd.started_ms, NULL, 0, NULL, 0);
    }
    timer_set(t, PING_EVERY);
}

/* What wherryd said last, for callers: the last line of its log, if that is a file, that is not our own. */
static const char *last_words(void)
{
    static char text[1024];
    char path[4096];
    snprintf(path, sizeof path, "%s/wherryd.log", keel.run_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END), from = end > 900 ? end - 900 : 0;
    ssize_t n = fd < 0 ? 0 : pread(fd, text, 900, from);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *last = NULL;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (!strstr(line, LOG_MARK) && (line > text || !from)) /* neither our own nor cut */
            last = line;
    static char words[sizeof text + sizeof path];
    const char *what = last ? last : "see its log, wherryd.log in ";
    snprintf(words, sizeof words, "wherryd does not come up: %s%s", what, last ? "" : keel.run_dir);
    return words;
}

static void kill_late(struct timer *t);
static void look(struct timer *t);
static struct timer restart_timer = {.fire = restart}, kill_timer = {.fire = kill_late}, watchdog = {.fire = look};

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

static void hello(void)
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

static void link_ready(struct source *s, uint32_t events)
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
    /* It closed its link or speaks nonsense. Its process, if it lives, is of no use; the restart follows its end. */
    unwatch(s);
    keel.ready = false;
    accept_when_ready();
    timer_set(&kill_timer, keel.ending ? HANG_UP_GRACE : 0);
}

/* --- its life --- */

static char **environment(void)
{
    static const char *const kept[] = {"PATH",
                                       "HOME",
                                       "TZ",
                                       "LANG",
                                       "XDG_RUNTIME_DIR",
                                       "DBUS_SESSION_BUS_ADDRESS",
                                       "WHERRY_LOG_LEVEL",
                                       "WHERRY_LOG_FORMAT",
                                       "WHERRY_IDLE_SECONDS",
                                       "WHERRY_CONFIG",
                                       "WHERRY_FAULT"};
    enum { KEPT = sizeof kept / sizeof *kept };
    static char run_dir[4096 + 16], text[KEPT][8192], *list[KEPT + 3];
    size_t n = 0;
    for (size_t i = 0; i < KEPT - (size_t)!keel.faults; i++) {
        const char *value = getenv(kept[i]);
        if (value && (size_t)snprintf(text[i], sizeof text[i], "%s=%s", kept[i], value) < sizeof text[i])
            list[n++] = text[i];
    }
    snprintf(run_dir, sizeof run_dir, "WHERRY_RUN_DIR=%s", keel.run_dir);
    list[n++] = run_dir;
    list[n++] = "WHERRY_KEEL_BUILD=" WHERRY_BUILD;
    list[n] = NULL;
    return list;
}

static _Noreturn void wherryd_child(int link, char **env)
{
    sigset_t none;
    if (dup2(link, 3) < 0 || dup2(grpc_socket, 4) < 0 || dup2(keel.null, 0) < 0)
        _exit(126);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setrlimit(RLIMIT_NOFILE, &keel.before.nofile);
    execve(keel.command[0], keel.command, env);
    _exit(127);
}

void wherryd_start(void)
{
    int pair[2];
    char **env = environment();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        log_line("error", "msg=\"cannot start wherryd: %s\"", strerror(errno));
        timer_set(&restart_timer, BACKOFF_LAST);
        return;
    }
    wherryd.started_ms = now_ms();
    wherryd.unready++;
    deposits_expect();
    wherryd.pid = vfork();
    if (wherryd.pid == 0)
        wherryd_child(pair[1], env);
    close(pair[1]);
    if (wherryd.pid < 0) {
        log_line("error", "msg=\"cannot start wherryd: %s\"", strerror(errno));
        close(pair[0]);
        timer_set(&restart_timer, BACKOFF_LAST);
        return;
    }
    wherryd.cutter = (struct cutter){.header = HEADER_SIZE, .max = HEADER_SIZE + MAX_FRAME, .size = link_frame_size};
    wherryd.source = (struct source){.fd = pair[0], .ready = link_ready};
    watch(&wherryd.source, EPOLLIN);
    wherryd.silent = 0;
    timer_set(&watchdog, PING_EVERY);
    hello();
}

static void restart(struct timer *t)
{
    (void)t;
    if (!keel.ending)
        wherryd_start();
}

static void kill_late(struct timer *t)
{
    (void)t;
    if (wherryd.pid > 0)
        kill(wherryd.pid, SIGKILL);
}

/* End of file is how wherryd is told to finish: it has HANG_UP_GRACE for what it still does. */
void wherryd_hang_up(void)
{
    if (wherryd.pid <= 0)
        return keel_done();
    if (wherryd.source.fd >= 0)
        shutdown(wherryd.source.fd, SHUT_WR);
    timer_set(&kill_timer, HANG_UP_GRACE);
}

bool wherryd_quit(void)
{
    if (wherryd.pid > 0)
        wherryd_hang_up();
    return wherryd.pid > 0;
}

/* What it wrote before it ended is still in the socket: orders and answers count until the end of file. */
static void read_the_rest(void)
{
    while (wherryd.source.fd >= 0)
        link_ready(&wherryd.source, EPOLLIN);
}

bool wherryd_exited(pid_t pid, int status)
{
    if (pid != wherryd.pid)
        return false;
    wherryd.pid = 0;
    read_the_rest();
    timer_clear(&kill_timer);
    timer_clear(&watchdog);
    keel.ready = false;
    buf_free(&wherryd.out);
    buf_free(&wherryd.cutter.partial);
    conns_pause(false);
    if (keel.ending) {
        keel_done();
        return true;
    }
    const char *words = wherryd.unready >= CRASH_LOOP ? last_words() : NULL; /* before our own line */
    log_line("error", "msg=\"wherryd ended\" %s=%d%s", WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
             WIFEXITED(status) && WEXITSTATUS(status) == 127 ? " hint=\"cannot execute it\"" : "");
    conns_orphaned();
    accept_when_ready();
    upgrade_now();
    if (wherryd.unready >= CRASH_LOOP) {
        upgrade_back(words);
        conns_refuse(words);
    }
    if (wherryd.unready >= GIVE_UP_AFTER && !keel.known && !keel.playing) {
        log_line("error", "msg=\"wherryd never came up: ending\" starts=%u", wherryd.unready);
        keel_end();
        return true;
    }
    if (now_ms() - wherryd.started_ms > STEADY || !wherryd.backoff)
        wherryd.backoff = BACKOFF_FIRST;
    if (!wherryd.unready && wherryd.backoff > BACKOFF_SERVED)
        wherryd.backoff = BACKOFF_SERVED;
    timer_set(&restart_timer, wherryd.backoff);
    wherryd.backoff = wherryd.backoff * 2 < BACKOFF_LAST ? wherryd.backoff * 2 : BACKOFF_LAST;
    return true;
}
