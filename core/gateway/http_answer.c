#include "gateway/http_answer.h"

#include "base/mem.h"
#include "codec/http1_response.h"
#include "gateway/origin.h"
#include "gateway/worker.h"

static const struct {
  unsigned method;
  const char *name;
} methods[] = {
    {METHOD_GET, "GET"},         {METHOD_HEAD, "HEAD"},   {METHOD_POST, "POST"},
    {METHOD_PUT, "PUT"},         {METHOD_PATCH, "PATCH"}, {METHOD_DELETE, "DELETE"},
    {METHOD_OPTIONS, "OPTIONS"},
};

void http_answer_append_allow(struct buf *out, unsigned allowed) {
  if ((allowed & METHOD_GET) != 0) allowed |= METHOD_HEAD;
  allowed |= METHOD_OPTIONS;
  bool is_first = true;
  for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
    if ((allowed & methods[i].method) == 0) continue;
    if (!is_first) buf_append(out, SLICE(", "));
    buf_append(out, slice_of_string(methods[i].name));
    is_first = false;
  }
}

/* Returns whether the origin is one of those that the route lists. */
static bool append_cors(struct buf *out, const route_options *options, slice origin, slice host) {
  if (options->origins == NULL && !options->any_origin) return false;
  bool is_listed = origin_judge(options, origin, host) == ORIGIN_LISTED;
  if (is_listed) {
    if (options->any_origin) {
      http1_response_header(out, SLICE("Access-Control-Allow-Origin"), SLICE("*"));
    } else {
      http1_response_header(out, SLICE("Access-Control-Allow-Origin"), origin);
      http1_response_header(out, SLICE("Access-Control-Allow-Credentials"), SLICE("true"));
    }
  }
  if (!options->any_origin) http1_response_header(out, SLICE("Vary"), SLICE("Origin"));
  return is_listed;
}

void http_answer_append_cors(struct buf *out, const struct request *request) {
  const route_options *options = &request_route(request)->options;
  if (options->origins == NULL && !options->any_origin) return;
  append_cors(out, options, request_find_header(request, SLICE("origin")), request_host(request));
}

/* Begins a head in the worker's scratch buf. */
static struct buf *begin(struct http_conn *http, http1_response *head) {
  struct buf *out = &http->worker->scratch;
  buf_clear(out);
  head->http_minor = http->http_minor;
  head->keep_alive = !http->is_last;
  head->is_head = http->is_head;
  head->date = worker_date(http->worker);
  http1_response_begin(out, head);
  return out;
}

/* Queues head and body as one piece. */
static void push(struct http_conn *http, slice head, slice body) {
  struct block *block = block_reserve(&http->worker->blocks, BLOCK_PRIVATE, head.len + body.len);
  char *place = block->data + block->used;
  memcpy(place, head.data, head.len);
  if (body.len > 0) memcpy(place + head.len, body.data, body.len);
  outbox_push_private(&http->outbox, block, head.len + body.len);
  worker_mark_dirty(http->worker, &http->outbox);
}

void http_answer_push(struct http_conn *http, slice bytes) {
  push(http, bytes, SLICE(""));
}

static void append_headers(struct buf *out, const response_header *headers, size_t count) {
  for (size_t i = 0; i < count; i++) http1_response_header(out, headers[i].name, headers[i].value);
}

void http_answer_response(struct http_conn *http, const response *answer) {
  http1_response head = {.status = answer->status,
                         .framing = HTTP1_FRAMING_LENGTH,
                         .content_length = answer->body.len};
  struct buf *out = begin(http, &head);
  append_headers(out, answer->headers, answer->header_count);
  if (http->has_exchange) http_answer_append_cors(out, http->exchange.request);
  http1_response_end(out);
  push(http, buf_peek(out), http1_response_has_body(&head) ? answer->body : SLICE(""));
}

void http_answer_text(struct http_conn *http, int status, slice text, const response_header *extra,
                      size_t extra_count) {
  response_header headers[8] = {{SLICE("Content-Type"), SLICE("text/plain; charset=utf-8")}};
  REQUIRE(extra_count < sizeof headers / sizeof headers[0]);
  for (size_t i = 0; i < extra_count; i++) headers[i + 1] = extra[i];
  response plain = {
      .status = status, .body = text, .headers = headers, .header_count = extra_count + 1};
  http_answer_response(http, &plain);
}

