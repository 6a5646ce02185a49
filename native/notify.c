#define _GNU_SOURCE
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define BARRIER_SECONDS 30 /* as long as runc and crun wait for the manager to have read everything */

enum { CONTAINER, INIT, BARRIER, EXPIRY }; /* of `watched` */

static int watched[NOTIFY_FDS] = {-1, -1, -1, -1};
static int manager = -1;
static pid_t main_process;
static bool stays, told;

static void drop(int which)
{
    if (watched[which] >= 0)
        close(watched[which]);
    watched[which] = -1;
}

void notify_start(int container, int manager_socket, bool staying)
{
    watched[CONTAINER] = container;
    manager = manager_socket;
    stays = staying;
    main_process = staying ? getpid() : 0;
}

void notify_init(pid_t pid)
{
    if (stays || watched[CONTAINER] < 0 || main_process)
        return;
    main_process = pid;
    watched[INIT] = (int)syscall(SYS_pidfd_open, pid, 0);
    if (watched[INIT] < 0) /* it has ended already */
        drop(CONTAINER);
}

bool notify_left(void)
{
    return !stays && (watched[CONTAINER] >= 0 || watched[BARRIER] >= 0);
}

static bool say(const char *line, size_t length)
{
    char text[4096];
    if (length > sizeof text - 1)
        return false;
    memcpy(text, line, length);
    text[length] = '\n';
    return send(manager, text, length + 1, MSG_NOSIGNAL) >= 0;
}

/* sd_notify_barrier(3): the manager closes the descriptor when it has read everything before it. */
static void send_barrier(void)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec part = {"BARRIER=1", 9};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    memcpy(CMSG_DATA(&control.header), &ends[1], sizeof ends[1]);
    bool sent = sendmsg(manager, &message, MSG_NOSIGNAL) >= 0;
    close(ends[1]);
    watched[BARRIER] = ends[0];
    watched[EXPIRY] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec in = {.it_value.tv_sec = BARRIER_SECONDS};
    if (!sent || timerfd_settime(watched[EXPIRY], 0, &in, NULL) < 0)
        drop(BARRIER);
}

/* Other lines are left out: STATUS= and the like mean the program, but the manager would take them for ours. */
static void tell(const char *line, size_t length)
{
    char number[32];
    int digits = snprintf(number, sizeof number, "MAINPID=%d", main_process);
    told = true;
    if (say(line, length) && say(number, (size_t)digits))
        send_barrier();
    else
        dprintf(2, "wherry: the service manager was not told that the container is ready: %s\n", strerror(errno));
    close(manager);
    manager = -1;
}

/* What comes after READY= is thrown away: a socket that nobody reads would stop the program. False: nothing is left. */
static bool read_message(void)
{
    char text[4096];
    ssize_t n = recv(watched[CONTAINER], text, sizeof text - 1, MSG_DONTWAIT); /* descriptors with it are closed */
    if (n < 0)
        return errno == EINTR;
    text[n] = 0;
    for (char *line = text, *end; !told && line < text + n; line = end + 1) {
        end = line + strcspn(line, "\n");
        if (!strncmp(line, "READY=", 6))
            tell(line, (size_t)(end - line));
    }
    return true;
}

/* A program may be quicker than the player that has started it: its message waits until we know the main process. */
void notify_poll(struct pollfd fds[NOTIFY_FDS])
{
    for (int i = 0; i < NOTIFY_FDS; i++)
        fds[i] = (struct pollfd){.fd = main_process ? watched[i] : -1, .events = POLLIN};
}

void notify_handle(const struct pollfd fds[NOTIFY_FDS])
{
    if (fds[CONTAINER].revents)
        read_message();
    if (fds[INIT].revents) /* its last word may have been that it is ready */
        while (!told && watched[CONTAINER] >= 0 && read_message())
            ;
    if (!stays && (told || fds[INIT].revents)) {
        drop(CONTAINER);
        drop(INIT);
    }
    if (fds[BARRIER].revents || fds[EXPIRY].revents) {
        drop(BARRIER);
        drop(EXPIRY);
    }
}
