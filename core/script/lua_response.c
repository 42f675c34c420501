#include "script/lua_response.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec/http1_response.h"
#include "gateway/dev.h"
#include "script/lua_json.h"

enum {
  MAX_HEADERS = 64, /* a script's own; more is a mistake */
  MAX_COOKIES = 16,
  MAX_NUMBERS = 16, /* header values given as numbers */
  NUMBER_BYTES = 32,
};

typedef enum { BODY_NONE, BODY_TEXT, BODY_FILE, BODY_REDIRECT } body_kind;

/* A response being put together. Strings are the table's, which stands on the stack meanwhile. */
struct builder {
  struct script *script;
  lua_State *L;
  response response;
  response_header headers[MAX_HEADERS];
  char numbers[MAX_NUMBERS][NUMBER_BYTES];
  size_t number_count;
  size_t cookie_ends[MAX_COOKIES]; /* in script->cookies */
  size_t cookie_count;
  body_kind kind;
  const char *body_key; /* which of the keys that exclude each other was there */
  slice content_type;   /* where the script gives none */
  slice target;         /* of file or redirect */
  bool has_status;
  bool has_content_type;
};

#define FAIL(builder, ...) (buf_append_format(&(builder)->script->message, __VA_ARGS__), false)

/* --- headers --- */

static bool is_gateways(slice name) {
  return slice_is_equal_nocase(name, SLICE("date")) ||
         slice_is_equal_nocase(name, SLICE("content-length")) ||
         slice_is_equal_nocase(name, SLICE("transfer-encoding")) ||
         slice_is_equal_nocase(name, SLICE("connection"));
}

static bool add_header(struct builder *b, slice name, slice value) {
  if (b->response.header_count == MAX_HEADERS) {
    return FAIL(b, "a response has at most %d headers", MAX_HEADERS);
  }
  b->headers[b->response.header_count++] = (response_header){name, value};
  return true;
}

/* The string or number at the top, as a header's value. */
static bool add_header_value(struct builder *b, slice name) {
  slice value;
  if (lua_type(b->L, -1) == LUA_TSTRING) {
    value = script_slice_at(b->L, -1);
  } else if (lua_type(b->L, -1) == LUA_TNUMBER && b->number_count < MAX_NUMBERS) {
    char *text = b->numbers[b->number_count++];
    int len = snprintf(text, NUMBER_BYTES, "%.14g", lua_tonumber(b->L, -1));
    value = slice_of(text, (size_t)len);
  } else {
    return FAIL(b, "response header \"%s\" must be a string, a number or a list of them",
                name.data);
  }
  if (!http1_header_is_valid(name, value)) {
    return FAIL(b, "response header \"%s\" has a bad name or a CR, LF or NUL in its value",
                name.data);
  }
  return add_header(b, name, value);
}

static bool add_headers(struct builder *b) {
  lua_State *L = b->L;
  if (!lua_istable(L, -1)) return FAIL(b, "response key \"headers\" must be a table");
  int table = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) return FAIL(b, "response header names are strings");
    slice name = script_slice_at(L, -2);
    if (is_gateways(name)) {
      return FAIL(b, "response header \"%s\" is the gateway's to send", name.data);
    }
    if (slice_is_equal_nocase(name, SLICE("content-type"))) b->has_content_type = true;
    if (!lua_istable(L, -1)) {
      if (!add_header_value(b, name)) return false;
      continue;
    }
    size_t count = lua_objlen(L, -1);
    for (size_t i = 1; i <= count; i++) {
      lua_rawgeti(L, -1, (int)i);
      if (!add_header_value(b, name)) return false;
      lua_pop(L, 1);
    }
  }
  return true;
}

/* --- cookies (RFC 6265 section 4.1) --- */

static bool is_cookie_value(slice text) {
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.data[i];
    if (c <= ' ' || c >= 0x7f || c == '"' || c == ',' || c == ';' || c == '\\') return false;
  }
  return true;
}

static bool is_attribute_value(slice text) {
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.data[i];
    if (c < ' ' || c >= 0x7f || c == ';') return false;
  }
  return true;
}

typedef struct {
  slice value;
  slice path;
  slice domain;
  slice same_site;
  double max_age;
  bool has_max_age;
  bool is_secure;
  bool is_http_only;
} cookie;

static bool read_cookie_text(struct builder *b, const char *key, slice *out) {
  if (lua_type(b->L, -1) != LUA_TSTRING) {
    return FAIL(b, "cookie option \"%s\" must be a string", key);
  }
  *out = script_slice_at(b->L, -1);
  if (!is_attribute_value(*out)) {
    return FAIL(b, "cookie option \"%s\" has characters that a cookie cannot have", key);
  }
  return true;
}

static bool read_same_site(struct builder *b, cookie *c) {
  if (!read_cookie_text(b, "same_site", &c->same_site)) return false;
  if (slice_is_equal(c->same_site, SLICE("Lax"))) return true;
  if (slice_is_equal(c->same_site, SLICE("Strict"))) return true;
  if (slice_is_equal(c->same_site, SLICE("None"))) return true;
  return FAIL(b, "cookie option \"same_site\" must be \"Lax\", \"Strict\" or \"None\"");
}

