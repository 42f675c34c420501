#include "gateway/request.h"

#include "base/mem.h"
#include "base/url.h"

typedef struct {
  slice name;
  slice value;
} kept_header;

/* What only requests under way have: it goes when a connection's request is trimmed. */
struct arrived {
  struct http1_head head;
  struct buf decoded; /* host in lower case, since, parameter values */
  struct buf body;
};

/* What a request keeps for its connection's life then: one piece of memory. */
struct kept {
  size_t header_count;
  kept_header *headers;
  char bytes[];
};

/* Of `arrived` and `kept` exactly one is there; all slices point into it. */
struct request {
  const struct route *route;
  slice remote_address;
  slice method;
  slice path;
  slice query;
  slice host;
  slice since;
  struct arrived *arrived;
  struct kept *kept;
  int session;
  uint32_t param_count;
  route_param params[]; /* names are the route's, values decoded */
};

/* Appends the decoded text and returns where it stands as an offset, since the buf may move. */
static size_t decode(struct request *request, slice text, bool plus_is_space) {
  size_t at = request->arrived->decoded.len;
  /* The path and query were checked before any script (SURFACE): this cannot fail. */
  REQUIRE(url_decode(text, plus_is_space, &request->arrived->decoded));
  return at;
}

static bool find_since(const struct request *request, slice *since, bool *is_query) {
  *is_query = false;
  if (http1_head_find(&request->arrived->head, SLICE("last-event-id"), since) && since->len > 0)
    return true;
  *is_query = true;
  slice rest = request->query, name, value;
  while (url_next_pair(&rest, &name, &value)) {
    if (slice_is_equal(name, SLICE("last-event-id")) || slice_is_equal(name, SLICE("since"))) {
      *since = value;
      return true;
    }
  }
  return false;
}

static void decode_all(struct request *request, const route_match *match) {
  size_t at[ROUTE_PARAMS + 2];
  slice host = http1_head_host(&request->arrived->head);
  buf_append(&request->arrived->decoded, host);
  for (size_t i = 0; i < host.len; i++) {
    request->arrived->decoded.data[i] = ascii_lower(request->arrived->decoded.data[i]);
  }
  for (size_t i = 0; i < match->param_count; i++) {
    at[i] = decode(request, match->params[i].value, false);
  }
  at[match->param_count] = request->arrived->decoded.len;
  slice since;
  bool is_query;
  bool has_since = find_since(request, &since, &is_query);
  size_t since_at = request->arrived->decoded.len;
  if (has_since && is_query) {
    decode(request, since, true);
  } else if (has_since) {
    buf_append(&request->arrived->decoded, since);
  }
  /* Only now does the buf stay where it is. */
  const char *bytes = request->arrived->decoded.data;
  request->host = slice_of(bytes, host.len);
  for (size_t i = 0; i < match->param_count; i++) {
    request->params[i].name = match->params[i].name;
    request->params[i].value = slice_of(bytes + at[i], at[i + 1] - at[i]);
  }
  if (has_since)
    request->since = slice_of(bytes + since_at, request->arrived->decoded.len - since_at);
}

struct request *request_new(struct http1_head *head, const route_match *match,
                            slice remote_address) {
  struct request *request =
      mem_alloc(sizeof *request + match->param_count * sizeof request->params[0]);
  *request = (struct request){.route = match->route,
                              .remote_address = remote_address,
                              .param_count = (uint32_t)match->param_count};
  request->arrived = mem_alloc(sizeof *request->arrived);
  http1_head_move(&request->arrived->head, head);
  buf_init(&request->arrived->decoded, 0);
  buf_init(&request->arrived->body, 0);
  request->method = http1_head_method_name(&request->arrived->head);
  request->path = http1_head_path(&request->arrived->head);
  request->query = http1_head_query(&request->arrived->head);
  decode_all(request, match);
  return request;
}

