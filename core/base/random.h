/* The only place that makes random bytes.
 *
 * Cryptographically strong (OpenSSL's generator). Any thread. */
#ifndef PERIGEE_BASE_RANDOM_H
#define PERIGEE_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Aborts when the system gives no randomness: nothing safe could be done without it. */
void random_fill(void *out, size_t bytes);
uint64_t random_u64(void);
/* Characters of [0-9a-z], without a NUL behind them. */
void random_text(char *out, size_t len);

#endif