static bool read_cookie_option(struct builder *b, const char *key, cookie *c) {
  if (strcmp(key, "value") == 0) return read_cookie_text(b, key, &c->value);
  if (strcmp(key, "path") == 0) return read_cookie_text(b, key, &c->path);
  if (strcmp(key, "domain") == 0) return read_cookie_text(b, key, &c->domain);
  if (strcmp(key, "same_site") == 0) return read_same_site(b, c);
  if (strcmp(key, "max_age") == 0) {
    c->has_max_age = true;
    c->max_age = lua_tonumber(b->L, -1);
    if (lua_type(b->L, -1) == LUA_TNUMBER && c->max_age >= 0 && c->max_age < 1e12) return true;
    return FAIL(b, "cookie option \"max_age\" must be seconds");
  }
  if (strcmp(key, "secure") == 0) {
    c->is_secure = lua_toboolean(b->L, -1);
    return true;
  }
  if (strcmp(key, "http_only") == 0) {
    c->is_http_only = lua_toboolean(b->L, -1);
    return true;
  }
  return FAIL(b, "unknown cookie option \"%s\"", key);
}

static void append_attribute(struct buf *out, const char *name, slice value) {
  if (value.len == 0) return;
  buf_append(out, slice_of_string(name));
  buf_append(out, value);
}

/* The cookie `name` whose value is at the top of the stack. */
static bool add_cookie(struct builder *b, slice name) {
  lua_State *L = b->L;
  cookie c = {
      .path = SLICE("/"), .same_site = SLICE("Lax"), .is_http_only = true, .value = {"", 0}};
  if (lua_istable(L, -1)) {
    int table = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
      const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
      if (!read_cookie_option(b, key, &c)) return false;
    }
  } else if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) {
    c.has_max_age = true; /* of 0: it is gone at once */
  } else {
    return FAIL(b, "cookie \"%s\" must be a table of options, or false", name.data);
  }
  if (name.len == 0 || !http1_header_is_valid(name, SLICE("")) || !is_cookie_value(c.value)) {
    return FAIL(b, "cookie \"%s\" has characters that a cookie cannot have", name.data);
  }
  if (slice_is_equal(c.same_site, SLICE("None")) && !c.is_secure) {
    return FAIL(b, "cookie \"%s\": same_site \"None\" needs secure = true", name.data);
  }
  if (b->cookie_count == MAX_COOKIES) return FAIL(b, "at most %d cookies", MAX_COOKIES);
  struct buf *out = &b->script->cookies;
  buf_append(out, name);
  buf_append_char(out, '=');
  buf_append(out, c.value);
  if (c.has_max_age) buf_append_format(out, "; Max-Age=%.0f", floor(c.max_age));
  append_attribute(out, "; Path=", c.path);
  append_attribute(out, "; Domain=", c.domain);
  append_attribute(out, "; SameSite=", c.same_site);
  if (c.is_secure) buf_append(out, SLICE("; Secure"));
  if (c.is_http_only) buf_append(out, SLICE("; HttpOnly"));
  b->cookie_ends[b->cookie_count++] = out->len;
  return true;
}

static bool add_cookies(struct builder *b) {
  lua_State *L = b->L;
  if (!lua_istable(L, -1)) return FAIL(b, "response key \"cookies\" must be a table");
  int table = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) return FAIL(b, "cookie names are strings");
    if (!add_cookie(b, script_slice_at(L, -2))) return false;
  }
  return true;
}

/* When all are written: their bytes no longer move. */
static bool add_cookie_headers(struct builder *b) {
  size_t start = 0;
  for (size_t i = 0; i < b->cookie_count; i++) {
    slice value = slice_of(b->script->cookies.data + start, b->cookie_ends[i] - start);
    if (!add_header(b, SLICE("Set-Cookie"), value)) return false;
    start = b->cookie_ends[i];
  }
  return true;
}

/* --- keys --- */

static bool set_kind(struct builder *b, body_kind kind, const char *key) {
  if (b->body_key != NULL) {
    return FAIL(b, "a response has one of \"%s\" and \"%s\", not both", b->body_key, key);
  }
  b->body_key = key;
  b->kind = kind;
  return true;
}

static bool read_text(struct builder *b, body_kind kind, const char *key, slice *out) {
  if (lua_type(b->L, -1) != LUA_TSTRING) {
    return FAIL(b, "response key \"%s\" must be a string, not a %s", key, luaL_typename(b->L, -1));
  }
  *out = script_slice_at(b->L, -1);
  return set_kind(b, kind, key);
}

static bool read_status(struct builder *b) {
  double status = lua_tonumber(b->L, -1);
  bool is_whole = lua_type(b->L, -1) == LUA_TNUMBER && status == floor(status);
  if (!is_whole || !(status >= 200 && status <= 599)) {
    return FAIL(b, "response key \"status\" must be a whole number from 200 to 599");
  }
  b->response.status = (int)status;
  b->has_status = true;
  return true;
}

