#define _GNU_SOURCE
#include "loadgen/greeting.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/options.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"
#include "loadgen/ws.h"

enum { MAX_REQUEST = 2048 };

static void open_now(struct conn *conn, uint64_t now) {
  conn_opened(conn);
  if (workload->on_open != NULL) workload->on_open(conn, now);
}

static const char *path_of(const struct conn *conn) {
  if (workload->path_of != NULL) return workload->path_of(conn);
  return conn->is_publisher && !conn->is_subscriber ? options.publish_path : options.path;
}

void greeting_start(struct conn *conn, uint64_t now) {
  char request[MAX_REQUEST];
  greeting kind = workload->greeting_of(conn);
  conn_want_write(conn, false);
  if (kind == GREETING_NONE) {
    open_now(conn, now);
    return;
  }
  const char *wish = kind == GREETING_SSE ? "Accept: text/event-stream\r\n"
                                          : "Upgrade: websocket\r\n"
                                            "Connection: Upgrade\r\n"
                                            "Sec-WebSocket-Key: " WS_KEY
                                            "\r\n"
                                            "Sec-WebSocket-Version: 13\r\n";
  int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s%s\r\n",
                     path_of(conn), options.host, options.port, wish, options.header);
  if (len >= MAX_REQUEST) base_fail("the request is too long");
  conn->state = CONN_GREETING;
  conn_send(conn, request, (size_t)len);
}

static bool has_prefix(const char *data, size_t len, const char *prefix) {
  return len >= strlen(prefix) && memcmp(data, prefix, strlen(prefix)) == 0;
}

static const char *find_fault(const struct conn *conn, const char *head, size_t len) {
  if (workload->greeting_of(conn) == GREETING_SSE) {
    return has_prefix(head, len, "HTTP/1.1 200") ? NULL : "no event stream: status is not 200";
  }
  if (!has_prefix(head, len, "HTTP/1.1 101")) return "no WebSocket: status is not 101";
  return memmem(head, len, WS_ACCEPT, strlen(WS_ACCEPT)) != NULL
             ? NULL
             : "no WebSocket: the key is not answered";
}

void greeting_feed(struct conn *conn, const char *data, size_t len, uint64_t now) {
  bytes_append(&conn->kept, data, len);
  const char *end = memmem(conn->kept.data, conn->kept.len, "\r\n\r\n", 4);
  if (end == NULL) return;
  bytes head = conn->kept;
  size_t head_len = (size_t)(end - head.data) + 4;
  conn->kept = (bytes){0};
  const char *fault = find_fault(conn, head.data, head_len);
  if (fault != NULL) {
    tally.bad++;
    conn_fail(conn, fault);
  } else {
    open_now(conn, now);
    if (head.len > head_len && (conn->state == CONN_OPEN || conn->state == CONN_CLOSING)) {
      workload->on_bytes(conn, head.data + head_len, head.len - head_len, now);
    }
  }
  free(head.data);
}
