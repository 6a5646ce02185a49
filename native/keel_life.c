/* wherryd's life: starting it, watching it, ending it, and starting the next. */
#define _GNU_SOURCE
#include "keel_link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
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
struct wherryd wherryd = {.source.fd = -1};

static void restart(struct timer *t);
static void kill_late(struct timer *t);
static void look(struct timer *t);
static struct timer restart_timer = {.fire = restart}, kill_timer = {.fire = kill_late}, watchdog = {.fire = look};

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

static char **environment(void)
{
    static const char *const kept[] = {
        "PATH", "HOME", "TZ", "LANG", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "WHERRY_LOG_LEVEL",
        "WHERRY_LOG_FORMAT", "WHERRY_IDLE_SECONDS", "WHERRY_CONFIG", "WHERRY_FAULT"};
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
    link_hello();
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

/* Its process, if it lives, is of no use; the restart follows its end. */
void wherryd_unlinked(void)
{
    keel.ready = false;
    accept_when_ready();
    timer_set(&kill_timer, keel.ending ? HANG_UP_GRACE : 0);
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
