/* Memory that is there or the process is not.
 *
 * Out of memory is not an error that anybody can handle well in the middle of a turn, so these log
 * and abort. Therefore no allocation may be sized by a peer before a limit has been checked. */
#ifndef PERIGEE_BASE_MEM_H
#define PERIGEE_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

void *mem_alloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *mem_alloc_zero(size_t bytes) __attribute__((malloc, returns_nonnull));
/* `old` may be NULL. The old pointer is gone afterwards. */
void *mem_realloc(void *old, size_t bytes) __attribute__((returns_nonnull));
/* NULL is allowed. */
void mem_free(void *memory);

/* A copy with a NUL behind it; the caller frees it with mem_free. */
char *mem_copy(slice bytes) __attribute__((malloc, returns_nonnull));

/* Sets glibc's thresholds so that large blocks go back to the system as they are freed. Once, at
 * start. Does nothing elsewhere. */
void mem_setup(void);

/* Gives free pages back to the system, if much has become free since the last time: after a burst.
 * Returns whether it did. Looks at every arena, under its lock: milliseconds in which others may
 * wait who allocate, where there are many pieces. One thread. */
bool mem_trim(void);
/* To be called once a second: does that when the process has grown by much, and else the more
 * seldom the longer there was nothing to give back. The same thread. */
void mem_tend(void);

/* A broken invariant stops the process, in release builds too: it prints file, line and the
 * condition, then aborts. For mistakes of our own only, never for a peer's. */
#define REQUIRE(condition)                                                                     \
  do {                                                                                         \
    if (__builtin_expect(!(condition), 0)) mem_require_failed(__FILE__, __LINE__, #condition); \
  } while (0)

void mem_require_failed(const char *file, int line, const char *condition)
    __attribute__((noreturn));

#define CONTAINER_OF(pointer, type, member) \
  ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
