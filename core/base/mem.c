#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Above this many bytes an allocation is a mapping of its own and returns to the system when freed.
 * Measured after a burst of large messages: 5.8 MB stay where the default keeps 99 MB. */
enum { MMAP_THRESHOLD_BYTES = 256 * 1024 };

/* Less than this at the end of a heap is kept by free: giving it back with each message and
 * faulting it in again with the next would cost more than the message. mem_trim gives it back. */
enum { KEPT_BYTES = 16 * 1024 * 1024 };

/* Free memory that is worth a walk through the heap to give it back. */
enum { TRIM_WORTH_BYTES = 4 * 1024 * 1024 };

/* Between two looks whether there is free memory, when there was none. */
enum { LONGEST_PAUSE_S = 8 };

static void *check(void *memory, size_t bytes) {
  if (memory == NULL) {
    fprintf(stderr, "perigee: out of memory: %zu bytes were asked for\n", bytes);
    abort();
  }
  return memory;
}

void *mem_alloc(size_t bytes) {
  return check(malloc(bytes > 0 ? bytes : 1), bytes);
}

void *mem_alloc_zero(size_t bytes) {
  return check(calloc(1, bytes > 0 ? bytes : 1), bytes);
}

void *mem_realloc(void *old, size_t bytes) {
  return check(realloc(old, bytes > 0 ? bytes : 1), bytes);
}

void mem_free(void *memory) {
  free(memory);
}

char *mem_copy(slice bytes) {
  char *copy = mem_alloc(bytes.len + 1);
  if (bytes.len > 0) memcpy(copy, bytes.data, bytes.len);
  copy[bytes.len] = '\0';
  return copy;
}

void mem_setup(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
  mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
#endif
}

bool mem_trim(void) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  /* What was free when pages were last given back: it still counts as free, without its pages. */
  static size_t trimmed_bytes;
  size_t free_bytes = mallinfo2().fordblks;
  if (free_bytes < trimmed_bytes) trimmed_bytes = free_bytes;
  if (free_bytes - trimmed_bytes < TRIM_WORTH_BYTES) return false;
  malloc_trim(0);
  trimmed_bytes = mallinfo2().fordblks;
  return true;
#else
  return false;
#endif
}

/* 0 where the system does not say. */
static size_t resident_bytes(void) {
  unsigned long pages = 0;
  FILE *file = fopen("/proc/self/statm", "re");
  if (file == NULL) return 0;
  if (fscanf(file, "%*u %lu", &pages) != 1) pages = 0;
  fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

void mem_tend(void) {
  static size_t least_bytes; /* since the last look */
  static unsigned pause_s = 1, paused_s;
  size_t bytes = resident_bytes();
  if (bytes < least_bytes || least_bytes == 0) least_bytes = bytes;
  size_t much = bytes / 4 > TRIM_WORTH_BYTES ? bytes / 4 : TRIM_WORTH_BYTES;
  bool has_grown = bytes - least_bytes >= much;
  if (++paused_s < pause_s && !has_grown) return;
  bool was_worth_it = mem_trim();
  pause_s = was_worth_it || has_grown ? 1 : pause_s < LONGEST_PAUSE_S ? pause_s * 2 : pause_s;
  paused_s = 0;
  least_bytes = resident_bytes();
}

void mem_require_failed(const char *file, int line, const char *condition) {
  fprintf(stderr, "perigee: %s:%d: broken invariant: %s\n", file, line, condition);
  abort();
}
