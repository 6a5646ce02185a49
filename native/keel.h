/*
 * keel: parent of every container that wherryd manages, owner of the sockets, supervisor of wherryd. One thread, one
 * epoll loop, nothing that blocks. keel.c start and loop · keel_listen.c listeners · keel_conn.c connections ·
 * keel_calls.c calls that wait · keel_answer.c what is answered without wherryd · keel_life.c wherryd's life ·
 * keel_link.c its orders · keel_upgrade.c another program in the place of this one · keel_register.c who registers ·
 * keel_proc.c players, containers and their exits · keel_*_state.c what is handed on to the next keel. What a frame
 * carries: docs/internals.md.
 */
#ifndef WHERRY_KEEL_H
#define WHERRY_KEEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "link.h"
#include "loop.h"
#include "reset.h"
#include "wire.h"

#define CONN_QUEUE_MAX (64u << 20) /* a peer that reads nothing is closed then */
#define LINK_QUEUE_HIGH (16u << 20) /* wherryd is behind: read no peer until it is below LINK_QUEUE_LOW */
#define LINK_QUEUE_LOW (1u << 20)
#define LINK_QUEUE_MAX (1u << 30)

struct state;
struct state_reader;

extern struct keel {
    const char *run_dir, *player_path;
    char *const *command; /* of wherryd */
    int null, player;     /* /dev/null; the sealed player */
    struct before before; /* what keel changed of itself and its children must not have */
    bool service, ending;
    bool faults; /* for tests: wherryd may be told where to die */
    uint32_t idle_seconds;
    uint64_t started_ns;
    bool ready;                            /* wherryd is up */
    uint32_t alive, known, playing;        /* registered and not ended; registered and not forgotten; players */
    uint32_t connections, clients;         /* of the connections, those of clients */
} keel;

void idle_restart(void); /* the clock begins anew */
void idle_check(void); /* after anything went away: starts or stops the idle clock */
void keel_end(void);   /* sockets away, clients served, wherryd ended, then the loop returns */
void keel_done(void);  /* wherryd has ended after keel_end */

/* keel.c, for an upgrade: what every part has of its own is written to records, and taken up from them. */
void keel_save(struct state *s);
void keel_load(struct state_reader *s);

/* keel_listen.c */
int listener_open(uint64_t id, const char *path); /* a ttrpc listener; 0 or -errno */
int listener_close(uint64_t id);
int own_socket_open(void); /* keel.sock; 0 or -errno */
void listeners_close(void); /* all of them, and the paths away */
void accept_when_ready(void); /* takes connections while wherryd is up, leaves them in the backlog else */

/* keel_conn.c */
void conns_pause(bool paused);
void conns_close(void);
void conn_send(uint64_t id, const uint8_t *bytes, size_t n);
void conn_finish(uint64_t id); /* closes when the queue has been written */
void conn_acting(uint64_t id); /* a client's command begins: no later wherryd may begin it again */
/* Whether the one-time act of an unanswered call was done; NULL: there is no such call. */
bool *conn_acted(uint64_t id, uint32_t stream);
void conns_orphaned(void); /* wherryd has died: whose call can be done again waits for the next */
void conns_report(void);   /* to a new wherryd: connections, and their calls that nobody has answered */
void conns_refuse(const char *why); /* wherryd does not come up: calls get code 14 with this; NULL: it did */

uint32_t clients_acting(void);
void conns_exited(void); /* a process has ended: whoever waits for it while wherryd does not come up is told */
void conns_save(struct state *s);
/* True: the record was one of these. check: it is only read. */
bool conns_load(struct state_reader *s, uint32_t type, bool check);

/* keel_answer.c */
struct call;
void deposit_put(uint64_t token, const uint8_t *order, size_t n);
void deposit_drop(uint64_t token);
void deposits_expect(void); /* a wherryd starts, which deposits anew whatever it knows of */
void deposits_settle(void); /* it has: the others are of processes that are forgotten */
/* What is known of a registered process, and is remembered with its deposit when nothing else of it is. */
struct facts {
    pid_t pid;
    bool exited, known;
    int32_t status;
    uint64_t time;
};
void deposit_facts(uint64_t token, const struct facts *f);
/* A ttrpc frame that answers the call without wherryd; false: only wherryd can. `out` is the caller's to free. */
bool call_answer(struct buf *out, uint64_t listener, const struct call *call);
void deposits_save(struct state *s);
bool deposits_load(struct state_reader *s, uint32_t type, bool check);

/* keel_life.c */
extern int grpc_socket;
void wherryd_start(void);
bool wherryd_exited(pid_t pid, int status); /* true when it was wherryd */
bool wherryd_quit(void); /* the same before an upgrade; false: none runs */
void wherryd_hang_up(void); /* end of file on its link; SIGKILL 5 s later */

/* keel_link.c */
void tell(uint16_t type, uint64_t id, const void *head, size_t n, const void *tail, size_t m);
void reply(uint64_t id, int32_t result, const void *body, size_t n);

/* keel_upgrade.c */
void upgrade_order(uint64_t request, struct reader *r);
void upgrade_again(void);                   /* the same programs, read from the disk anew */
bool upgrade_child(pid_t pid, int status);  /* true when it was the trial */
void upgrade_now(void);                     /* if one is under way: wherryd has ended */
void upgrade_back(const char *why);         /* if the new wherryd has not been ready yet */
void upgrade_proven(void);                  /* it is ready */
void upgrade_outcome(struct buf *body);     /* for STATUS */
_Noreturn void upgrade_check(int state);    /* the trial */
const char *upgrade_resume(int state, bool back); /* NULL, or what went wrong */

/* keel_proc.c */
void procs_save(struct state *s);
bool procs_load(struct state_reader *s, uint32_t type, bool check);
int registration_open(void); /* 0 or -errno */
int registration_sender(void);
void reap(void);
void player_spawn(uint64_t token, const uint8_t *payload, size_t n);
int proc_signal(uint64_t token, int signal);
bool proc_facts(uint64_t token, struct facts *f); /* false: unknown, or forgotten */
void player_cancel(uint64_t request, uint64_t token); /* with what it registered; replies when the player is gone */
int proc_adopt(uint64_t token, uint32_t pid, uint64_t start_time); /* of an earlier keel; 0 or -errno */
void proc_acknowledge(uint64_t token);
int proc_close_stdin(uint64_t token);
int proc_resize(uint64_t token, uint16_t rows, uint16_t cols);
void proc_release(uint64_t request, uint64_t token, uint32_t drain); /* ms for the copies; replies itself */
void procs_report(void);                /* to a new wherryd: who is registered, and exits it has not acknowledged */
void procs_kill(uint64_t request);      /* SIGKILL to all; when all are gone and acknowledged: reply, keel_end */

#endif
