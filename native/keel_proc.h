/* Players and processes: keel_register.c finds these, keel_proc.c keeps both, keel_proc_state.c hands them on. */
#ifndef WHERRY_KEEL_PROC_H
#define WHERRY_KEEL_PROC_H

#include "copy.h"
#include "keel.h"

#define KINDS (STREAM_END_STDERR_PIPE + 1)

struct player {
    uint64_t token;
    pid_t pid;
    int tape;
    uint64_t cancel; /* the request that waits for its end; 0: none */
    struct timer deadline;
    struct player *next;
};

/* A registered process, until its exit was acknowledged and nothing is kept for it any more, or until RELEASE. */
struct proc {
    uint64_t token, inode, start_time;
    pid_t pid;
    struct source pidfd; /* in the epoll set only when another process is the parent */
    int ends[KINDS];     /* stream ends by kind; -1: none */
    bool exited, acknowledged, known;
    int32_t status;
    uint64_t time, user, system, maxrss;
    struct copy in, out, err; /* of a terminal, or of pipes that others than the process may hold */
    struct timer probe, drain;
    unsigned probes;
    bool releasing;   /* as soon as the copies have ended, or at the end of `drain` */
    uint64_t release; /* the request that waits for it; 0: nobody */
    struct proc *next;
};

extern struct player *players;
extern struct proc *procs;
extern struct source receiver; /* of registrations */
extern int sender;

/* keel_proc.c, for keel_register.c */
struct proc *proc_by_token(uint64_t token); /* NULL: there is none */
void end_drop(struct proc *p, int kind);
void streams_begin(struct proc *p);
void tell_registered(const struct proc *p);
struct rusage;
void proc_exited(struct proc *p, int status, bool status_known, const struct rusage *usage);

/* keel_register.c */
void registrations_read(void); /* whatever has come */

/* What the fields above call when their time has come. */
void copied(void *owner);
void deadline_passed(struct timer *t);
void drain_late(struct timer *t);
void foreign_exit(struct source *s, uint32_t events);
void probe_again(struct timer *t);
void registration_ready(struct source *s, uint32_t events);

#endif