void http_answer_plain(struct http_conn *http, int status, const char *reason) {
  http_answer_text(http, status, slice_of_string(reason), NULL, 0);
}

static bool has_header(const response *answer, slice name) {
  for (size_t i = 0; answer != NULL && i < answer->header_count; i++) {
    if (slice_is_equal_nocase(answer->headers[i].name, name)) return true;
  }
  return false;
}

/* The file shrank: the bytes that were promised cannot come. */
static void on_short(void *owner) {
  http_conn_close(owner);
}

void http_answer_file(struct http_conn *http, const static_file_answer *file,
                      const response *head) {
  http1_response framing = {.status = file->status,
                            .framing = HTTP1_FRAMING_LENGTH,
                            .content_length = file->content_length};
  struct buf *out = begin(http, &framing);
  for (size_t i = 0; i < file->header_count; i++) {
    if (has_header(head, file->headers[i].name)) continue;
    append_headers(out, &file->headers[i], 1);
  }
  if (head != NULL) append_headers(out, head->headers, head->header_count);
  if (http->has_exchange) http_answer_append_cors(out, http->exchange.request);
  http1_response_end(out);
  push(http, buf_peek(out), SLICE(""));
  if (file->source == NULL) return;
  static_file_watch(file->source, on_short, http);
  outbox_push_source(&http->outbox, file->source);
}

static void append_preflight(struct http_conn *http, struct buf *out, slice allow) {
  const struct http1_head *request = request_head(http->exchange.request);
  slice value;
  if (!http1_head_find(request, SLICE("access-control-request-method"), &value)) return;
  http1_response_header(out, SLICE("Access-Control-Allow-Methods"), allow);
  if (http1_head_find(request, SLICE("access-control-request-headers"), &value)) {
    http1_response_header(out, SLICE("Access-Control-Allow-Headers"), value);
  }
  http1_response_header(out, SLICE("Access-Control-Max-Age"), SLICE("600"));
}

/* The routes of this path that the preflight is for: the requested method's, else any. */
static const struct route *find_preflight_route(struct http_conn *http) {
  const struct http1_head *head = request_head(http->exchange.request);
  static const unsigned any[] = {METHOD_GET, METHOD_POST, METHOD_PUT, METHOD_PATCH, METHOD_DELETE};
  slice wanted;
  route_match match;
  if (http1_head_find(head, SLICE("access-control-request-method"), &wanted)) {
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
      if (!slice_is_equal(slice_of_string(methods[i].name), wanted)) continue;
      routes_find(http->worker->routes, (route_method)methods[i].method, false,
                  http1_head_path(head), &match);
      return match.route;
    }
  }
  for (size_t i = 0; i < sizeof any / sizeof any[0]; i++) {
    routes_find(http->worker->routes, (route_method)any[i], false, http1_head_path(head), &match);
    if (match.route != NULL) return match.route;
  }
  return NULL;
}

void http_answer_options(struct http_conn *http, unsigned allowed) {
  struct buf allow;
  buf_init(&allow, 0);
  http_answer_append_allow(&allow, allowed);
  http1_response head = {.status = 204};
  struct buf *out = begin(http, &head);
  http1_response_header(out, SLICE("Allow"), buf_peek(&allow));
  const struct route *route = find_preflight_route(http);
  slice origin = {NULL, 0};
  const struct http1_head *request = request_head(http->exchange.request);
  http1_head_find(request, SLICE("origin"), &origin);
  slice host = http1_head_host(request);
  if (route != NULL && append_cors(out, &route->options, origin, host)) {
    append_preflight(http, out, buf_peek(&allow));
  }
  http1_response_end(out);
  push(http, buf_peek(out), SLICE(""));
  buf_deinit(&allow);
}

void http_answer_not_allowed(struct http_conn *http, unsigned allowed) {
  struct buf allow;
  buf_init(&allow, 0);
  http_answer_append_allow(&allow, allowed);
  response_header header = {SLICE("Allow"), buf_peek(&allow)};
  http_answer_text(http, 405, SLICE("method not allowed"), &header, 1);
  buf_deinit(&allow);
}
