/* Connections and listeners, as keel_conn.c and keel_listen.c keep them and keel_conn_state.c hands them on. */
#ifndef WHERRY_KEEL_CONN_H
#define WHERRY_KEEL_CONN_H

#include <sys/socket.h>
#include <sys/un.h>

#include "keel.h"
#include "keel_calls.h"

struct listener {
    struct source source;
    uint64_t id;
    uint8_t kind;
    char path[sizeof ((struct sockaddr_un *)0)->sun_path];
    struct listener *next;
};

struct conn {
    struct source source;
    uint64_t id; /* serial << 20 | descriptor */
    uint64_t listener;
    struct ucred peer;
    uint8_t kind;
    bool finishing;
    bool acting; /* a client whose command has begun: it cannot begin again */
    struct calls calls;
    struct cutter cutter;
    struct buf out;
};

extern struct listener *listeners;
extern struct conn **conns; /* by descriptor */
extern size_t conns_size;
extern uint64_t serial; /* of the last connection */

struct conn *conn_new(int fd, uint8_t kind); /* in its place; NULL: no memory, and fd is closed */
struct conn *conn_by_id(uint64_t id);
void conn_events(struct conn *c); /* waits for what is wanted of it now */
void conn_open(int fd, const struct listener *l, const struct ucred *peer);
bool conns_taken(void); /* new ones are: somebody answers them, and keel is not behind */
void listener_ready(struct source *s, uint32_t events);

#endif
