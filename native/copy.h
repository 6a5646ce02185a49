/* Copies bytes from one descriptor to another, in the loop and without ever blocking. */
#ifndef WHERRY_COPY_H
#define WHERRY_COPY_H

#include <stddef.h>

#include "loop.h"

/* Zeroed: it never ran. What it is copied for gets the pointer `owner` back. */
struct copy {
    struct source from, to;
    uint8_t *left; /* read and not written yet; NULL: nothing */
    size_t start, size;
    void (*ended)(void *owner);
    void *owner; /* not NULL from the start on, also after the end */
};

/*
 * Takes both descriptors, which nobody else may use: they become non-blocking. to -1: what comes is thrown away, so
 * that the writer goes on; the same once `to` fails. At the end of `from` (or its error: a terminal's is EIO) all that
 * was read is written first; then both are closed and ended(owner) is called, which may free the copy.
 */
void copy_start(struct copy *c, int from, int to, void (*ended)(void *owner), void *owner);
/* The same where `left` of what was read has not been written yet. */
void copy_resume(struct copy *c, int from, int to, void (*ended)(void *owner), void *owner, const uint8_t *left,
                 size_t n);
void copy_stop(struct copy *c); /* at once, without ended */
bool copy_runs(const struct copy *c);

#endif
