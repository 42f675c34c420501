#define _GNU_SOURCE
#include "script/lua_error_page.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/dev.h"
#include "gateway/gateway.h"
#include "gateway/sources.h"
#include "script/lua_sandbox.h"

enum {
  MESSAGE_BYTES = 4 * 1024, /* an error may hold what a peer has sent */
  TRACEBACK_BYTES = 16 * 1024,
  LINE_BYTES = 200,
  LINES_AROUND = 5,
};

struct page {
  struct buf out;
  struct gateway *gateway;
  bool is_html;
};

/* A line of a file that the script was loaded from. */
typedef struct {
  slice path; /* data NULL: not known */
  int line;
} place;

/* --- text --- */

static void append_escaped(struct buf *out, char c) {
  switch (c) {
    case '<':
      buf_append(out, SLICE("&lt;"));
      break;
    case '>':
      buf_append(out, SLICE("&gt;"));
      break;
    case '&':
      buf_append(out, SLICE("&amp;"));
      break;
    case '"':
      buf_append(out, SLICE("&quot;"));
      break;
    default:
      buf_append_char(out, c);
  }
}

/* Nothing in it is obeyed, by a browser or by a terminal. */
static void append_text(struct page *page, slice text, size_t max_bytes) {
  size_t len = text.len < max_bytes ? text.len : max_bytes;
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text.data[i];
    bool is_control = (c < ' ' && c != '\n' && c != '\t') || c == 0x7f;
    if (page->is_html) {
      append_escaped(&page->out, is_control ? '?' : (char)c);
    } else {
      buf_append_char(&page->out, is_control ? '?' : (char)c);
    }
  }
  if (len < text.len) buf_append(&page->out, SLICE(" \xe2\x80\xa6"));
}

static void append_string(struct page *page, const char *text) {
  append_text(page, slice_of_string(text), MESSAGE_BYTES);
}

/* Ours, of which there is one for each kind. */
static void append_markup(struct page *page, const char *html, const char *plain) {
  buf_append(&page->out, slice_of_string(page->is_html ? html : plain));
}

/* --- where --- */

static slice line_at(const struct task *task, slice path, int line) {
  slice none = {NULL, 0};
  const struct script *script = task->script;
  /* The texts are those of the live generation. */
  if (task->generation != script->live || line < 1) return none;
  return sources_line(script->live->sources, path, (unsigned)line);
}

/* "main.lua:12: …". Where it is raised for a caller, that is not the innermost function. */
static place place_of_message(const struct task *task, const char *message) {
  place none = {{NULL, 0}, 0};
  if (!sandbox_has_position(message)) return none;
  slice rest = slice_of_string(message);
  place found = {.path = slice_split(&rest, ':')};
  if (rest.data == NULL) return none;
  long line = strtol(rest.data, NULL, 10);
  found.line = line < INT_MAX - LINES_AROUND ? (int)line : 0;
  return line_at(task, found.path, found.line).data != NULL ? found : none;
}

static place place_of_frame(const struct task *task) {
  lua_Debug frame;
  for (int level = 0; lua_getstack(task->L, level, &frame); level++) {
    lua_getinfo(task->L, "Sl", &frame);
    if (frame.source[0] == '@' && frame.currentline > 0) {
      return (place){slice_of_string(frame.source + 1), frame.currentline};
    }
  }
  return (place){{NULL, 0}, 0};
}

static place place_of_function(const struct task *task, int handler) {
  lua_Debug function;
  ref_push(task->script->L, handler);
  lua_getinfo(task->script->L, ">S", &function);
  if (function.source[0] != '@') return (place){{NULL, 0}, 0};
  return (place){slice_of_string(function.source + 1), function.linedefined};
}

static place find_place(const struct task *task, int handler, const char *fault) {
  if (fault != NULL) return place_of_function(task, handler);
  place found = place_of_message(task, task->error);
  if (found.path.data == NULL) found = place_of_frame(task);
  return found.path.data != NULL ? found : place_of_function(task, handler);
}

/* --- the parts --- */

static const char style[] =
    "<style>:root{color-scheme:light dark}"
    "body{max-width:960px;margin:0 auto;padding:24px 16px;font:16px/1.5 system-ui,sans-serif}"
    "h1{font-size:22px;line-height:1.3;white-space:pre-wrap;overflow-wrap:anywhere}"
    "h2{font-size:16px;margin:24px 0 8px}"
    "pre{margin:0;padding:12px 16px;overflow-x:auto;font:14px/1.5 ui-monospace,monospace;"
    "background:#8881;border:1px solid #8884;border-radius:6px}"
    "mark{display:inline-block;min-width:100%;color:inherit;background:#e5484d44}"
    "#perigee-dev{white-space:pre-wrap;overflow-wrap:anywhere;color:#fff;background:#7d1a1a}</"
    "style>\n";

