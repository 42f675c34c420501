#include "base/mem.h"
#include "base/url.h"
#include "codec/http1_response.h"
#include "codec/ws_handshake.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http_answer.h"
#include "gateway/http_conn_internal.h"
#include "gateway/origin.h"
#include "gateway/poll_conn.h"
#include "gateway/reroute.h"
#include "gateway/sse_conn.h"
#include "gateway/static_file.h"
#include "gateway/worker.h"
#include "gateway/ws_conn.h"

static struct http_conn *http_of(struct exchange *exchange) {
  return CONTAINER_OF(exchange, struct http_conn, exchange);
}

static route_method method_of(const struct http1_head *head) {
  static const route_method methods[HTTP1_METHOD_COUNT] = {
      [HTTP1_METHOD_GET] = METHOD_GET,         [HTTP1_METHOD_HEAD] = METHOD_HEAD,
      [HTTP1_METHOD_POST] = METHOD_POST,       [HTTP1_METHOD_PUT] = METHOD_PUT,
      [HTTP1_METHOD_PATCH] = METHOD_PATCH,     [HTTP1_METHOD_DELETE] = METHOD_DELETE,
      [HTTP1_METHOD_OPTIONS] = METHOD_OPTIONS,
  };
  return methods[head->method];
}

static bool has_body(const struct http1_head *head) {
  return head->is_chunked || head->content_length > 0;
}

/* --- the end of an exchange --- */

static void forget(struct http_conn *http, bool keep_request) {
  struct exchange *exchange = &http->exchange;
  http->has_exchange = false;
  http->is_asking = false;
  http->worker->exchange_count--;
  http->worker->hooks->forget_exchange(exchange, keep_request);
  routes_release(exchange->route->routes);
  if (keep_request) {
    exchange->request = NULL;
  } else if (http->state != HTTP_READING_BODY) {
    http_conn_drop_request(http);
  } /* else its end has yet to be read */
}

/* An answer before the whole body came ends the connection: the rest is not worth reading. */
static void note_last(struct http_conn *http, const struct http1_head *head) {
  if (!head->keep_alive || !http->is_welcome || http->worker->stage != WORKER_SERVING ||
      (http->state == HTTP_READING_BODY && has_body(head))) {
    http->is_last = true;
  }
}

/* The answer is queued: on to the next request, or to the end. */
static void answered(struct http_conn *http) {
  http->has_answered = true;
  if (http->has_exchange) forget(http, false);
  if (http->is_last) {
    http_conn_finish(http);
    return;
  }
  if (http->state == HTTP_ANSWERING) http->state = HTTP_WAITING;
  http_conn_go_on(http);
}

static void begin_answer(struct http_conn *http) {
  http->exchange.is_answered = true;
  note_last(http, request_head(http->exchange.request));
}

static void respond(struct exchange *exchange, const response *answer) {
  struct http_conn *http = http_of(exchange);
  if (exchange->is_gone) {
    exchange->is_answered = true;
    return;
  }
  begin_answer(http);
  http_answer_response(http, answer);
  answered(http);
}

typedef void (*file_finder)(struct worker *worker, const struct request *request, slice directory,
                            slice path, int status, static_file_answer *out);

static void answer_file(struct http_conn *http, file_finder find, const response *head,
                        slice directory, slice path) {
  static_file_answer file;
  find(http->worker, http->exchange.request, directory, path, head != NULL ? head->status : 200,
       &file);
  begin_answer(http);
  if (file.status == 404 && !file.has_content) {
    http_answer_plain(http, 404, "not found");
  } else {
    http_answer_file(http, &file, head);
  }
  answered(http);
}

static void respond_file(struct exchange *exchange, const response *head, slice directory,
                         slice path) {
  if (exchange->is_gone) {
    exchange->is_answered = true;
    return;
  }
  answer_file(http_of(exchange), static_file_find_named, head, directory, path);
}

/* --- becoming a connection --- */

/* Everything goes over to a connection: the stream, the request, what is not yet written. `head`
 * may stand in the worker's scratch: it is copied before any script runs. */
static conn_origin leave_stream(struct http_conn *http, struct outbox *outbox, slice head) {
  conn_origin origin = {.stream = http->stream,
                        .address = http->address,
                        .request = http->exchange.request,
                        .outbox = outbox,
                        .head = head};
  worker_forget_dirty(http->worker, &http->outbox);
  outbox_init(outbox, NULL, NULL);
  outbox_take(outbox, &http->outbox);
  http->address = NULL;
  forget(http, true);
  http_conn_retire(http);
  return origin;
}

