/* Serving one command without keel: Node is our child for as long, and the client link a socket pair. */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "spawn.h"

extern char **environ;

static pid_t node;
static int link_end;

/* A session of its own: a terminal's signals are for us, and we hand them on. */
static _Noreturn void become_node(char **command, const char *run_dir)
{
    static const char *const kept[] = {
        "PATH", "HOME", "TZ", "LANG", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "WHERRY_LOG_LEVEL"};
    enum { KEPT = sizeof kept / sizeof *kept };
    const char *values[KEPT];
    for (int i = 0; i < KEPT; i++)
        values[i] = getenv(kept[i]);
    clearenv();
    for (int i = 0; i < KEPT; i++)
        if (values[i])
            setenv(kept[i], values[i], 1);
    setenv("WHERRY_ONESHOT", "1", 1);
    setenv("WHERRY_RUN_DIR", run_dir, 1);
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), link = fcntl(link_end, F_DUPFD_CLOEXEC, 4);
    dup2(null, 0);
    dup2(null, 1);
    dup2(link, 3);
    close_range(4, ~0U, CLOSE_RANGE_CLOEXEC);
    execve(command[0], command, environ);
    _exit(127);
}

int start_alone(const char *run_dir, int *player, int *registration)
{
    static int ends[2], unread[2]; /* whom the init registers with: nobody listens, wherryd finds it by its number */
    char player_path[4096], **command = wherryd_command(run_dir, player_path);
    *player = seal_player(player_path);
    if (*player < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, unread) < 0)
        fail(1, "cannot serve this command without keel", strerror(errno));
    *registration = unread[0];
    link_end = ends[1];
    node = fork();
    if (node < 0)
        fail(1, "cannot fork", strerror(errno));
    if (node == 0)
        become_node(command, run_dir);
    close(ends[1]);
    return ends[0];
}

void end_alone(void)
{
    if (node > 0)
        waitpid(node, NULL, 0);
}
