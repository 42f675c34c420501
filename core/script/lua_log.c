#include "script/lua_log.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/routes.h"
#include "script/lua_conn.h"
#include "script/lua_json.h"
#include "script/lua_task.h"

enum { MAX_SPEC = 16 /* "%-10.3f" and such */ };

/* A value as people read it: text as it is, tables as JSON. Runs no metamethod, raises nothing. */
static void append_value(struct buf *out, lua_State *L, int index) {
  lua_json_error error;
  switch (lua_type(L, index)) {
    case LUA_TSTRING:
      buf_append(out, script_slice_at(L, index));
      break;
    case LUA_TNUMBER:
      buf_append_format(out, "%.14g", lua_tonumber(L, index));
      break;
    case LUA_TBOOLEAN:
      buf_append_format(out, "%s", lua_toboolean(L, index) ? "true" : "false");
      break;
    case LUA_TTABLE:
      if (!lua_json_encode(L, index, out, &error)) {
        buf_append_format(out, "(a table: %s)", error.message);
      }
      break;
    case LUA_TNIL:
    case LUA_TNONE:
      buf_append_format(out, "nil");
      break;
    default:
      buf_append_format(out, "(a %s)", luaL_typename(L, index));
  }
}

/* Copies a conversion without its letter: flags, then at most two digits each of width and
 * precision. Returns its length in the format; 0 when it is none. */
static size_t take_spec(const char *format, char spec[MAX_SPEC]) {
  size_t len = 1 + strspn(format + 1, "-+ #0");
  size_t width = strspn(format + len, "0123456789");
  len += width;
  size_t precision = 0;
  if (format[len] == '.') {
    precision = strspn(format + len + 1, "0123456789");
    len += 1 + precision;
  }
  if (width > 2 || precision > 2 || len > MAX_SPEC - 4) return 0;
  memcpy(spec, format, len);
  spec[len] = '\0';
  return len;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
/* The conversion letter decides the type; the spec has flags, width and precision only. */
static void append_number(struct buf *out, char spec[MAX_SPEC], char letter, double number) {
  char text[384]; /* %.99f of the largest double has 309 + 1 + 99 characters and is cut */
  size_t len = strlen(spec);
  if (strchr("dicouxX", letter) != NULL && number >= -9.2e18 && number <= 9.2e18) {
    bool is_char = letter == 'c';
    snprintf(spec + len, MAX_SPEC - len, is_char ? "%c" : "ll%c", letter);
    if (is_char) {
      snprintf(text, sizeof text, spec, (int)number);
    } else {
      snprintf(text, sizeof text, spec, (long long)number);
    }
  } else {
    snprintf(spec + len, MAX_SPEC - len, "%c", strchr("eEfgGaA", letter) != NULL ? letter : 'g');
    snprintf(text, sizeof text, spec, number);
  }
  buf_append(out, slice_of_string(text));
}
#pragma GCC diagnostic pop

/* string.format that never raises: what does not fit its conversion is shown as it is. */
static void append_format(struct buf *out, lua_State *L, slice format, int count) {
  int argument = 2;
  const char *end = format.data + format.len;
  for (const char *at = format.data; at < end;) {
    const char *percent = memchr(at, '%', (size_t)(end - at));
    if (percent == NULL) percent = end;
    buf_append(out, slice_of(at, (size_t)(percent - at)));
    at = percent;
    if (at == end) return;
    if (at[1] == '%') {
      buf_append_char(out, '%');
      at += 2;
      continue;
    }
    char spec[MAX_SPEC];
    size_t len = take_spec(at, spec);
    char letter = len > 0 ? at[len] : '\0';
    if (letter == '\0' || strchr("sqdicouxXeEfgGaA", letter) == NULL) {
      buf_append_char(out, '%');
      at++;
      continue;
    }
    int index = argument <= count ? argument++ : count + 1;
    if (letter != 's' && letter != 'q' && lua_type(L, index) == LUA_TNUMBER) {
      append_number(out, spec, letter, lua_tonumber(L, index));
    } else {
      append_value(out, L, index);
    }
    at += len + 1;
  }
}

/* Writes what stands in script->message. */
static void write_message(struct script *script, log_level level) {
  const struct task *task = script->current;
  struct buf *out = &script->message;
  const struct generation *generation = script->is_loading ? script->loading
                                        : task != NULL     ? task->generation
                                                           : script->live;
  if (generation != NULL) {
    buf_append_format(out, " generation=%llu", (unsigned long long)generation->number);
  }
  if (task != NULL && task->route != NULL) {
    buf_append_format(out, " route=%s", task->route->pattern);
  }
  if (task != NULL && task->conn != NULL) {
    char id[GATEWAY_CONN_ID_BYTES];
    gateway_format_conn_id(script->worker->gateway, task->conn->subscriber.id, id);
    buf_append_format(out, " conn=%s", id);
  }
  /* A newline of a script's is data, not a continuation: it must not begin a line. */
  struct buf *line = &script->scratch;
  buf_clear(line);
  for (size_t i = 0; i < out->len && i < LOG_LINE_BYTES; i++) {
    if (out->data[i] == '\n') {
      buf_append(line, SLICE("\\n"));
    } else {
      buf_append_char(line, out->data[i]);
    }
  }
  log_write_text(level, buf_peek(line));
}

static int write_line(lua_State *L, log_level level) {
  if (!log_is_enabled(level)) return 0;
  struct script *script = script_of(L);
  int count = lua_gettop(L);
  buf_clear(&script->message);
  if (count > 1 && lua_type(L, 1) == LUA_TSTRING) {
    append_format(&script->message, L, script_slice_at(L, 1), count);
  } else {
    append_value(&script->message, L, 1);
  }
  write_message(script, level);
  return 0;
}

int lua_log_print(lua_State *L) {
  struct script *script = script_of(L);
  int count = lua_gettop(L);
  buf_clear(&script->message);
  for (int i = 1; i <= count; i++) {
    if (i > 1) buf_append_char(&script->message, ' ');
    append_value(&script->message, L, i);
  }
  write_message(script, LOG_INFO);
  return 0;
}

static int l_debug(lua_State *L) {
  return write_line(L, LOG_DEBUG);
}

static int l_info(lua_State *L) {
  return write_line(L, LOG_INFO);
}

static int l_warn(lua_State *L) {
  return write_line(L, LOG_WARN);
}

static int l_error(lua_State *L) {
  return write_line(L, LOG_ERROR);
}

static const luaL_Reg log_functions[] = {
    {"debug", l_debug}, {"info", l_info}, {"warn", l_warn}, {"error", l_error}, {NULL, NULL},
};

void lua_log_push(struct script *script) {
  lua_newtable(script->L);
  script_register(script, log_functions);
}