static void free_arrived(struct request *request) {
  if (request->arrived == NULL) return;
  http1_head_deinit(&request->arrived->head);
  buf_deinit(&request->arrived->decoded);
  buf_deinit(&request->arrived->body);
  mem_free(request->arrived);
  request->arrived = NULL;
}

void request_free(struct request *request) {
  free_arrived(request);
  mem_free(request->kept);
  mem_free(request);
}

struct buf *request_body_buf(struct request *request) {
  return &request->arrived->body;
}

const struct http1_head *request_head(const struct request *request) {
  return request->arrived != NULL ? &request->arrived->head : NULL;
}

slice request_method(const struct request *request) {
  return request->method;
}

slice request_path(const struct request *request) {
  return request->path;
}

slice request_query(const struct request *request) {
  return request->query;
}

slice request_host(const struct request *request) {
  return request->host;
}

slice request_body(const struct request *request) {
  return request->arrived != NULL ? buf_peek(&request->arrived->body) : SLICE("");
}

slice request_remote_address(const struct request *request) {
  return request->remote_address;
}

slice request_since(const struct request *request) {
  return request->since;
}

const struct route *request_route(const struct request *request) {
  return request->route;
}

bool request_param(const struct request *request, size_t index, slice *name, slice *value) {
  if (index >= request->param_count) return false;
  *name = request->params[index].name;
  *value = request->params[index].value;
  return true;
}

bool request_next_header(const struct request *request, size_t *cursor, slice *name, slice *value) {
  size_t index = (*cursor)++;
  if (request->arrived != NULL)
    return http1_head_field(&request->arrived->head, index, name, value);
  if (index >= request->kept->header_count) return false;
  *name = request->kept->headers[index].name;
  *value = request->kept->headers[index].value;
  return true;
}

slice request_find_header(const struct request *request, slice name) {
  size_t cursor = 0;
  slice at, value;
  while (request_next_header(request, &cursor, &at, &value)) {
    if (slice_is_equal_nocase(at, name)) return value;
  }
  return (slice){NULL, 0};
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
  return request->arrived != NULL;
}

static bool is_kept(const struct request *request, slice name) {
  for (char **at = request->route->options.keep_headers; at != NULL && *at != NULL; at++) {
    if (slice_is_equal_nocase(name, slice_of_string(*at))) return true;
  }
  return false;
}

static slice keep(char **place, slice text) {
  if (text.len > 0) memcpy(*place, text.data, text.len);
  slice copy = slice_of(*place, text.len);
  *place += text.len;
  return copy;
}

void request_trim(struct request *request) {
  if (request->arrived == NULL) return;
  size_t bytes = request->method.len + request->path.len + request->query.len + request->host.len +
                 request->since.len;
  for (size_t i = 0; i < request->param_count; i++) bytes += request->params[i].value.len;
  size_t count = 0, cursor = 0;
  slice name, value;
  while (request_next_header(request, &cursor, &name, &value)) {
    if (!is_kept(request, name)) continue;
    bytes += name.len + value.len;
    count++;
  }
  size_t headers_bytes = count * sizeof(kept_header);
  struct kept *kept = mem_alloc(sizeof *kept + headers_bytes + bytes);
  kept->header_count = count;
  kept->headers = (kept_header *)(void *)kept->bytes;
  char *place = kept->bytes + headers_bytes;
  request->method = keep(&place, request->method);
  request->path = keep(&place, request->path);
  request->query = keep(&place, request->query);
  request->host = keep(&place, request->host);
  if (request->since.data != NULL) request->since = keep(&place, request->since);
  for (size_t i = 0; i < request->param_count; i++) {
    request->params[i].value = keep(&place, request->params[i].value);
  }
  kept_header *header = kept->headers;
  for (cursor = 0; request_next_header(request, &cursor, &name, &value);) {
    if (!is_kept(request, name)) continue;
    header->name = keep(&place, name);
    header->value = keep(&place, value);
    header++;
  }
  free_arrived(request);
  request->kept = kept;
}

int request_session(const struct request *request) {
  return request->session;
}

void request_set_session(struct request *request, int session) {
  request->session = session;
}
