/* notify listen PATH: prints the first datagram that arrives there. notify send: READY=1 to $NOTIFY_SOCKET. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const char *path = argc == 3 ? argv[2] : getenv("NOTIFY_SOCKET");
    char text[256] = "";

    if (!path)
        return 2;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (argc != 3)
        return sendto(sock, "READY=1", 7, 0, (struct sockaddr *)&address, sizeof address) == 7 ? 0 : 3;
    if (bind(sock, (struct sockaddr *)&address, sizeof address) < 0)
        return 4;
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("listening");
    if (recv(sock, text, sizeof text - 1, 0) < 0)
        return 5;
    puts(text);
    return 0;
}
