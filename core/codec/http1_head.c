#include "codec/http1_head.h"

#include "base/mem.h"

enum { SMALLEST_FIELD_CAPACITY = 16 }; /* a browser sends about a dozen */

static const http1_fault no_fault = {0, NULL};

static const slice method_names[HTTP1_METHOD_COUNT] = {
    [HTTP1_METHOD_GET] = {"GET", 3},         [HTTP1_METHOD_HEAD] = {"HEAD", 4},
    [HTTP1_METHOD_POST] = {"POST", 4},       [HTTP1_METHOD_PUT] = {"PUT", 3},
    [HTTP1_METHOD_PATCH] = {"PATCH", 5},     [HTTP1_METHOD_DELETE] = {"DELETE", 6},
    [HTTP1_METHOD_OPTIONS] = {"OPTIONS", 7},
};

static http1_fault refuse(int status, const char *reason) {
  return (http1_fault){status, reason};
}

void http1_head_init(struct http1_head *head, size_t max_bytes) {
  *head = (struct http1_head){0};
  buf_init(&head->bytes, max_bytes);
}

void http1_head_deinit(struct http1_head *head) {
  buf_deinit(&head->bytes);
  mem_free(head->fields);
  http1_head_init(head, head->bytes.max_bytes);
}

void http1_head_clear(struct http1_head *head) {
  size_t kept = offsetof(struct http1_head, field_count);
  memset((char *)head + kept, 0, sizeof *head - kept);
  buf_clear(&head->bytes);
}

static slice slice_at(const struct http1_head *head, http1_span span) {
  return span.len > 0 ? slice_of(head->bytes.data + span.at, span.len) : SLICE("");
}

/* Where a part of head->bytes stands in it. */
static http1_span span_of(const struct http1_head *head, slice part) {
  if (part.len == 0) return (http1_span){0, 0};
  return (http1_span){(uint32_t)(part.data - head->bytes.data), (uint32_t)part.len};
}

slice http1_method_name(http1_method method) {
  return method_names[method];
}

slice http1_head_target(const struct http1_head *head) {
  return slice_at(head, head->target);
}

slice http1_head_path(const struct http1_head *head) {
  return head->path.len > 0 ? slice_at(head, head->path) : SLICE("/");
}

slice http1_head_query(const struct http1_head *head) {
  return slice_at(head, head->query);
}

bool http1_head_has_escapes(const struct http1_head *head) {
  return head->target_has_escapes;
}

slice http1_head_host(const struct http1_head *head) {
  return slice_at(head, head->host);
}

bool http1_head_field(const struct http1_head *head, size_t index, slice *name, slice *value) {
  if (index >= head->field_count) return false;
  *name = slice_at(head, head->fields[index].name);
  *value = slice_at(head, head->fields[index].value);
  return true;
}

/* The next value of a header from *index on; *index is then behind it. */
static bool next_named(const struct http1_head *head, slice name, size_t *index, slice *value) {
  while (*index < head->field_count) {
    const http1_field *field = &head->fields[(*index)++];
    if (field->name.len != name.len) continue;
    if (!slice_is_equal_nocase(slice_at(head, field->name), name)) continue;
    *value = slice_at(head, field->value);
    return true;
  }
  return false;
}

bool http1_head_find(const struct http1_head *head, slice name, slice *value) {
  size_t index = 0;
  return next_named(head, name, &index, value);
}

size_t http1_head_count(const struct http1_head *head, slice name) {
  size_t count = 0;
  slice value;
  for (size_t index = 0; next_named(head, name, &index, &value);) count++;
  return count;
}

size_t http1_head_join(const struct http1_head *head, slice name, struct buf *out) {
  size_t count = 0;
  bool is_full = false;
  slice value;
  for (size_t index = 0; next_named(head, name, &index, &value); count++) {
    slice separator = count > 0 ? SLICE(", ") : SLICE("");
    is_full = is_full || buf_reserve(out, separator.len + value.len) == NULL;
    if (is_full) continue;
    buf_append(out, separator);
    buf_append(out, value);
  }
  return count;
}

