/* Calls that wait for their answer, and the little of ttrpc that keel knows. */
#ifndef WHERRY_KEEL_CALLS_H
#define WHERRY_KEEL_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TTRPC_HEADER 10
#define TTRPC_FAILURE_TEXT 120 /* bytes; more would need longer length fields */
#define TTRPC_FAILURE_MAX (TTRPC_HEADER + 6 + TTRPC_FAILURE_TEXT)

enum { TTRPC_REQUEST = 1, TTRPC_RESPONSE = 2, TTRPC_DATA = 3 };
enum { CODE_NOT_FOUND = 5, CODE_RESOURCE_EXHAUSTED = 8, CODE_UNAVAILABLE = 14 };

/* Of ttrpc's Request message. */
enum { REQUEST_SERVICE = 1, REQUEST_METHOD = 2, REQUEST_PAYLOAD = 3, REQUEST_TIMEOUT = 4 };

/* One field of a protobuf message: `value` is a varint, or how many `bytes` there are. */
struct proto_field {
    uint64_t number, value;
    const uint8_t *bytes; /* NULL: a varint */
};

/* False: the end, or what is no field of these two kinds. */
bool proto_next(const uint8_t **at, const uint8_t *end, struct proto_field *f);

/* A whole frame as it came in. */
struct call {
    uint32_t stream;   /* 0: of a client */
    unsigned told;     /* how many wherryds have got it */
    bool acted;        /* its one-time act was done, with success */
    bool waits;        /* task.Wait: asks for nothing but patience */
    uint64_t until;    /* now_ms() at which its caller gives up; 0: never */
    size_t size;
    struct call *next;
    uint8_t frame[];
};

/* In the order in which they came. */
struct calls {
    struct call *first;
    size_t bytes;
};

struct call *call_add(struct calls *calls, const uint8_t *frame, size_t size, bool ttrpc); /* NULL: no memory */
struct call *call_find(const struct calls *calls, uint32_t stream);
void call_drop(struct calls *calls, struct call *call);
void calls_answered(struct calls *calls, const uint8_t *bytes, size_t n); /* drops those that whole frames answer */
void calls_free(struct calls *calls);

uint32_t ttrpc_stream(const uint8_t *frame);
size_t ttrpc_frame_size(const uint8_t *header);
/* Response{status: Status{code, message}} in protobuf; its size. Only the first TTRPC_FAILURE_TEXT bytes of text. */
size_t ttrpc_failure(uint8_t frame[TTRPC_FAILURE_MAX], uint32_t stream, uint8_t code, const char *text);

#endif
