/* What this processor can do beyond the least of its architecture.
 *
 * The library is built for the least; a loop that runs over much data may have a second form, made
 * with CPU_WIDE and entered where cpu_has_wide() says so. Where there is no such form, CPU_WIDE is
 * not defined. */
#ifndef PERIGEE_BASE_CPU_H
#define PERIGEE_BASE_CPU_H

#include <stdbool.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define CPU_WIDE __attribute__((target("avx2")))

static inline bool cpu_has_wide(void) {
  return __builtin_cpu_supports("avx2") != 0;
}
#endif

#endif
