/* What runs for the client besides wherryd: the player, the container's init, its terminal; and their signals. */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "link.h"
#include "notify.h"
#include "play.h"
#include "spawn.h"
#include "terminal.h"
#include "wire.h"

#define DRAIN_TIMEOUT 1000 /* ms of silence after the child's end until a terminal that others hold open is given up */

static int signals = -1;   /* signalfd; open from the first play on */
static int console = -1;   /* where the terminal's master arrives */
static int tape = -1;
static pid_t player_pid, child;
static int go = -1; /* where the player waits for its tape */
static int child_fd = -1, child_status, held_signal;
static uint32_t child_flags;
static bool child_done;
static bool relaying, relay_ended, relay_raw;
static bool done; /* our command: what asks us to end ends us */
/* What was ordered together with a play: to wait for its init, and a tape to play here after the init's end. */
static bool wait_next;
static uint32_t wait_next_flags;
static uint64_t last_init; /* of the play that has ended last */
static uint8_t *last_tape;
static size_t last_tape_len;
static bool last_tape_done; /* and nothing of it has failed */

static void take_master(void)
{
    char byte;
    int fds[RECEIVE_FDS];
    uint32_t count;
    ssize_t n = receive(console, &byte, 1, MSG_DONTWAIT, fds, &count, NULL, NULL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && count == 1)
        terminal_start(fds[0]);
    close(console);
    console = -1;
}

bool output_left(void)
{
    bool expected = console >= 0 && child && !child_done && child_flags & WAIT_FLAGS_RELAY_TERMINAL;
    return terminal_output_left() || expected;
}

/* --- signals --- */

static void hold_signals(void)
{
    static const int not_held[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGABRT,
                                   SIGSYS,  SIGTRAP, SIGTSTP, SIGTTIN, SIGPIPE};
    sigset_t set;
    if (signals >= 0)
        return;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof not_held / sizeof *not_held; i++)
        sigdelset(&set, not_held[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        fail(1, "cannot watch signals", strerror(errno));
}

/* The kernel shields the init of a pid namespace from every signal that it has no handler for. */
static bool unhandled(int number)
{
    static const char *const names[] = {"SigBlk:", "SigIgn:", "SigCgt:"};
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", child);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = 0;
    for (int i = 0; i < 3; i++) {
        char *at = strstr(text, names[i]);
        if (!at || strtoull(at + strlen(names[i]), NULL, 16) & 1ULL << (number - 1))
            return false;
    }
    return true;
}

static bool ends_programs(int number)
{
    return number == SIGINT || number == SIGTERM || number == SIGQUIT || number == SIGHUP;
}

static void forward(int number)
{
    if (child_flags & WAIT_FLAGS_KILL_IF_UNHANDLED && ends_programs(number) && unhandled(number))
        number = SIGKILL;
    syscall(SYS_pidfd_send_signal, child_fd, number, NULL, 0);
}

static void send_size(void)
{
    struct winsize size;
    if (terminal_size(&size))
        send_frame(FROM_CLIENT_RESIZED, &size.ws_row, 2, &size.ws_col, 2);
}

/* Before WAIT a signal is kept for the child to come; the second that asks us to end does end us. */
static void take_signal(int number)
{
    if (number == SIGWINCH)
        terminal_resize();
    if (number == SIGWINCH && relay_raw)
        send_size();
    if ((relaying || done) && ends_programs(number))
        exit(128 + number);
    if (number == SIGWINCH || number == SIGURG || number == SIGTTOU || child_done)
        return;
    if (child) {
        forward(number);
    } else if (held_signal && ends_programs(number)) {
        if (player_pid)
            kill(player_pid, SIGKILL);
        exit(128 + number);
    } else {
        held_signal = number;
    }
}

static void played(int32_t status, const void *page)
{
    send_frame(FROM_CLIENT_PLAYED, &status, sizeof status, page, PLAYED_PAGE);
}

static int play_here(const uint8_t *image, size_t n)
{
    static struct play p;
    uint8_t *memory = mmap(NULL, TAPE_PAGE + n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail(1, "cannot play", strerror(errno));
    memcpy(memory + TAPE_PAGE, image, n);
    int code = play_load(&p, memory, memory + TAPE_PAGE, n) ? PLAY_BAD_TAPE : play_run(&p, 1);
    played((code & 0xff) << 8, memory);
    munmap(memory, TAPE_PAGE + n);
    return code;
}

static void play_last(void)
{
    if (last_tape_len)
        last_tape_done = play_here(last_tape, last_tape_len) == 0;
    last_tape_len = 0;
}

static void reap_children(void)
{
    uint8_t page[PLAYED_PAGE] = {0};
    int32_t status;
    if (player_pid && waitpid(player_pid, &status, WNOHANG) == player_pid) {
        player_pid = 0;
        if (pread(tape, page, sizeof page, 0) < 0)
            memset(page, 0, sizeof page);
        close(tape);
        played(status, page);
        bool go_on = wait_next;
        wait_next = false;
        memcpy(&last_init, page + INIT_SLOT, sizeof last_init);
        if (status != 0)
            last_init = 0;
        if (last_init)
            notify_init((pid_t)last_init);
        if (go_on && last_init)
            wait_for((pid_t)last_init, wait_next_flags);
        else if (go_on)
            last_tape_len = 0;
    }
    if (child && !child_done && waitpid(child, &status, WNOHANG) == child) {
        child_done = true;
        child_status = status;
        if (console >= 0)
            take_master();
        send_frame(FROM_CLIENT_EXITED, &status, sizeof status, NULL, 0);
        play_last();
    }
}

static void read_signals(void)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info)
        if (info.ssi_signo == SIGCHLD)
            reap_children();
        else
            take_signal((int)info.ssi_signo);
}