static void append_protocol(struct buf *out, const struct request *request) {
  char **protocols = request_route(request)->options.protocols;
  slice ours[16];
  size_t count = 0;
  for (; protocols != NULL && protocols[count] != NULL && count < 16; count++) {
    ours[count] = slice_of_string(protocols[count]);
  }
  slice offered = request_find_header(request, SLICE("sec-websocket-protocol"));
  if (offered.data == NULL || count == 0) return;
  slice chosen = ws_handshake_choose_protocol(offered, ours, count);
  if (chosen.data != NULL) {
    http1_response_header(out, SLICE("Sec-WebSocket-Protocol"), chosen);
  }
}

static void become_websocket(struct http_conn *http, int refuse_code, slice refuse_reason) {
  struct request *request = http->exchange.request;
  char accept[WS_HANDSHAKE_ACCEPT_BYTES];
  ws_handshake_accept(request_find_header(request, SLICE("sec-websocket-key")), accept);
  struct buf *out = &http->worker->scratch;
  buf_clear(out);
  http1_response head = {.status = 101, .http_minor = 1, .keep_alive = true};
  http1_response_begin(out, &head);
  http1_response_header(out, SLICE("Upgrade"), SLICE("websocket"));
  http1_response_header(out, SLICE("Connection"), SLICE("Upgrade"));
  http1_response_header(out, SLICE("Sec-WebSocket-Accept"), slice_of(accept, sizeof accept));
  append_protocol(out, request);
  http1_response_end(out);
  struct outbox outbox;
  conn_origin origin = leave_stream(http, &outbox, buf_peek(out));
  struct conn *conn = ws_conn_open(http->worker, &origin, refuse_code, refuse_reason);
  http->upgraded = conn_retain(conn);
}

void http_upgrade_feed(struct conn *conn, char *data, size_t len) {
  if (len > 0) ws_conn_feed(conn, data, len);
  conn_release(conn);
}

static void append_sse_head(struct http_conn *http, struct buf *out, bool keep_alive) {
  const struct request *request = http->exchange.request;
  http1_response head = {.status = 200,
                         .http_minor = request_head(request)->http_minor,
                         .keep_alive = keep_alive,
                         .framing = HTTP1_FRAMING_CHUNKED,
                         .date = worker_date(http->worker)};
  http1_response_begin(out, &head);
  http1_response_header(out, SLICE("Content-Type"), SLICE("text/event-stream"));
  http1_response_header(out, SLICE("Cache-Control"), SLICE("no-cache"));
  http1_response_header(out, SLICE("X-Accel-Buffering"), SLICE("no"));
  http_answer_append_cors(out, request);
  http1_response_end(out);
}

static void become_sse(struct http_conn *http) {
  struct request *request = http->exchange.request;
  bool is_unframed = request_head(request)->http_minor == 0;
  struct buf *out = &http->worker->scratch;
  buf_clear(out);
  append_sse_head(http, out, false);
  struct outbox outbox;
  conn_origin origin = leave_stream(http, &outbox, buf_peek(out));
  sse_conn_open(http->worker, &origin, is_unframed);
}

static void become_poll(struct http_conn *http) {
  struct buf *out = &http->worker->scratch;
  buf_clear(out);
  http_answer_append_cors(out, http->exchange.request);
  struct outbox outbox;
  conn_origin origin = leave_stream(http, &outbox, buf_peek(out));
  poll_conn_open(http->worker, &origin);
}

static void admit_sse(struct http_conn *http) {
  bool is_poll = exchange_is_poll(&http->exchange);
  if (http->is_head) {
    response_header type = {SLICE("Content-Type"),
                            is_poll ? SLICE("application/json") : SLICE("text/event-stream")};
    response head = {.status = 200, .headers = &type, .header_count = 1};
    http->is_last = true;
    exchange_respond(&http->exchange, &head);
  } else if (is_poll) {
    become_poll(http);
  } else {
    become_sse(http);
  }
}

/* --- asking --- */

/* Whether 100 Continue is due: not for a body that the decoder will refuse with 413. */
static bool is_body_wanted(const struct exchange *exchange) {
  const struct http1_head *head = request_head(exchange->request);
  return head->expects_continue && head->content_length <= exchange->route->options.max_body_bytes;
}

