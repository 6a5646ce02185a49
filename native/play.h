/* Checks and plays one tape. Knows no containers, takes no memory, and calls nothing but the kernel. */
#ifndef WHERRY_PLAY_H
#define WHERRY_PLAY_H

#include <stddef.h>

#include "tape.h"

struct play {
    unsigned char *page;
    unsigned char *data;
    const struct tape_instruction *code;
    uint32_t instructions;
    uint32_t data_length;
    struct tape_lane *lane;
    int64_t registers[TAPE_REGISTERS];
};

/* Exit codes of a play. HALT gives its own. */
#define PLAY_FAILED 1
#define PLAY_BAD_TAPE 2

/* One system call: the raw result, -errno on failure. */
long play_syscall(long number, const uint64_t args[TAPE_MAX_ARGS]);

/*
 * Checks every offset, register, lane and jump, and turns the data's pointers into addresses.
 * shared_page: TAPE_PAGE bytes, zero; image: writable, 8-aligned, private to this play; p: its content does not matter.
 * Returns 0; or -EINVAL, with the bad instruction in lane 0.
 */
int play_load(struct play *p, void *shared_page, void *image, size_t image_len);

/* Plays a loaded tape. Returns the exit code if in_process, else ends the process with it. */
int play_run(struct play *p, int in_process);

#endif
