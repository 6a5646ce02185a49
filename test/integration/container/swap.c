/* swap A B: exchanges two names again and again until it is killed (renameat2(2), RENAME_EXCHANGE). Says "on" once it does. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (long round = 0; argc == 3; round++) {
        if (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE) != 0) {
            perror("renameat2");
            return 1;
        }
        if (round == 10 && write(1, "on\n", 3) != 3)
            return 1;
    }
    return 2;
}
