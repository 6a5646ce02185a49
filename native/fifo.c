#define _GNU_SOURCE
#include "fifo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static void drop(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The FIFO behind a descriptor, opened anew: a duplicate would share its flags with whoever else holds it. */
static int reopen(int fd, int flags)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_NONBLOCK | O_CLOEXEC);
}

/* Without our own reader, opening it for writing fails with ENXIO exactly while nobody reads. */
bool fifo_keep(int *reader, int *writer)
{
    drop(reader);
    int probe = *writer < 0 ? -1 : reopen(*writer, O_WRONLY);
    if (*writer >= 0 && probe < 0 && errno == ENXIO) {
        *reader = reopen(*writer, O_RDONLY);
        return true;
    }
    drop(&probe);
    drop(writer);
    return false;
}
