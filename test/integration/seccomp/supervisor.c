/*
 * supervisor SOCKET ERRNO: takes one seccomp listener at SOCKET and prints the message that came with it; then answers every
 * notified call with ERRNO and prints "call N", until the last process of the filter has gone.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int receive(int connection)
{
    static char text[65536];
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {text, sizeof text - 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;

    if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) <= 0)
        return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    puts(text);
    return fd;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (argc != 3)
        return 2;
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (bind(sock, (struct sockaddr *)&address, sizeof address) < 0 || listen(sock, 1) < 0)
        return 3;
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    int listener = receive(accept(sock, NULL, NULL));
    if (listener < 0)
        return 4;
    for (;;) {
        struct seccomp_notif call = {0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) {
            if (errno == EINTR)
                continue;
            return 0;
        }
        printf("call %d\n", call.data.nr);
        struct seccomp_notif_resp answer = {.id = call.id, .error = -atoi(argv[2])};
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}
