/*
 * containerd-shim-benchnull-v1: a shim that does nothing, to find what containerd and ctr cost by themselves. It speaks just enough
 * ttrpc (https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md) and containerd.task.v2 for `ctr run --rm`: Create opens the streams,
 * Start closes them, and the task has then ended with status 0. No rootfs is mounted, no process is started.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 8, MAX_FRAME = 1 << 20 };

struct field {
	unsigned number;
	uint64_t value; /* of a varint, or the length */
	const uint8_t *bytes;
};

static uint8_t frame[MAX_FRAME];
static int streams[2] = { -1, -1 };
static int started;
static int leaving;

static const uint8_t *varint(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; p && p < end && shift < 64; shift += 7) {
		*value |= (uint64_t)(*p & 127) << shift;
		if (!(*p++ & 128))
			return p;
	}
	return NULL;
}

/* The next field of a message; NULL at its end. */
static const uint8_t *next_field(const uint8_t *p, const uint8_t *end, struct field *f)
{
	uint64_t tag;

	if (!p || p >= end || !(p = varint(p, end, &tag)))
		return NULL;
	f->number = tag >> 3;
	f->bytes = NULL;
	if ((tag & 7) == 0)
		return varint(p, end, &f->value);
	if ((tag & 7) != 2 || !(p = varint(p, end, &f->value)) || f->value > (uint64_t)(end - p))
		return NULL;
	f->bytes = p;
	return p + f->value;
}

static size_t put_varint(uint8_t *out, unsigned number, uint64_t value)
{
	size_t n = 0;
	out[n++] = number << 3;
	while (value > 127) {
		out[n++] = value | 128;
		value >>= 7;
	}
	out[n++] = value;
	return n;
}

static size_t put_bytes(uint8_t *out, unsigned number, const void *bytes, size_t length)
{
	size_t n = put_varint(out, number, length);
	out[0] |= 2;
	memcpy(out + n, bytes, length);
	return n + length;
}

static size_t put_now(uint8_t *out, unsigned number)
{
	uint8_t stamp[16];
	return put_bytes(out, number, stamp, put_varint(stamp, 1, time(NULL)));
}

static void create(const uint8_t *p, size_t length)
{
	struct field f;
	char path[4096];

	for (const uint8_t *at = p; (at = next_field(at, p + length, &f));) {
		if ((f.number == 6 || f.number == 7) && f.bytes && f.value > 0 && f.value < sizeof path) {
			memcpy(path, f.bytes, f.value);
			path[f.value] = 0;
			streams[f.number - 6] = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		}
	}
}

/* The answer's payload for one method; returns its length. */
static size_t answer(const char *method, const uint8_t *payload, size_t length, uint8_t *out)
{
	size_t n = 0;

	if (!strcmp(method, "Create")) {
		create(payload, length);
		n += put_varint(out, 1, getpid());
	} else if (!strcmp(method, "Start")) {
		for (int i = 0; i < 2; i++)
			if (streams[i] >= 0)
				close(streams[i]);
		started = 1;
		n += put_varint(out, 1, getpid());
	} else if (!strcmp(method, "State")) {
		n += put_varint(out, 3, getpid());
		n += put_varint(out + n, 4, started ? 3 : 1);
		n += put_now(out + n, 10);
	} else if (!strcmp(method, "Wait")) {
		n += put_now(out, 2);
	} else if (!strcmp(method, "Delete")) {
		n += put_varint(out, 1, getpid());
		n += put_now(out + n, 3);
	} else if (!strcmp(method, "Connect")) {
		n += put_varint(out, 1, getpid());
		n += put_varint(out + n, 2, getpid());
	} else if (!strcmp(method, "Shutdown")) {
		leaving = 1;
	}
	return n;
}

static int read_all(int fd, uint8_t *to, size_t length)
{
	while (length > 0) {
		ssize_t n = read(fd, to, length);
		if (n <= 0)
			return -1;
		to += n;
		length -= n;
	}
	return 0;
}

/* A Wait that came before Start is answered after it. */
static struct { int fd; uint32_t stream; } waiting;

static void reply(int fd, uint32_t stream, const char *method, const uint8_t *payload, size_t length)
{
	uint8_t body[256], out[300] = { 0 };
	size_t n = answer(method, payload, length, body);

	n = put_bytes(out + 10, 2, body, n);
	*(uint32_t *)out = htonl(n);
	*(uint32_t *)(out + 4) = htonl(stream);
	out[8] = 2;
	if (write(fd, out, 10 + n) < 0)
		return;
}

static int serve(int fd)
{
	uint8_t header[10];
	char method[32] = "";
	const uint8_t *payload = NULL;
	uint32_t length, stream;
	size_t payload_length = 0;
	struct field f;

	if (read_all(fd, header, 10) != 0)
		return -1;
	length = ntohl(*(uint32_t *)header);
	stream = ntohl(*(uint32_t *)(header + 4));
	if (length > MAX_FRAME || read_all(fd, frame, length) != 0)
		return -1;
	for (const uint8_t *at = frame; (at = next_field(at, frame + length, &f));) {
		if (f.number == 2 && f.bytes && f.value < sizeof method)
			memcpy(method, f.bytes, f.value);
		if (f.number == 3)
			payload = f.bytes, payload_length = f.value;
	}
	if (!strcmp(method, "Wait") && !started) {
		waiting.fd = fd;
		waiting.stream = stream;
		return 0;
	}
	reply(fd, stream, method, payload, payload_length);
	if (!strcmp(method, "Start") && waiting.stream != 0)
		reply(waiting.fd, waiting.stream, "Wait", NULL, 0);
	return 0;
}

static void loop(int listener, const char *path)
{
	struct pollfd fds[MAX_CONNECTIONS] = { { .fd = listener, .events = POLLIN } };
	int count = 1;

	while (!leaving && poll(fds, count, -1) > 0) {
		for (int i = count - 1; i > 0; i--) {
			if (fds[i].revents != 0 && serve(fds[i].fd) != 0) {
				close(fds[i].fd);
				fds[i] = fds[--count];
			}
		}
		if (fds[0].revents != 0 && count < MAX_CONNECTIONS)
			fds[count++] = (struct pollfd){ .fd = accept(listener, NULL, NULL), .events = POLLIN };
	}
	unlink(path);
	_exit(0);
}

static int start(const char *namespace, const char *id)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE *file;

	mkdir("/run/containerd/s", 0700);
	snprintf(address.sun_path, sizeof address.sun_path, "/run/containerd/s/benchnull-%.30s-%.40s", namespace, id);
	unlink(address.sun_path);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0)
		return fprintf(stderr, "bind %s: %s\n", address.sun_path, strerror(errno)), 1;
	if ((file = fopen("address", "w"))) {
		fprintf(file, "unix://%s", address.sun_path);
		fclose(file);
	}
	if (fork() == 0) {
		int null = open("/dev/null", O_RDWR);
		setsid();
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
		loop(listener, address.sun_path);
	}
	printf("unix://%s", address.sun_path);
	return 0;
}

int main(int argc, char **argv)
{
	const char *namespace = "", *id = "";

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-namespace") && i + 1 < argc)
			namespace = argv[++i];
		else if (!strcmp(argv[i], "-id") && i + 1 < argc)
			id = argv[++i];
	}
	if (argc > 1 && !strcmp(argv[argc - 1], "start"))
		return start(namespace, id);
	return 0;
}
