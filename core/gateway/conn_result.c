#include "gateway/conn_result.h"

const char *conn_result_code(conn_result result) {
  switch (result) {
    case CONN_CLOSED:
      return "closed";
    case CONN_TOO_LARGE:
      return "too_large";
    case CONN_BAD_UTF8:
      return "utf8";
    case CONN_BAD_TOPIC:
      return "topic";
    case CONN_LIMIT:
      return "limit";
    case CONN_FULL:
      return "full";
    case CONN_BAD_EVENT:
      return "event";
    case CONN_OK:
      break;
  }
  return "ok";
}

const char *conn_result_message(conn_result result) {
  switch (result) {
    case CONN_CLOSED:
      return "the connection is closed";
    case CONN_TOO_LARGE:
      return "the outbox is full (max_outbox)";
    case CONN_BAD_UTF8:
      return "text that is not UTF-8 (send bytes with binary = true)";
    case CONN_BAD_TOPIC:
      return "not a topic name: 1 to 255 bytes of UTF-8 without control characters and without *";
    case CONN_LIMIT:
      return "too many topics (max_topics, or limit topics)";
    case CONN_FULL:
      return "the topic takes no more subscribers (max_subscribers)";
    case CONN_BAD_EVENT:
      return "an event name with a line break";
    case CONN_OK:
      break;
  }
  return "ok";
}
