#include "gateway/request.h"

#include "base/mem.h"
#include "base/url.h"

enum {
  POOL_REQUESTS = 16,         /* more are under way at once only while handlers are suspended */
  POOL_BUF_BYTES = 16 * 1024, /* a buf that has grown beyond is not kept */
};

/* What only requests under way have: it goes when a connection's request is trimmed. */
struct arrived {
  struct http1_decoder decoder;
  struct buf body;
  struct buf decoded; /* of what does not stand in the head as scripts see it */
  slice host;         /* data NULL: not yet asked for */
  slice since;
  bool is_since_known;
  size_t param_count;
  slice params[ROUTE_PARAMS]; /* decoded; their names are the route's */
  struct request_pool *pool;
  struct arrived *next_free;
  struct request *spare; /* in the pool: the request it came with, if that did not stay away */
};

/* What a request keeps for its connection's life then: one piece of memory. The texts stand one
 * behind the other, after the pairs. */
enum { KEPT_PATH, KEPT_QUERY, KEPT_HOST, KEPT_SINCE, KEPT_TEXTS };
typedef struct {
  slice name;
  slice value;
} kept_pair;
struct kept {
  uint32_t text_bytes[KEPT_TEXTS];
  uint32_t param_count;
  uint32_t header_count;
  http1_method method;
  bool has_since;
  kept_pair pairs[]; /* parameters, without their names, then headers */
};

struct request {
  const struct route *route;
  slice remote_address;
  union {
    struct arrived *arrived;
    struct kept *kept;
  } as;
  int session;
  bool is_trimmed;
};

/* --- the pool --- */

void request_pool_init(struct request_pool *pool, const http1_limits *limits) {
  *pool = (struct request_pool){.limits = *limits};
}

static struct arrived *arrived_new(struct request_pool *pool) {
  struct arrived *arrived = mem_alloc_zero(sizeof *arrived);
  http1_decoder_init(&arrived->decoder, &pool->limits);
  buf_init(&arrived->body, 0);
  buf_init(&arrived->decoded, 0);
  arrived->pool = pool;
  return arrived;
}

static void arrived_free(struct arrived *arrived) {
  http1_decoder_deinit(&arrived->decoder);
  buf_deinit(&arrived->body);
  buf_deinit(&arrived->decoded);
  mem_free(arrived->spare);
  mem_free(arrived);
}

static void empty(struct buf *buf) {
  buf_clear(buf);
  if (buf->capacity > POOL_BUF_BYTES) buf_deinit(buf);
}

/* Back to the pool, with its request if that is no longer needed. */
static void give_back(struct arrived *arrived, struct request *spare) {
  struct request_pool *pool = arrived->pool;
  arrived->spare = spare;
  if (pool->free_count == POOL_REQUESTS) {
    arrived_free(arrived);
    return;
  }
  http1_decoder_reset(&arrived->decoder);
  empty(&arrived->decoder.head.bytes);
  empty(&arrived->body);
  empty(&arrived->decoded);
  arrived->next_free = pool->free;
  pool->free = arrived;
  pool->free_count++;
}

static struct arrived *take(struct request_pool *pool) {
  struct arrived *arrived = pool->free;
  if (arrived == NULL) return arrived_new(pool);
  pool->free = arrived->next_free;
  pool->free_count--;
  return arrived;
}

void request_pool_deinit(struct request_pool *pool) {
  while (pool->free_count > 0) arrived_free(take(pool));
}

/* --- life --- */

struct request *request_new(struct request_pool *pool) {
  struct arrived *arrived = take(pool);
  struct request *request = arrived->spare;
  arrived->spare = NULL;
  if (request == NULL) request = mem_alloc(sizeof *request);
  request->route = NULL;
  request->as.arrived = arrived;
  request->session = 0;
  request->is_trimmed = false;
  return request;
}

void request_free(struct request *request) {
  if (request->is_trimmed) {
    mem_free(request->as.kept);
    mem_free(request);
  } else {
    give_back(request->as.arrived, request);
  }
}

