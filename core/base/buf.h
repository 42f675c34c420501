/* A growing run of bytes, up to a limit.
 *
 * The struct it stands in owns it. It never shrinks by itself; buf_deinit gives the memory back.
 * Not for what many share: that is message.h and block.h. */
#ifndef PERIGEE_BASE_BUF_H
#define PERIGEE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

/* data[0..len) is in use; capacity is what was allocated; max_bytes bounds both. */
struct buf {
  char *data;
  size_t len;
  size_t capacity;
  size_t max_bytes;
};

/* Allocates nothing. `max_bytes` 0 means no limit: only where no peer decides the size. */
void buf_init(struct buf *buf, size_t max_bytes);

/* Frees the bytes; the struct may be used again as after buf_init with the same limit. */
void buf_deinit(struct buf *buf);

/* Forgets the contents and keeps the memory. */
static inline void buf_clear(struct buf *buf) {
  buf->len = 0;
}

static inline slice buf_peek(const struct buf *buf) {
  return slice_of(buf->data, buf->len);
}

/* What buf_reserve does when there is no room yet. */
char *buf_grow(struct buf *buf, size_t more);

/* Room for `more` bytes behind len: the place to write them, or NULL past the limit, with nothing
 * changed. The caller adds to len what it wrote. `more` 0 never gives NULL. */
inline char *buf_reserve(struct buf *buf, size_t more) {
  bool has_room = more <= buf->capacity - buf->len && buf->data != NULL;
  return has_room ? buf->data + buf->len : buf_grow(buf, more);
}

/* Appends a copy. False past the limit, with nothing changed. */
bool buf_append(struct buf *buf, slice bytes);
bool buf_append_char(struct buf *buf, char c);

/* Appends as printf would. False past the limit, with nothing changed. */
bool buf_append_format(struct buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Removes the first `count` bytes; what is behind them moves down. */
void buf_drop(struct buf *buf, size_t count);

#endif
