/* Holds a lease of the file that its argument names (fcntl(2), F_SETLEASE) until its input ends: whoever executes it waits so long. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    signal(SIGIO, SIG_IGN);
    int fd = open(argc > 1 ? argv[1] : "", O_RDONLY);
    if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
        perror("lease");
        return 1;
    }
    puts("held");
    fflush(stdout);
    for (char c; read(0, &c, 1) > 0;)
        ;
    return 0;
}
