#define _GNU_SOURCE
#include "keel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "guard.h"
#include "spawn.h"
#include "state.h"

#define FIRST_OWN 10 /* keel's descriptors lie above those that a child gets */
#define READY_PIPE 3 /* the starter's: closed when keel listens, or gets a sentence that says why not */

struct keel keel = {.idle_seconds = 60};

static int ready_pipe = -1, lock = -1, resume = -1;
static bool check, back;
static char lock_path[4096];
static bool done;

static void idle_end(struct timer *t);
static struct timer idle = {.fire = idle_end};

static _Noreturn void refuse(int status, const char *what, int error)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s%s%s", what, error ? ": " : "", error ? strerror(error) : "");
    if (ready_pipe >= 0 && write(ready_pipe, text, (size_t)n) < 0)
        log_line("warn", "msg=\"the starter has gone\"");
    log_line("error", "msg=\"%s\"", text);
    exit(status);
}

/* --- the end --- */

static void idle_end(struct timer *t)
{
    (void)t;
    log_line("info", "msg=\"idle: ending\" seconds=%u", keel.idle_seconds);
    keel_end();
}

void idle_check(void)
{
    /* Before wherryd is ready callers wait in the backlog, where nobody counts them. */
    bool used = keel.known || keel.playing || keel.connections || !keel.ready;
    if (used || !keel.idle_seconds || keel.ending)
        timer_clear(&idle);
    else if (!idle.at)
        timer_set(&idle, keel.idle_seconds * 1000ULL);
}

void idle_restart(void)
{
    timer_clear(&idle);
    idle_check();
}

static void end_next(struct timer *t);
static struct timer end_timer = {.fire = end_next};
static uint64_t end_at;

/* Clients still wait for the answer to the order that ends keel: they go first, for one second at most. */
static void end_next(struct timer *t)
{
    if (keel.clients && now_ms() < end_at)
        timer_set(t, 5);
    else
        wherryd_hang_up();
}

void keel_end(void)
{
    if (keel.ending)
        return;
    keel.ending = true;
    timer_clear(&idle);
    listeners_close();
    end_at = now_ms() + 1000;
    end_next(&end_timer);
}

void keel_done(void)
{
    conns_close();
    unlink(lock_path);
    log_line("info", "msg=\"ended\"");
    done = true;
}

/*
 * SIGTERM and SIGINT end keel only when nothing runs. Its end would take from running containers their stdin, the
 * memory of their unread output and their exit status, and containerd, having lost its connection, would order their
 * deletion.
 */
static void on_signal(struct source *s, uint32_t events)
{
    struct signalfd_siginfo info;
    (void)events;
    while (read(s->fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap();
        else if (info.ssi_signo == SIGHUP)
            upgrade_again();
        else if (keel.alive || keel.playing)
            log_line("warn", "msg=\"signal ignored: containers are running; see wherry daemon stop --force\" signal=%u "
                             "containers=%u", info.ssi_signo, keel.alive);
        else
            keel_end();
    }
    idle_check();
}

/* --- the start --- */

#define LOCK_TRIES 1000
#define LOCK_PAUSE 10000000 /* ns; 10 s in all, as long as a client waits for a socket */

static bool another_serves(void)
{
    char path[sizeof lock_path];
    snprintf(path, sizeof path, "%s/keel.sock", keel.run_dir);
    int fd = unix_connect(path, SOCK_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || fd == -EAGAIN; /* EAGAIN: its backlog is full */
}

static void take_lock(void)
{
    struct stat dir, held, there;
    int failed = make_dirs(keel.run_dir, 0700);
    if (failed)
        refuse(1, "cannot make the run folder", -failed);
    if (stat(keel.run_dir, &dir) < 0 || !S_ISDIR(dir.st_mode) || dir.st_uid != geteuid())
        refuse(1, "the run folder is not ours: its owner must be the user that runs keel", 0);
    if ((dir.st_mode & 077) && chmod(keel.run_dir, 0700) < 0)
        refuse(1, "cannot make the run folder private", errno);
    snprintf(lock_path, sizeof lock_path, "%s/keel.lock", keel.run_dir);
    for (;;) {
        lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock < 0)
            refuse(1, "cannot open keel.lock", errno);
        /* Its holder serves, or starts, or is about to end: in the last case its place is ours in a moment. */
        for (int tries = LOCK_TRIES; flock(lock, LOCK_EX | LOCK_NB) < 0; tries--) {
            if (tries == 0 || another_serves()) {
                log_line("info", "msg=\"another keel holds the lock\" path=\"%s\"", lock_path);
                exit(75); /* EX_TEMPFAIL: its socket is what the starter wants */
            }
            nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE}, NULL);
        }
        /* The one that held it before may have unlinked it between our open and our lock. */
        if (fstat(lock, &held) == 0 && stat(lock_path, &there) == 0 && held.st_ino == there.st_ino)
            return;
        close(lock);
    }
}

static void open_sockets(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/grpc.sock", keel.run_dir);
    unlink(path); /* the lock is ours, so a socket that is there is nobody's */
    grpc_socket = listen_at(path, 4096);
    if (grpc_socket < 0)
        refuse(1, "cannot listen on grpc.sock", -grpc_socket);
    int failed = own_socket_open();
    if (failed)
        refuse(1, "cannot listen on keel.sock", -failed);
}

