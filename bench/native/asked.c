/*
 * asked: makes calls over connections that stay open and says how long each took, as a native caller (containerd) sees it:
 * from just before the request is written until the answer's last byte is here. The other half of timed.
 *
 * Reads one line a call, words separated by 0x1f, bytes in hexadecimal:
 *   ttrpc PATH PAYLOAD        a ttrpc.Request
 *   grpc PATH HEADERS DATA    an HPACK block that leaves the tables alone, and the message with its five bytes before it
 * Answers one line, as timed does: nanoseconds, 0 or 256 where the call failed, the size of the message.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 8, HEADER = 10, H2_HEADER = 9, DATA = 0, HEADERS = 1, RST = 3, SETTINGS = 4, PING = 6, GOAWAY = 7,
	WINDOW_UPDATE = 8, END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

static struct connection {
	char path[108];
	int fd;
	uint32_t stream;
} connections[CONNECTIONS];
static unsigned char out[1 << 16], in[1 << 20];

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void put32(unsigned char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = value >> (24 - 8 * i);
}

static uint32_t get(const unsigned char *at, int bytes)
{
	uint32_t value = 0;
	for (int i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

static size_t from_hex(const char *text, unsigned char *to)
{
	size_t n = 0;
	for (unsigned byte; sscanf(text + 2 * n, "%2x", &byte) == 1; n++)
		to[n] = byte;
	return n;
}

static int send_all(int fd, const unsigned char *bytes, size_t length)
{
	return send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static size_t h2_frame(unsigned char *at, size_t length, int type, int flags, uint32_t stream)
{
	put32(at, length << 8 | type);
	at[4] = flags;
	put32(at + 5, stream);
	return H2_HEADER + length;
}

static struct connection *connected(const char *path, int http2)
{
	static const unsigned char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct connection *c = connections;

	while (c < connections + CONNECTIONS && c->fd > 0 && strcmp(c->path, path))
		c++;
	if (c == connections + CONNECTIONS || strlen(path) >= sizeof c->path)
		return NULL;
	if (c->fd > 0)
		return c;
	strcpy(c->path, path);
	strcpy(address.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	c->stream = 1;
	if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
		return NULL;
	/* The array's own zero is the last byte of an empty SETTINGS frame. */
	return !http2 || send_all(c->fd, preface, sizeof preface) ? c : NULL;
}

/* The size of the answer's payload, or -1. A ttrpc.Response with a status begins with its field 1. */
static long ttrpc_answer(int fd, uint32_t stream)
{
	for (size_t have = 0;;) {
		ssize_t n = recv(fd, in + have, sizeof in - have, 0);
		size_t length;

		if (n <= 0)
			return -1;
		have += n;
		if (have < HEADER || have < HEADER + (length = get(in, 4)))
			continue;
		return get(in + 4, 4) == stream && length > 0 && in[HEADER] != 0x0a ? (long)length : -1;
	}
}

/* Until the end of the stream. What the peer wants confirmed is, and its windows are opened again, once the call is over. */
static long grpc_answer(int fd, uint32_t stream, size_t *reply)
{
	size_t have = 0;
	long message = -1;

	for (int ended = 0; !ended;) {
		ssize_t n = recv(fd, in + have, sizeof in - have, 0);
		size_t at = 0;

		if (n <= 0)
			return -1;
		have += n;
		while (have - at >= H2_HEADER && have - at >= H2_HEADER + get(in + at, 3)) {
			size_t length = get(in + at, 3);
			int type = in[at + 3], flags = in[at + 4], own = get(in + at + 5, 4) == stream;

			if (type == RST || type == GOAWAY)
				return -1;
			if ((type == SETTINGS || type == PING) && !(flags & ACK) && *reply + H2_HEADER + length < sizeof out) {
				size_t back = type == PING ? length : 0;

				memcpy(out + *reply + H2_HEADER, in + at + H2_HEADER, back);
				*reply += h2_frame(out + *reply, back, type, ACK, 0);
			}
			if (type == DATA && length > 0) {
				message = (long)length - 5;
				put32(out + *reply + H2_HEADER, length);
				*reply += h2_frame(out + *reply, 4, WINDOW_UPDATE, 0, 0);
			}
			ended |= own && (flags & END_STREAM) && (type == DATA || type == HEADERS);
			at += H2_HEADER + length;
		}
		memmove(in, in + at, have - at);
		have -= at;
	}
	return message;
}

int main(void)
{
	static char line[1 << 17];

	while (fgets(line, sizeof line, stdin)) {
		char *words[4] = { "", "", "", "" }, *rest = line, *word;
		size_t length, reply = 0;
		struct connection *c;
		long long start;
		long size = -1;
		int http2;

		line[strcspn(line, "\n")] = 0;
		for (int i = 0; i < 4 && (word = strsep(&rest, "\x1f")); i++)
			words[i] = word;
		http2 = !strcmp(words[0], "grpc");
		c = connected(words[1], http2);
		if (!c) {
			printf("0 256 0\n");
			fflush(stdout);
			continue;
		}
		if (http2) {
			size_t headers = from_hex(words[2], out + H2_HEADER);
			size_t data = from_hex(words[3], out + 2 * H2_HEADER + headers);

			length = h2_frame(out, headers, HEADERS, END_HEADERS, c->stream);
			length += h2_frame(out + length, data, DATA, END_STREAM, c->stream);
		} else {
			length = HEADER + from_hex(words[2], out + HEADER);
			put32(out, length - HEADER);
			put32(out + 4, c->stream);
			out[8] = 1; /* a request */
			out[9] = 0;
		}
		start = now();
		if (send_all(c->fd, out, length))
			size = http2 ? grpc_answer(c->fd, c->stream, &reply) : ttrpc_answer(c->fd, c->stream);
		printf("%lld %d %ld\n", now() - start, size < 0 ? 256 : 0, size);
		fflush(stdout);
		if (reply > 0)
			send_all(c->fd, out, reply);
		c->stream += 2;
	}
	return 0;
}
