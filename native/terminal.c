#define _GNU_SOURCE
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define CHUNK 4096 /* what a pipe that polls writable takes without blocking (PIPE_BUF) */

static int master = -1;

/* One direction of the relay. */
struct flow {
    uint8_t bytes[CHUNK];
    size_t from, to;
};
static struct flow in, out;
static bool in_ended, out_broken;
static uint8_t last_in = '\n';

static struct termios before;
static bool raw;

static void restore_terminal(void)
{
    if (raw)
        tcsetattr(0, TCSANOW, &before);
    raw = false;
}

static void restore_and_die(int number)
{
    restore_terminal();
    raise(number); /* SA_RESETHAND: this time it ends us */
}

void terminal_raw(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP};
    if (tcgetattr(0, &before) < 0)
        return;
    struct sigaction restore = {.sa_handler = restore_and_die, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        sigaction(fatal[i], &restore, NULL);
    atexit(restore_terminal);
    struct termios wanted = before;
    cfmakeraw(&wanted);
    raw = true;
    tcsetattr(0, TCSANOW, &wanted);
}

bool terminal_size(struct winsize *size)
{
    for (int fd = 0; fd < 3; fd++)
        if (ioctl(fd, TIOCGWINSZ, size) == 0)
            return true;
    return false;
}

void terminal_resize(void)
{
    struct winsize size;
    if (master >= 0 && terminal_size(&size))
        ioctl(master, TIOCSWINSZ, &size);
}

void terminal_close(void)
{
    close(master);
    master = -1;
}

/* End of our input is no hang-up: a terminal's reader sees it as ^D, twice where a line has begun. */
static void read_input(void)
{
    ssize_t n = read(0, in.bytes, sizeof in.bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    in.from = 0;
    in.to = n > 0 ? (size_t)n : 0;
    if (n > 0) {
        last_in = in.bytes[n - 1];
        return;
    }
    in_ended = true;
    if (raw)
        return;
    in.to = last_in == '\n' ? 1 : 2;
    memset(in.bytes, 4, in.to);
}

static void read_output(void)
{
    ssize_t n = read(master, out.bytes, sizeof out.bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0)
        terminal_close(); /* EIO: nobody holds the other side any more */
    else if (!out_broken) {
        out.from = 0;
        out.to = (size_t)n;
    }
}

static void write_flow(struct flow *f, int fd)
{
    ssize_t n = write(fd, f->bytes + f->from, f->to - f->from);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n < 0 && fd == 1)
        out_broken = true;
    f->from = n < 0 ? f->to : f->from + (size_t)n;
}

void terminal_start(int fd)
{
    master = fd;
    fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK);
    terminal_resize();
    terminal_raw();
}

bool terminal_waits(void)
{
    return master >= 0 && out.from == out.to;
}

bool terminal_output_left(void)
{
    return master >= 0 || out.from < out.to;
}

void terminal_poll(struct pollfd fds[TERMINAL_FDS])
{
    bool output = out.from < out.to, input = in.from < in.to;
    short wanted = (short)((output ? 0 : POLLIN) | (input ? POLLOUT : 0));
    fds[0] = (struct pollfd){.fd = wanted ? master : -1, .events = wanted};
    fds[1] = (struct pollfd){.fd = master >= 0 && !input && !in_ended ? 0 : -1, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = output ? 1 : -1, .events = POLLOUT};
}

void terminal_handle(const struct pollfd fds[TERMINAL_FDS])
{
    if (fds[2].revents)
        write_flow(&out, 1);
    if (fds[1].revents)
        read_input();
    if (fds[0].revents & POLLOUT)
        write_flow(&in, master);
    if (fds[0].revents & ~POLLOUT && out.from == out.to)
        read_output();
}
