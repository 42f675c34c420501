#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

static const char *const names[] = {"debug", "info", "warn", "error", "off"};
/* For a terminal: what begins the level; it ends with the usual. */
static const char *const colours[] = {"\x1b[2m", "", "\x1b[33m", "\x1b[31m", ""};
static bool has_colour;
static atomic_int threshold = LOG_INFO;
static _Thread_local char label[64];

/* One write a line, so that lines of several threads do not mix. A full pipe loses the line: the
 * gateway does not stop for its log. */
static void write_to_stderr(void *context, slice line) {
  (void)context;
  ssize_t ignored = write(STDERR_FILENO, line.data, line.len);
  (void)ignored;
}

static log_sink current_sink = write_to_stderr;
static void *sink_context;

void log_set_sink(log_sink sink, void *context) {
  current_sink = sink != NULL ? sink : write_to_stderr;
  sink_context = context;
}

void log_use_colour(bool is_wanted) {
  has_colour = is_wanted;
}

void log_set_level(log_level level) {
  atomic_store(&threshold, (int)level);
}

bool log_is_enabled(log_level level) {
  return (int)level >= atomic_load_explicit(&threshold, memory_order_relaxed);
}

bool log_level_parse(slice name, log_level *out) {
  for (int i = LOG_DEBUG; i <= LOG_OFF; i++) {
    if (!slice_is_equal(name, slice_of_string(names[i]))) continue;
    *out = (log_level)i;
    return true;
  }
  return false;
}

void log_set_thread_label(const char *text) {
  snprintf(label, sizeof label, "%s", text);
}

/* Writes one character's log form to `out` and returns its length, at most 5. */
static size_t escape(char c, char *out) {
  static const char digits[] = "0123456789abcdef";
  unsigned char byte = (unsigned char)c;
  if (c == '\n') {
    memcpy(out, "\n    ", 5);
    return 5;
  }
  if (byte >= 0x20 && byte != 0x7f) {
    *out = c;
    return 1;
  }
  if (c == '\t') {
    *out = ' ';
    return 1;
  }
  memcpy(out, "\\x", 2);
  out[2] = digits[byte >> 4];
  out[3] = digits[byte & 15];
  return 4;
}

void log_write_text(log_level level, slice text) {
  if (!log_is_enabled(level)) return;
  char line[LOG_LINE_BYTES + 8];
  char time[CLOCK_ISO_BYTES];
  clock_format_iso(clock_wall_ms(), time);
  bool is_coloured = has_colour && colours[level][0] != '\0';
  size_t len = (size_t)snprintf(line, sizeof line, "%s %s%-5s%s %s%s", time,
                                is_coloured ? colours[level] : "", names[level],
                                is_coloured ? "\x1b[0m" : "", label, label[0] != '\0' ? " " : "");
  while (text.len > 0 && text.data[text.len - 1] == '\n') text.len--;
  for (size_t i = 0; i < text.len && len < LOG_LINE_BYTES - 8; i++) {
    len += escape(text.data[i], line + len);
  }
  line[len++] = '\n';
  current_sink(sink_context, slice_of(line, len));
}

void log_write(log_level level, const char *format, ...) {
  if (!log_is_enabled(level)) return;
  char text[LOG_LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  int len = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (len < 0) return;
  if ((size_t)len >= sizeof text) len = (int)sizeof text - 1;
  log_write_text(level, slice_of(text, (size_t)len));
}
