/* One thread's epoll loop: sources, timers, the log line. Knows nothing of what it is used for. */
#ifndef WHERRY_LOOP_H
#define WHERRY_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/* Something in the epoll set. A handler may free any source: the loop takes one event at a time. */
struct source {
    int fd;
    uint32_t events;
    void (*ready)(struct source *s, uint32_t events);
};

void watch(struct source *s, uint32_t events); /* adds, or changes; 0 is "only errors" */
void unwatch(struct source *s);                /* and closes fd */

/* A timer of the loop; setting it again moves it. */
struct timer {
    uint64_t at; /* CLOCK_MONOTONIC ms; 0: not set */
    void (*fire)(struct timer *t);
    struct timer *next;
};

void timer_set(struct timer *t, uint64_t ms);
void timer_clear(struct timer *t);

uint64_t now_ms(void);         /* CLOCK_MONOTONIC */
uint64_t wall_ns(void);        /* CLOCK_REALTIME */
extern uint8_t scratch[1 << 18]; /* for one read at a time */

int loop_open(void); /* 0 or -errno */
void loop(const bool *done); /* until *done */

#define LOG_MARK " part=keel " /* in each of them */

/* One logfmt line to stderr. */
__attribute__((format(printf, 2, 3))) void log_line(const char *level, const char *format, ...);

#endif
