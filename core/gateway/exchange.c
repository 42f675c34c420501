#include "gateway/exchange.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/random.h"

/* Spread, so that those who were refused together do not come back together. */
enum { RETRY_LEAST_MS = 5000, RETRY_SPREAD_MS = 10000 };

void exchange_respond(struct exchange *exchange, const response *answer) {
  REQUIRE(!exchange->is_answered);
  exchange->ops->respond(exchange, answer);
}

void exchange_respond_file(struct exchange *exchange, const response *head, slice directory,
                           slice path) {
  REQUIRE(!exchange->is_answered);
  exchange->ops->respond_file(exchange, head, directory, path);
}

void exchange_respond_text(struct exchange *exchange, int status, slice text) {
  response_header type = {SLICE("Content-Type"), SLICE("text/plain; charset=utf-8")};
  response plain = {.status = status, .body = text, .headers = &type, .header_count = 1};
  exchange_respond(exchange, &plain);
}

bool exchange_is_poll(const struct exchange *exchange) {
  if (exchange->route->kind != ROUTE_SSE) return false;
  slice accept = request_find_header(exchange->request, SLICE("accept"));
  return accept.data != NULL && slice_has_prefix(accept, SLICE("application/json"));
}

void exchange_respond_busy(struct exchange *exchange) {
  if (exchange->route->kind != ROUTE_SSE || exchange_is_poll(exchange)) {
    exchange_respond_text(exchange, 503, SLICE("Service Unavailable"));
    return;
  }
  char retry[32];
  unsigned retry_ms = RETRY_LEAST_MS + (unsigned)(random_u64() % RETRY_SPREAD_MS);
  int len = snprintf(retry, sizeof retry, "retry: %u\n\n", retry_ms);
  response_header headers[] = {{SLICE("Content-Type"), SLICE("text/event-stream")},
                               {SLICE("Cache-Control"), SLICE("no-cache")}};
  response stream = {
      .status = 200, .body = slice_of(retry, (size_t)len), .headers = headers, .header_count = 2};
  exchange_respond(exchange, &stream);
}

void exchange_admit(struct exchange *exchange) {
  REQUIRE(!exchange->is_answered);
  exchange->ops->admit(exchange);
}

void exchange_refuse(struct exchange *exchange, int code, slice reason) {
  REQUIRE(!exchange->is_answered);
  exchange->ops->refuse(exchange, code, reason);
}
