#include "gateway/routes.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/url.h"

/* A pattern's segment: what stands between two slashes. */
typedef enum { SEGMENT_LITERAL, SEGMENT_PARAM, SEGMENT_REST } segment_kind;
typedef struct {
  segment_kind kind;
  slice text; /* the literal, or the parameter's name */
} segment;

enum { SEGMENTS_MAX = 64 };

struct entry {
  struct route route;
  slice literal; /* the pattern, if it has literals only; else empty */
  size_t segment_count;
  segment *segments;
};

/* Sorted so that the first entry that matches is the best one. */
struct routes {
  routes_owner owner;
  uint64_t references;
  struct entry **entries;
  size_t count;
  size_t capacity;
};

static uint64_t at_most(uint64_t value, uint64_t limit) {
  return value < limit ? value : limit;
}

route_options route_options_default(route_kind kind, const struct limits *limits) {
  return (route_options){
      .max_message_bytes = at_most(64 * KIB, limits->message_bytes),
      .max_outbox_bytes = at_most(MIB, limits->outbox_bytes),
      .max_body_bytes = at_most(MIB, limits->body_bytes),
      .max_topics = (uint32_t)at_most(100, limits->topics_per_connection),
      .idle_timeout_ms = kind == ROUTE_WEBSOCKET ? 60 * 1000 : 0,
      .ping_every_ms = kind == ROUTE_SSE ? 15 * 1000 : 25 * 1000,
      .handler_timeout_ms = kind == ROUTE_HTTP || kind == ROUTE_STATIC ? 30 * 1000 : 300 * 1000,
  };
}

static void free_strings(char **strings) {
  for (char **at = strings; at != NULL && *at != NULL; at++) mem_free(*at);
  mem_free(strings);
}

void route_options_free(route_options *options) {
  free_strings(options->origins);
  free_strings(options->protocols);
  free_strings(options->keep_headers);
  options->origins = options->protocols = options->keep_headers = NULL;
}

struct routes *routes_new(const routes_owner *owner) {
  struct routes *routes = mem_alloc_zero(sizeof *routes);
  routes->owner = *owner;
  routes->references = 1;
  return routes;
}

struct routes *routes_retain(struct routes *routes) {
  routes->references++;
  return routes;
}

void routes_release(struct routes *routes) {
  REQUIRE(routes->references > 0);
  if (--routes->references > 0) return;
  const routes_owner owner = routes->owner;
  for (size_t i = 0; i < routes->count; i++) {
    struct entry *entry = routes->entries[i];
    if (entry->route.script != NULL) owner.free_script(owner.context, entry->route.script);
    route_options_free(&entry->route.options);
    mem_free(entry->route.pattern);
    mem_free(entry->route.directory);
    mem_free(entry->segments);
    mem_free(entry);
  }
  mem_free(routes->entries);
  mem_free(routes);
  owner.on_freed(owner.context);
}

/* Splits a pattern whose bytes live as long as the entry. Returns the count or -1. */
static int split_pattern(slice pattern, segment *out, const char **error) {
  slice rest = slice_skip(pattern, 1);
  int count = 0;
  int params = 0;
  while (rest.data != NULL) {
    slice text = slice_split(&rest, '/');
    segment at = {SEGMENT_LITERAL, text};
    if (text.len > 0 && (text.data[0] == ':' || text.data[0] == '*')) {
      at.kind = text.data[0] == ':' ? SEGMENT_PARAM : SEGMENT_REST;
      at.text = slice_skip(text, 1);
      *error = "a parameter without a name";
      if (at.text.len == 0) return -1;
      *error = "a parameter name that occurs twice";
      for (int i = 0; i < count; i++) {
        if (out[i].kind != SEGMENT_LITERAL && slice_is_equal(out[i].text, at.text)) return -1;
      }
      *error = "more than 16 parameters";
      if (++params > ROUTE_PARAMS) return -1;
      *error = "something behind *rest";
      if (at.kind == SEGMENT_REST && rest.data != NULL) return -1;
    }
    *error = "more than 64 segments";
    if (count == SEGMENTS_MAX) return -1;
    out[count++] = at;
  }
  *error = NULL;
  return count;
}