struct http1_decoder *request_decoder(struct request *request) {
  return &request->as.arrived->decoder;
}

static const struct http1_head *head_of(const struct request *request) {
  return &request->as.arrived->decoder.head;
}

/* Where parts of the head are decoded to. None is decoded twice and none grows by it, so that with
 * room for the whole head the bytes stay where they are. */
static struct buf *decoded_of(struct arrived *arrived) {
  size_t head_bytes = arrived->decoder.head.bytes.len;
  buf_reserve(&arrived->decoded, head_bytes - arrived->decoded.len);
  return &arrived->decoded;
}

static slice decode(struct arrived *arrived, slice text, bool plus_is_space) {
  struct buf *out = decoded_of(arrived);
  size_t at = out->len;
  /* The path and query were checked before any script (SURFACE): this cannot fail. */
  REQUIRE(url_decode(text, plus_is_space, out));
  return slice_of(out->data + at, out->len - at);
}

void request_set_route(struct request *request, const route_match *match, slice remote_address) {
  struct arrived *arrived = request->as.arrived;
  request->route = match->route;
  request->remote_address = remote_address;
  arrived->host = (slice){NULL, 0};
  arrived->is_since_known = false;
  arrived->param_count = match->param_count;
  bool has_escapes = http1_head_has_escapes(&arrived->decoder.head);
  for (size_t i = 0; i < match->param_count; i++) {
    slice value = match->params[i].value;
    bool is_plain = !has_escapes || value.len == 0 || memchr(value.data, '%', value.len) == NULL;
    arrived->params[i] = is_plain ? value : decode(arrived, value, false);
  }
}

/* --- what it says --- */

static slice kept_text(const struct request *request, int which) {
  const struct kept *kept = request->as.kept;
  const char *at = (const char *)(kept->pairs + kept->param_count + kept->header_count);
  for (int before = 0; before < which; before++) at += kept->text_bytes[before];
  return slice_of(at, kept->text_bytes[which]);
}

static slice lower_case(struct arrived *arrived, slice host) {
  size_t plain = 0;
  while (plain < host.len && ascii_lower(host.data[plain]) == host.data[plain]) plain++;
  if (plain == host.len) return host;
  struct buf *out = decoded_of(arrived);
  char *place = out->data + out->len;
  for (size_t i = 0; i < host.len; i++) place[i] = ascii_lower(host.data[i]);
  out->len += host.len;
  return slice_of(place, host.len);
}

static slice find_since(struct arrived *arrived) {
  const struct http1_head *head = &arrived->decoder.head;
  slice since;
  if (http1_head_find(head, SLICE("last-event-id"), &since) && since.len > 0) return since;
  slice rest = http1_head_query(head), name, value;
  while (url_next_pair(&rest, &name, &value)) {
    if (slice_is_equal(name, SLICE("last-event-id")) || slice_is_equal(name, SLICE("since"))) {
      return decode(arrived, value, true);
    }
  }
  return (slice){NULL, 0};
}

struct buf *request_body_buf(struct request *request) {
  return &request->as.arrived->body;
}

const struct http1_head *request_head(const struct request *request) {
  return request->is_trimmed ? NULL : head_of(request);
}

slice request_method(const struct request *request) {
  return http1_method_name(request->is_trimmed ? request->as.kept->method
                                               : head_of(request)->method);
}

slice request_path(const struct request *request) {
  return request->is_trimmed ? kept_text(request, KEPT_PATH) : http1_head_path(head_of(request));
}

slice request_query(const struct request *request) {
  return request->is_trimmed ? kept_text(request, KEPT_QUERY) : http1_head_query(head_of(request));
}

slice request_host(const struct request *request) {
  if (request->is_trimmed) return kept_text(request, KEPT_HOST);
  struct arrived *arrived = request->as.arrived;
  if (arrived->host.data == NULL) {
    arrived->host = lower_case(arrived, http1_head_host(head_of(request)));
  }
  return arrived->host;
}

