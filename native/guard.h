/* Between keel and a starter that waits for its children. */
#ifndef WHERRY_GUARD_H
#define WHERRY_GUARD_H

void guard_between(void); /* returns in the process that is to be keel, whose starter need not wait for it */
void guard_poke(void);    /* a client has gone: its starter's time may have come */

#endif
