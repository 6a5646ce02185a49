/* Relays a container's terminal: its master to our output, our input to it, our window's size, our own terminal raw. */
#ifndef WHERRY_TERMINAL_H
#define WHERRY_TERMINAL_H

#include <poll.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#define TERMINAL_FDS 3

void terminal_start(int fd); /* takes the master; our terminal becomes raw and is restored at exit */
void terminal_raw(void); /* without a master */
bool terminal_size(struct winsize *size);
void terminal_resize(void);
bool terminal_output_left(void);
void terminal_poll(struct pollfd fds[TERMINAL_FDS]); /* what to wait for; -1 where nothing */
void terminal_handle(const struct pollfd fds[TERMINAL_FDS]);
void terminal_close(void);
bool terminal_waits(void); /* the master is open and nothing is left to be written */

#endif
