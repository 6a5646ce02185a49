/*
 * spy PATH: tries, again and again, to reach PATH on the host through every process that it can see: its root, its
 * working folder, its descriptors, its memory. Says "on" once it does, then each success; ends when it is killed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say(const char *how, const char *pid)
{
    printf("reached by %s of %s\n", how, pid);
    fflush(stdout);
}

static void look(const char *pid, const char *secret)
{
    char path[4200];
    static const char *const ways[] = {"root", "cwd"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s%s", pid, ways[i], secret);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            close(fd);
            say(ways[i], pid);
        }
    }
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *fds = opendir(path);
    if (fds) {
        struct dirent *entry;
        while ((entry = readdir(fds)))
            if (entry->d_name[0] != '.') {
                say("descriptors", pid);
                break;
            }
        closedir(fds);
    }
    snprintf(path, sizeof path, "/proc/%s/mem", pid);
    int mem = open(path, O_RDWR | O_CLOEXEC);
    if (mem >= 0) {
        close(mem);
        say("memory", pid);
    }
}

int main(int argc, char **argv)
{
    char own[16];
    snprintf(own, sizeof own, "%d", (int)getpid());
    for (long round = 0; argc == 2; round++) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while (proc && (entry = readdir(proc)))
            if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && strcmp(entry->d_name, own) != 0)
                look(entry->d_name, argv[1]);
        if (proc)
            closedir(proc);
        if (round == 0) {
            puts("on");
            fflush(stdout);
        }
    }
    return 2;
}
