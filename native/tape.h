/* The bytes of a tape; docs/internals.md, "The tape". Twin: src/tape/format.ts. All numbers are little endian. */
#ifndef WHERRY_TAPE_H
#define WHERRY_TAPE_H

#include <stdint.h>

#define TAPE_MAGIC "WHERRYT1"
#define TAPE_FD 3           /* where the player finds the memfd */
#define GO_FD 6             /* and where it waits until that is written, unless it is closed; FD_GO of wire.h */
#define TAPE_REGISTERS 256
#define TAPE_MAX_ARGS 6

#if defined(__x86_64__)
#define TAPE_ARCH 1
#elif defined(__aarch64__)
#define TAPE_ARCH 2
#else
#error "Wherry runs on x86_64 and aarch64"
#endif

/* The shared page: lanes, then slots. */
#define TAPE_PAGE 4096
#define TAPE_LANES 4
#define TAPE_SLOTS_OFFSET 128
#define TAPE_SLOTS 112

enum tape_lane_state { LANE_UNUSED, LANE_RUNNING, LANE_HALTED, LANE_FAILED };

struct tape_lane {
    uint32_t step;
    uint32_t pc;
    int32_t error;          /* positive errno, 0: none */
    uint32_t state;         /* enum tape_lane_state */
    int64_t value;          /* result of the failed call, or HALT's code */
    uint64_t order;         /* of failures: 1 for the lane that failed first */
};

struct tape_header {
    char magic[8];
    uint32_t arch;
    uint32_t instructions;
    uint32_t code;          /* offsets are from the image's start */
    uint32_t data;
    uint32_t data_length;
    uint32_t relocations;
    uint32_t relocation_count;
    uint32_t zero;
};

enum tape_op {
    OP_SYSCALL = 1, OP_ON_ERRNO, OP_STORE, OP_LOAD, OP_JUMP_MASK, OP_DECIMAL, OP_HALT, OP_LANE, OP_FAIL, OP_SET
};

enum tape_kind { KIND_IMMEDIATE, KIND_DATA, KIND_REGISTER, KIND_SHARED };

struct tape_instruction {
    uint8_t op;
    uint8_t dst;
    uint8_t a;
    uint8_t b;
    uint16_t kinds;         /* two bits an argument, enum tape_kind */
    uint16_t nargs;
    uint32_t step;
    uint32_t target;        /* instruction number, or the system call's number */
    uint64_t args[TAPE_MAX_ARGS];
};

_Static_assert(sizeof(struct tape_lane) == 32, "lane");
_Static_assert(sizeof(struct tape_header) == 40, "header");
_Static_assert(sizeof(struct tape_instruction) == 64, "instruction");
_Static_assert(TAPE_SLOTS_OFFSET == TAPE_LANES * sizeof(struct tape_lane), "slots follow the lanes");

#define TAPE_DECIMAL_BYTES 20

#endif
