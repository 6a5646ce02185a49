/* Finding keel, and starting it where none runs. */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "link.h"

#define START_TIMEOUT 10 /* s until the socket of a starting keel must be there */

extern char **environ;

/* lstat: in /tmp a link or a folder may be another user's trap. */
static bool ours_alone(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0 && S_ISDIR(s.st_mode) && s.st_uid == geteuid() && !(s.st_mode & 077);
}

/* Without XDG_RUNTIME_DIR (su, cron): what a login would have named, else a folder of our own in /tmp. */
static int users_own_folder(char run_dir[RUN_DIR_MAX])
{
    snprintf(run_dir, RUN_DIR_MAX, "/run/user/%u", geteuid());
    if (ours_alone(run_dir))
        return snprintf(run_dir, RUN_DIR_MAX, "/run/user/%u/wherry", geteuid());
    int n = snprintf(run_dir, RUN_DIR_MAX, "/tmp/wherry-%u", geteuid());
    if ((mkdir(run_dir, 0700) < 0 && errno != EEXIST) || !ours_alone(run_dir))
        fail(1, "XDG_RUNTIME_DIR is not set, and this folder is not yours alone (mode 0700); remove it or set "
                "WHERRY_RUN_DIR", run_dir);
    return n;
}

bool find_run_dir(char run_dir[RUN_DIR_MAX])
{
    const char *named = getenv("WHERRY_RUN_DIR"), *user = getenv("XDG_RUNTIME_DIR");
    int n;
    if (named && *named)
        n = snprintf(run_dir, RUN_DIR_MAX, "%s", named);
    else if (geteuid() == 0 && !(user && *user && in_user_namespace()))
        n = snprintf(run_dir, RUN_DIR_MAX, "/run/wherry");
    else if (user && *user)
        n = snprintf(run_dir, RUN_DIR_MAX, "%s/wherry", user);
    else
        n = users_own_folder(run_dir);
    if (run_dir[0] != '/')
        fail(1, "WHERRY_RUN_DIR is not an absolute path", run_dir);
    if (n >= RUN_DIR_MAX || n > 90) /* a socket's path ends at 107 bytes */
        fail(1, "the run folder's path is too long for a socket", run_dir);
    return named && *named;
}

int connect_keel(const char *run_dir)
{
    char path[RUN_DIR_MAX + 16];
    struct ucred peer;
    socklen_t size = sizeof peer;
    snprintf(path, sizeof path, "%s/keel.sock", run_dir);
    int fd = unix_connect(path, 0);
    if (fd == -ENOENT || fd == -ECONNREFUSED || fd == -ENOTDIR)
        return -1;
    if (fd < 0)
        fail(1, "cannot connect to keel", strerror(-fd));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || (peer.uid && peer.uid != geteuid()))
        fail(1, "keel.sock belongs to another user's process", path);
    return fd;
}

int keel_pidfd(int keel)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    getsockopt(keel, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

/* --- may this process start the keel of the node? --- */

static bool status_field(const char *path, const char *name, unsigned long long *value, int base)
{
    char line[256];
    bool found = false;
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof line, f))
        if ((found = !strncmp(line, name, strlen(name)) && line[strlen(name)] == ':'))
            *value = strtoull(line + strlen(name) + 1, NULL, base);
    if (f)
        fclose(f);
    return found;
}

/* What cannot be seen counts as the same. */
static bool other_namespace(pid_t pid, const char *name)
{
    char path[64];
    struct stat ours, theirs;
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    bool known = stat(path, &ours) == 0;
    snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, name);
    return known && stat(path, &theirs) == 0 && ours.st_ino != theirs.st_ino;
}

bool in_user_namespace(void)
{
    unsigned inside = 0, outside = 0, count = ~0U;
    FILE *f = fopen("/proc/self/uid_map", "re");
    if (f && fscanf(f, "%u %u %u", &inside, &outside, &count) != 3)
        count = 0;
    if (f)
        fclose(f);
    return inside || outside || count != ~0U;
}

bool elsewhere(int keel)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    getsockopt(keel, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return !peer.pid || other_namespace(peer.pid, "mnt") || other_namespace(peer.pid, "user") ||
           other_namespace(peer.pid, "pid");
}

/*
 * keel, and so every container, would keep what narrows this process and cannot be widened again. Process 1 is the
 * measure, as far as /proc shows it; namespaces count only for the node's own run folder: a named one may well be
 * private.
 */
const char *narrowed(bool named)
{
    static const char *const namespaces[] = {"user", "mnt", "net", "pid"};
    unsigned long long ours = 0, first = 0;
    for (int i = 0; !named && i < 4; i++)
        if (other_namespace(1, namespaces[i]))
            return "this process lives in namespaces of its own";
    if (status_field("/proc/self/status", "CapBnd", &ours, 16) &&
        status_field("/proc/1/status", "CapBnd", &first, 16) && first & ~ours)
        return "the capability bounding set is reduced here";
    if (status_field("/proc/self/status", "Seccomp_filters", &ours, 10) &&
        status_field("/proc/1/status", "Seccomp_filters", &first, 10) && ours > first)
        return "a seccomp filter is loaded here";
    if (status_field("/proc/self/status", "NoNewPrivs", &ours, 10) &&
        status_field("/proc/1/status", "NoNewPrivs", &first, 10) && ours > first)
        return "no_new_privs is set here";
    return NULL;
}

