// Loads a seccomp filter, then makes system calls and prints what became of each: "<result> <errno>" a line.
// usage: try-calls FILTER FLAGS CALL...   CALL: NAME[:ARG...], #NUMBER[:ARG...] or int80#NUMBER
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	long number;
} calls[] = {
	{"bpf", SYS_bpf},         {"chdir", SYS_chdir},     {"clone", SYS_clone},
	{"clone3", SYS_clone3},   {"getpid", SYS_getpid},   {"keyctl", SYS_keyctl},
	{"lseek", SYS_lseek},     {"mount", SYS_mount},     {"personality", SYS_personality},
	{"socket", SYS_socket},   {"unshare", SYS_unshare}, {"getppid", SYS_getppid},
};

static long lookup(const char *name)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strcmp(calls[i].name, name) == 0) return calls[i].number;
	fprintf(stderr, "unknown call %s\n", name);
	exit(2);
}

static long int80(long number)
{
#ifdef __x86_64__
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number) : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
#else
	(void)number;
	return -ENOSYS;
#endif
}

int main(int argc, char **argv)
{
	static struct sock_filter filter[4096];
	int file = open(argv[1], O_RDONLY | O_CLOEXEC);
	ssize_t size = file < 0 ? -1 : read(file, filter, sizeof filter);
	if (argc < 3 || size <= 0) return 2;
	struct sock_fprog program = {(unsigned short)(size / (ssize_t)sizeof *filter), filter};
	long args[64][7] = {{0}};
	int special[64] = {0};
	for (int i = 3; i < argc; i++) {
		char *token = strtok(argv[i], ":");
		special[i] = strncmp(token, "int80#", 6) == 0;
		args[i][0] = special[i] ? atol(token + 6) : token[0] == '#' ? atol(token + 1) : lookup(token);
		for (int n = 1; n < 7 && (token = strtok(NULL, ":")); n++) args[i][n] = (long)strtoull(token, NULL, 0);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 3;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, strtoul(argv[2], NULL, 0), &program) != 0) return 4;
	for (int i = 3; i < argc; i++) {
		long *a = args[i], result;
		errno = 0;
		if (special[i]) {
			result = int80(a[0]);
			if (result < 0) errno = (int)-result, result = -1;
		} else {
			result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
		}
		if (a[0] == SYS_clone && result == 0) syscall(SYS_exit_group, 0);
		char line[64];
		int length = snprintf(line, sizeof line, "%d %d\n", result < 0 ? -1 : 0, errno);
		syscall(SYS_write, 1, line, length);
	}
	syscall(SYS_exit_group, 0);
}
