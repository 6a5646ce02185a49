/*
 * sd_notify(3) of a container's program. Its READY= is told to the service manager of our caller, and in our name: the
 * manager believes only its main process, which we are. A tape made the sockets (src/container/compile/notify.ts).
 */
#ifndef WHERRY_NOTIFY_H
#define WHERRY_NOTIFY_H

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#define NOTIFY_FDS 4

/*
 * `container`: where the program's messages arrive, `manager`: connected. Takes both. `staying`: we are the main
 * process and outlive the container; else its init will be the main process, and we are needed until the manager has
 * heard of it, or the init has ended.
 */
void notify_start(int container, int manager, bool staying);
void notify_init(pid_t pid); /* who the init is; only the first word counts */
bool notify_left(void);      /* we are still needed */
void notify_poll(struct pollfd fds[NOTIFY_FDS]); /* what to wait for; -1 where nothing */
void notify_handle(const struct pollfd fds[NOTIFY_FDS]);

#endif
