/* The gateway's log: one line a call, on standard error, with time, level and where it comes from.
 *
 * Any thread. Control characters are escaped and a line ends after LOG_LINE_BYTES, so that no peer
 * and no script can forge or flood lines. */
#ifndef PERIGEE_BASE_LOG_H
#define PERIGEE_BASE_LOG_H

#include <stdbool.h>

#include "base/slice.h"

typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF } log_level;

enum { LOG_LINE_BYTES = 8 * 1024 };

/* Levels in colour, for a terminal; off by default. Before there are threads that log. */
void log_use_colour(bool is_wanted);

/* Lines below this level are not written. The default is LOG_INFO. */
void log_set_level(log_level level);
bool log_is_enabled(log_level level);
/* "debug", "info", "warn", "error", "off"; false for anything else. */
bool log_level_parse(slice name, log_level *out);

/* Where lines go, whole and with their newline: to standard error by default, and with NULL. Before
 * there are threads that log. */
typedef void (*log_sink)(void *context, slice line);
void log_set_sink(log_sink sink, void *context);

/* What the lines of this thread carry besides time and level, "worker 2" say; copied, cut at 63
 * bytes. */
void log_set_thread_label(const char *text);

void log_write(log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for text that is not a format. A newline in it begins a continuation line, indented, so
 * that a traceback is readable. */
void log_write_text(log_level level, slice text);

#define log_debug(...)                                                \
  do {                                                                \
    if (log_is_enabled(LOG_DEBUG)) log_write(LOG_DEBUG, __VA_ARGS__); \
  } while (0)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
