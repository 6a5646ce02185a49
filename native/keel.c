#define _GNU_SOURCE
#include "keel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FIRST_OWN 10 /* keel's descriptors lie above those that a child gets */
#define READY_PIPE 3 /* the starter's: closed when keel listens, or gets a sentence that says why not */

struct keel keel = {.idle_seconds = 60};
uint8_t scratch[1 << 18];

static int poller, ready_pipe = -1, lock = -1;
static char lock_path[4096];
static struct timer *timers;
static bool done;

static void idle_end(struct timer *t);
static struct timer idle = {.fire = idle_end};

void log_line(const char *level, const char *format, ...)
{
    char line[1024], when[32];
    struct timespec ts;
    struct tm tm;
    va_list args;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(line, sizeof line, "time=%s.%03ldZ level=%s part=keel ", when, ts.tv_nsec / 1000000, level);
    va_start(args, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n, format, args);
    va_end(args);
    if ((size_t)n > sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    if (write(2, line, (size_t)n) < 0)
        return; /* nobody is left to be told */
}

static _Noreturn void refuse(int status, const char *what, int error)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s%s%s", what, error ? ": " : "", error ? strerror(error) : "");
    if (ready_pipe >= 0 && write(ready_pipe, text, (size_t)n) < 0)
        log_line("warn", "msg=\"the starter has gone\"");
    log_line("error", "msg=\"%s\"", text);
    exit(status);
}

/* --- the loop --- */

void watch(struct source *s, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &e) < 0 && epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &e) < 0)
        log_line("error", "msg=\"epoll_ctl: %s\" fd=%d", strerror(errno), s->fd);
    s->events = events;
}

void unwatch(struct source *s)
{
    if (s->fd < 0)
        return;
    epoll_ctl(poller, EPOLL_CTL_DEL, s->fd, NULL);
    close(s->fd);
    s->fd = -1;
}

uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t wall_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void timer_clear(struct timer *t)
{
    for (struct timer **p = &timers; *p; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            break;
        }
    t->at = 0;
}

void timer_set(struct timer *t, uint64_t ms)
{
    timer_clear(t);
    t->at = now_ms() + ms;
    struct timer **p = &timers;
    while (*p && (*p)->at <= t->at)
        p = &(*p)->next;
    t->next = *p;
    *p = t;
}

static void loop(void)
{
    while (!done) {
        struct epoll_event e;
        uint64_t now = timers ? now_ms() : 0;
        if (timers && timers->at <= now) {
            struct timer *t = timers;
            timer_clear(t);
            t->fire(t);
            continue;
        }
        uint64_t wait = timers ? timers->at - now : 0;
        int n = epoll_wait(poller, &e, 1, timers ? (wait > 60000 ? 60000 : (int)wait) : -1);
        if (n > 0) {
            struct source *s = e.data.ptr;
            s->ready(s, e.events);
        }
    }
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
    bool used = procs_known() || players_count() || conns_count();
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
    if (conns_clients() && now_ms() < end_at)
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
 * SIGTERM and SIGINT end keel only when nothing runs. Its end would take from running containers their stdin, the memory of
 * their unread output and their exit status, and containerd, having lost its connection, would order their deletion.
 */
static void on_signal(struct source *s, uint32_t events)
{
    struct signalfd_siginfo info;
    (void)events;
    while (read(s->fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap();
        else if (info.ssi_signo == SIGHUP)
            continue; /* there is nothing to read anew */
        else if (procs_alive() || players_count())
            log_line("warn", "msg=\"signal ignored: containers are running; see wherry daemon stop --force\" signal=%u "
                             "containers=%u", info.ssi_signo, procs_alive());
        else
            keel_end();
    }
    idle_check();
}

/* --- the start --- */

/* What the starter was must not reach a container: its signals, priority, processors, umask, folder, session, keyring. */
static void reset_process(void)
{
    sigset_t none;
    cpu_set_t all;
    for (int n = 1; n < 65; n++)
        signal(n, n == SIGPIPE ? SIG_IGN : SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    memset(&all, 0xff, sizeof all);
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    setpriority(PRIO_PROCESS, 0, 0);
    sched_setaffinity(0, sizeof all, &all);
    syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, 0);
    personality(PER_LINUX);
    umask(022);
    setsid();
    syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, "wherry");
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_DUMPABLE, 0);
    if (chdir("/") < 0)
        refuse(1, "cannot change to /", errno);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        refuse(1, "cannot become the parent of containers (PR_SET_CHILD_SUBREAPER)", errno);
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        const char *const wanted[] = {"-999", "0"}; /* lowering needs CAP_SYS_RESOURCE; the starter's own is no measure */
        for (int i = 0; i < 2 && write(score, wanted[i], strlen(wanted[i])) < 0; i++)
            continue;
        close(score);
    }
    getrlimit(RLIMIT_NOFILE, &keel.nofile);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){keel.nofile.rlim_max, keel.nofile.rlim_max});
}