/* Authenticate may have been asked before a reload: a connection begins with the newer code. False:
 * that has no such route, which was answered. */
static bool follow_reload(struct exchange *exchange) {
  struct routes *older = exchange->route->routes;
  if (older == exchange->worker->routes) return true;
  const struct route *route =
      reroute_request(exchange->worker, exchange->request, exchange->route->kind);
  if (route == NULL) {
    exchange_respond_text(exchange, 404, SLICE("not found"));
    return false;
  }
  exchange->route = route;
  routes_retain(route->routes);
  routes_release(older);
  return true;
}

static void admit(struct exchange *exchange) {
  struct http_conn *http = http_of(exchange);
  bool is_for_life = exchange->route->kind == ROUTE_WEBSOCKET || exchange->route->kind == ROUTE_SSE;
  if (exchange->is_gone || (http->has_ended && is_for_life)) {
    /* Whoever has ended already does not become a connection. */
    exchange->is_answered = true;
    if (!exchange->is_gone) http_conn_close(http);
    return;
  }
  bool was_asking = http->is_asking;
  http->is_asking = false;
  if (is_for_life && !follow_reload(exchange)) return;
  http->is_admitted = true;
  if (was_asking) http_conn_start_body_timer(http);
  switch (exchange->route->kind) {
    case ROUTE_WEBSOCKET:
      become_websocket(http, 0, SLICE(""));
      break;
    case ROUTE_SSE:
      admit_sse(http);
      break;
    case ROUTE_HTTP:
    case ROUTE_STATIC:
      if (is_body_wanted(exchange)) {
        http_answer_push(http, HTTP1_CONTINUE);
      }
      break;
  }
  if (was_asking) http_conn_go_on(http);
}

static void refuse(struct exchange *exchange, int code, slice reason) {
  struct http_conn *http = http_of(exchange);
  if (exchange->is_gone) {
    exchange->is_answered = true;
    return;
  }
  bool was_asking = http->is_asking;
  http->is_asking = false;
  if (code >= 1000 && exchange->route->kind == ROUTE_WEBSOCKET && !http->has_ended) {
    if (follow_reload(exchange)) become_websocket(http, code, reason);
  } else {
    int status = code >= 1000 ? 403 : code;
    response_header challenge = {SLICE("WWW-Authenticate"), SLICE("Bearer")};
    begin_answer(http);
    http_answer_text(http, status, status == 204 ? SLICE("") : reason, &challenge,
                     status == 401 ? 1 : 0);
    answered(http);
  }
  if (was_asking) http_conn_go_on(http);
}

const struct exchange_ops http_exchange_ops = {
    .respond = respond,
    .respond_file = respond_file,
    .admit = admit,
    .refuse = refuse,
};

/* Answers before any route is known. */
static void answer_early(struct http_conn *http, void (*write)(struct http_conn *, unsigned),
                         unsigned allowed) {
  note_last(http, request_head(http->exchange.request));
  write(http, allowed);
  answered(http);
}

static void write_not_found(struct http_conn *http, unsigned ignored) {
  (void)ignored;
  http_answer_plain(http, 404, "not found");
}

static void write_upgrade_required(struct http_conn *http, unsigned status) {
  response_header headers[] = {{SLICE("Upgrade"), SLICE("websocket")},
                               {SLICE("Sec-WebSocket-Version"), SLICE("13")}};
  slice text =
      status == 426 ? SLICE("this is a WebSocket, version 13") : SLICE("not a WebSocket handshake");
  http_answer_text(http, (int)status, text, headers, status == 426 ? 2 : 0);
}

static ws_handshake_result judge_handshake(const struct http1_head *head) {
  ws_handshake handshake = {0};
  slice name, value;
  for (size_t i = 0; http1_head_field(head, i, &name, &value); i++) {
    ws_handshake_add(&handshake, name, value);
  }
  return ws_handshake_judge(&handshake, http1_method_name(head->method), 1, head->http_minor);
}

static void answer_without_route(struct http_conn *http, const route_match *match) {
  const struct http1_head *head = request_head(http->exchange.request);
  unsigned allowed = match->allowed | (match->has_websocket ? METHOD_GET : 0u);
  if (allowed == 0) {
    answer_early(http, write_not_found, 0);
  } else if (head->method == HTTP1_METHOD_OPTIONS) {
    answer_early(http, http_answer_options, allowed);
  } else if (head->method == HTTP1_METHOD_GET && match->allowed == 0) {
    int status = judge_handshake(head).status;
    answer_early(http, write_upgrade_required, status == 101 ? 426 : (unsigned)status);
  } else {
    answer_early(http, http_answer_not_allowed, allowed);
  }
}

