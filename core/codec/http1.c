#include "codec/http1.h"

#include "base/mem.h"

enum {
  AGAIN = -1,                /* what a step answers when the next state has something to do */
  COPY_BYTES = 1024,         /* heads are copied in pieces, not to copy what is behind them */
  MAX_METHOD_BYTES = 32,     /* far longer than any that is registered */
  MAX_EMPTY_LINES = 4,       /* RFC 9112 section 2.2 asks for one at least */
  MAX_CHUNK_LINE_BYTES = 256 /* sixteen digits, and some extension that nobody uses */
};

static const http1_fault no_fault = {0, NULL};
static const http1_fault disagreement = {400, "ambiguous framing"};

static http1_fault refuse(int status, const char *reason) {
  return (http1_fault){status, reason};
}

/* What llhttp is asked for: where it sees bodies and ends. */

static int on_headers_complete(llhttp_t *parser) {
  struct http1_decoder *decoder = parser->data;
  decoder->parser_length = (parser->flags & F_CHUNKED) != 0 ? UINT64_MAX : parser->content_length;
  return 0;
}

static int on_chunk_header(llhttp_t *parser) {
  struct http1_decoder *decoder = parser->data;
  decoder->parser_length = parser->content_length;
  return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len) {
  struct http1_decoder *decoder = parser->data;
  decoder->piece = slice_of(at, len);
  return 0;
}

static int on_message_complete(llhttp_t *parser) {
  struct http1_decoder *decoder = parser->data;
  decoder->parser_is_complete = true;
  return 0;
}

