/*
 * notify listen PATH: binds a datagram socket (PATH beginning with @: an abstract one) and prints "listening", then one line for every
 * datagram: the sender's pid, how many descriptors came with it, the text with its line ends as "\n".
 * notify send TEXT…: each TEXT ("\n" is a line end) as one datagram to $NOTIFY_SOCKET; 4 when nobody listens there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address = {.sun_family = AF_UNIX};

static socklen_t set_address(const char *path)
{
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        exit(2);
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = 0;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static int show(int sock)
{
    char text[4096];
    union {
        struct cmsghdr header;
        char bytes[256];
    } control;
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(sock, &message, 0);
    long pid = 0;
    size_t descriptors = 0;
    if (length < 0)
        return 5;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_type == SCM_CREDENTIALS)
            pid = ((struct ucred *)CMSG_DATA(c))->pid;
        for (size_t at = 0; c->cmsg_type == SCM_RIGHTS && CMSG_LEN(at) < c->cmsg_len; at += sizeof(int), descriptors++)
            close(((int *)CMSG_DATA(c))[at / sizeof(int)]);
    }
    printf("%ld %zu ", pid, descriptors);
    for (ssize_t i = 0; i < length; i++)
        printf(text[i] == '\n' ? "\\n" : "%c", text[i]);
    putchar('\n');
    return 0;
}

static int listen_at(const char *path)
{
    int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1, code;
    socklen_t length = set_address(path);
    setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    if (bind(sock, (struct sockaddr *)&address, length) < 0)
        return 4;
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("listening");
    while ((code = show(sock)) == 0)
        ;
    return code;
}

static int send_text(int sock, socklen_t length, char *text)
{
    for (char *end; (end = strstr(text, "\\n")); memmove(end + 1, end + 2, strlen(end + 1)))
        *end = '\n';
    return sendto(sock, text, strlen(text), 0, (struct sockaddr *)&address, length) < 0 ? 4 : 0;
}

int main(int argc, char **argv)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (argc == 3 && !strcmp(argv[1], "listen"))
        return listen_at(argv[2]);
    if (!path)
        return 2;
    int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), code = 0;
    socklen_t length = set_address(path);
    for (int i = 2; i < argc && !code; i++)
        code = send_text(sock, length, argv[i]);
    return code;
}
