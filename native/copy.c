#define _GNU_SOURCE
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CHUNK (64u << 10)
#define TURN (16 * CHUNK) /* then the loop's others have theirs */

bool copy_runs(const struct copy *c)
{
    return c->owner && c->from.fd >= 0;
}

void copy_stop(struct copy *c)
{
    if (!copy_runs(c))
        return;
    unwatch(&c->from);
    unwatch(&c->to);
    free(c->left);
    c->left = NULL;
}

/* What could not be written at once. False: `to` takes no more for now, its event comes. */
static bool put_left(struct copy *c)
{
    while (c->left) {
        ssize_t n = c->to.fd < 0 ? -1 : write(c->to.fd, c->left + c->start, c->size - c->start);
        if (n < 0 && c->to.fd >= 0 && errno == EAGAIN)
            return false;
        if (n < 0 && c->to.fd >= 0 && errno == EINTR)
            continue;
        c->start += n > 0 ? (size_t)n : 0;
        if (n < 0 || c->start == c->size) {
            free(c->left);
            c->left = NULL;
        }
        if (n < 0)
            unwatch(&c->to);
    }
    return true;
}

/* For put_left; 0 bytes: nothing is left. */
static void leave(struct copy *c, const uint8_t *bytes, size_t n)
{
    c->start = 0;
    c->size = n;
    c->left = n ? malloc(n) : NULL;
    if (c->left)
        memcpy(c->left, bytes, n);
    else if (n)
        log_line("error", "msg=\"no memory: output is lost\" bytes=%zu", n);
}

static void put(struct copy *c, const uint8_t *bytes, size_t n)
{
    ssize_t done;
    do
        done = c->to.fd < 0 ? (ssize_t)n : write(c->to.fd, bytes, n);
    while (done < 0 && errno == EINTR);
    if (done < 0 && errno != EAGAIN) {
        unwatch(&c->to);
        return;
    }
    size_t written = done < 0 ? 0 : (size_t)done;
    leave(c, bytes + written, n - written);
}

/* Both ends tell changes only (EPOLLET), so each time as much is moved as goes. */
static void pump(struct copy *c)
{
    for (size_t moved = 0; moved < TURN;) {
        if (!put_left(c))
            return;
        ssize_t n = read(c->from.fd, scratch, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            copy_stop(c);
            c->ended(c->owner);
            return;
        }
        put(c, scratch, (size_t)n);
        moved += (size_t)n;
    }
    watch(&c->from, EPOLLIN | EPOLLET); /* set anew it tells again what is there */
}

static void from_ready(struct source *s, uint32_t events)
{
    (void)events;
    pump((struct copy *)((char *)s - offsetof(struct copy, from)));
}

static void to_ready(struct source *s, uint32_t events)
{
    (void)events;
    pump((struct copy *)((char *)s - offsetof(struct copy, to)));
}

static void not_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void copy_start(struct copy *c, int from, int to, void (*ended)(void *owner), void *owner)
{
    if (from < 0 && to >= 0)
        close(to);
    if (from < 0)
        return; /* no descriptor was left for it: it has ended before it began */
    *c = (struct copy){.from = {.fd = from, .ready = from_ready}, .to = {.fd = to, .ready = to_ready},
                       .ended = ended, .owner = owner};
    not_blocking(from);
    watch(&c->from, EPOLLIN | EPOLLET);
    if (to < 0)
        return;
    not_blocking(to);
    watch(&c->to, EPOLLOUT | EPOLLET);
}

void copy_resume(struct copy *c, int from, int to, void (*ended)(void *owner), void *owner, const uint8_t *left,
                 size_t n)
{
    copy_start(c, from, to, ended, owner);
    leave(c, left, n);
}