static const llhttp_settings_t settings = {
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static http1_fault run_parser(struct http1_decoder *decoder, slice bytes) {
  llhttp_errno_t error = llhttp_execute(&decoder->parser, bytes.data, bytes.len);
  /* llhttp stops at the end of a request to upgrade. Whether to upgrade is the caller's decision,
   * and the next request begins with a fresh parser, so there is nothing to resume. */
  if (error == HPE_OK || error == HPE_PAUSED_UPGRADE) return no_fault;
  if (error == HPE_INVALID_METHOD) return refuse(501, "method not implemented");
  if (error == HPE_INVALID_VERSION) return refuse(505, "HTTP version not supported");
  const char *reason = llhttp_get_error_reason(&decoder->parser);
  return refuse(400, reason != NULL ? reason : "invalid request");
}

void http1_decoder_init(struct http1_decoder *decoder, const http1_limits *limits) {
  *decoder = (struct http1_decoder){.limits = *limits, .state = HTTP1_STATE_HEAD};
  http1_head_init(&decoder->head, limits->max_head_bytes);
  size_t line_bytes = limits->max_head_bytes;
  if (line_bytes < MAX_CHUNK_LINE_BYTES) line_bytes = MAX_CHUNK_LINE_BYTES;
  buf_init(&decoder->line, line_bytes);
}

void http1_decoder_deinit(struct http1_decoder *decoder) {
  http1_head_deinit(&decoder->head);
  buf_deinit(&decoder->line);
}

static void begin_head(struct http1_decoder *decoder) {
  http1_head_clear(&decoder->head);
  decoder->has_request_line = false;
  decoder->empty_line_count = 0;
  decoder->line_at = decoder->scanned = 0;
  decoder->state = HTTP1_STATE_HEAD;
}

void http1_decoder_reset(struct http1_decoder *decoder) {
  begin_head(decoder);
  buf_clear(&decoder->line);
  decoder->fault = no_fault;
}

void http1_set_max_body(struct http1_decoder *decoder, uint64_t max_body_bytes) {
  decoder->max_body_bytes = max_body_bytes;
}

bool http1_decoder_is_idle(const struct http1_decoder *decoder) {
  return decoder->state == HTTP1_STATE_NEXT ||
         (decoder->state == HTTP1_STATE_HEAD && decoder->head.bytes.len == 0);
}

static int fail(struct http1_decoder *decoder, http1_fault fault) {
  decoder->fault = fault;
  decoder->state = HTTP1_STATE_FAILED;
  return HTTP1_ERROR;
}

/* A request line without its end yet: what can already be said against it. */
static http1_fault judge_partial_request_line(const struct http1_decoder *decoder) {
  slice target = slice_skip(buf_peek(&decoder->head.bytes), decoder->line_at);
  slice method = slice_split(&target, ' ');
  if (method.len > MAX_METHOD_BYTES) {
    return http1_guard_is_token(method) ? refuse(501, "method not implemented")
                                        : refuse(400, "invalid request line");
  }
  if (target.len <= decoder->limits.max_target_bytes) return no_fault;
  if (slice_split(&target, ' ').len <= decoder->limits.max_target_bytes) return no_fault;
  return refuse(414, "request target too long");
}

/* Whether llhttp reads the head, and above all where the body ends, as we do. */
static http1_fault ask_llhttp(struct http1_decoder *decoder) {
  const struct http1_head *head = &decoder->head;
  /* A fresh start for each request: nothing that llhttp kept of the last one matters. */
  llhttp_init(&decoder->parser, HTTP_REQUEST, &settings);
  decoder->parser.data = decoder;
  decoder->parser_is_complete = false;
  decoder->parser_length = 0;
  http1_fault fault = run_parser(decoder, slice_of(head->bytes.data, decoder->scanned));
  if (fault.status != 0) return fault;
  bool has_body = head->is_chunked || head->content_length > 0;
  uint64_t length = head->is_chunked ? UINT64_MAX : head->content_length;
  bool is_agreed = decoder->parser_length == length && decoder->parser_is_complete == !has_body;
  return is_agreed ? no_fault : disagreement;
}

/* The head ended: what its lines mean together. A message that two readers cut at different places
 * smuggles a request past one of them, so what claims a body is read twice; for the rest, most
 * requests, a second reading would tell nothing and cost as much as all of ours. */
static http1_fault finish_head(struct http1_decoder *decoder) {
  struct http1_head *head = &decoder->head;
  http1_fault fault = http1_head_finish(head);
  if (fault.status == 0 && head->claims_body) fault = ask_llhttp(decoder);
  if (fault.status != 0) return fault;
  decoder->keep_alive = head->keep_alive;
  decoder->is_chunked = head->is_chunked;
  decoder->remaining = head->content_length;
  decoder->max_body_bytes = decoder->limits.max_body_bytes;
  decoder->body_bytes = 0;
  decoder->extension_bytes = 0;
  decoder->trailer_bytes = 0;
  decoder->trailer_count = 0;
  decoder->state = HTTP1_STATE_JUDGED;
  return no_fault;
}

/* A line of the head is complete: from line_at up to `scanned`, with its CRLF. */
static http1_fault take_head_line(struct http1_decoder *decoder) {
  struct http1_head *head = &decoder->head;
  http1_span line = {(uint32_t)decoder->line_at,
                     (uint32_t)(decoder->scanned - decoder->line_at - 2)};
  decoder->line_at = decoder->scanned;
  if (decoder->has_request_line) {
    if (line.len > 0) return http1_head_parse_field(head, line, decoder->limits.max_headers);
    return finish_head(decoder);
  }
  if (line.len > 0) {
    decoder->has_request_line = true;
    return http1_head_parse_request_line(head, line, decoder->limits.max_target_bytes);
  }
  if (decoder->empty_line_count++ >= MAX_EMPTY_LINES) return refuse(400, "empty lines");
  buf_drop(&head->bytes, decoder->scanned);
  decoder->line_at = decoder->scanned = 0;
  return no_fault;
}

/* Judges the lines that are complete, until the head ends or more is needed. */
static http1_fault take_head_lines(struct http1_decoder *decoder) {
  http1_fault fault = no_fault;
  while (decoder->state == HTTP1_STATE_HEAD && fault.status == 0) {
    slice bytes = buf_peek(&decoder->head.bytes);
    http1_line_result result = http1_guard_scan_line(bytes, &decoder->scanned, &fault);
    if (result == HTTP1_LINE_INVALID) break;
    if (result == HTTP1_LINE_COMPLETE) {
      fault = take_head_line(decoder);
      continue;
    }
    if (!decoder->has_request_line) fault = judge_partial_request_line(decoder);
    if (fault.status == 0 && bytes.len >= decoder->limits.max_head_bytes) {
      fault = refuse(431, "request head too long");
    }
    break;
  }
  return fault;
}

static int decode_head(struct http1_decoder *decoder, slice *in) {
  struct buf *bytes = &decoder->head.bytes;
  while (in->len > 0) {
    size_t len = decoder->limits.max_head_bytes - bytes->len;
    if (len > in->len) len = in->len;
    if (len > COPY_BYTES) len = COPY_BYTES;
    buf_append(bytes, slice_of(in->data, len));
    *in = slice_skip(*in, len);
    http1_fault fault = take_head_lines(decoder);
    if (fault.status != 0) return fail(decoder, fault);
    if (decoder->state == HTTP1_STATE_HEAD) continue;
    /* What is behind the head came with this piece, and goes back. */
    size_t surplus = bytes->len - decoder->scanned;
    bytes->len = decoder->scanned;
    *in = slice_of(in->data - surplus, in->len + surplus);
    return HTTP1_HEAD;
  }
  return HTTP1_PARTIAL;
}

/* `more` bytes of body were announced. */
static bool is_body_allowed(struct http1_decoder *decoder, uint64_t more) {
  if (decoder->body_bytes > decoder->max_body_bytes) return false;
  if (more > decoder->max_body_bytes - decoder->body_bytes) return false;
  decoder->body_bytes += more;
  return true;
}

/* The request is over. Its head stays until the next one comes. */
static int complete(struct http1_decoder *decoder) {
  decoder->state = HTTP1_STATE_NEXT;
  return HTTP1_DONE;
}

static int begin_body(struct http1_decoder *decoder) {
  if (!is_body_allowed(decoder, decoder->remaining)) {
    return fail(decoder, refuse(413, "request body too large"));
  }
  if (!decoder->is_chunked && decoder->remaining == 0) return complete(decoder);
  decoder->state = decoder->is_chunked ? HTTP1_STATE_CHUNK_SIZE : HTTP1_STATE_DATA;
  return AGAIN;
}

static int decode_data(struct http1_decoder *decoder, slice *in, slice *piece) {
  if (in->len == 0) return HTTP1_PARTIAL;
  slice data = *in;
  if (data.len > decoder->remaining) data.len = (size_t)decoder->remaining;
  decoder->piece = (slice){NULL, 0};
  http1_fault fault = run_parser(decoder, data);
  if (fault.status != 0) return fail(decoder, fault);
  decoder->remaining -= data.len;
  bool is_complete = decoder->remaining == 0 && !decoder->is_chunked;
  if (decoder->piece.data != data.data || decoder->piece.len != data.len ||
      decoder->parser_is_complete != is_complete) {
    return fail(decoder, disagreement);
  }
  *in = slice_skip(*in, data.len);
  *piece = data;
  if (decoder->remaining == 0) {
    decoder->state = decoder->is_chunked ? HTTP1_STATE_CHUNK_END : HTTP1_STATE_COMPLETE;
  }
  return HTTP1_BODY;
}

/* Takes a line of at most `max_bytes`, with its CRLF, into decoder->line. Whoever has done with the
 * line clears it. */
static http1_line_result take_line(struct http1_decoder *decoder, slice *in, size_t max_bytes,
                                   http1_fault too_long) {
  struct buf *line = &decoder->line;
  if (in->len == 0) return HTTP1_LINE_PARTIAL;
  if (line->len == 0) decoder->scanned = 0;
  const char *end = memchr(in->data, '\n', in->len);
  size_t len = end != NULL ? (size_t)(end - in->data) + 1 : in->len;
  bool is_too_long = len > max_bytes - line->len;
  if (is_too_long) len = max_bytes - line->len;
  buf_append(line, slice_of(in->data, len));
  *in = slice_skip(*in, len);
  http1_fault fault = too_long;
  http1_line_result result = http1_guard_scan_line(buf_peek(line), &decoder->scanned, &fault);
  if (result == HTTP1_LINE_PARTIAL && line->len == max_bytes) result = HTTP1_LINE_INVALID;
  if (result == HTTP1_LINE_COMPLETE) line->len -= 2;
  if (result == HTTP1_LINE_INVALID) fail(decoder, fault);
  return result;
}

/* The result of a step that could not have a whole line. */
static int without_line(http1_line_result result) {
  return result == HTTP1_LINE_INVALID ? HTTP1_ERROR : HTTP1_PARTIAL;
}

/* llhttp sees the size without the extension, on which its versions differ. */
static http1_fault run_chunk_size(struct http1_decoder *decoder, slice digits) {
  decoder->parser_length = UINT64_MAX;
  http1_fault fault = run_parser(decoder, digits);
  if (fault.status == 0) fault = run_parser(decoder, SLICE("\r\n"));
  if (fault.status != 0) return fault;
  return decoder->parser_length == decoder->remaining ? no_fault : disagreement;
}

static int decode_chunk_size(struct http1_decoder *decoder, slice *in) {
  http1_line_result result =
      take_line(decoder, in, MAX_CHUNK_LINE_BYTES, refuse(400, "chunk size line too long"));
  if (result != HTTP1_LINE_COMPLETE) return without_line(result);
  slice digits;
  slice line = buf_peek(&decoder->line);
  if (!http1_guard_parse_chunk_size(line, &digits, &decoder->remaining)) {
    return fail(decoder, refuse(400, "invalid chunk size"));
  }
  decoder->extension_bytes += line.len - digits.len;
  if (decoder->extension_bytes > decoder->limits.max_head_bytes) {
    return fail(decoder, refuse(431, "chunk extensions too long"));
  }
  if (!is_body_allowed(decoder, decoder->remaining)) {
    return fail(decoder, refuse(413, "request body too large"));
  }
  http1_fault fault = run_chunk_size(decoder, digits);
  if (fault.status != 0) return fail(decoder, fault);
  buf_clear(&decoder->line);
  decoder->state = decoder->remaining > 0 ? HTTP1_STATE_DATA : HTTP1_STATE_TRAILERS;
  return AGAIN;
}

static int decode_chunk_end(struct http1_decoder *decoder, slice *in) {
  http1_line_result result = take_line(decoder, in, 2, refuse(400, "chunk longer than its size"));
  if (result != HTTP1_LINE_COMPLETE) return without_line(result);
  http1_fault fault = run_parser(decoder, SLICE("\r\n"));
  if (fault.status != 0) return fail(decoder, fault);
  decoder->state = HTTP1_STATE_CHUNK_SIZE;
  return AGAIN;
}

/* Trailers are read and dropped; those that would change how the request is read are refused (RFC
 * 9110 section 6.5.1). */
static http1_fault judge_trailer(struct http1_decoder *decoder, slice line) {
  slice name;
  slice value;
  http1_fault fault = http1_guard_split_field(line, &name, &value);
  if (fault.status != 0) return fault;
  if (slice_is_equal_nocase(name, SLICE("content-length")) ||
      slice_is_equal_nocase(name, SLICE("transfer-encoding")) ||
      slice_is_equal_nocase(name, SLICE("host"))) {
    return refuse(400, "forbidden trailer");
  }
  if (decoder->trailer_count++ >= decoder->limits.max_headers) {
    return refuse(431, "too many trailers");
  }
  return no_fault;
}

static int decode_trailers(struct http1_decoder *decoder, slice *in) {
  size_t room = decoder->line.max_bytes - decoder->trailer_bytes;
  http1_line_result result = take_line(decoder, in, room, refuse(431, "trailers too long"));
  if (result != HTTP1_LINE_COMPLETE) return without_line(result);
  slice line = buf_peek(&decoder->line);
  bool is_last = line.len == 0;
  http1_fault fault = is_last ? run_parser(decoder, SLICE("\r\n")) : judge_trailer(decoder, line);
  if (fault.status == 0 && decoder->parser_is_complete != is_last) fault = disagreement;
  if (fault.status != 0) return fail(decoder, fault);
  decoder->trailer_bytes += line.len + 2;
  buf_clear(&decoder->line);
  if (is_last) decoder->state = HTTP1_STATE_COMPLETE;
  return AGAIN;
}

static int begin_next(struct http1_decoder *decoder, const slice *in) {
  if (in->len == 0) return HTTP1_PARTIAL;
  if (decoder->keep_alive) {
    begin_head(decoder);
  } else {
    decoder->state = HTTP1_STATE_CLOSED;
  }
  return AGAIN;
}

static int step(struct http1_decoder *decoder, slice *in, slice *piece) {
  switch (decoder->state) {
    case HTTP1_STATE_HEAD:
      return decode_head(decoder, in);
    case HTTP1_STATE_JUDGED:
      return begin_body(decoder);
    case HTTP1_STATE_DATA:
      return decode_data(decoder, in, piece);
    case HTTP1_STATE_CHUNK_SIZE:
      return decode_chunk_size(decoder, in);
    case HTTP1_STATE_CHUNK_END:
      return decode_chunk_end(decoder, in);
    case HTTP1_STATE_TRAILERS:
      return decode_trailers(decoder, in);
    case HTTP1_STATE_COMPLETE:
      return complete(decoder);
    case HTTP1_STATE_NEXT:
      return begin_next(decoder, in);
    case HTTP1_STATE_CLOSED:
      *in = slice_skip(*in, in->len);
      return HTTP1_PARTIAL;
    case HTTP1_STATE_FAILED:
      break;
  }
  return HTTP1_ERROR;
}

http1_result http1_decode(struct http1_decoder *decoder, slice in, size_t *consumed, slice *piece) {
  slice rest = in;
  *piece = (slice){NULL, 0};
  int result = AGAIN;
  while (result == AGAIN) result = step(decoder, &rest, piece);
  *consumed = in.len - rest.len;
  return (http1_result)result;
}