slice request_body(const struct request *request) {
  return request->is_trimmed ? SLICE("") : buf_peek(&request->as.arrived->body);
}

slice request_remote_address(const struct request *request) {
  return request->remote_address;
}

slice request_since(const struct request *request) {
  if (request->is_trimmed) {
    slice none = {NULL, 0};
    return request->as.kept->has_since ? kept_text(request, KEPT_SINCE) : none;
  }
  struct arrived *arrived = request->as.arrived;
  if (!arrived->is_since_known) {
    arrived->since = find_since(arrived);
    arrived->is_since_known = true;
  }
  return arrived->since;
}

const struct route *request_route(const struct request *request) {
  return request->route;
}

bool request_param(const struct request *request, size_t index, slice *name, slice *value) {
  if (request->is_trimmed) {
    if (index >= request->as.kept->param_count) return false;
    *value = request->as.kept->pairs[index].value;
  } else {
    if (index >= request->as.arrived->param_count) return false;
    *value = request->as.arrived->params[index];
  }
  *name = route_param_name(request->route, index);
  return true;
}

bool request_next_header(const struct request *request, size_t *cursor, slice *name, slice *value) {
  size_t index = (*cursor)++;
  if (!request->is_trimmed) return http1_head_field(head_of(request), index, name, value);
  const struct kept *kept = request->as.kept;
  if (index >= kept->header_count) return false;
  *name = kept->pairs[kept->param_count + index].name;
  *value = kept->pairs[kept->param_count + index].value;
  return true;
}

slice request_find_header(const struct request *request, slice name) {
  slice found = {NULL, 0};
  if (!request->is_trimmed) {
    http1_head_find(head_of(request), name, &found);
    return found;
  }
  size_t cursor = 0;
  slice at, value;
  while (request_next_header(request, &cursor, &at, &value)) {
    if (slice_is_equal_nocase(at, name)) return value;
  }
  return found;
}

size_t request_header(const struct request *request, slice name, struct buf *out) {
  size_t cursor = 0, count = 0;
  slice at, value;
  while (request_next_header(request, &cursor, &at, &value)) {
    if (!slice_is_equal_nocase(at, name)) continue;
    if (count++ > 0) buf_append(out, SLICE(", "));
    buf_append(out, value);
  }
  return count;
}

bool request_has_headers(const struct request *request) {
  return !request->is_trimmed;
}

/* --- what a connection keeps --- */

static bool is_kept(char *const *names, slice name) {
  for (; *names != NULL; names++) {
    if (slice_is_equal_nocase(name, slice_of_string(*names))) return true;
  }
  return false;
}

/* The next header that the route keeps; false past the last. */
static bool next_kept_header(const struct request *request, size_t *cursor, kept_pair *header) {
  char *const *names = request->route->options.keep_headers;
  if (names == NULL) return false;
  while (request_next_header(request, cursor, &header->name, &header->value)) {
    if (is_kept(names, header->name)) return true;
  }
  return false;
}

static slice keep(char **place, slice text) {
  if (text.len > 0) memcpy(*place, text.data, text.len);
  slice copy = slice_of(*place, text.len);
  *place += text.len;
  return copy;
}

/* Memory for what stays, with its sizes filled in. */
static struct kept *kept_new(const struct request *request, const slice texts[KEPT_TEXTS]) {
  const struct arrived *arrived = request->as.arrived;
  size_t bytes = 0, header_count = 0, cursor = 0;
  kept_pair header;
  for (int i = 0; i < KEPT_TEXTS; i++) bytes += texts[i].len;
  for (size_t i = 0; i < arrived->param_count; i++) bytes += arrived->params[i].len;
  for (; next_kept_header(request, &cursor, &header); header_count++) {
    bytes += header.name.len + header.value.len;
  }
  size_t pairs_bytes = (arrived->param_count + header_count) * sizeof(kept_pair);
  struct kept *kept = mem_alloc(sizeof *kept + pairs_bytes + bytes);
  for (int i = 0; i < KEPT_TEXTS; i++) kept->text_bytes[i] = (uint32_t)texts[i].len;
  kept->param_count = (uint32_t)arrived->param_count;
  kept->header_count = (uint32_t)header_count;
  kept->method = arrived->decoder.head.method;
  kept->has_since = texts[KEPT_SINCE].data != NULL;
  return kept;
}

