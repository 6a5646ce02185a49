#define _GNU_SOURCE
#include "link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

size_t buf_len(const struct buf *b)
{
    return b->tail - b->head;
}

static bool buf_reserve(struct buf *b, size_t n)
{
    size_t len = buf_len(b);
    if (b->cap - b->tail >= n)
        return true;
    if (b->head) {
        memmove(b->data, b->data + b->head, len);
        b->head = 0;
        b->tail = len;
        if (b->cap - len >= n)
            return true;
    }
    size_t cap = b->cap * 2 > len + n ? b->cap * 2 : len + n;
    uint8_t *data = realloc(b->data, cap);
    if (!data)
        return false;
    b->data = data;
    b->cap = cap;
    return true;
}

bool buf_put(struct buf *b, const void *bytes, size_t n)
{
    if (!n)
        return true;
    if (!buf_reserve(b, n))
        return false;
    memcpy(b->data + b->tail, bytes, n);
    b->tail += n;
    return true;
}

void buf_take(struct buf *b, size_t n)
{
    b->head += n;
    if (b->head == b->tail)
        buf_free(b);
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

static bool get(struct reader *r, void *into, size_t n)
{
    if (r->bad || (size_t)(r->end - r->at) < n) {
        r->bad = true;
        memset(into, 0, n);
        return false;
    }
    memcpy(into, r->at, n);
    r->at += n;
    return true;
}

uint32_t get_u32(struct reader *r)
{
    uint32_t v;
    get(r, &v, sizeof v);
    return v;
}

uint64_t get_u64(struct reader *r)
{
    uint64_t v;
    get(r, &v, sizeof v);
    return v;
}

size_t get_str(struct reader *r, char *into, size_t cap)
{
    uint32_t n = get_u32(r);
    into[0] = 0;
    if (n >= cap) {
        r->bad = true;
        return 0;
    }
    if (!get(r, into, n))
        n = 0;
    into[n] = 0;
    if (strlen(into) != n)
        r->bad = true;
    return n;
}

bool put_u8(struct buf *b, uint8_t v)
{
    return buf_put(b, &v, sizeof v);
}

bool put_u16(struct buf *b, uint16_t v)
{
    return buf_put(b, &v, sizeof v);
}

bool put_u32(struct buf *b, uint32_t v)
{
    return buf_put(b, &v, sizeof v);
}

bool put_u64(struct buf *b, uint64_t v)
{
    return buf_put(b, &v, sizeof v);
}

bool put_str(struct buf *b, const char *text)
{
    size_t n = strlen(text);
    return put_u32(b, (uint32_t)n) && buf_put(b, text, n);
}

void frame_header(uint8_t header[16], uint32_t len, uint16_t type, uint64_t id)
{
    uint16_t flags = 0;
    memcpy(header, &len, 4);
    memcpy(header + 4, &type, 2);
    memcpy(header + 6, &flags, 2);
    memcpy(header + 8, &id, 8);
}

size_t link_frame_size(const uint8_t *header)
{
    uint32_t len;
    memcpy(&len, header, sizeof len);
    return (size_t)len + HEADER_SIZE;
}

bool cut(struct cutter *c, const uint8_t *bytes, size_t n, on_frame *deliver, void *context)
{
    while (n) {
        if (c->skip) {
            size_t skipped = n < c->skip ? n : c->skip;
            c->skip -= skipped;
            bytes += skipped;
            n -= skipped;
            continue;
        }
        size_t have = buf_len(&c->partial);
        const uint8_t *frame = have ? c->partial.data + c->partial.head : bytes;
        size_t whole = (have ? have : n) >= c->header ? c->size(frame) : c->header;
        if (whole > c->max) {
            if (!deliver(context, frame, 0))
                return false;
            c->skip = whole - have;
            buf_free(&c->partial);
            continue;
        }
        if (!have && n >= c->header && n >= whole) {
            if (!deliver(context, bytes, whole))
                return false;
            bytes += whole;
            n -= whole;
            continue;
        }
        size_t wanted = whole - have < n ? whole - have : n;
        if (!buf_put(&c->partial, bytes, wanted))
            return false;
        bytes += wanted;
        n -= wanted;
        frame = c->partial.data + c->partial.head;
        have += wanted;
        if (have < c->header || have < c->size(frame) || c->size(frame) > c->max)
            continue;
        if (!deliver(context, frame, have))
            return false;
        buf_free(&c->partial);
    }
    return true;
}

int flush_queue(int fd, struct buf *out)
{
    while (buf_len(out)) {
        ssize_t n = send(fd, out->data + out->head, buf_len(out), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        buf_take(out, (size_t)n);
    }
    return 0;
}

int send_or_queue(int fd, struct buf *out, const struct iovec *iov, int count, size_t cap)
{
    size_t sent = 0;
    if (!buf_len(out)) {
        struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
        ssize_t n;
        do
            n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno != EAGAIN)
            return -1;
        sent = n < 0 ? 0 : (size_t)n;
    }
    for (int i = 0; i < count; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
        sent -= skip;
        if (buf_len(out) + iov[i].iov_len - skip > cap ||
            !buf_put(out, (uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip)) {
            errno = ENOBUFS;
            return -1;
        }
    }
    return 0;
}

int make_dirs(const char *path, mode_t mode)
{
    char part[4096];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return -ENAMETOOLONG;
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0)
            continue;
        part[i] = 0;
        if (mkdir(part, mode) < 0 && errno != EEXIST && (i == n || access(part, F_OK) < 0))
            return -errno;
        part[i] = i == n ? 0 : '/';
    }
    return 0;
}

int unix_connect(const char *path, int flags)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name.sun_path)
        return -ENAMETOOLONG;
    strcpy(name.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        int failed = errno;
        close(fd);
        return -failed;
    }
    return fd;
}

int listen_at(const char *path, int backlog)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name.sun_path)
        return -ENAMETOOLONG;
    strcpy(name.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    mode_t mask = umask(0177);
    int failed = bind(fd, (struct sockaddr *)&name, sizeof name) < 0 ? errno : 0;
    umask(mask);
    if (!failed && listen(fd, backlog) < 0)
        failed = errno;
    if (!failed)
        return fd;
    close(fd);
    return -failed;
}

ssize_t receive(int fd, void *bytes, size_t size, int flags, int fds[RECEIVE_FDS], uint32_t *count, struct ucred *who,
                bool *complete)
{
    union {
        char bytes[CMSG_SPACE(RECEIVE_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {bytes, size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
    *count = 0;
    if (n < 0)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            *count = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(c), *count * sizeof(int));
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS && who) {
            memcpy(who, CMSG_DATA(c), sizeof *who);
        }
    }
    if (complete)
        *complete = !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
    return n;
}