/* Literal before parameter before rest, segment by segment. */
static int compare(const struct entry *a, const struct entry *b) {
  for (size_t i = 0; i < a->segment_count && i < b->segment_count; i++) {
    if (a->segments[i].kind != b->segments[i].kind) {
      return (int)a->segments[i].kind - (int)b->segments[i].kind;
    }
  }
  /* Equal so far: the longer one is more special, only a rest can match both anyway. */
  return (int)b->segment_count - (int)a->segment_count;
}

/* The same paths match: literals are equal, parameters stand at the same places. */
static bool is_same_shape(const struct entry *a, const struct entry *b) {
  if (a->segment_count != b->segment_count) return false;
  for (size_t i = 0; i < a->segment_count; i++) {
    if (a->segments[i].kind != b->segments[i].kind) return false;
    if (a->segments[i].kind == SEGMENT_LITERAL &&
        !slice_is_equal(a->segments[i].text, b->segments[i].text)) {
      return false;
    }
  }
  return true;
}

static bool has_literals_only(const struct entry *entry) {
  for (size_t i = 0; i < entry->segment_count; i++) {
    if (entry->segments[i].kind != SEGMENT_LITERAL) return false;
  }
  return true;
}

static const char *find_conflict(const struct routes *routes, const struct entry *entry) {
  for (size_t i = 0; i < routes->count; i++) {
    const struct entry *other = routes->entries[i];
    if (!is_same_shape(other, entry)) continue;
    if ((other->route.kind == ROUTE_WEBSOCKET) != (entry->route.kind == ROUTE_WEBSOCKET)) continue;
    if ((other->route.methods & entry->route.methods) == 0) continue;
    if (other->route.kind == entry->route.kind) return "a route that is there already";
    return "a GET route that is there already (an event stream and a page need two paths)";
  }
  return NULL;
}

static void insert(struct routes *routes, struct entry *entry) {
  if (routes->count == routes->capacity) {
    routes->capacity = routes->capacity > 0 ? routes->capacity * 2 : 16;
    routes->entries = mem_realloc(routes->entries, routes->capacity * sizeof *routes->entries);
  }
  size_t at = routes->count++;
  while (at > 0 && compare(entry, routes->entries[at - 1]) < 0) {
    routes->entries[at] = routes->entries[at - 1];
    at--;
  }
  routes->entries[at] = entry;
}

struct route *routes_add(struct routes *routes, route_kind kind, unsigned methods, slice pattern,
                         const route_options *options, slice directory, const char **error) {
  *error = "a pattern that does not begin with /";
  if (pattern.len == 0 || pattern.data[0] != '/') return NULL;
  struct entry *entry = mem_alloc_zero(sizeof *entry);
  entry->route.kind = kind;
  entry->route.methods = methods;
  entry->route.pattern = mem_copy(pattern);
  entry->route.options = *options;
  entry->route.routes = routes;
  if (directory.data != NULL) entry->route.directory = mem_copy(directory);
  segment segments[SEGMENTS_MAX];
  int count = split_pattern(slice_of(entry->route.pattern, pattern.len), segments, error);
  if (count > 0) {
    entry->segment_count = (size_t)count;
    entry->segments = mem_alloc((size_t)count * sizeof *segments);
    memcpy(entry->segments, segments, (size_t)count * sizeof *segments);
    *error = find_conflict(routes, entry);
  }
  if (*error != NULL) {
    mem_free(entry->route.pattern);
    mem_free(entry->route.directory);
    mem_free(entry->segments);
    mem_free(entry);
    return NULL;
  }
  if (has_literals_only(entry)) entry->literal = slice_of(entry->route.pattern, pattern.len);
  insert(routes, entry);
  return &entry->route;
}

/* --- matching --- */

/* Whether a literal of a pattern is this part of a path, which may be percent-encoded. */
static bool is_literal(slice literal, slice part) {
  if (memchr(part.data, '%', part.len) == NULL) return slice_is_equal(literal, part);
  struct buf decoded;
  buf_init(&decoded, part.len + 1);
  bool is_equal = url_decode(part, false, &decoded) && slice_is_equal(buf_peek(&decoded), literal);
  buf_deinit(&decoded);
  return is_equal;
}

