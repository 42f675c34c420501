/* The event loop: one turn at a time. */
#ifndef LOADGEN_LOOP_H
#define LOADGEN_LOOP_H

#include <stdint.h>

/* After pool_init. */
void loop_init(void);

/* Waits for events, at most so many milliseconds, and handles them. */
void loop_turn(int timeout_ms);

/* The next wait ends at this moment at the latest. */
void loop_wake_at(uint64_t at_ns);

#endif
