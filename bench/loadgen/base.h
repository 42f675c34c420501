/* What every part of the load generator needs: ending with a word, memory that is there, the time.
 *
 * The load generator uses nothing of the gateway's own code, so that a mistake of both ends cannot
 * hide. */
#ifndef LOADGEN_BASE_H
#define LOADGEN_BASE_H

#include <stddef.h>
#include <stdint.h>

enum { NS_PER_SECOND = 1000000000 };

/* Prints the message to standard error and exits with 2: nothing was measured. */
_Noreturn void base_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As realloc and calloc, but they fail as above instead of returning NULL. */
void *base_resize(void *memory, size_t bytes);
void *base_zeroed(size_t count, size_t bytes);

/* Monotonic nanoseconds. */
uint64_t base_now_ns(void);

/* Seconds, which may be a fraction, in nanoseconds. */
uint64_t base_ns(double seconds);

#endif