static bool matches(const struct entry *entry, slice path, route_match *match) {
  slice rest = slice_skip(path, 1);
  match->param_count = 0;
  for (size_t i = 0; i < entry->segment_count; i++) {
    const segment *at = &entry->segments[i];
    if (rest.data == NULL) return false;
    if (at->kind == SEGMENT_REST) {
      match->params[match->param_count++] = (route_param){at->text, rest};
      return true;
    }
    slice part = slice_split(&rest, '/');
    if (at->kind == SEGMENT_LITERAL) {
      if (!is_literal(at->text, part)) return false;
    } else {
      if (part.len == 0) return false;
      match->params[match->param_count++] = (route_param){at->text, part};
    }
  }
  return rest.data == NULL;
}

static bool wants(const struct route *route, unsigned method, bool is_upgrade) {
  if (route->kind == ROUTE_WEBSOCKET) return is_upgrade && method == METHOD_GET;
  return !is_upgrade && (route->methods & method) != 0;
}

/* A pattern that is the path itself: nothing beats it. */
static const struct route *find_literal(const struct routes *routes, unsigned method,
                                        bool is_upgrade, slice path) {
  for (size_t i = 0; i < routes->count; i++) {
    const struct entry *entry = routes->entries[i];
    if (entry->literal.len == path.len && wants(&entry->route, method, is_upgrade) &&
        memcmp(entry->literal.data, path.data, path.len) == 0) {
      return &entry->route;
    }
  }
  return NULL;
}

static bool find_for(const struct routes *routes, unsigned method, bool is_upgrade, slice path,
                     route_match *match) {
  match->route = find_literal(routes, method, is_upgrade, path);
  if (match->route != NULL) return true;
  for (size_t i = 0; i < routes->count; i++) {
    const struct entry *entry = routes->entries[i];
    if (!wants(&entry->route, method, is_upgrade) || !matches(entry, path, match)) continue;
    match->route = &entry->route;
    return true;
  }
  return false;
}

static void find_allowed(const struct routes *routes, slice path, route_match *match) {
  for (size_t i = 0; i < routes->count; i++) {
    const struct entry *entry = routes->entries[i];
    if (!matches(entry, path, match)) continue;
    if (entry->route.kind == ROUTE_WEBSOCKET) {
      match->has_websocket = true;
    } else {
      match->allowed |= entry->route.methods;
    }
  }
  match->param_count = 0;
}

void routes_find(const struct routes *routes, route_method method, bool is_upgrade, slice path,
                 route_match *match) {
  match->route = NULL;
  match->allowed = 0;
  match->has_websocket = false;
  match->param_count = 0;
  if (path.len == 0 || path.data[0] != '/') return;
  if (is_upgrade && find_for(routes, METHOD_GET, true, path, match)) return;
  if (find_for(routes, (unsigned)method, false, path, match)) return;
  if (method == METHOD_HEAD && find_for(routes, METHOD_GET, false, path, match)) return;
  find_allowed(routes, path, match);
}

void routes_for_each_directory(const struct routes *routes,
                               void (*visit)(void *context, const char *directory), void *context) {
  for (size_t i = 0; i < routes->count; i++) {
    const struct route *route = &routes->entries[i]->route;
    if (route->kind == ROUTE_STATIC) visit(context, route->directory);
  }
}

slice route_param_name(const struct route *route, size_t index) {
  const struct entry *entry = CONTAINER_OF(route, struct entry, route);
  const segment *at = entry->segments;
  while (at->kind == SEGMENT_LITERAL || index-- > 0) at++;
  return at->text;
}

/* --- another generation's --- */

static bool is_same(const struct route *a, const struct route *b) {
  return a->kind == b->kind && a->methods == b->methods && strcmp(a->pattern, b->pattern) == 0;
}

static const struct route *find_same(const struct routes *routes, const struct route *route) {
  for (size_t i = 0; i < routes->count; i++) {
    if (is_same(&routes->entries[i]->route, route)) return &routes->entries[i]->route;
  }
  return NULL;
}

bool routes_compare(struct routes *older, const struct routes *newer) {
  /* As many, and each has one: those that are there are the same, and so is their order. */
  bool is_all = older->count == newer->count;
  for (size_t i = 0; i < older->count; i++) {
    struct route *route = &older->entries[i]->route;
    route->successor = find_same(newer, route);
    if (route->successor == NULL) is_all = false;
  }
  return is_all;
}