/* Whether a comma-separated list has the token. */
static bool list_has_token(slice list, slice token) {
  while (list.len > 0) {
    if (slice_is_equal_nocase(slice_trim(slice_split(&list, ',')), token)) return true;
  }
  return false;
}

bool http1_head_has_token(const struct http1_head *head, slice name, slice token) {
  slice value;
  for (size_t index = 0; next_named(head, name, &index, &value);) {
    if (list_has_token(value, token)) return true;
  }
  return false;
}

static http1_fault parse_version(struct http1_head *head, slice version) {
  if (slice_is_equal(version, SLICE("HTTP/1.1"))) {
    head->http_minor = 1;
    return no_fault;
  }
  if (version.len != 8 || !slice_has_prefix(version, SLICE("HTTP/")) || version.data[6] != '.') {
    return refuse(400, "invalid request line");
  }
  char major = version.data[5];
  char minor = version.data[7];
  if (major < '0' || major > '9' || minor < '0' || minor > '9') {
    return refuse(400, "invalid request line");
  }
  if (major != '1') return refuse(505, "HTTP version not supported");
  /* RFC 9110 section 2.5: a higher minor version is read as the highest that we know. llhttp knows
   * no such thing, so the byte that it will see is changed. */
  if (minor > '1') head->bytes.data[version.data + 7 - head->bytes.data] = '1';
  head->http_minor = minor == '0' ? 0 : 1;
  return no_fault;
}

/* HTTP1_METHOD_COUNT: one that no route can have. */
static http1_method find_method(slice name) {
  int method = 0;
  while (method < HTTP1_METHOD_COUNT && !slice_is_equal(name, method_names[method])) method++;
  return (http1_method)method;
}

/* A request line's target, up to the space behind it. */
typedef struct {
  slice text;
  size_t path_len; /* to the first "?", or all of it */
  bool is_valid;   /* visible ASCII but "#" and nothing else */
  bool has_escapes;
} target_parts;

/* What each byte says of the target it stands in; most say nothing. */
enum { TARGET_BAD = 1, TARGET_QUERY = 2, TARGET_ESCAPE = 4 };
static const uint8_t target_marks[256] = {
    [0x00 ... ' '] = TARGET_BAD, ['#'] = TARGET_BAD,    [0x7f ... 0xff] = TARGET_BAD,
    ['?'] = TARGET_QUERY,        ['%'] = TARGET_ESCAPE,
};

static target_parts split_target(slice *rest) {
  slice text = slice_split(rest, ' ');
  uint8_t marks = 0;
  for (size_t i = 0; i < text.len; i++) marks |= target_marks[(unsigned char)text.data[i]];
  slice query = text;
  return (target_parts){
      .text = text,
      .path_len = (marks & TARGET_QUERY) != 0 ? slice_split(&query, '?').len : text.len,
      .is_valid = (marks & TARGET_BAD) == 0,
      .has_escapes = (marks & TARGET_ESCAPE) != 0,
  };
}

/* Takes "scheme://authority" off an absolute target; the authority becomes the host. */
static bool parse_authority(struct http1_head *head, slice *rest) {
  slice scheme = slice_split(rest, ':');
  if (!slice_is_equal_nocase(scheme, SLICE("http")) &&
      !slice_is_equal_nocase(scheme, SLICE("https"))) {
    return false;
  }
  if (!slice_has_prefix(*rest, SLICE("//"))) return false;
  *rest = slice_skip(*rest, 2);
  size_t len = 0;
  while (len < rest->len && rest->data[len] != '/' && rest->data[len] != '?') len++;
  slice authority = slice_of(rest->data, len);
  if (!http1_guard_is_host(authority)) return false;
  head->host = span_of(head, authority);
  head->target_has_host = true;
  *rest = slice_skip(*rest, len);
  return true;
}

