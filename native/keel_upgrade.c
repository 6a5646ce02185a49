/*
 * A newer keel in the place of this one, under running containers: the same process executes another program, which
 * finds sockets, children and queues in a memfd. First the new program looks whether it understands the state (a child
 * of ours, that only reads); then wherryd is asked to end; then comes the execve. A wherryd that does not come up
 * afterwards brings the old programs back, which are held open until then. Who asked is told by the wherryd that comes.
 */
#define _GNU_SOURCE
#include "keel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "spawn.h"
#include "state.h"

#define TRIAL_MAX 20000 /* ms for the new program to read the state */
#define SETTLE_MAX 2000 /* ms for commands and players that are under way */
#define SETTLE_EVERY 20
#define RESERVED 12     /* descriptors below are reserved places (reset.h) */
#define COMMAND_MAX 64

enum { RECORD_KEEL = 1, RECORD_PREVIOUS = 2 }; /* the others: keel_conn.c, keel_proc_state.c, keel_answer.c */

struct programs {
    int keel, player; /* what may be executed; -1: none */
    char *player_path;
    char *command[COMMAND_MAX + 1];
};

static struct {
    enum { NONE, TRIAL, SETTLING, LEAVING } phase;
    uint64_t request, connection; /* of who asked; 0: nobody */
    struct programs next, previous;
    pid_t trial;
    uint64_t until;
    bool unproven; /* the wherryd of these programs has not been ready yet */
    int32_t result;
    char text[1200];
} up = {.next = {-1, -1, NULL, {0}}, .previous = {-1, -1, NULL, {0}}};

static void later(struct timer *t);
static struct timer timer = {.fire = later};

static void forget(struct programs *p)
{
    if (p->keel >= 0)
        close(p->keel);
    if (p->player >= 0)
        close(p->player);
    free(p->player_path);
    for (size_t i = 0; p->command[i]; i++)
        free(p->command[i]);
    *p = (struct programs){.keel = -1, .player = -1};
}

/* --- the state --- */

static int save(bool handing_on, int player)
{
    struct state s = {.handing_on = handing_on};
    state_record(&s, RECORD_KEEL);
    state_fd(&s, player);
    keel_save(&s);
    state_u64(&s, up.connection);
    state_u32(&s, (uint32_t)up.result);
    state_text(&s, up.text);
    state_record(&s, RECORD_PREVIOUS);
    state_fd(&s, up.previous.keel);
    state_fd(&s, up.previous.player);
    state_text(&s, up.previous.player_path ? up.previous.player_path : "");
    for (size_t i = 0; up.previous.command[i]; i++)
        state_text(&s, up.previous.command[i]);
    conns_save(&s);
    procs_save(&s);
    deposits_save(&s);
    for (int fd = 3; handing_on && fd < RESERVED; fd++)
        fcntl(fd, F_SETFD, 0);
    return state_file(&s);
}

static void load_previous(struct state_reader *s)
{
    struct programs *p = &up.previous;
    p->keel = state_get_fd(s);
    p->player = state_get_fd(s);
    p->player_path = state_get_text(s);
    for (size_t i = 0; i < COMMAND_MAX && s->record.at < s->record.end && !s->record.bad; i++)
        p->command[i] = state_get_text(s);
    up.unproven = p->keel >= 0;
}

/* check: nothing but reading. */
static bool load(int fd, bool check, int *player)
{
    struct state_reader s;
    uint32_t type;
    bool good = state_open(&s, fd), seen = false;
    while (good && state_next(&s, &type)) {
        if (type == RECORD_KEEL) {
            *player = state_get_fd(&s);
            keel_load(&s);
            up.connection = get_u64(&s.record);
            up.result = (int32_t)get_u32(&s.record);
            char *text = state_get_text(&s);
            snprintf(up.text, sizeof up.text, "%s", text ? text : "");
            free(text);
            seen = true;
        } else if (type == RECORD_PREVIOUS) {
            load_previous(&s);
        } else if (!conns_load(&s, type, check) && !procs_load(&s, type, check) &&
                   !deposits_load(&s, type, check)) {
            log_line("warn", "msg=\"a record of the state is not known here\" type=%u", type);
        }
        good = !s.record.bad;
    }
    good &= seen && !s.rest.bad;
    free(s.bytes);
    return good;
}

