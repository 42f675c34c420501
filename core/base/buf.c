#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"

enum { SMALLEST_BYTES = 64 };

void buf_init(struct buf *buf, size_t max_bytes) {
  *buf = (struct buf){.max_bytes = max_bytes};
}

void buf_deinit(struct buf *buf) {
  mem_free(buf->data);
  buf_init(buf, buf->max_bytes);
}

extern inline char *buf_reserve(struct buf *buf, size_t more);

char *buf_grow(struct buf *buf, size_t more) {
  size_t max_bytes = buf->max_bytes > 0 ? buf->max_bytes : SIZE_MAX / 2;
  if (more > max_bytes - buf->len) return NULL;
  size_t capacity = buf->capacity > 0 ? buf->capacity : SMALLEST_BYTES;
  while (capacity < buf->len + more) capacity *= 2;
  if (capacity > max_bytes && buf->len + more <= max_bytes) capacity = max_bytes;
  buf->data = mem_realloc(buf->data, capacity);
  buf->capacity = capacity;
  return buf->data + buf->len;
}

bool buf_append(struct buf *buf, slice bytes) {
  char *place = buf_reserve(buf, bytes.len);
  if (place == NULL) return false;
  if (bytes.len > 0) memcpy(place, bytes.data, bytes.len);
  buf->len += bytes.len;
  return true;
}

bool buf_append_char(struct buf *buf, char c) {
  return buf_append(buf, slice_of(&c, 1));
}

bool buf_append_format(struct buf *buf, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int len = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (len < 0) return false;
  /* vsnprintf writes a NUL; it stands in reserved room and is not counted. */
  char *place = buf_reserve(buf, (size_t)len + 1);
  if (place == NULL) return false;
  va_start(arguments, format);
  vsnprintf(place, (size_t)len + 1, format, arguments);
  va_end(arguments);
  buf->len += (size_t)len;
  return true;
}

void buf_drop(struct buf *buf, size_t count) {
  if (count > buf->len) count = buf->len;
  buf->len -= count;
  if (buf->len > 0) memmove(buf->data, buf->data + count, buf->len);
}
