#include "loadgen/ws.h"

#include <stdbool.h>
#include <string.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"

enum { MAX_CONTROL_BYTES = 125 };

static const uint8_t masking_key[4] = {0x3a, 0x91, 0x5c, 0xe7};

static size_t encode_header(uint8_t *out, uint8_t opcode, uint64_t len) {
  size_t extended = len < 126 ? 0 : len < 65536 ? 2 : 8;
  out[0] = (uint8_t)(0x80 | opcode);
  out[1] = (uint8_t)(0x80 | (extended == 0 ? len : extended == 2 ? 126 : 127));
  for (size_t i = 0; i < extended; i++) out[2 + i] = (uint8_t)(len >> (8 * (extended - 1 - i)));
  memcpy(out + 2 + extended, masking_key, sizeof masking_key);
  return 2 + extended + sizeof masking_key;
}

size_t ws_encode(char *out, uint8_t opcode, const char *data, size_t len) {
  size_t header = encode_header((uint8_t *)out, opcode, len);
  for (size_t i = 0; i < len; i++) out[header + i] = (char)(data[i] ^ masking_key[i & 3]);
  return header + len;
}

void ws_send(struct conn *conn, uint8_t opcode, const char *data, size_t len) {
  static char *frame;
  static size_t capacity;
  if (len + WS_MAX_HEADER > capacity) {
    capacity = (len + WS_MAX_HEADER) * 2;
    frame = base_resize(frame, capacity);
  }
  conn_send(conn, frame, ws_encode(frame, opcode, data, len));
}

static bool has_ended(const struct conn *conn) {
  return conn->state != CONN_OPEN && conn->state != CONN_CLOSING;
}

/* A whole control frame. */
static void on_control(struct conn *conn, const char *data, size_t len) {
  if (conn->frame.opcode == WS_PING) {
    ws_send(conn, WS_PONG, data, len);
  } else if (conn->frame.opcode == WS_CLOSE) {
    if (workload->on_end == NULL || !workload->on_end(conn)) {
      conn_fail(conn, "the server sent a close frame");
    }
  }
}

static void on_control_piece(struct conn *conn, const char *data, size_t len, bool is_last) {
  if (conn->frame.len > MAX_CONTROL_BYTES) {
    tally.bad++;
    conn_fail(conn, "the server sent a control frame that is too long");
    return;
  }
  bytes_append(&conn->kept, data, len);
  if (!is_last) return;
  char whole[MAX_CONTROL_BYTES];
  size_t whole_len = conn->kept.len;
  memcpy(whole, conn->kept.data, whole_len);
  conn->kept.len = 0;
  on_control(conn, whole, whole_len);
}

static void on_piece(struct conn *conn, const char *data, size_t len, bool is_last, uint64_t now) {
  if (conn->frame.opcode >= WS_CLOSE) {
    on_control_piece(conn, data, len, is_last);
  } else if (workload->on_piece != NULL) {
    workload->on_piece(conn, data, len, is_last, now);
  } else if (is_last) {
    tally.other++;
  }
}

static size_t header_size(const frame_state *frame) {
  if (frame->header_len < 2) return 2;
  uint8_t len = frame->header[1] & 127;
  return len == 126 ? 4 : len == 127 ? 10 : 2;
}

/* Takes header bytes; returns how many. The frame is inside once its header is whole. */
static size_t feed_header(frame_state *frame, const char *data, size_t len) {
  size_t taken = 0;
  while (frame->header_len < header_size(frame)) {
    if (taken == len) return taken;
    frame->header[frame->header_len++] = (uint8_t)data[taken++];
  }
  frame->len = frame->header[1] & 127;
  if (frame->header_len > 2) {
    frame->len = 0;
    for (size_t i = 2; i < frame->header_len; i++) frame->len = frame->len << 8 | frame->header[i];
  }
  frame->opcode = frame->header[0] & 15;
  frame->offset = 0;
  frame->header_len = 0;
  frame->is_inside = true;
  return taken;
}

void ws_feed(struct conn *conn, const char *data, size_t len, uint64_t now) {
  frame_state *frame = &conn->frame;
  while (len > 0) {
    if (!frame->is_inside) {
      size_t taken = feed_header(frame, data, len);
      data += taken;
      len -= taken;
      if (!frame->is_inside) return;
      if ((frame->header[1] & 0x80) != 0) {
        tally.bad++;
        conn_fail(conn, "the server sent a masked frame");
        return;
      }
    }
    uint64_t left = frame->len - frame->offset;
    size_t taken = left < len ? (size_t)left : len;
    bool is_last = taken == left;
    if (taken > 0 || is_last) on_piece(conn, data, taken, is_last, now);
    if (has_ended(conn)) return;
    frame->offset += taken;
    data += taken;
    len -= taken;
    if (is_last) frame->is_inside = false;
  }
}
