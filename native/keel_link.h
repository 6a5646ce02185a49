/* The running wherryd, as keel_life.c starts and ends it and keel_link.c talks with it. */
#ifndef WHERRY_KEEL_LINK_H
#define WHERRY_KEEL_LINK_H

#include "keel.h"

extern struct wherryd {
    pid_t pid;
    struct source source;
    struct cutter cutter;
    struct buf out;
    uint64_t started_ms;
    unsigned unready; /* starts in a row that never came to READY */
    uint32_t backoff;
    unsigned silent; /* pings in a row without an answer */
} wherryd;

/* keel_link.c */
void link_hello(void);
void link_ready(struct source *s, uint32_t events);

/* keel_life.c */
void wherryd_unlinked(void); /* its link is closed */

#endif