/* RFC 9112 section 3.2: origin-form, absolute-form, or "*" with OPTIONS. The authority-form is for
 * CONNECT alone, which has been refused by now. */
static http1_fault parse_target(struct http1_head *head, const target_parts *parts) {
  slice target = parts->text;
  head->target = span_of(head, target);
  head->target_has_escapes = parts->has_escapes;
  if (!parts->is_valid) return refuse(400, "invalid request target");
  bool is_asterisk = slice_is_equal(target, SLICE("*")) && head->method == HTTP1_METHOD_OPTIONS;
  if (target.data[0] != '/' && !is_asterisk && !parse_authority(head, &target)) {
    return refuse(400, "invalid request target");
  }
  size_t before_query = parts->path_len - (parts->text.len - target.len);
  head->path = span_of(head, slice_of(target.data, before_query));
  head->query = span_of(head, slice_skip(target, before_query + 1));
  return no_fault;
}

http1_fault http1_head_parse_request_line(struct http1_head *head, http1_span line,
                                          uint32_t max_target_bytes) {
  slice rest = slice_at(head, line);
  slice method = slice_split(&rest, ' ');
  target_parts target = split_target(&rest);
  http1_method known = find_method(method);
  bool is_known = known < HTTP1_METHOD_COUNT;
  if (target.text.len == 0 || (!is_known && !http1_guard_is_token(method))) {
    return refuse(400, "invalid request line");
  }
  if (target.text.len > max_target_bytes) return refuse(414, "request target too long");
  http1_fault fault = parse_version(head, rest);
  if (fault.status != 0) return fault;
  if (!is_known) return refuse(501, "method not implemented");
  head->method = known;
  return parse_target(head, &target);
}

static void keep_field(struct http1_head *head, slice name, slice value, uint32_t max_headers) {
  if (head->field_count == head->field_capacity) {
    uint32_t capacity = head->field_capacity * 2;
    if (capacity < SMALLEST_FIELD_CAPACITY) capacity = SMALLEST_FIELD_CAPACITY;
    if (capacity > max_headers) capacity = max_headers;
    head->fields = mem_realloc(head->fields, capacity * sizeof(*head->fields));
    head->field_capacity = capacity;
  }
  head->fields[head->field_count++] =
      (http1_field){.name = span_of(head, name), .value = span_of(head, value)};
}

static bool is_valid_host(struct http1_head *head, slice value) {
  if (head->known_host_len > 0 &&
      slice_is_equal(value, slice_of(head->known_host, head->known_host_len))) {
    return true;
  }
  if (!http1_guard_is_host(value)) return false;
  if (value.len > 0 && value.len <= sizeof head->known_host) {
    memcpy(head->known_host, value.data, value.len);
    head->known_host_len = (uint8_t)value.len;
  }
  return true;
}

static http1_fault note_host(struct http1_head *head, slice value) {
  if (head->host_count++ > 0) return refuse(400, "more than one Host");
  if (!is_valid_host(head, value)) return refuse(400, "invalid Host");
  if (!head->target_has_host) head->host = span_of(head, value);
  return no_fault;
}

static http1_fault note_content_length(struct http1_head *head, slice value) {
  head->claims_body = true;
  /* RFC 9112 section 6.3 lets a recipient accept equal repetitions; a client has no reason to
   * send them, and an attacker has. */
  if (head->length_count++ > 0) return refuse(400, "more than one Content-Length");
  if (!http1_guard_parse_length(value, &head->content_length)) {
    return refuse(400, "invalid Content-Length");
  }
  return no_fault;
}

static http1_fault note_transfer_encoding(struct http1_head *head, slice value) {
  head->has_transfer_encoding = head->claims_body = true;
  /* An empty value, or an empty element of the list, is a coding without a name. */
  do {
    slice coding = slice_trim(slice_split(&value, ','));
    bool is_chunked = slice_is_equal_nocase(coding, SLICE("chunked"));
    if (coding.len == 0) return refuse(400, "invalid Transfer-Encoding");
    if (head->chunked_is_last) head->chunked_is_repeated = true;
    if (!is_chunked) head->has_unknown_coding = true;
    head->chunked_is_last = is_chunked;
  } while (value.data != NULL);
  return no_fault;
}