static void check_plain(bool named)
{
    const char *why = narrowed(named);
    if (!why)
        return;
    dprintf(2, "wherry: keel is not running and cannot be started from this process: %s, and every container would "
               "inherit it; run `wherry daemon start` from a plain shell first\n", why);
    exit(1);
}

/* --- starting --- */

static char paths[4][4096]; /* keel, player, node, wherryd */
#define WHERRYD_AT 7       /* where wherryd's own command begins in keel's */

static char **keel_command(const char *run_dir, const char *mode)
{
    static char *argv[16];
    char libexec[4000], *program = getenv("WHERRY_WHERRYD");
    const char *named = getenv("WHERRY_LIBEXEC");
    int n = 0;
    if (named && *named) {
        if (!realpath(named, libexec))
            fail(1, "WHERRY_LIBEXEC", strerror(errno));
    } else {
        ssize_t length = readlink("/proc/self/exe", libexec, sizeof libexec - sizeof "/libexec/wherry");
        libexec[length < 0 ? 0 : length] = 0;
        for (int i = 0; i < 2; i++)
            if (strrchr(libexec, '/'))
                *strrchr(libexec, '/') = 0;
        strcat(libexec, "/libexec/wherry");
    }
    snprintf(paths[0], sizeof paths[0], "%s/keel", libexec);
    snprintf(paths[1], sizeof paths[1], "%s/player", libexec);
    snprintf(paths[2], sizeof paths[2], "%s/node", libexec);
    snprintf(paths[3], sizeof paths[3], "%s/wherryd", libexec);
    if (!program || !*program)
        program = access(paths[3], X_OK) == 0 ? paths[3] : NULL;
    argv[n++] = "keel";
    argv[n++] = "--run-dir";
    argv[n++] = (char *)run_dir;
    argv[n++] = "--player";
    argv[n++] = paths[1];
    argv[n++] = (char *)mode;
    argv[n++] = "--"; /* WHERRYD_AT follows */
    if (program) {
        argv[n++] = program;
    } else {
        strcat(paths[3], ".mjs");
        argv[n++] = paths[2];
        argv[n++] = "--max-old-space-size=256";
        argv[n++] = "--max-semi-space-size=1"; /* MiB: it fits the cache, and stays small */
        argv[n++] = "--single-threaded-gc";    /* helpers for so little cost more than they save, in time and memory */
        argv[n++] = paths[3];
    }
    argv[n] = NULL;
    for (int i = 0; i < 4; i++)
        if (access(paths[i], i == 3 ? R_OK : X_OK) < 0 && !(program && i >= 2))
            fail(1, "the installation is incomplete: cannot use its file", paths[i]);
    return argv;
}

char **wherryd_command(const char *run_dir, char player[4096])
{
    char **command = keel_command(run_dir, "") + WHERRYD_AT;
    memcpy(player, paths[1], sizeof paths[1]);
    return command;
}

void run_keel_here(const char *run_dir, bool named)
{
    check_plain(named);
    execve(paths[0], keel_command(run_dir, "--service"), environ);
    fail(1, "cannot execute keel", strerror(errno));
}

/* In a child of a child, so that keel has neither our terminal nor us as its parent. */
static _Noreturn void become_keel(char **argv, int ready, int log)
{
    setsid();
    if (fork())
        _exit(0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int high = fcntl(ready, F_DUPFD_CLOEXEC, 4);
    log = fcntl(log, F_DUPFD_CLOEXEC, 4);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    dup2(high, 3);
    execve(paths[0], argv, environ);
    dprintf(high, "cannot execute %s: %s", paths[0], strerror(errno));
    _exit(127);
}

/* keel locks before it listens, so one that lost the lock ends at once and the winner's socket is waited for. */
int start_and_connect(const char *run_dir, bool named)
{
    char text[512] = "";
    int ready[2], fd, n = 0;
    check_plain(named);
    char **argv = keel_command(run_dir, "--ready");
    int failed = make_dirs(run_dir, 0700);
    if (failed)
        fail(1, "cannot make the run folder", strerror(-failed));
    snprintf(text, sizeof text, "%s/wherryd.log", run_dir);
    int log = open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0 || pipe2(ready, O_CLOEXEC) < 0)
        fail(1, "cannot open the log", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        fail(1, "cannot fork", strerror(errno));
    if (pid == 0)
        become_keel(argv, ready[1], log);
    close(ready[1]);
    close(log);
    waitpid(pid, NULL, 0);
    time_t until = time(NULL) + START_TIMEOUT;
    while (poll(&(struct pollfd){.fd = ready[0], .events = POLLIN}, 1, START_TIMEOUT * 1000) > 0) {
        ssize_t got = read(ready[0], text + n, sizeof text - 1 - (size_t)n);
        if (got <= 0)
            break;
        n += (int)got;
    }
    text[n] = 0;
    close(ready[0]);
    if (n)
        fail(1, "cannot start keel", text);
    while ((fd = connect_keel(run_dir)) < 0) {
        if (time(NULL) > until)
            fail(1, "keel does not listen; see wherryd.log in", run_dir);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return fd;
}
