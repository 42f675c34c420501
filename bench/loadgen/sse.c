#define _GNU_SOURCE
#include "loadgen/sse.h"

#include <stdlib.h>
#include <string.h>

#include "loadgen/conn.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"

/* The value of "name: value"; NULL when the line is another field. */
static const char *find_value(const char *line, size_t len, const char *name, size_t *value_len) {
  size_t name_len = strlen(name);
  if (len < name_len + 2 || memcmp(line, name, name_len) != 0) return NULL;
  if (line[name_len] != ':' || line[name_len + 1] != ' ') return NULL;
  *value_len = len - name_len - 2;
  return line + name_len + 2;
}

/* Without the blank line at its end. */
static void on_block(struct conn *conn, const char *block, size_t len, uint64_t now) {
  sse_event event = {0};
  for (const char *line = block, *end = block + len; line < end;) {
    const char *next = memchr(line, '\n', (size_t)(end - line));
    size_t line_len = next != NULL ? (size_t)(next - line) : (size_t)(end - line);
    const char *value;
    size_t value_len;
    if ((value = find_value(line, line_len, "id", &value_len)) != NULL) {
      event.id = value;
      event.id_len = value_len;
    } else if ((value = find_value(line, line_len, "data", &value_len)) != NULL) {
      event.data = value;
      event.data_len = value_len;
    }
    line += line_len + 1;
  }
  if (event.id != NULL || event.data != NULL) workload->on_event(conn, &event, now);
}

static void take_blocks(struct conn *conn, const char *data, size_t len, uint64_t now) {
  bytes *kept = &conn->kept;
  bytes_append(kept, data, len);
  size_t offset = 0;
  const char *end;
  while ((end = memmem(kept->data + offset, kept->len - offset, "\n\n", 2)) != NULL) {
    on_block(conn, kept->data + offset, (size_t)(end - kept->data) - offset, now);
    offset = (size_t)(end - kept->data) + 2;
  }
  kept->len -= offset;
  memmove(kept->data, kept->data + offset, kept->len);
}

/* Takes of the line between one chunk's bytes and the next's: the end of the one, the size of the
 * other. Returns how many bytes; 0 when it makes no sense. */
static size_t take_size_line(chunk_state *chunk, const char *data, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (chunk->line_len == sizeof chunk->line) return 0;
    chunk->line[chunk->line_len++] = data[i];
    /* "\r\n" of the chunk before is as good as an empty line. */
    if (data[i] != '\n') continue;
    chunk->line[chunk->line_len - 1] = '\0';
    bool is_empty = chunk->line_len == 2;
    chunk->line_len = 0;
    if (is_empty) continue;
    char *end;
    chunk->left = strtoul(chunk->line, &end, 16);
    return end > chunk->line && *end == '\r' ? i + 1 : 0;
  }
  return len;
}

void sse_feed(struct conn *conn, const char *data, size_t len, uint64_t now) {
  chunk_state *chunk = &conn->chunk;
  while (len > 0 && conn->state == CONN_OPEN) {
    size_t taken;
    if (chunk->left == 0) {
      taken = take_size_line(chunk, data, len);
      if (taken == 0) {
        tally.bad++;
        conn_fail(conn, "the event stream is not in chunks");
        return;
      }
    } else {
      taken = chunk->left < len ? chunk->left : len;
      chunk->left -= taken;
      take_blocks(conn, data, taken, now);
    }
    data += taken;
    len -= taken;
  }
}
