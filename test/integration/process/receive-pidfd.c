/* Listens on a unix socket for one message with a pidfd; prints the words of it and whose pidfd it is, then waits for that process's end. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
	if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 1))
		return 3;
	printf("listening\n");
	int peer = accept(listener, NULL, NULL);
	char word[64] = "";
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control;
	struct iovec part = { word, sizeof word - 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t length = recvmsg(peer, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *first = CMSG_FIRSTHDR(&message);
	if (length < 1 || !first || first->cmsg_type != SCM_RIGHTS) {
		printf("nothing\n");
		return 4;
	}
	int pidfd;
	memcpy(&pidfd, CMSG_DATA(first), sizeof pidfd);
	char path[64], line[256];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
	FILE *info = fopen(path, "r");
	int pid = 0;
	while (info && fgets(line, sizeof line, info))
		sscanf(line, "Pid: %d", &pid);
	printf("%s %d\n", word, pid);
	struct pollfd end = { pidfd, POLLIN, 0 };
	poll(&end, 1, 60000);
	printf(end.revents & POLLIN ? "ended\n" : "waited in vain\n");
}
