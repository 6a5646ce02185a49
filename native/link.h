/* Bytes and frames: what keel and the client share about their links. No policy, no descriptors of its own. */
#ifndef WHERRY_LINK_H
#define WHERRY_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* A byte queue: what lies between head and tail. */
struct buf {
    uint8_t *data;
    size_t head, tail, cap;
};

size_t buf_len(const struct buf *b);
bool buf_put(struct buf *b, const void *bytes, size_t n); /* false: no memory, nothing was added */
void buf_take(struct buf *b, size_t n);                   /* drops n bytes from the head */
void buf_free(struct buf *b);

/* Little-endian fields in order. A read past the end gives zeros and sets `bad`. */
struct reader {
    const uint8_t *at, *end;
    bool bad;
};

uint32_t get_u32(struct reader *r);
uint64_t get_u64(struct reader *r);
size_t get_str(struct reader *r, char *into, size_t cap); /* with a final NUL; bad: too long, or a NUL inside */

bool put_u8(struct buf *b, uint8_t v);
bool put_u16(struct buf *b, uint16_t v);
bool put_u32(struct buf *b, uint32_t v);
bool put_u64(struct buf *b, uint64_t v);
bool put_str(struct buf *b, const char *text);

/* Writes the 16-byte header. */
void frame_header(uint8_t header[16], uint32_t len, uint16_t type, uint64_t id);

/* Cuts a stream into frames. `size` gives a frame's whole size from its header. */
struct cutter {
    size_t header, max;
    size_t (*size)(const uint8_t *header);
    struct buf partial;
    size_t skip;
};

/*
 * Gives every whole frame in (bytes, n) to on_frame and keeps the rest for the next call. A frame longer than `max` is
 * given once with its header only and size 0: on_frame returns true to have it thrown away. False from on_frame, and no
 * memory, end the cut with false: the stream is of no use any more.
 */
typedef bool on_frame(void *context, const uint8_t *frame, size_t size);
bool cut(struct cutter *c, const uint8_t *bytes, size_t n, on_frame *deliver, void *context);

size_t link_frame_size(const uint8_t *header); /* for cutters of our own links */

/*
 * Sends iov now as far as the socket takes it and queues the rest.
 * -1 with errno when the peer is gone (EPIPE, ECONNRESET) or the queue would pass `cap` (ENOBUFS).
 */
int send_or_queue(int fd, struct buf *out, const struct iovec *iov, int count, size_t cap);
int flush_queue(int fd, struct buf *out);

/*
 * recvmsg with descriptors: *count of them in fds, the caller's to close. who (may be NULL): the sender, with
 * SO_PASSCRED. complete (may be NULL): nothing was cut off.
 */
#define RECEIVE_FDS 16
struct ucred;
ssize_t receive(int fd, void *bytes, size_t size, int flags, int fds[RECEIVE_FDS], uint32_t *count, struct ucred *who,
                bool *complete);

int listen_at(const char *path, int backlog); /* SOCK_STREAM, mode 0600, non-blocking; removes nothing; or -errno */
int make_dirs(const char *path, mode_t mode); /* mkdir -p; 0 or -errno */
int unix_connect(const char *path, int flags); /* a connected SOCK_STREAM, or -errno; flags: SOCK_NONBLOCK or 0 */

#endif
