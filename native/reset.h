/* Making a daemon's process plain: what its starter was must not reach what it starts. */
#ifndef WHERRY_RESET_H
#define WHERRY_RESET_H

#include <sys/resource.h>

/* What was changed and has to be given back to children that are not part of us. */
struct before {
    struct rlimit nofile;
    char oom_score[8]; /* "": not changed */
};

/*
 * Default signals (SIGPIPE ignored), nice, scheduler, affinity, ioprio, personality, umask 022, folder /, session and
 * keyring of its own, not dumpable, subreaper, oom_score_adj as low as allowed, RLIMIT_NOFILE as high as allowed.
 * NULL, or what could not be done, with errno.
 */
const char *reset_process(struct before *before);

/*
 * 0 becomes /dev/null, 1 and 2 too where they are closed; of the others only *kept (-1: none) stays, moved. All that
 * is opened later is at least `first`. Returns a descriptor of /dev/null, -1 with errno.
 */
int reset_descriptors(int first, int *kept);

#endif