/* --- orders --- */

static void dismiss(void)
{
    if (go < 0)
        return;
    kill(player_pid, SIGKILL);
    waitpid(player_pid, NULL, 0);
    player_pid = 0;
    close(tape);
    close(go);
    go = -1;
}

/* What goes wrong here goes wrong again at the play, and is told then. */
void prepare(int player, int registration)
{
    int pipe[2];
    if (player_pid || pipe2(pipe, O_CLOEXEC) < 0)
        return;
    tape = tape_file(NULL, 0);
    struct spawn s = {.player = player, .tape = tape, .registration = registration, .console = -1, .null = -1,
                      .go = pipe[0]};
    player_pid = tape < 0 ? -1 : spawn_player(&s);
    close(pipe[0]);
    go = pipe[1];
    if (player_pid > 0) {
        atexit(dismiss);
        return;
    }
    player_pid = 0;
    if (tape >= 0)
        close(tape);
    close(go);
    go = -1;
}

static bool play_prepared(uint32_t flags, const uint8_t *image, size_t n)
{
    if (go < 0 || flags || tape_write(tape, image, n) < 0)
        return false;
    bool told = write(go, "", 1) == 1;
    close(go);
    go = -1;
    if (!told) /* it ended before signals were held */
        reap_children();
    return true;
}

void play(uint32_t flags, const uint8_t *image, size_t n, int player, int registration)
{
    if (flags & PLAY_FLAGS_AFTER_EXIT) {
        free(last_tape);
        last_tape = wait_next || child ? malloc(n) : NULL;
        last_tape_len = last_tape ? n : 0;
        if (last_tape)
            memcpy(last_tape, image, n);
        if (child_done)
            play_last();
        return;
    }
    int pair[2] = {-1, -1};
    if (flags & PLAY_FLAGS_IN_PROCESS) {
        play_here(image, n);
        return;
    }
    hold_signals();
    if (play_prepared(flags, image, n))
        return;
    dismiss();
    if (flags & PLAY_FLAGS_CONSOLE && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        fail(1, "cannot make the console socket", strerror(errno));
    if (console >= 0)
        close(console);
    console = pair[0];
    tape = tape_file(image, n);
    if (tape < 0)
        fail(1, "cannot make the tape's memfd", strerror(-tape));
    struct spawn s = {.player = player, .tape = tape, .registration = registration, .console = pair[1], .null = -1,
                      .preserve = (int)(flags >> PLAY_FLAGS_PRESERVE_SHIFT)};
    player_pid = spawn_player(&s);
    if (player_pid < 0)
        fail(1, "cannot start the player", strerror(-player_pid));
    if (pair[1] >= 0)
        close(pair[1]);
}

void wait_for(pid_t pid, uint32_t flags)
{
    if (!pid && !player_pid) /* the play was faster than this frame */
        pid = (pid_t)last_init;
    if (!pid) {
        wait_next = player_pid != 0;
        wait_next_flags = flags;
        return;
    }
    hold_signals();
    child = pid;
    child_flags = flags;
    child_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (child_fd < 0) { /* nobody's child of ours: nothing can be said of its end */
        int32_t unknown = 127 << 8;
        child_done = true;
        child_status = unknown;
        send_frame(FROM_CLIENT_EXITED, &unknown, sizeof unknown, NULL, 0);
        return;
    }
    if (flags & WAIT_FLAGS_RELAY_TERMINAL && console >= 0)
        take_master();
    if (held_signal)
        forward(held_signal);
    held_signal = 0;
    reap_children(); /* its SIGCHLD may have come before we knew it */
}

void relay(bool raw)
{
    hold_signals();
    relaying = true;
    relay_raw = raw;
    if (!raw)
        return;
    terminal_raw();
    send_size();
}

static void relay_input(void)
{
    char bytes[4096];
    ssize_t n = read(0, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    relay_ended = n <= 0;
    send_frame(FROM_CLIENT_STDIN, bytes, n > 0 ? (size_t)n : 0, NULL, 0);
}

bool waiting(void)
{
    return child;
}

bool waited(int *code)
{
    *code = WIFSIGNALED(child_status) ? 128 + WTERMSIG(child_status) : WEXITSTATUS(child_status);
    return child_done;
}

bool all_done(void)
{
    return last_tape_done && child_flags & WAIT_FLAGS_END;
}

void wait_until_ready(void)
{
    done = true;
    if (held_signal && notify_left())
        take_signal(held_signal);
    while (notify_left())
        watch_once(-1);
}

bool watch_once(int server)
{
    if (signals < 0 && !notify_left())
        return true; /* nothing but the link: its read may block */
    struct pollfd fds[4 + TERMINAL_FDS + NOTIFY_FDS] = {
        {.fd = server, .events = POLLIN},
        {.fd = signals, .events = POLLIN},
        {.fd = child_flags & WAIT_FLAGS_RELAY_TERMINAL ? console : -1, .events = POLLIN},
        {.fd = relaying && !relay_ended ? 0 : -1, .events = POLLIN},
    };
    terminal_poll(fds + 4);
    notify_poll(fds + 4 + TERMINAL_FDS);
    int n = poll(fds, sizeof fds / sizeof *fds, child_done && terminal_waits() ? DRAIN_TIMEOUT : -1);
    if (n == 0)
        terminal_close();
    if (n <= 0)
        return false;
    if (fds[1].revents)
        read_signals();
    if (fds[2].revents && console >= 0)
        take_master();
    if (fds[3].revents)
        relay_input();
    terminal_handle(fds + 4);
    notify_handle(fds + 4 + TERMINAL_FDS);
    return fds[0].revents;
}
