#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

uint8_t scratch[1 << 18];

static int poller;
static struct timer *timers;

void log_line(const char *level, const char *format, ...)
{
    char line[1024], when[32];
    struct timespec ts;
    struct tm tm;
    va_list args;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(line, sizeof line, "time=%s.%03ldZ level=%s" LOG_MARK, when, ts.tv_nsec / 1000000, level);
    va_start(args, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n, format, args);
    va_end(args);
    if ((size_t)n > sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    if (write(2, line, (size_t)n) < 0)
        return; /* nobody is left to be told */
}

int loop_open(void)
{
    poller = epoll_create1(EPOLL_CLOEXEC);
    return poller < 0 ? -errno : 0;
}

void watch(struct source *s, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &e) < 0 && epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &e) < 0)
        log_line("error", "msg=\"epoll_ctl: %s\" fd=%d", strerror(errno), s->fd);
    s->events = events;
}

void unwatch(struct source *s)
{
    if (s->fd < 0)
        return;
    epoll_ctl(poller, EPOLL_CTL_DEL, s->fd, NULL);
    close(s->fd);
    s->fd = -1;
}

uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t wall_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void timer_clear(struct timer *t)
{
    for (struct timer **p = &timers; *p; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            break;
        }
    t->at = 0;
}

void timer_set(struct timer *t, uint64_t ms)
{
    timer_clear(t);
    t->at = now_ms() + ms;
    struct timer **p = &timers;
    while (*p && (*p)->at <= t->at)
        p = &(*p)->next;
    t->next = *p;
    *p = t;
}

void loop(const bool *done)
{
    while (!*done) {
        struct epoll_event e;
        uint64_t now = timers ? now_ms() : 0;
        if (timers && timers->at <= now) {
            struct timer *t = timers;
            timer_clear(t);
            t->fire(t);
            continue;
        }
        uint64_t wait = timers ? timers->at - now : 0;
        int n = epoll_wait(poller, &e, 1, timers ? (wait > 60000 ? 60000 : (int)wait) : -1);
        if (n > 0) {
            struct source *s = e.data.ptr;
            s->ready(s, e.events);
        }
    }
}