/* --- leaving --- */

/* argv of a keel that takes the state over. */
static void arguments(char *argv[COMMAND_MAX + 16], const struct programs *p, int state, char *mode)
{
    static char number[16];
    size_t n = 0;
    snprintf(number, sizeof number, "%d", state);
    argv[n++] = "keel";
    argv[n++] = "--run-dir";
    argv[n++] = (char *)keel.run_dir;
    argv[n++] = "--player";
    argv[n++] = p->player_path;
    if (keel.service)
        argv[n++] = "--service";
    if (keel.faults)
        argv[n++] = "--fault";
    argv[n++] = mode;
    argv[n++] = number;
    argv[n++] = "--";
    for (size_t i = 0; p->command[i]; i++)
        argv[n++] = p->command[i];
    argv[n] = NULL;
}

static void failed(int error, const char *what)
{
    log_line("error", "msg=\"upgrade: %s: %s\"", what, strerror(error));
    if (up.request)
        reply(up.request, -error, what, strlen(what));
    up.request = up.connection = 0;
    up.phase = NONE;
    timer_clear(&timer);
    forget(&up.next);
}

/* Returns only when it failed. */
static int become(const struct programs *p, int player, char *mode)
{
    extern char **environ;
    char *argv[COMMAND_MAX + 16];
    int state = save(true, player);
    if (state >= 0) {
        arguments(argv, p, state, mode);
        execveat(p->keel, "", argv, environ, AT_EMPTY_PATH);
    }
    int error = state < 0 ? -state : errno;
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    if (state >= 0)
        close(state);
    return error;
}

/* wherryd has ended. Goes on here only when the new program cannot be executed. */
void upgrade_now(void)
{
    if (up.phase != LEAVING)
        return;
    struct programs *old = &up.previous;
    forget(old);
    old->keel = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    old->player = fcntl(keel.player, F_DUPFD_CLOEXEC, 0);
    old->player_path = strdup(keel.player_path);
    for (size_t i = 0; i < COMMAND_MAX && keel.command[i]; i++)
        old->command[i] = strdup(keel.command[i]);
    up.result = 0;
    up.text[0] = 0;
    uint64_t connection = up.connection;
    int error = old->keel < 0 ? EBADF : become(&up.next, -1, "--resume");
    forget(old);
    up.request = 0; /* its wherryd has ended */
    failed(error, "cannot execute the new keel");
    up.connection = connection;
    up.result = -error;
    snprintf(up.text, sizeof up.text, "the new keel cannot be executed: %s", strerror(error));
}

static void later(struct timer *t)
{
    if (up.phase == TRIAL) {
        kill(up.trial, SIGKILL);
    } else if (up.phase == SETTLING) {
        if (now_ms() < up.until && (keel.playing || clients_acting() > 0)) {
            timer_set(t, SETTLE_EVERY);
            return;
        }
        up.phase = LEAVING;
        if (!wherryd_quit())
            upgrade_now();
    }
}

bool upgrade_child(pid_t pid, int status)
{
    if (up.phase != TRIAL || pid != up.trial)
        return false;
    timer_clear(&timer);
    if (status) {
        failed(ENOEXEC, "the new keel cannot take over; see the log");
        return true;
    }
    log_line("info", "msg=\"upgrade: the new keel can take over\"");
    up.phase = SETTLING;
    up.until = now_ms() + SETTLE_MAX;
    later(&timer);
    return true;
}