/* What may be refused without asking the script. Returns a status, or 0. */
static int judge(struct http_conn *http, const char **reason) {
  const struct request *request = http->exchange.request;
  const struct route *route = http->exchange.route;
  const struct http1_head *head = request_head(request);
  bool is_write = head->method != HTTP1_METHOD_GET && head->method != HTTP1_METHOD_HEAD;
  if (route->kind != ROUTE_STATIC && (is_write || route->kind != ROUTE_HTTP)) {
    slice origin = request_find_header(request, SLICE("origin"));
    *reason = "this origin is not allowed";
    if (origin_judge(&route->options, origin, request_host(request)) == ORIGIN_FOREIGN) return 403;
  }
  *reason = "a handshake has no body";
  if (route->kind == ROUTE_WEBSOCKET && has_body(head)) return 400;
  return 0;
}

void http_exchange_begin(struct http_conn *http) {
  const struct http1_head *head = request_head(http->exchange.request);
  slice path = http1_head_path(head);
  slice query = http1_head_query(head);
  if (http1_head_has_escapes(head) && (!url_is_decodable(path) || !url_is_decodable(query))) {
    http_conn_fail(http, 400, "a bad escape in the path or query");
    return;
  }
  if (slice_is_equal(path, SLICE("*"))) {
    answer_early(http, http_answer_options, METHOD_GET | METHOD_POST);
    return;
  }
  bool is_upgrade =
      head->is_upgrade && http1_head_has_token(head, SLICE("upgrade"), SLICE("websocket"));
  route_match match;
  routes_find(http->worker->routes, method_of(head), is_upgrade, path, &match);
  if (match.route == NULL) {
    answer_without_route(http, &match);
    return;
  }
  if (match.route->kind == ROUTE_WEBSOCKET) {
    ws_handshake_result result = judge_handshake(head);
    if (result.status != 101) {
      answer_early(http, write_upgrade_required, (unsigned)result.status);
      return;
    }
  }
  struct exchange *exchange = &http->exchange;
  request_set_route(exchange->request, &match, gateway_address_text(http->address));
  exchange->route = match.route;
  routes_retain(match.route->routes);
  exchange->script = NULL;
  exchange->box = NULL;
  exchange->is_answered = false;
  exchange->is_gone = false;
  http->has_exchange = true;
  http->is_admitted = false;
  http->worker->exchange_count++;
  http1_set_max_body(request_decoder(exchange->request), match.route->options.max_body_bytes);
  const char *reason;
  int status = judge(http, &reason);
  if (status != 0) {
    exchange_respond_text(exchange, status, slice_of_string(reason));
  } else if (!http->is_welcome) {
    exchange_respond_busy(exchange);
  } else if ((match.route->handlers & HANDLER_AUTHENTICATE) == 0) {
    exchange_admit(exchange);
  } else {
    http->worker->hooks->authenticate(exchange);
    http->is_asking = http->has_exchange && !exchange->is_answered && !http->is_admitted;
  }
}

/* What the pattern "/prefix/…" leaves of a path, still encoded: parameters are decoded. */
static slice static_path(const struct request *request) {
  slice path = request_path(request);
  for (const char *at = request_route(request)->pattern; *at != '\0'; at++) {
    if (*at == '/') slice_split(&path, '/');
  }
  return path;
}

void http_exchange_run(struct http_conn *http) {
  if (!http->has_exchange) {
    /* It was answered when its head came. */
    http_conn_drop_request(http);
    http->state = HTTP_WAITING;
    http_conn_go_on(http);
    return;
  }
  struct exchange *exchange = &http->exchange;
  if (exchange->route->kind == ROUTE_STATIC) {
    answer_file(http, static_file_find, NULL, slice_of_string(exchange->route->directory),
                static_path(exchange->request));
  } else {
    http->worker->hooks->request(exchange);
  }
}

void http_exchange_cancel(struct http_conn *http) {
  struct exchange *exchange = &http->exchange;
  exchange->is_gone = true;
  if (exchange->script != NULL) http->worker->hooks->cancel_exchange(exchange);
  if (http->has_exchange) forget(http, false);
}