static void append_head(struct page *page, const char *message) {
  append_markup(page,
                "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                "");
  if (page->is_html) append_text(page, slice_of_string(message), LINE_BYTES);
  append_markup(page, "</title>\n", "");
  append_markup(page, style, "");
}

/* What is shown below is then not what was saved last. */
static void append_failed_load(struct page *page) {
  struct buf failure;
  buf_init(&failure, 0);
  if (dev_append_failure(page->gateway, &failure)) {
    /* The tag's script takes this for its box. */
    append_markup(page,
                  "<h2>The script that was saved last does not load</h2>\n"
                  "<pre id=\"perigee-dev\" role=\"alert\">",
                  "The script that was saved last does not load:\n");
    append_text(page, buf_peek(&failure), TRACEBACK_BYTES);
    append_markup(page, "</pre>\n", "\n\n");
  }
  buf_deinit(&failure);
}

static void append_error(struct page *page, const struct task *task,
                         const struct exchange *exchange, const char *message) {
  append_markup(page, "<h1>", "");
  append_string(page, message);
  append_markup(page, "</h1>\n<p>", "\n\n");
  buf_append_format(&page->out, "in %s of ", task->event);
  append_text(page, request_method(exchange->request), LINE_BYTES);
  buf_append_char(&page->out, ' ');
  append_string(page, task->route->pattern);
  buf_append_format(&page->out, ", generation %llu", (unsigned long long)task->generation->number);
  append_markup(page, "</p>\n", "\n");
}

static void append_line(struct page *page, slice text, int number, bool is_marked) {
  append_markup(page, is_marked ? "<mark>&gt;" : " ", is_marked ? ">" : " ");
  buf_append_format(&page->out, "%5d | ", number);
  append_text(page, text, LINE_BYTES);
  if (is_marked) append_markup(page, "</mark>", "");
  buf_append_char(&page->out, '\n');
}

static void append_source(struct page *page, const struct task *task, place where) {
  if (where.path.data == NULL) return;
  append_markup(page, "<h2>", "\n");
  append_text(page, where.path, MESSAGE_BYTES);
  buf_append_format(&page->out, ":%d", where.line);
  append_markup(page, "</h2>\n", "\n");
  if (line_at(task, where.path, where.line).data == NULL) return;
  append_markup(page, "<pre>", "");
  for (int number = where.line - LINES_AROUND; number <= where.line + LINES_AROUND; number++) {
    slice text = line_at(task, where.path, number);
    if (text.data != NULL) append_line(page, text, number, number == where.line);
  }
  append_markup(page, "</pre>\n", "");
}

static void append_traceback(struct page *page, const struct task *task) {
  lua_State *L = task->script->L;
  luaL_traceback(L, task->L, NULL, 0);
  append_markup(page, "<h2>Traceback</h2>\n<pre>", "\n");
  append_text(page, script_slice_at(L, -1), TRACEBACK_BYTES);
  append_markup(page, "</pre>\n", "\n");
  lua_pop(L, 1);
}

static bool wants_html(const struct request *request) {
  slice accept = request_find_header(request, SLICE("accept"));
  return accept.data != NULL && memmem(accept.data, accept.len, "text/html", 9) != NULL;
}

void lua_error_page_send(const struct task *task, struct exchange *exchange, int handler,
                         const char *fault) {
  struct page page = {.gateway = task->script->worker->gateway,
                      .is_html = wants_html(exchange->request)};
  const char *message = fault != NULL ? fault : task->error;
  buf_init(&page.out, 0);
  append_head(&page, message);
  append_failed_load(&page);
  append_error(&page, task, exchange, message);
  append_source(&page, task, find_place(task, handler, fault));
  if (fault == NULL) append_traceback(&page, task);
  if (page.is_html && dev_is_page(exchange->request)) dev_append_tag(page.gateway, &page.out);
  response_header headers[] = {
      {SLICE("Content-Type"),
       page.is_html ? SLICE("text/html; charset=utf-8") : SLICE("text/plain; charset=utf-8")},
      {SLICE("Cache-Control"), SLICE("no-store")},
      {SLICE("X-Content-Type-Options"), SLICE("nosniff")}};
  response answer = {
      .status = 500, .body = buf_peek(&page.out), .headers = headers, .header_count = 3};
  exchange_respond(exchange, &answer);
  buf_deinit(&page.out);
}
