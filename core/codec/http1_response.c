#include "codec/http1_response.h"

#include "codec/http1_guard.h"

/* RFC 9110 section 15, and the registry of status codes for the rest. */
#define STATUSES(STATUS)                         \
  STATUS(100, "Continue")                        \
  STATUS(101, "Switching Protocols")             \
  STATUS(102, "Processing")                      \
  STATUS(103, "Early Hints")                     \
  STATUS(200, "OK")                              \
  STATUS(201, "Created")                         \
  STATUS(202, "Accepted")                        \
  STATUS(203, "Non-Authoritative Information")   \
  STATUS(204, "No Content")                      \
  STATUS(205, "Reset Content")                   \
  STATUS(206, "Partial Content")                 \
  STATUS(207, "Multi-Status")                    \
  STATUS(208, "Already Reported")                \
  STATUS(226, "IM Used")                         \
  STATUS(300, "Multiple Choices")                \
  STATUS(301, "Moved Permanently")               \
  STATUS(302, "Found")                           \
  STATUS(303, "See Other")                       \
  STATUS(304, "Not Modified")                    \
  STATUS(305, "Use Proxy")                       \
  STATUS(307, "Temporary Redirect")              \
  STATUS(308, "Permanent Redirect")              \
  STATUS(400, "Bad Request")                     \
  STATUS(401, "Unauthorized")                    \
  STATUS(402, "Payment Required")                \
  STATUS(403, "Forbidden")                       \
  STATUS(404, "Not Found")                       \
  STATUS(405, "Method Not Allowed")              \
  STATUS(406, "Not Acceptable")                  \
  STATUS(407, "Proxy Authentication Required")   \
  STATUS(408, "Request Timeout")                 \
  STATUS(409, "Conflict")                        \
  STATUS(410, "Gone")                            \
  STATUS(411, "Length Required")                 \
  STATUS(412, "Precondition Failed")             \
  STATUS(413, "Content Too Large")               \
  STATUS(414, "URI Too Long")                    \
  STATUS(415, "Unsupported Media Type")          \
  STATUS(416, "Range Not Satisfiable")           \
  STATUS(417, "Expectation Failed")              \
  STATUS(418, "I'm a teapot")                    \
  STATUS(421, "Misdirected Request")             \
  STATUS(422, "Unprocessable Content")           \
  STATUS(423, "Locked")                          \
  STATUS(424, "Failed Dependency")               \
  STATUS(425, "Too Early")                       \
  STATUS(426, "Upgrade Required")                \
  STATUS(428, "Precondition Required")           \
  STATUS(429, "Too Many Requests")               \
  STATUS(431, "Request Header Fields Too Large") \
  STATUS(451, "Unavailable For Legal Reasons")   \
  STATUS(500, "Internal Server Error")           \
  STATUS(501, "Not Implemented")                 \
  STATUS(502, "Bad Gateway")                     \
  STATUS(503, "Service Unavailable")             \
  STATUS(504, "Gateway Timeout")                 \
  STATUS(505, "HTTP Version Not Supported")      \
  STATUS(506, "Variant Also Negotiates")         \
  STATUS(507, "Insufficient Storage")            \
  STATUS(508, "Loop Detected")                   \
  STATUS(510, "Not Extended")                    \
  STATUS(511, "Network Authentication Required")

enum {
  /* The longest status line, "Content-Length: " with 20 digits, "Connection: keep-alive" and the
   * line ends come to about 130; Date is counted by itself. */
  HEAD_BYTES = 192
};

const char *http1_status_text(int status) {
#define STATUS_TEXT(code, text) \
  case code:                    \
    return text;
  switch (status) {
    STATUSES(STATUS_TEXT)
    default:
      return "Unknown";
  }
#undef STATUS_TEXT
}

static inline char *put(char *at, slice bytes) {
  memcpy(at, bytes.data, bytes.len);
  return at + bytes.len;
}

/* With `base` known where it is called, so that the compiler divides without a division. */
static inline char *put_number(char *at, uint64_t number, unsigned base) {
  size_t len = 1;
  for (uint64_t rest = number / base; rest > 0; rest /= base) len++;
  for (size_t place = len; place > 0; place--) {
    at[place - 1] = "0123456789abcdef"[number % base];
    number /= base;
  }
  return at + len;
}

