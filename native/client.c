#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link.h"
#include "notify.h"
#include "wire.h"

#define ANSWER_TIMEOUT 30000 /* ms until wherryd's first sign, its start included */
#define END_TIMEOUT 10000    /* ms until keel has gone after its last order: wherryd's end is a part of it */

extern char **environ;

static int server = -1, player = -1, registration = -1, exit_code = -1;
static int ending = -1; /* keel's pidfd: this command ends it */
static char run_dir[RUN_DIR_MAX];
static bool greeted;

void fail(int status, const char *what, const char *detail)
{
    dprintf(2, "wherry: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
    exit(status);
}

void write_all(int fd, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    while (n) {
        ssize_t written = write(fd, at, n);
        if (written < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else if (written < 0 && errno != EINTR)
            return; /* the reader has gone: so be it */
        if (written > 0) {
            at += written;
            n -= (size_t)written;
        }
    }
}

/* A link that breaks here is noticed by the next read. */
void send_frame(uint16_t type, const void *head, size_t n, const void *tail, size_t m)
{
    uint8_t header[HEADER_SIZE];
    struct iovec iov[] = {{header, sizeof header}, {(void *)head, n}, {(void *)tail, m}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
    frame_header(header, (uint32_t)(n + m), type, 0);
    while (msg.msg_iovlen) {
        ssize_t sent = sendmsg(server, &msg, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return;
        for (size_t left = sent < 0 ? 0 : (size_t)sent; msg.msg_iovlen;) {
            size_t part = left < msg.msg_iov->iov_len ? left : msg.msg_iov->iov_len;
            msg.msg_iov->iov_base = (uint8_t *)msg.msg_iov->iov_base + part;
            msg.msg_iov->iov_len -= part;
            left -= part;
            if (msg.msg_iov->iov_len)
                break;
            msg.msg_iov++;
            msg.msg_iovlen--;
        }
    }
}

static int read_number(const char *path)
{
    char text[16] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        text[0] = 0;
    if (fd >= 0)
        close(fd);
    return atoi(text);
}

static bool put_list(struct buf *b, char **list)
{
    uint32_t n = 0;
    while (list[n])
        n++;
    bool good = put_u32(b, n);
    for (uint32_t i = 0; i < n; i++)
        good = good && put_str(b, list[i]);
    return good;
}

static void send_request(char **argv)
{
    static const char *const namespaces[] = {"/proc/self/ns/mnt", "/proc/self/ns/user", "/proc/self/ns/pid",
                                             "/proc/self/ns/net", "/proc/self/ns/cgroup"};
    struct buf b = {0};
    struct winsize size = {0};
    struct stat st;
    char cwd[4096];
    uint8_t terminals = 0;
    mode_t mask = umask(0);
    umask(mask);
    for (int fd = 2; fd >= 0; fd--)
        if (isatty(fd)) {
            terminals |= (uint8_t)(1 << fd);
            ioctl(fd, TIOCGWINSZ, &size);
        }
    bool good = put_u32(&b, PROTOCOL_VERSION) && put_u32(&b, (uint32_t)getpid()) && put_u32(&b, mask) &&
                put_u8(&b, terminals) && put_u16(&b, size.ws_row) && put_u16(&b, size.ws_col);
    for (int i = 0; i < 5; i++)
        good = good && put_u64(&b, stat(namespaces[i], &st) == 0 ? st.st_ino : 0);
    good = good && put_str(&b, WHERRY_BUILD) && put_str(&b, getcwd(cwd, sizeof cwd) ? cwd : "") && put_list(&b, argv) &&
           put_list(&b, environ);
    for (int i = 0; i < 16; i++) {
        struct rlimit limit = {0};
        getrlimit((__rlimit_resource_t)i, &limit);
        good = good && put_u64(&b, limit.rlim_cur) && put_u64(&b, limit.rlim_max);
    }
    good = good && put_u32(&b, (uint32_t)read_number("/proc/self/oom_score_adj")) &&
           put_u32(&b, (uint32_t)getpriority(PRIO_PROCESS, 0));
    if (!good || buf_len(&b) > MAX_FRAME - HEADER_SIZE)
        fail(1, "arguments and environment are too long", NULL);
    send_frame(FROM_CLIENT_REQUEST, b.data, buf_len(&b), NULL, 0);
    buf_free(&b);
}

static void send_stdin(void)
{
    char bytes[65536];
    ssize_t n;
    while ((n = read(0, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0)
            send_frame(FROM_CLIENT_STDIN, bytes, (size_t)n, NULL, 0);
    send_frame(FROM_CLIENT_STDIN, NULL, 0, NULL, 0);
}

static bool obey(void *context, const uint8_t *frame, size_t size)
{
    (void)context;
    if (!size)
        fail(1, "wherryd sent a frame over the limit", NULL);
    const uint8_t *payload = frame + HEADER_SIZE;
    struct reader r = {.at = payload, .end = frame + size};
    uint16_t type;
    memcpy(&type, frame + 4, sizeof type);
    switch (type) {
    case TO_CLIENT_HELLO:
        greeted = true;
        break;
    case TO_CLIENT_OUT:
        if (r.at < r.end && (payload[0] == 1 || payload[0] == 2))
            write_all(payload[0], payload + 1, size - HEADER_SIZE - 1);
        break;
    case TO_CLIENT_EXIT:
        exit_code = (int)get_u32(&r) & 0xff;
        break;
    case TO_CLIENT_SOON:
        prepare(player, registration);
        break;
    case TO_CLIENT_PLAY: {
        uint32_t flags = get_u32(&r);
        play(flags, r.at, (size_t)(r.end - r.at), player, registration);
        break;
    }
    case TO_CLIENT_WAIT: {
        pid_t pid = (pid_t)get_u32(&r);
        wait_for(pid, get_u32(&r));
        break;
    }
    case TO_CLIENT_NOTIFY: {
        uint32_t flags = get_u32(&r);
        int container = (int)get_u32(&r), manager = (int)get_u32(&r);
        notify_start(container, manager, flags & NOTIFY_FLAGS_STAYING);
        pid_t init = (pid_t)get_u32(&r);
        if (init)
            notify_init(init);
        break;
    }
    case TO_CLIENT_READ_STDIN:
        send_stdin();
        break;
    case TO_CLIENT_RELAY:
        relay(get_u32(&r) & 1);
        break;
    default: /* a newer wherryd may say more */
        break;
    }
    return true;
}

/* One read; the player and the registration socket come with the first frame. False: the link is closed. */
static bool read_link(struct cutter *c)
{
    static uint8_t bytes[65536];
    int fds[RECEIVE_FDS];
    uint32_t count;
    ssize_t n = receive(server, bytes, sizeof bytes, 0, fds, &count, NULL, NULL);
    if (n < 0 && errno == EINTR)
        return true;
    if (count == 2) {
        player = fds[0];
        registration = fds[1];
    }
    return n > 0 && cut(c, bytes, (size_t)n, obey, NULL);
}

/* keel or wherryd has gone. A child that we wait for is still ours: its end is ours, too. */
static void link_lost(void)
{
    int code;
    close(server);
    server = -1;
    if (!waiting())
        fail(1, "wherryd went away", run_dir);
    dprintf(2, "wherry: wherryd went away; waiting for the container\n");
    while (!waited(&code) || output_left())
        watch_once(-1);
    exit(code);
}

/* Obeys until EXIT. Returns when keel went away before it had greeted us. */
static void serve(void)
{
    struct cutter c = {.header = HEADER_SIZE, .max = HEADER_SIZE + MAX_FRAME, .size = link_frame_size};
    for (;;) {
        if (all_done())
            waited(&exit_code);
        if (exit_code >= 0 && !output_left()) {
            close(server);
            if (ending >= 0 && exit_code == 0) /* wherryd ends first, and until then it may write into the run folder */
                poll(&(struct pollfd){.fd = ending, .events = POLLIN}, 1, END_TIMEOUT);
            end_alone();
            if (exit_code == 0)
                wait_until_ready();
            exit(exit_code);
        }
        if (!greeted && poll(&(struct pollfd){.fd = server, .events = POLLIN}, 1, ANSWER_TIMEOUT) == 0)
            fail(1, "wherryd does not answer; see its log, wherryd.log in", run_dir);
        if (!watch_once(server) || read_link(&c))
            continue;
        if (!greeted && exit_code < 0)
            return;
        link_lost();
    }
}

/* keel is not wanted, or could not act for us. */
static _Noreturn void serve_alone(char **argv)
{
    if (server >= 0)
        close(server);
    server = start_alone(run_dir, &player, &registration);
    greeted = true;
    send_request(argv);
    for (;;)
        serve();
}

static bool is(int argc, char **argv, const char *what)
{
    return argc > 2 && !strcmp(argv[1], "daemon") && !strcmp(argv[2], what) && strcmp(argv[argc - 1], "--help");
}

int main(int argc, char **argv)
{
    int null = open("/dev/null", O_RDWR);
    while (null >= 0 && null < 3)
        null = dup(null); /* a closed one of 0-2 would become one of ours */
    close(null);
    signal(SIGPIPE, SIG_IGN);
    bool named = find_run_dir(run_dir), start = is(argc, argv, "start");
    if (start && argc > 3 && !strcmp(argv[3], "--foreground"))
        run_keel_here(run_dir, named);
    const char *daemon = getenv("WHERRY_DAEMON");
    bool needs_keel = strstr(argv[0], "containerd-shim-") || (argc > 1 && !strcmp(argv[1], "daemon"));
    if (!needs_keel && ((daemon && !strcmp(daemon, "0")) || (!named && in_user_namespace())))
        serve_alone(argv);
    for (int attempt = 0; attempt < 3; attempt++) {
        server = connect_keel(run_dir);
        if (server < 0 && (is(argc, argv, "stop") || is(argc, argv, "status"))) {
            printf("wherryd is not running\n");
            return is(argc, argv, "status") ? 3 : 0;
        }
        if (is(argc, argv, "stop"))
            ending = keel_pidfd(server);
        bool found = server >= 0;
        if (!needs_keel && (found ? elsewhere(server) : narrowed(named) != NULL))
            serve_alone(argv);
        if (!found)
            server = start_and_connect(run_dir, named);
        if (start) { /* it is a status, once there is one to ask */
            char *status[] = {argv[0], argv[1], "status", NULL};
            send_request(status);
        } else {
            send_request(argv);
        }
        serve();
        close(server);
        if (!found)
            break;
    } /* one that we found was about to end: there will be another */
    fail(1, "wherryd does not come up; see its log, wherryd.log in", run_dir);
}