static bool read_json(struct builder *b) {
  lua_json_error error;
  struct buf *out = &b->script->scratch;
  buf_clear(out);
  if (!lua_json_encode(b->L, lua_gettop(b->L), out, &error)) {
    return FAIL(b, "response key \"json\": %s", error.message);
  }
  b->response.body = buf_peek(out);
  b->content_type = SLICE("application/json");
  return set_kind(b, BODY_TEXT, "json");
}

static bool read_key(struct builder *b, const char *key) {
  if (strcmp(key, "status") == 0) return read_status(b);
  if (strcmp(key, "headers") == 0) return add_headers(b);
  if (strcmp(key, "cookies") == 0) return add_cookies(b);
  if (strcmp(key, "json") == 0) return read_json(b);
  if (strcmp(key, "body") == 0) return read_text(b, BODY_TEXT, key, &b->response.body);
  if (strcmp(key, "html") == 0) {
    b->content_type = SLICE("text/html; charset=utf-8");
    return read_text(b, BODY_TEXT, key, &b->response.body);
  }
  if (strcmp(key, "file") == 0) return read_text(b, BODY_FILE, key, &b->target);
  if (strcmp(key, "redirect") == 0) return read_text(b, BODY_REDIRECT, key, &b->target);
  return FAIL(b, "unknown response key \"%s\"; meant json = {\xe2\x80\xa6}?", key);
}

static bool read_table(struct builder *b, int index) {
  lua_State *L = b->L;
  lua_settop(L, index);
  lua_checkstack(L, 16);
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_settop(L, index + 1)) {
    int value = lua_gettop(L);
    if (lua_type(L, -2) != LUA_TSTRING) {
      return FAIL(b, "unknown response key of type %s; meant json = {\xe2\x80\xa6}?",
                  luaL_typename(L, -2));
    }
    if (!read_key(b, lua_tostring(L, -2))) return false;
    lua_settop(L, value);
  }
  return true;
}

static bool is_inside(slice path) {
  if (path.len == 0 || path.data[0] == '/' || memchr(path.data, '\0', path.len) != NULL) {
    return false;
  }
  for (slice rest = path; rest.data != NULL;) {
    if (slice_is_equal(slice_split(&rest, '/'), SLICE(".."))) return false;
  }
  return true;
}

/* With --dev: the page goes with a tag at its end, and nobody keeps it. */
static bool add_dev_tag(struct builder *b, const struct exchange *exchange) {
  if (b->kind != BODY_TEXT || strcmp(b->body_key, "html") != 0) return true;
  if (!dev_is_page(exchange->request)) return true;
  struct buf *page = &b->script->scratch;
  buf_clear(page);
  buf_append(page, b->response.body);
  dev_append_tag(b->script->worker->gateway, page);
  b->response.body = buf_peek(page);
  return add_header(b, SLICE("Cache-Control"), SLICE("no-store"));
}

static bool finish(struct builder *b, struct exchange *exchange) {
  if (b->kind == BODY_REDIRECT) {
    if (!b->has_status) b->response.status = 303;
    if (b->response.status < 300 || b->response.status > 399) {
      return FAIL(b, "a redirect's status is from 300 to 399");
    }
    if (b->target.len == 0 || !http1_header_is_valid(SLICE("Location"), b->target)) {
      return FAIL(b, "response key \"redirect\" is no location");
    }
    if (!add_header(b, SLICE("Location"), b->target)) return false;
  }
  if (b->kind == BODY_TEXT && !b->has_content_type &&
      !add_header(b, SLICE("Content-Type"), b->content_type)) {
    return false;
  }
  if (!add_cookie_headers(b)) return false;
  if (b->script->is_dev && !add_dev_tag(b, exchange)) return false;
  b->response.headers = b->headers;
  if (b->kind != BODY_FILE) {
    exchange_respond(exchange, &b->response);
    return true;
  }
  if (!is_inside(b->target)) {
    return FAIL(b, "response key \"file\" must be a path below the script's directory");
  }
  exchange_respond_file(exchange, &b->response, slice_of_string(b->script->directory), b->target);
  return true;
}

bool lua_response_send(struct script *script, lua_State *L, int index, struct exchange *exchange) {
  if (lua_type(L, index) == LUA_TSTRING) {
    response_header type = {SLICE("Content-Type"), SLICE("text/plain; charset=utf-8")};
    response text = {
        .status = 200, .body = script_slice_at(L, index), .headers = &type, .header_count = 1};
    exchange_respond(exchange, &text);
    return true;
  }
  buf_clear(&script->message);
  buf_clear(&script->cookies);
  struct builder b;
  b.script = script;
  b.L = L;
  b.response = (response){.status = 200, .body = {"", 0}};
  b.number_count = 0;
  b.cookie_count = 0;
  b.kind = BODY_NONE;
  b.body_key = NULL;
  b.content_type = SLICE("text/plain; charset=utf-8");
  b.has_status = false;
  b.has_content_type = false;
  if (lua_type(L, index) != LUA_TTABLE) {
    return FAIL(&b, "the handler returned a %s; a response is a string or a table",
                luaL_typename(L, index));
  }
  if (!read_table(&b, index)) return false;
  return finish(&b, exchange);
}
