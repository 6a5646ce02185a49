/* Listeners: containerd's sockets and keel.sock. */
#define _GNU_SOURCE
#include "keel_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BACKLOG 4096

static void accept_again(struct timer *t);
static struct timer full = {.fire = accept_again};

struct listener *listeners;

static void accept_again(struct timer *t)
{
    (void)t;
    accept_when_ready();
}

void accept_when_ready(void)
{
    bool open = conns_taken() && !full.at;
    for (struct listener *l = listeners; l; l = l->next)
        watch(&l->source, open ? EPOLLIN : 0);
    idle_check();
}

void listener_ready(struct source *s, uint32_t events)
{
    struct listener *l = (struct listener *)s;
    struct ucred peer;
    socklen_t size = sizeof peer;
    (void)events;
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            log_line("error", "msg=\"cannot accept: %s\" path=\"%s\"", strerror(errno), l->path);
            timer_set(&full, 100);
            accept_when_ready();
        }
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || (peer.uid && peer.uid != geteuid())) {
        log_line("warn", "msg=\"connection refused: not our user\" path=\"%s\" uid=%u", l->path, peer.uid);
        close(fd);
        return;
    }
    conn_open(fd, l, &peer);
}

static int listener_add(uint64_t id, uint8_t kind, const char *path)
{
    struct listener *l = calloc(1, sizeof *l);
    int fd = l ? listen_at(path, BACKLOG) : -ENOMEM;
    if (fd < 0) {
        free(l);
        return fd;
    }
    *l = (struct listener){.source = {.fd = fd, .ready = listener_ready}, .id = id, .kind = kind, .next = listeners};
    strcpy(l->path, path);
    listeners = l;
    watch(&l->source, 0);
    accept_when_ready();
    return 0;
}

static struct listener **listener_at(uint64_t id)
{
    struct listener **p = &listeners;
    while (*p && ((*p)->kind != CONNECTION_KIND_TTRPC || (*p)->id != id))
        p = &(*p)->next;
    return p;
}

int listener_open(uint64_t id, const char *path)
{
    char folder[sizeof ((struct listener *)0)->path];
    for (struct listener *l = listeners; l; l = l->next) {
        bool same = l->kind == CONNECTION_KIND_TTRPC && l->id == id;
        if (same && strcmp(l->path, path))
            return -EEXIST;
        if (!strcmp(l->path, path) && l->kind == CONNECTION_KIND_TTRPC) {
            l->id = id; /* a wherryd that died before it could write the old one down */
            return 0;
        }
        if (!strcmp(l->path, path))
            return -EADDRINUSE;
    }
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || strlen(path) >= sizeof folder)
        return path[0] == '/' ? -ENAMETOOLONG : -EINVAL;
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = 0;
    int failed = folder[0] ? make_dirs(folder, 0700) : 0;
    if (failed)
        return failed;
    int fd = unix_connect(path, SOCK_NONBLOCK);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || fd == -EAGAIN)
        return -EADDRINUSE;
    if (fd == -ECONNREFUSED)
        unlink(path);
    return listener_add(id, CONNECTION_KIND_TTRPC, path);
}

static void listener_drop(struct listener **at)
{
    struct listener *l = *at;
    *at = l->next;
    unlink(l->path);
    unwatch(&l->source);
    free(l);
}

int listener_close(uint64_t id)
{
    struct listener **at = listener_at(id);
    if (!*at)
        return -ENOENT;
    listener_drop(at);
    return 0;
}

int own_socket_open(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/keel.sock", keel.run_dir);
    unlink(path);
    return listener_add(0, CONNECTION_KIND_CLIENT, path);
}

void listeners_close(void)
{
    char path[4096];
    while (listeners)
        listener_drop(&listeners);
    snprintf(path, sizeof path, "%s/grpc.sock", keel.run_dir);
    unlink(path);
    close(grpc_socket);
}
