/* http: GETs on connections that are kept, pipelined or not. Every response is taken to be of the
 * first one's size, so that counting them costs next to nothing. */
#define _GNU_SOURCE
#include "loadgen/http.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/options.h"
#include "loadgen/pipeline.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"

enum { MAX_REQUEST = 4096 };

static const char good[] = "HTTP/1.1 200";

enum { GOOD_LEN = sizeof good - 1 };

/* Learned from the first response: its size, and its bytes but for the head, which may hold a
 * date. */
static uint64_t response_len;
static char *body;
static size_t body_len;

size_t http_response_size(const char *data, size_t len) {
  static const char length[] = "content-length:";
  static const char chunked[] = "transfer-encoding: chunked";
  const char *end = memmem(data, len, "\r\n\r\n", 4);
  if (end == NULL) return 0;
  size_t head_len = (size_t)(end - data) + 4;
  for (const char *line = data; line < end;) {
    if (strncasecmp(line, length, sizeof length - 1) == 0) {
      size_t total = head_len + strtoull(line + sizeof length - 1, NULL, 10);
      return total <= len ? total : 0;
    }
    if (strncasecmp(line, chunked, sizeof chunked - 1) == 0) {
      const char *last = memmem(end, len - (size_t)(end - data), "0\r\n\r\n", 5);
      return last != NULL ? (size_t)(last - data) + 5 : 0;
    }
    line = (const char *)memchr(line, '\n', (size_t)(end + 2 - line)) + 1;
  }
  return head_len;
}

static void prepare(void) {
  char request[MAX_REQUEST];
  int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s\r\n",
                     options.path, options.host, options.port, options.header);
  if (len >= MAX_REQUEST) base_fail("the request is too long");
  pipeline_prepare(request, (size_t)len);
}

static greeting greeting_of(const struct conn *conn) {
  (void)conn;
  return GREETING_NONE;
}

static void learn(const char *data, size_t len) {
  const char *end = memmem(data, len, "\r\n\r\n", 4);
  response_len = len;
  body_len = len - (size_t)(end + 4 - data);
  body = base_resize(NULL, body_len);
  memcpy(body, end + 4, body_len);
}

static bool is_good(const char *data) {
  return memcmp(data, good, GOOD_LEN) == 0 &&
         memcmp(data + response_len - body_len, body, body_len) == 0;
}

static unsigned take_responses(struct conn *conn, const char *data, size_t len, uint64_t now) {
  unsigned count = 0;
  for (; len >= response_len; count++) {
    if (!is_good(data)) tally.bad++;
    pipeline_answered(conn, now);
    data += response_len;
    len -= response_len;
  }
  bytes rest = {0};
  if (len > 0) bytes_append(&rest, data, len); /* `data` may be what was kept */
  free(conn->kept.data);
  conn->kept = rest;
  return count;
}

static void on_bytes(struct conn *conn, const char *data, size_t len, uint64_t now) {
  if (conn->kept.len > 0 || response_len == 0) {
    bytes_append(&conn->kept, data, len);
    data = conn->kept.data;
    len = conn->kept.len;
  }
  if (response_len == 0) {
    size_t first = http_response_size(data, len);
    if (first == 0) return;
    learn(data, first);
  }
  pipeline_go_on(conn, take_responses(conn, data, len, now), now);
}

const struct workload http_workload = {
    .name = "http",
    .unit = "requests",
    .prepare = prepare,
    .greeting_of = greeting_of,
    .on_bytes = on_bytes,
    .send_round = pipeline_send_round,
    .is_quiet = pipeline_is_quiet,
    .count_missing = pipeline_count_missing,
};