void request_trim(struct request *request) {
  if (request->is_trimmed) return;
  struct arrived *arrived = request->as.arrived;
  slice texts[KEPT_TEXTS] = {[KEPT_PATH] = request_path(request),
                             [KEPT_QUERY] = request_query(request),
                             [KEPT_HOST] = request_host(request),
                             [KEPT_SINCE] = request_since(request)};
  struct kept *kept = kept_new(request, texts);
  kept_pair *pair = kept->pairs;
  char *place = (char *)(kept->pairs + kept->param_count + kept->header_count);
  for (int i = 0; i < KEPT_TEXTS; i++) keep(&place, texts[i]);
  for (size_t i = 0; i < arrived->param_count; i++) {
    *pair++ = (kept_pair){{NULL, 0}, keep(&place, arrived->params[i])};
  }
  kept_pair header;
  for (size_t cursor = 0; next_kept_header(request, &cursor, &header);) {
    pair->name = keep(&place, header.name);
    pair->value = keep(&place, header.value);
    pair++;
  }
  request->as.kept = kept;
  request->is_trimmed = true;
  give_back(arrived, NULL);
}

/* --- a newer route --- */

void request_follow(struct request *request, const struct route *route) {
  request->route = route;
}

/* The same as `kept`, with room for other parameters, whose values follow the texts. */
static struct kept *kept_with(const struct kept *kept, slice texts, size_t param_count,
                              size_t param_bytes) {
  size_t header_bytes = 0;
  const kept_pair *headers = kept->pairs + kept->param_count;
  for (size_t i = 0; i < kept->header_count; i++) {
    header_bytes += headers[i].name.len + headers[i].value.len;
  }
  size_t pairs_bytes = (param_count + kept->header_count) * sizeof(kept_pair);
  struct kept *copy =
      mem_alloc(sizeof *copy + pairs_bytes + texts.len + param_bytes + header_bytes);
  *copy = *kept;
  copy->param_count = (uint32_t)param_count;
  char *place = (char *)(copy->pairs + param_count + kept->header_count);
  keep(&place, texts);
  place += param_bytes;
  for (size_t i = 0; i < kept->header_count; i++) {
    kept_pair *header = &copy->pairs[param_count + i];
    header->name = keep(&place, headers[i].name);
    header->value = keep(&place, headers[i].value);
  }
  return copy;
}

static void set_kept_params(struct request *request, const route_match *match) {
  struct kept *kept = request->as.kept;
  slice texts = kept_text(request, 0);
  for (int i = 1; i < KEPT_TEXTS; i++) texts.len += kept->text_bytes[i];
  size_t param_bytes = 0;
  for (size_t i = 0; i < match->param_count; i++) param_bytes += match->params[i].value.len;
  struct kept *copy = kept_with(kept, texts, match->param_count, param_bytes);
  char *place = (char *)(copy->pairs + copy->param_count + copy->header_count) + texts.len;
  for (size_t i = 0; i < match->param_count; i++) {
    struct buf value;
    buf_init(&value, 0);
    REQUIRE(url_decode(match->params[i].value, false, &value));
    copy->pairs[i] = (kept_pair){{NULL, 0}, keep(&place, buf_peek(&value))};
    buf_deinit(&value);
  }
  request->as.kept = copy;
  mem_free(kept);
}

void request_reroute(struct request *request, const route_match *match) {
  if (request->is_trimmed) {
    set_kept_params(request, match);
    request->route = match->route;
  } else {
    buf_clear(
        &request->as.arrived->decoded); /* what stands there is decoded again when asked for */
    request_set_route(request, match, request->remote_address);
  }
}

int request_session(const struct request *request) {
  return request->session;
}

void request_set_session(struct request *request, int session) {
  request->session = session;
}
