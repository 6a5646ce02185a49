/*
 * timed: starts programs and says how long each took, so that no benchmark contains the cost of Node's spawn.
 *
 * Reads one line a run: the arguments, separated by 0x1f; "cd" as first changes the working folder instead. Answers one line:
 * nanoseconds from just before posix_spawn to the end of wait4, wait status, maximum resident set in KiB.
 * The programs get /dev/null as standard streams.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void)
{
	static char line[65536];
	char *argv[256];
	posix_spawn_file_actions_t files;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
	while (fgets(line, sizeof line, stdin)) {
		int argc = 0, status = 0, error;
		struct rusage usage = { 0 };
		long long start, end;
		pid_t pid;

		line[strcspn(line, "\n")] = 0;
		for (char *rest = line, *word; argc < 255 && (word = strsep(&rest, "\x1f"));)
			argv[argc++] = word;
		argv[argc] = NULL;
		if (!strcmp(argv[0], "cd")) {
			error = argc == 2 && chdir(argv[1]) == 0 ? 0 : 1;
			printf("0 %d 0\n", error << 8);
			fflush(stdout);
			continue;
		}
		start = now();
		error = posix_spawn(&pid, argv[0], &files, NULL, argv, environ);
		if (error == 0)
			wait4(pid, &status, 0, &usage);
		else
			status = 127 << 8;
		end = now();
		printf("%lld %d %ld\n", end - start, status, usage.ru_maxrss);
		fflush(stdout);
	}
	return 0;
}