void keel_save(struct state *s)
{
    state_fd(s, lock);
    state_fd(s, grpc_socket);
    state_u32(s, (uint32_t)keel.null);
    state_u32(s, keel.idle_seconds);
    state_u64(s, keel.started_ns);
    state_u64(s, keel.before.nofile.rlim_cur);
    state_u64(s, keel.before.nofile.rlim_max);
    state_text(s, keel.before.oom_score);
}

void keel_load(struct state_reader *s)
{
    lock = state_get_fd(s);
    grpc_socket = state_get_fd(s);
    keel.null = state_get_fd(s);
    keel.idle_seconds = get_u32(&s->record);
    keel.started_ns = get_u64(&s->record);
    keel.before.nofile.rlim_cur = get_u64(&s->record);
    keel.before.nofile.rlim_max = get_u64(&s->record);
    get_str(&s->record, keel.before.oom_score, sizeof keel.before.oom_score);
    snprintf(lock_path, sizeof lock_path, "%s/keel.lock", keel.run_dir);
}

static void watch_signals(void)
{
    static struct source signals = {.ready = on_signal};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals.fd < 0)
        refuse(1, "cannot watch signals", errno);
    watch(&signals, EPOLLIN);
}

static bool read_arguments(int argc, char **argv)
{
    bool ready = false;
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--service"))
            keel.service = true;
        else if (!strcmp(argv[i], "--ready"))
            ready = true;
        else if (!strcmp(argv[i], "--fault"))
            keel.faults = true;
        else if (!strcmp(argv[i], "--run-dir") && i + 1 < argc)
            keel.run_dir = argv[++i];
        else if (!strcmp(argv[i], "--player") && i + 1 < argc)
            keel.player_path = argv[++i];
        else if ((!strcmp(argv[i], "--resume") || !strcmp(argv[i], "--back") || !strcmp(argv[i], "--check")) &&
                 i + 1 < argc) {
            back = argv[i][2] == 'b';
            check = argv[i][2] == 'c';
            resume = atoi(argv[++i]);
        }
        else
            break;
    }
    if (i + 1 >= argc || strcmp(argv[i], "--") || !keel.player_path || !keel.run_dir || keel.run_dir[0] != '/') {
        fprintf(stderr, "usage: keel --run-dir /DIR --player PATH [--service] [--fault] [--ready] "
                        "-- WHERRYD ARGUMENTS…\n"
                        "--service: run by a service manager, never idle\n"
                        "--fault: for tests, hands WHERRY_FAULT on to wherryd\n"
                        "--ready: descriptor 3 is closed when it listens\n");
        exit(2);
    }
    keel.command = argv + i + 1;
    if (keel.service)
        keel.idle_seconds = 0;
    const char *seconds = getenv("WHERRY_IDLE_SECONDS");
    if (seconds && *seconds) {
        char *end;
        unsigned long n = strtoul(seconds, &end, 10);
        if (*end || n > UINT32_MAX || seconds[0] == '-')
            refuse(2, "WHERRY_IDLE_SECONDS is not a number of seconds", 0);
        keel.idle_seconds = (uint32_t)n;
    }
    return ready;
}

/* In the place of a keel before, whose children and descriptors are here. */
static void take_over(void)
{
    int failed = loop_open();
    const char *failure = failed ? "cannot make an epoll set" : upgrade_resume(resume, back);
    if (failure)
        refuse(1, failure, -failed);
    watch_signals();
    log_line("info", "msg=\"taken over\" run_dir=\"%s\" build=%s pid=%d processes=%u connections=%u", keel.run_dir,
             WHERRY_BUILD, getpid(), keel.alive, keel.connections);
    wherryd_start();
    reap(); /* whoever has ended meanwhile */
}

static void start(void)
{
    if (ready_pipe >= 0)
        guard_between();
    keel.null = reset_descriptors(FIRST_OWN, &ready_pipe);
    const char *failure = keel.null < 0 ? "cannot open /dev/null" : reset_process(&keel.before);
    if (failure)
        refuse(1, failure, errno);
    take_lock();
    keel.started_ns = wall_ns();
    int failed = loop_open();
    if (failed)
        refuse(1, "cannot make an epoll set", -failed);
    keel.player = seal_player(keel.player_path);
    if (keel.player < 0)
        refuse(1, "cannot seal the player", errno);
    watch_signals();
    failed = registration_open();
    if (failed)
        refuse(1, "cannot make the registration socket", -failed);
    open_sockets();
    log_line("info", "msg=\"listening\" run_dir=\"%s\" build=%s pid=%d", keel.run_dir, WHERRY_BUILD, getpid());
    if (ready_pipe >= 0)
        close(ready_pipe);
    wherryd_start();
}

int main(int argc, char **argv)
{
    ready_pipe = read_arguments(argc, argv) ? READY_PIPE : -1;
    if (check)
        upgrade_check(resume);
    if (resume >= 0)
        take_over();
    else
        start();
    idle_check();
    loop(&done);
    return 0;
}
