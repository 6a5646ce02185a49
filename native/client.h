/*
 * The client: wherry and containerd-shim-wherry-v1. It sends what it was called with to wherryd and does what it is
 * told: print, play a tape, wait for its child, end. client.c request and frames · client_start.c finding and starting
 * keel · client_alone.c a command served without it · client_wait.c plays, the child, its signals and its terminal.
 * What a frame carries: docs/internals.md.
 */
#ifndef WHERRY_CLIENT_H
#define WHERRY_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>

#define RUN_DIR_MAX 256

_Noreturn void fail(int status, const char *what, const char *detail); /* one line to stderr; detail may be NULL */
void send_frame(uint16_t type, const void *head, size_t n, const void *tail, size_t m);
void write_all(int fd, const void *bytes, size_t n);

/* client_start.c */
bool find_run_dir(char run_dir[RUN_DIR_MAX]); /* true: WHERRY_RUN_DIR names it */
int connect_keel(const char *run_dir);        /* -1: none is there */
int keel_pidfd(int keel);                     /* readable when keel has ended; -1: not to be had */
int start_and_connect(const char *run_dir, bool named);
bool in_user_namespace(void);
bool elsewhere(int keel);           /* its mounts, users or process ids are not ours: it cannot act for us */
const char *narrowed(bool named);   /* why this process must start no keel for the node; NULL: it may */
char **wherryd_command(const char *run_dir, char player[4096]); /* and the player's path */

/* client_alone.c */
int start_alone(const char *run_dir, int *player, int *registration); /* the link to a Node that serves this command */
void end_alone(void);
_Noreturn void run_keel_here(const char *run_dir, bool named); /* daemon start --foreground */

/* client_wait.c */
void prepare(int player, int registration); /* a tape comes soon: its player is started already */
void play(uint32_t flags, const uint8_t *image, size_t n, int player, int registration);
void wait_for(pid_t pid, uint32_t flags);
bool watch_once(int server); /* waits for something to happen and handles it; true: the server's link is readable */
void wait_until_ready(void); /* nothing is left but to tell that the container is ready (notify.h) */
void relay(bool raw); /* our input, and where it is a raw terminal its size, go to wherryd as they come */
bool waiting(void);          /* WAIT has named a child */
bool waited(int *code);      /* and that child has ended: with this, or 128 + signal */
bool all_done(void);          /* and the tape after it has succeeded, and wherryd has nothing more to say */
bool output_left(void);      /* its terminal has more to say */

#endif
