/*
 * What a process hands on to the program that it executes in its own place: records of fields in a memfd. A record may
 * grow: readers skip what they do not know at its end.
 */
#ifndef WHERRY_STATE_H
#define WHERRY_STATE_H

#include "link.h"

struct state {
    struct buf bytes;
    size_t open; /* where the open record begins */
    bool handing_on; /* descriptors that are put lose their close-on-exec flag */
    bool bad;
};

void state_record(struct state *s, uint32_t type); /* ends the one before */
void state_u32(struct state *s, uint32_t v);
void state_u64(struct state *s, uint64_t v);
void state_fd(struct state *s, int fd); /* -1: none */
void state_text(struct state *s, const char *text);
void state_bytes(struct state *s, const void *bytes, size_t n);

int state_file(struct state *s); /* ends the record; a memfd without close-on-exec, at its start, or -errno. Frees s */

struct state_reader {
    uint8_t *bytes; /* of the whole file; the caller's to free */
    struct reader rest, record;
};

bool state_open(struct state_reader *s, int fd);
bool state_next(struct state_reader *s, uint32_t *type); /* false: the end */
int state_get_fd(struct state_reader *s);
char *state_get_text(struct state_reader *s); /* the caller's to free; NULL: bad, or no memory */
/* Points into the file. */
const uint8_t *state_get_bytes(struct state_reader *s, size_t *n);

#endif
