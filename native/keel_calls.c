/*
 * What a caller asked and has not been answered yet. wherryd may die over it: the next one gets it again. A one-time
 * act that was done for such a call is remembered with it, so that no replay does it a second time.
 */
#define _GNU_SOURCE
#include "keel_calls.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

static bool varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

bool proto_next(const uint8_t **at, const uint8_t *end, struct proto_field *f)
{
    uint64_t tag;
    if (!varint(at, end, &tag) || !varint(at, end, &f->value))
        return false;
    f->number = tag >> 3;
    f->bytes = NULL;
    if ((tag & 7) == 0)
        return true;
    if ((tag & 7) != 2 || f->value > (uint64_t)(end - *at))
        return false;
    f->bytes = *at;
    *at += f->value;
    return true;
}

/* Reads as far as it understands: what it cannot read only makes it replay a call that nobody waits for. */
static void read_request(struct call *c, const uint8_t *at, const uint8_t *end)
{
    struct proto_field f;
    while (proto_next(&at, end, &f))
        if (f.number == REQUEST_TIMEOUT && !f.bytes && (int64_t)f.value > 0)
            c->until = now_ms() + f.value / 1000000;
        else if (f.number == REQUEST_METHOD && f.bytes)
            c->waits = f.value == 4 && !memcmp(f.bytes, "Wait", 4);
}

uint32_t ttrpc_stream(const uint8_t *frame)
{
    uint32_t stream;
    memcpy(&stream, frame + 4, sizeof stream);
    return ntohl(stream);
}

size_t ttrpc_frame_size(const uint8_t *header)
{
    uint32_t length;
    memcpy(&length, header, sizeof length);
    return (size_t)ntohl(length) + TTRPC_HEADER;
}

struct call *call_add(struct calls *calls, const uint8_t *frame, size_t size, bool ttrpc)
{
    struct call *c = malloc(sizeof *c + size), **last = &calls->first;
    if (!c)
        return NULL;
    *c = (struct call){.stream = ttrpc ? ttrpc_stream(frame) : 0, .size = size};
    memcpy(c->frame, frame, size);
    if (ttrpc)
        read_request(c, frame + TTRPC_HEADER, frame + size);
    while (*last)
        last = &(*last)->next;
    *last = c;
    calls->bytes += size;
    return c;
}

struct call *call_find(const struct calls *calls, uint32_t stream)
{
    struct call *c = calls->first;
    while (c && c->stream != stream)
        c = c->next;
    return c;
}

void call_drop(struct calls *calls, struct call *call)
{
    for (struct call **at = &calls->first; *at; at = &(*at)->next)
        if (*at == call) {
            *at = call->next;
            calls->bytes -= call->size;
            free(call);
            return;
        }
}

void calls_free(struct calls *calls)
{
    while (calls->first)
        call_drop(calls, calls->first);
}

/* bytes: whole ttrpc frames, as wherryd writes them. */
void calls_answered(struct calls *calls, const uint8_t *bytes, size_t n)
{
    for (size_t size; n >= TTRPC_HEADER && (size = ttrpc_frame_size(bytes)) <= n; bytes += size, n -= size) {
        struct call *c = bytes[8] == TTRPC_RESPONSE ? call_find(calls, ttrpc_stream(bytes)) : NULL;
        if (c)
            call_drop(calls, c);
    }
}

size_t ttrpc_failure(uint8_t frame[TTRPC_FAILURE_MAX], uint32_t stream, uint8_t code, const char *text)
{
    size_t length = strnlen(text, TTRPC_FAILURE_TEXT);
    uint32_t size = htonl((uint32_t)length + 6);
    stream = htonl(stream);
    memcpy(frame, &size, 4);
    memcpy(frame + 4, &stream, 4);
    frame[8] = TTRPC_RESPONSE;
    frame[9] = 0;
    uint8_t *body = frame + TTRPC_HEADER;
    body[0] = 1 << 3 | 2; /* status */
    body[1] = (uint8_t)(4 + length);
    body[2] = 1 << 3; /* its code */
    body[3] = code;
    body[4] = 2 << 3 | 2; /* its message */
    body[5] = (uint8_t)length;
    memcpy(body + 6, text, length);
    return TTRPC_HEADER + 6 + length;
}