/* 0-2 are open, nothing else is inherited but the starter's pipe, and all that keel opens lies above FIRST_OWN. */
static void reset_descriptors(bool ready)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (null >= 0 && null < 3)
        null = fcntl(null, F_DUPFD, 0); /* a closed one of 0-2 stays /dev/null */
    keel.null = fcntl(null, F_DUPFD_CLOEXEC, FIRST_OWN);
    if (keel.null < 0)
        refuse(1, "cannot open /dev/null", errno);
    if (ready)
        ready_pipe = fcntl(READY_PIPE, F_DUPFD_CLOEXEC, FIRST_OWN);
    for (int fd = 3; fd < FIRST_OWN; fd++)
        dup3(keel.null, fd, O_CLOEXEC);
    int low = keel.null, high = ready_pipe < 0 ? low : ready_pipe;
    if (low > high) {
        low = high;
        high = keel.null;
    }
    if (low > FIRST_OWN)
        close_range(FIRST_OWN, (unsigned)low - 1, 0);
    if (high > low + 1)
        close_range((unsigned)low + 1, (unsigned)high - 1, 0);
    close_range((unsigned)high + 1, ~0U, 0);
    dup2(keel.null, 0);
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
        if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
            log_line("info", "msg=\"another keel holds the lock\" path=\"%s\"", lock_path);
            exit(75); /* EX_TEMPFAIL: its socket is what the starter wants */
        }
        /* The one that held it before may have unlinked it between our open and our lock. */
        if (fstat(lock, &held) == 0 && stat(lock_path, &there) == 0 && held.st_ino == there.st_ino)
            return;
        close(lock);
    }
}

/* The player as a sealed memfd; where the kernel refuses to execute those, the file itself on a read-only mount of its own. */
static int seal_player(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    int fd = memfd_create("player", MFD_CLOEXEC | MFD_ALLOW_SEALING | 16U /* MFD_EXEC, Linux 6.3 */);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("player", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
        close(file);
        fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (fd >= 0 && syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
            return -1;
        return fd;
    }
    ssize_t n;
    while ((n = sendfile(fd, file, NULL, 1 << 20)) > 0)
        continue;
    close(file);
    if (n < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return -1;
    return fd;
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
        else if (!strcmp(argv[i], "--run-dir") && i + 1 < argc)
            keel.run_dir = argv[++i];
        else if (!strcmp(argv[i], "--player") && i + 1 < argc)
            keel.player_path = argv[++i];
        else
            break;
    }
    if (i + 1 >= argc || strcmp(argv[i], "--") || !keel.player_path || !keel.run_dir || keel.run_dir[0] != '/') {
        fprintf(stderr, "usage: keel --run-dir /DIR --player PATH [--service] [--ready] -- WHERRYD ARGUMENTS…\n"
                        "--service: run by a service manager, never idle · --ready: descriptor 3 is closed when it listens\n");
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

int main(int argc, char **argv)
{
    reset_descriptors(read_arguments(argc, argv));
    reset_process();
    take_lock();
    keel.started_ns = wall_ns();
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        refuse(1, "cannot make an epoll set", errno);
    keel.player = seal_player(keel.player_path);
    if (keel.player < 0)
        refuse(1, "cannot seal the player", errno);
    watch_signals();
    int failed = registration_open();
    if (failed)
        refuse(1, "cannot make the registration socket", -failed);
    open_sockets();
    log_line("info", "msg=\"listening\" run_dir=\"%s\" build=%s pid=%d", keel.run_dir, WHERRY_BUILD, getpid());
    if (ready_pipe >= 0)
        close(ready_pipe);
    wherryd_start();
    idle_check();
    loop();
    return 0;
}