/* Those that are registered are made by the compiler, each of its own length. */
static char *put_status_line(char *at, int status) {
#define PUT_STATUS_LINE(code, text) \
  case code:                        \
    return put(at, SLICE("HTTP/1.1 " #code " " text "\r\n"));
  switch (status) {
    STATUSES(PUT_STATUS_LINE)
    default:
      break;
  }
#undef PUT_STATUS_LINE
  at = put(at, SLICE("HTTP/1.1 "));
  at = put_number(at, (uint64_t)status, 10);
  return put(at, SLICE(" Unknown\r\n"));
}

static bool is_interim(const http1_response *response) {
  return response->status < 200;
}

/* RFC 9110 section 6.4.1: whether the answer to GET could have a body. */
static bool status_allows_body(const http1_response *response) {
  return !is_interim(response) && response->status != 204 && response->status != 304;
}

bool http1_response_has_body(const http1_response *response) {
  return status_allows_body(response) && !response->is_head;
}

bool http1_response_is_chunked(const http1_response *response) {
  return response->framing == HTTP1_FRAMING_CHUNKED && response->http_minor > 0 &&
         status_allows_body(response);
}

bool http1_response_keeps_alive(const http1_response *response) {
  if (!response->keep_alive) return false;
  return response->framing == HTTP1_FRAMING_LENGTH || http1_response_is_chunked(response) ||
         !http1_response_has_body(response);
}

static inline char *put_framing(char *at, const http1_response *response) {
  if (!status_allows_body(response)) return at;
  if (http1_response_is_chunked(response)) return put(at, SLICE("Transfer-Encoding: chunked\r\n"));
  if (response->framing != HTTP1_FRAMING_LENGTH) return at;
  at = put(at, SLICE("Content-Length: "));
  at = put_number(at, response->content_length, 10);
  return put(at, SLICE("\r\n"));
}

static inline char *put_connection(char *at, const http1_response *response) {
  if (is_interim(response)) return at;
  if (!http1_response_keeps_alive(response)) return put(at, SLICE("Connection: close\r\n"));
  return response->http_minor > 0 ? at : put(at, SLICE("Connection: keep-alive\r\n"));
}

bool http1_response_begin(struct buf *out, const http1_response *response) {
  char *begin = buf_reserve(out, HEAD_BYTES + response->date.len);
  if (begin == NULL) return false;
  char *at = put_status_line(begin, response->status);
  if (response->date.len > 0 && !is_interim(response)) {
    at = put(at, SLICE("Date: "));
    at = put(at, response->date);
    at = put(at, SLICE("\r\n"));
  }
  at = put_framing(at, response);
  at = put_connection(at, response);
  out->len += (size_t)(at - begin);
  return true;
}

bool http1_response_header(struct buf *out, slice name, slice value) {
  char *begin = buf_reserve(out, name.len + value.len + 4);
  if (begin == NULL) return false;
  char *at = put(begin, name);
  at = put(at, SLICE(": "));
  if (value.len > 0) at = put(at, value);
  at = put(at, SLICE("\r\n"));
  out->len += (size_t)(at - begin);
  return true;
}

bool http1_response_end(struct buf *out) {
  char *begin = buf_reserve(out, 2);
  if (begin == NULL) return false;
  put(begin, SLICE("\r\n"));
  out->len += 2;
  return true;
}

bool http1_chunk_begin(struct buf *out, size_t chunk_bytes) {
  char *begin = buf_reserve(out, 18); /* sixteen digits and the line end */
  if (begin == NULL) return false;
  char *at = put_number(begin, chunk_bytes, 16);
  at = put(at, SLICE("\r\n"));
  out->len += (size_t)(at - begin);
  return true;
}

bool http1_header_is_valid(slice name, slice value) {
  return http1_guard_is_token(name) && http1_guard_is_field_value(value);
}

bool http1_header_is_reserved(slice name) {
  return slice_is_equal_nocase(name, SLICE("date")) ||
         slice_is_equal_nocase(name, SLICE("content-length")) ||
         slice_is_equal_nocase(name, SLICE("transfer-encoding")) ||
         slice_is_equal_nocase(name, SLICE("connection"));
}
