/* What a publication carries, so that every delivery of it can be judged: who published it, its
 * number, and when it was due, as 34 characters "~~pppp:ssssssss:tttttttttttttttt~~" in
 * hexadecimal.
 *
 * A server may wrap a publication as it likes, or put several into one frame or event, as long as
 * these characters arrive in one piece and `~~` occurs nowhere else. */
#ifndef LOADGEN_STAMP_H
#define LOADGEN_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STAMP_BYTES = 34 };

typedef struct {
  uint32_t publisher;
  uint32_t sequence;
  uint64_t due_ns;
} stamp;

void stamp_encode(char *out, stamp value);
/* False when these STAMP_BYTES are none. */
bool stamp_decode(const char *data, stamp *out);

/* Finds the next stamp from `offset` on. Returns where it is, or `len` when there is none; then
 * `rest` is how many bytes at the end may be the start of one. */
size_t stamp_find(const char *data, size_t len, size_t offset, size_t *rest);

#endif