static void begin(const char *path)
{
    char *argv[COMMAND_MAX + 16];
    extern char **environ;
    up.next.keel = open(path, O_PATH | O_CLOEXEC);
    if (up.next.keel < 0)
        return failed(errno, "cannot open the new keel");
    int state = save(false, -1);
    if (state < 0)
        return failed(-state, "cannot write the state");
    arguments(argv, &up.next, state, "--check");
    up.phase = TRIAL;
    up.trial = vfork();
    if (up.trial == 0) {
        execveat(up.next.keel, "", argv, environ, AT_EMPTY_PATH);
        _exit(127);
    }
    close(state);
    if (up.trial < 0)
        return failed(errno, "cannot try the new keel");
    timer_set(&timer, TRIAL_MAX);
}

void upgrade_order(uint64_t request, struct reader *r)
{
    char keel_path[4096], text[4096];
    uint64_t connection = get_u64(r);
    get_str(r, keel_path, sizeof keel_path);
    if (up.phase != NONE || up.unproven || keel.ending)
        return reply(request, -EBUSY, NULL, 0);
    get_str(r, text, sizeof text);
    up.next.player_path = strdup(text);
    uint32_t count = get_u32(r);
    for (uint32_t i = 0; i < count && i < COMMAND_MAX && !r->bad; i++) {
        get_str(r, text, sizeof text);
        up.next.command[i] = strdup(text);
    }
    up.request = request;
    up.connection = connection;
    if (r->bad || !count || count > COMMAND_MAX)
        return failed(EINVAL, "the order is not as docs/internals.md has it");
    begin(keel_path);
}

/* The same programs, as they are now on the disk. */
void upgrade_again(void)
{
    char path[4096];
    const char *slash = strrchr(keel.player_path, '/');
    if (up.phase != NONE || up.unproven || keel.ending)
        return;
    int folder = slash ? (int)(slash - keel.player_path) : 1;
    snprintf(path, sizeof path, "%.*s/keel", folder, slash ? keel.player_path : ".");
    up.next.player_path = strdup(keel.player_path);
    for (size_t i = 0; i < COMMAND_MAX && keel.command[i]; i++)
        up.next.command[i] = strdup(keel.command[i]);
    up.request = up.connection = 0;
    begin(path);
}

/* --- arriving --- */

void upgrade_check(int state)
{
    int player;
    if (!load(state, true, &player))
        exit(1);
    exit(seal_player(keel.player_path) < 0);
}

const char *upgrade_resume(int state, bool back)
{
    int player = -1;
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NAME, "keel"); /* executed by a descriptor it has that one's number */
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    if (!load(state, false, &player))
        return "cannot read the state of the keel before";
    close(state);
    keel.player = player >= 0 ? player : seal_player(keel.player_path);
    if (keel.player < 0)
        return "cannot seal the player";
    if (up.previous.player == player)
        up.previous.player = -1;
    if (back)
        forget(&up.previous);
    up.unproven = !back;
    return NULL;
}

/* Returns when there is nothing to go back from, or when the programs before cannot be executed. */
void upgrade_back(const char *why)
{
    if (!up.unproven)
        return;
    up.unproven = false;
    up.result = -EAGAIN;
    snprintf(up.text, sizeof up.text, "%s", why);
    log_line("error", "msg=\"upgrade: going back: %s\"", why);
    struct programs old = up.previous;
    int error = become(&old, old.player, "--back");
    log_line("error", "msg=\"upgrade: cannot go back: %s\"", strerror(error));
}

void upgrade_proven(void)
{
    if (!up.unproven)
        return;
    up.unproven = false;
    forget(&up.previous);
    log_line("info", "msg=\"upgraded\" build=%s", WHERRY_BUILD);
}

void upgrade_outcome(struct buf *body)
{
    put_u64(body, up.connection);
    put_u32(body, (uint32_t)up.result);
    put_str(body, up.text);
}
