#include "gateway/exchange.h"

#include "base/mem.h"

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

void exchange_admit(struct exchange *exchange) {
  REQUIRE(!exchange->is_answered);
  exchange->ops->admit(exchange);
}

void exchange_refuse(struct exchange *exchange, int code, slice reason) {
  REQUIRE(!exchange->is_answered);
  exchange->ops->refuse(exchange, code, reason);
}
