#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "WHERRYK1"

static void end_record(struct state *s)
{
    uint32_t n = (uint32_t)(buf_len(&s->bytes) - s->open);
    if (s->open && !s->bad)
        memcpy(s->bytes.data + s->bytes.head + s->open - sizeof n, &n, sizeof n);
}

void state_record(struct state *s, uint32_t type)
{
    if (!buf_len(&s->bytes))
        s->bad |= !buf_put(&s->bytes, MAGIC, 8);
    end_record(s);
    state_u32(s, type);
    state_u32(s, 0);
    s->open = buf_len(&s->bytes);
}

void state_u32(struct state *s, uint32_t v)
{
    s->bad |= !put_u32(&s->bytes, v);
}

void state_u64(struct state *s, uint64_t v)
{
    s->bad |= !put_u64(&s->bytes, v);
}

void state_fd(struct state *s, int fd)
{
    state_u32(s, (uint32_t)fd);
    if (s->handing_on && fd >= 0 && fcntl(fd, F_SETFD, 0) < 0)
        s->bad = true;
}

void state_text(struct state *s, const char *text)
{
    s->bad |= !put_str(&s->bytes, text);
}

void state_bytes(struct state *s, const void *bytes, size_t n)
{
    s->bad |= n > UINT32_MAX || !put_u32(&s->bytes, (uint32_t)n) || !buf_put(&s->bytes, bytes, n);
}

int state_file(struct state *s)
{
    end_record(s);
    int fd = s->bad ? -1 : memfd_create("wherry-state", 0);
    size_t n = buf_len(&s->bytes), done = 0;
    while (fd >= 0 && done < n) {
        ssize_t wrote = write(fd, s->bytes.data + s->bytes.head + done, n - done);
        if (wrote < 0 && errno != EINTR) {
            close(fd);
            fd = -1;
        }
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    buf_free(&s->bytes);
    return fd < 0 || lseek(fd, 0, SEEK_SET) < 0 ? -ENOMEM : fd;
}

bool state_open(struct state_reader *s, int fd)
{
    struct stat st;
    size_t done = 0, size = fstat(fd, &st) < 0 ? 0 : (size_t)st.st_size;
    *s = (struct state_reader){.bytes = malloc(size + 1)};
    while (s->bytes && done < size) {
        ssize_t n = pread(fd, s->bytes + done, size - done, (off_t)done);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (!s->bytes || done < 8 || done < size || memcmp(s->bytes, MAGIC, 8) != 0)
        return false;
    s->rest = (struct reader){.at = s->bytes + 8, .end = s->bytes + size};
    return true;
}

bool state_next(struct state_reader *s, uint32_t *type)
{
    if (s->rest.bad || s->rest.at == s->rest.end)
        return false;
    *type = get_u32(&s->rest);
    uint32_t n = get_u32(&s->rest);
    if (s->rest.bad || n > (size_t)(s->rest.end - s->rest.at)) {
        s->rest.bad = true;
        return false;
    }
    s->record = (struct reader){.at = s->rest.at, .end = s->rest.at + n};
    s->rest.at += n;
    return true;
}

int state_get_fd(struct state_reader *s)
{
    return (int)get_u32(&s->record);
}

const uint8_t *state_get_bytes(struct state_reader *s, size_t *n)
{
    struct reader *r = &s->record;
    *n = get_u32(r);
    if (r->bad || *n > (size_t)(r->end - r->at)) {
        r->bad = true;
        *n = 0;
    }
    r->at += *n;
    return r->at - *n;
}

char *state_get_text(struct state_reader *s)
{
    size_t n;
    const uint8_t *bytes = state_get_bytes(s, &n);
    char *text = s->record.bad ? NULL : malloc(n + 1);
    if (text) {
        memcpy(text, bytes, n);
        text[n] = 0;
    }
    return text;
}
