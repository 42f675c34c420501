#include "loadgen/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

_Noreturn void base_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("loadgen: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(2);
}

void *base_resize(void *memory, size_t bytes) {
  memory = realloc(memory, bytes > 0 ? bytes : 1);
  if (memory == NULL) base_fail("out of memory");
  return memory;
}

void *base_zeroed(size_t count, size_t bytes) {
  void *memory = calloc(count > 0 ? count : 1, bytes);
  if (memory == NULL) base_fail("out of memory");
  return memory;
}

uint64_t base_now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * NS_PER_SECOND + (uint64_t)time.tv_nsec;
}

uint64_t base_ns(double seconds) {
  return (uint64_t)(seconds * (double)NS_PER_SECOND);
}