static http1_fault note_connection(struct http1_head *head, slice value) {
  while (value.len > 0) {
    slice option = slice_trim(slice_split(&value, ','));
    if (slice_is_equal_nocase(option, SLICE("close"))) head->connection_close = true;
    if (slice_is_equal_nocase(option, SLICE("keep-alive"))) head->connection_keep_alive = true;
    if (slice_is_equal_nocase(option, SLICE("upgrade"))) head->connection_upgrade = true;
  }
  return no_fault;
}

static http1_fault note_expect(struct http1_head *head, slice value) {
  head->has_expectation = true;
  if (slice_is_equal_nocase(value, SLICE("100-continue"))) return no_fault;
  return refuse(417, "unknown expectation");
}

static http1_fault note_upgrade(struct http1_head *head, slice value) {
  if (value.len > 0) head->has_upgrade = true;
  return no_fault;
}

/* The headers that decide how the rest of the connection is read; no two names are of one length.
 */
static http1_fault note_field(struct http1_head *head, slice name, slice value) {
  typedef http1_fault (*noter)(struct http1_head * head, slice value);
  static const struct {
    slice name;
    noter note;
  } noted[] = {
      [4] = {{"host", 4}, note_host},
      [6] = {{"expect", 6}, note_expect},
      [7] = {{"upgrade", 7}, note_upgrade},
      [10] = {{"connection", 10}, note_connection},
      [14] = {{"content-length", 14}, note_content_length},
      [17] = {{"transfer-encoding", 17}, note_transfer_encoding},
  };
  if (name.len >= sizeof(noted) / sizeof(noted[0])) return no_fault;
  if (noted[name.len].note == NULL) return no_fault;
  if (!slice_is_equal_nocase(name, noted[name.len].name)) return no_fault;
  return noted[name.len].note(head, value);
}

http1_fault http1_head_parse_field(struct http1_head *head, http1_span line, uint32_t max_headers) {
  slice name;
  slice value;
  http1_fault fault = http1_guard_split_field(slice_at(head, line), &name, &value);
  if (fault.status != 0) return fault;
  if (head->field_count >= max_headers) return refuse(431, "too many headers");
  keep_field(head, name, value, max_headers);
  return note_field(head, name, value);
}

/* RFC 9112 section 6.3. */
static http1_fault judge_framing(struct http1_head *head) {
  if (!head->has_transfer_encoding) return no_fault;
  if (head->length_count > 0) {
    return refuse(400, "both Content-Length and Transfer-Encoding");
  }
  if (head->http_minor == 0) return refuse(400, "Transfer-Encoding in HTTP/1.0");
  if (!head->chunked_is_last) return refuse(400, "chunked is not the last transfer coding");
  if (head->chunked_is_repeated) return refuse(400, "chunked twice");
  if (head->has_unknown_coding) return refuse(501, "unknown transfer coding");
  head->is_chunked = true;
  return no_fault;
}

http1_fault http1_head_finish(struct http1_head *head) {
  bool is_1_0 = head->http_minor == 0;
  if (head->host_count == 0 && !is_1_0) return refuse(400, "no Host");
  http1_fault fault = judge_framing(head);
  if (fault.status != 0) return fault;
  head->keep_alive = !head->connection_close && (!is_1_0 || head->connection_keep_alive);
  /* RFC 9110 sections 7.8 and 10.1.1: HTTP/1.0 has neither. */
  head->is_upgrade = !is_1_0 && head->connection_upgrade && head->has_upgrade;
  bool has_body = head->is_chunked || head->content_length > 0;
  head->expects_continue = !is_1_0 && head->has_expectation && has_body;
  return no_fault;
}
