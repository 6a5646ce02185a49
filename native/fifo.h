/* Keeping what a FIFO holds. */
#ifndef WHERRY_FIFO_H
#define WHERRY_FIFO_H

#include <stdbool.h>

/*
 * A FIFO with no open end forgets its content. Holds both ends (-1: not held) until somebody else has it open for
 * reading, then closes them, so that the end of file may come. True: still nobody; ask again later.
 */
bool fifo_keep(int *reader, int *writer);

#endif
