/* Starting the player: the same for keel and the client. */
#ifndef WHERRY_SPAWN_H
#define WHERRY_SPAWN_H

#include <stddef.h>
#include <sys/types.h>

#include "reset.h"

struct spawn {
    int player;       /* the sealed player */
    int tape;         /* memfd of tape_file() */
    int registration; /* send side */
    int console;      /* -1: none */
    int go;           /* read end for a tape without an image yet: a byte comes when that is there; 0: none */
    int null;         /* for 0-2, and a process group of its own; -1: it keeps the starter's */
    int preserve;     /* how many descriptors from 3 on the tape finds from FD_PRESERVED on */
    const struct before *before; /* given back to the player; NULL: nothing is */
};

/* The player as what may be executed for ever; -1 with errno. */
int seal_player(const char *path);

/* A memfd with an empty shared page and the tape's image behind it. -errno on failure. */
int tape_file(const void *image, size_t len);
/* The image into one that was made without (len 0). -errno, or 0. */
int tape_write(int tape, const void *image, size_t len);

/*
 * Starts the player with no signal blocked; never waits for more than its execve.
 * Its pid, or -errno. A failed execve leaves errno in lane 0 of the shared page and ends the child with 127.
 */
pid_t spawn_player(const struct spawn *s);

/* Notes in lane 0 of the shared page that nothing could be played. */
void tape_failed(int tape, int error);

#endif
