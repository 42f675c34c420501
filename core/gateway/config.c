#define _GNU_SOURCE
#include "gateway/config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/listener.h"

enum {
  TIMEOUT_MAX_S = 3600,
  TIMEOUT_INITIAL_MS = 10000,
  NAME_BYTES = 64, /* of the longest "--limit-…" or "PERIGEE_LIMIT_…" */
  SIZE_BYTES = 32  /* of a number with its unit prefix */
};

_Static_assert(CONFIG_LISTENS == 16 && CONFIG_WORKERS_MAX == 64 && TIMEOUT_MAX_S == 3600,
               "the texts below say so");

static const char variable_prefix[] = "PERIGEE_";
static const char limit_prefix[] = "limit-";

/* One option of `serve`. A setter gives NULL, or what is wrong with the value: the rest of a
 * sentence that begins with it. */
typedef struct {
  const char *name;
  const char *value; /* what stands for it in the help; NULL: a switch, set with "1" or "0" */
  const char *initial;
  const char *help;
  const char *(*set)(struct config *config, const char *value);
  const char *(*set_variable)(struct config *config, const char *value); /* NULL: as `set` */
} option_info;

/* Where a name was read: the same option is --log-level here and PERIGEE_LOG_LEVEL there. */
typedef enum { ARGUMENTS, ENVIRONMENT } config_source;

/* --- values --- */

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* The digits at the start of `*text`, which moves behind them; false without any, and when the
 * number does not fit. */
static bool take_digits(const char **text, uint64_t *out) {
  uint64_t number = 0;
  if (!is_digit(**text)) return false;
  for (; is_digit(**text); ++*text) {
    if (__builtin_mul_overflow(number, 10, &number)) return false;
    if (__builtin_add_overflow(number, (uint64_t)(**text - '0'), &number)) return false;
  }
  *out = number;
  return true;
}

static bool parse_number(const char *text, uint64_t *out) {
  return take_digits(&text, out) && *text == '\0';
}

/* "64K", "64 KiB" and "65536" are the same. */
static bool parse_bytes(const char *text, uint64_t *out) {
  uint64_t number;
  uint64_t factor = 1;
  if (!take_digits(&text, &number)) return false;
  if (*text == ' ') text++;
  switch (ascii_lower(*text)) {
    case 'k':
      factor = KIB;
      break;
    case 'm':
      factor = MIB;
      break;
    case 'g':
      factor = GIB;
      break;
    default:
      break;
  }
  if (factor > 1) text++;
  if (factor > 1 && strcmp(text, "iB") == 0) text += 2;
  return *text == '\0' && !__builtin_mul_overflow(number, factor, out);
}

/* Seconds with decimals; what is finer than a millisecond is cut. */
static bool parse_seconds(const char *text, uint64_t *out_ms) {
  uint64_t seconds;
  uint64_t ms = 0;
  if (!take_digits(&text, &seconds) || seconds > TIMEOUT_MAX_S) return false;
  if (*text == '.') {
    text++;
    if (!is_digit(*text)) return false;
    for (uint64_t weight = 100; is_digit(*text); text++, weight /= 10) {
      ms += weight * (uint64_t)(*text - '0');
    }
  }
  *out_ms = seconds * 1000 + ms;
  return *text == '\0' && *out_ms <= (uint64_t)TIMEOUT_MAX_S * 1000;
}

/* --- options --- */

static const char *add_listen(struct config *config, const char *value) {
  if (!listener_is_address(value)) return "is not host:port, [ipv6]:port or unix:/path";
  if (config->listen_count == CONFIG_LISTENS) return "is one too many: 16 listeners are the most";
  config->listens[config->listen_count++] = value;
  return NULL;
}

static void forget_listen_variable(struct config *config) {
  if (config->listen_variable == NULL) return;
  mem_free(config->listen_variable);
  config->listen_variable = NULL;
  config->listen_count = 0;
}

static const char *set_listen(struct config *config, const char *value) {
  forget_listen_variable(config);
  return add_listen(config, value);
}

static const char *set_listen_variable(struct config *config, const char *value) {
  forget_listen_variable(config);
  config->listen_variable = mem_copy(slice_of_string(value));
  char *at = config->listen_variable;
  while (at != NULL) {
    char *address = at + strspn(at, " ");
    at = strchr(address, ',');
    if (at != NULL) *at++ = '\0';
    const char *problem = add_listen(config, address);
    if (problem != NULL) return problem;
  }
  return NULL;
}

static const char *set_control(struct config *config, const char *value) {
  char where[LISTENER_NAME_BYTES];
  int len = snprintf(where, sizeof where, "unix:%s", value);
  if (len >= (int)sizeof where || !listener_is_address(where)) {
    return "is no path that a Unix socket can have";
  }
  config->control = value;
  return NULL;
}

static const char *set_workers(struct config *config, const char *value) {
  uint64_t number;
  if (!parse_number(value, &number) || number < 1 || number > CONFIG_WORKERS_MAX) {
    return "is not a whole number from 1 to 64";
  }
  config->workers = (size_t)number;
  return NULL;
}

static const char *set_log_level(struct config *config, const char *value) {
  bool is_known = log_level_parse(slice_of_string(value), &config->log_level);
  return is_known ? NULL : "is not debug, info, warn, error or off";
}

static const char *set_timeout(uint64_t *timeout_ms, const char *value) {
  uint64_t ms;
  if (!parse_seconds(value, &ms)) return "is not a number of seconds from 0 to 3600";
  *timeout_ms = ms;
  return NULL;
}

static const char *set_drain_timeout(struct config *config, const char *value) {
  return set_timeout(&config->drain_timeout_ms, value);
}

static const char *set_stall_timeout(struct config *config, const char *value) {
  return set_timeout(&config->stall_timeout_ms, value);
}

static const char *set_switch(bool *is_on, const char *value) {
  bool is_one = strcmp(value, "1") == 0;
  if (!is_one && strcmp(value, "0") != 0) return "is not 1 or 0";
  *is_on = is_one;
  return NULL;
}

static const char *set_supervise(struct config *config, const char *value) {
  return set_switch(&config->is_supervised, value);
}

static const char *set_test(struct config *config, const char *value) {
  return set_switch(&config->is_test, value);
}

static const char *set_freeze(struct config *config, const char *value) {
  return set_switch(&config->is_frozen, value);
}

static const char *set_no_watch(struct config *config, const char *value) {
  return set_switch(&config->is_unwatched, value);
}

static const char *set_dev(struct config *config, const char *value) {
  return set_switch(&config->is_dev, value);
}

static const char *set_unsafe(struct config *config, const char *value) {
  return set_switch(&config->is_unsafe, value);
}

static const char *set_script(struct config *config, const char *value) {
  config->script = value;
  return NULL;
}

static const option_info options[] = {
    {"listen", "WHERE", "127.0.0.1:3000 and [::1]:3000",
     "host:port, [ipv6]:port, :port for all addresses, or unix:/path; port 0 takes a free one.\n"
     "May be given up to 16 times; in the variable, commas separate.",
     set_listen, set_listen_variable},
    {"workers", "N", "one for each processor",
     "threads that serve connections, each with the script loaded once; 1 to 64", set_workers,
     NULL},
    {"control", "PATH", "none",
     "a Unix socket, its owner's alone, for `perigee reload --control PATH`", set_control, NULL},
    {"log-level", "LEVEL", "info",
     "the least that is written to standard error: debug, info, warn, error or off", set_log_level,
     NULL},
    {"drain-timeout", "SECONDS", "10",
     "how long connections have to end in good order after SIGTERM or SIGINT; 0 to 3600",
     set_drain_timeout, NULL},
    {"stall-timeout", "SECONDS", "10",
     "a handler that has held up its worker for so long is named in the log; 0 to 3600, 0: never",
     set_stall_timeout, NULL},
    {"no-watch", NULL, "off",
     "a saved script does not go live by itself; SIGHUP and `perigee reload` reload it",
     set_no_watch, NULL},
    {"dev", NULL, "off",
     "while you write: errors as pages with source and traceback, and pages that reload themselves",
     set_dev, NULL},
    {"supervise", NULL, "off",
     "a parent process keeps the sockets, and restarts a gateway that crashed or is stuck",
     set_supervise, NULL},
    {"test", NULL, "off",
     "for specs: a listener of its own for each worker, commands on standard input", set_test,
     NULL},
    {"freeze", NULL, "off", "with --test: time stands still from the start", set_freeze, NULL},
    {"unsafe", NULL, "off", "the script may use ffi, os.execute and the rest that is kept from it",
     set_unsafe, NULL},
};

enum { OPTION_COUNT = sizeof options / sizeof options[0] };

/* No option of the command line: there it is the one argument without dashes. */
static const option_info script_variable = {.name = "script", .set = set_script};

/* --- names --- */

/* As the tables spell names, dashes and underscores alike; NUL for what cannot be in one. */
static char fold(char c, config_source source) {
  if (c == '_') return '-';
  if (source == ARGUMENTS) return c;
  return c >= 'A' && c <= 'Z' ? ascii_lower(c) : '\0';
}

static bool has_folded_prefix(slice given, const char *prefix, config_source source) {
  size_t len = strlen(prefix);
  if (given.len < len) return false;
  for (size_t i = 0; i < len; i++) {
    if (fold(given.data[i], source) != fold(prefix[i], ARGUMENTS)) return false;
  }
  return true;
}

static bool is_name(slice given, const char *name, config_source source) {
  return given.len == strlen(name) && has_folded_prefix(given, name, source);
}

static const option_info *find_option(slice given, config_source source) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    if (is_name(given, options[i].name, source)) return &options[i];
  }
  if (source == ENVIRONMENT && is_name(given, script_variable.name, source)) {
    return &script_variable;
  }
  return NULL;
}

/* `given` without its "limit-"; NULL when no limit has that name. */
static const limit_info *find_limit(slice given, config_source source) {
  for (size_t i = 0; i < LIMIT_COUNT; i++) {
    if (is_name(given, limit_infos[i].name, source)) return &limit_infos[i];
  }
  return NULL;
}

/* "PERIGEE_LOG_LEVEL" of "log-level"; `out` has NAME_BYTES. */
static const char *variable_name(const char *name, char *out) {
  snprintf(out, NAME_BYTES, "%s%s", variable_prefix, name);
  for (char *at = out; *at != '\0'; at++) {
    if (*at == '-') *at = '_';
    if (*at >= 'a' && *at <= 'z') *at = (char)(*at - 'a' + 'A');
  }
  return out;
}

/* "--limit-header-bytes" of "header_bytes"; `out` has NAME_BYTES. */
static const char *limit_option_name(const char *name, char *out) {
  snprintf(out, NAME_BYTES, "--%s%s", limit_prefix, name);
  for (char *at = out; *at != '\0'; at++) {
    if (*at == '_') *at = '-';
  }
  return out;
}

/* --- limits --- */

static bool is_in_bytes(const limit_info *limit) {
  return strcmp(limit->unit, "bytes") == 0;
}

/* "16 KiB" where that is exact, else the number; `out` has SIZE_BYTES. */
static const char *format_size(const limit_info *limit, uint64_t size, char *out) {
  static const char *const prefixes[] = {"", " KiB", " MiB", " GiB"};
  size_t prefix = 0;
  while (is_in_bytes(limit) && size > 0 && size % KIB == 0 && prefix < 3) {
    size /= KIB;
    prefix++;
  }
  snprintf(out, SIZE_BYTES, "%llu%s", (unsigned long long)size, prefixes[prefix]);
  return out;
}

static bool set_limit(struct config *config, const limit_info *limit, const char *value,
                      slice label, struct buf *error) {
  uint64_t number;
  bool is_number = is_in_bytes(limit) ? parse_bytes(value, &number) : parse_number(value, &number);
  if (is_number && number >= limit->smallest && number <= limit->largest) {
    memcpy((char *)&config->limits + limit->offset, &number, sizeof number);
    return true;
  }
  char smallest[SIZE_BYTES];
  char largest[SIZE_BYTES];
  buf_append_format(error, "%.*s: \"%s\" is not a number of %s from %s to %s", (int)label.len,
                    label.data, value, limit->unit, format_size(limit, limit->smallest, smallest),
                    format_size(limit, limit->largest, largest));
  return false;
}

/* --- environment --- */

static bool set_option(struct config *config, const option_info *option, config_source source,
                       const char *value, slice label, struct buf *error) {
  bool is_variable = source == ENVIRONMENT && option->set_variable != NULL;
  const char *problem = (is_variable ? option->set_variable : option->set)(config, value);
  if (problem == NULL) return true;
  buf_append_format(error, "%.*s: \"%s\" %s", (int)label.len, label.data, value, problem);
  return false;
}

/* `entry` is "NAME=value". */
static bool read_variable(struct config *config, const char *entry, struct buf *error) {
  slice value = slice_of_string(entry);
  slice label = slice_split(&value, '=');
  slice prefix = SLICE("PERIGEE_");
  if (!slice_has_prefix(label, prefix) || value.len == 0) return true;
  slice name = slice_skip(label, prefix.len);
  if (has_folded_prefix(name, limit_prefix, ENVIRONMENT)) {
    const limit_info *limit = find_limit(slice_skip(name, strlen(limit_prefix)), ENVIRONMENT);
    if (limit != NULL) return set_limit(config, limit, value.data, label, error);
    buf_append_format(error, "unknown variable %.*s; see 'perigee help limits'", (int)label.len,
                      label.data);
    return false;
  }
  const option_info *option = find_option(name, ENVIRONMENT);
  return option == NULL || set_option(config, option, ENVIRONMENT, value.data, label, error);
}

static bool read_environment(struct config *config, struct buf *error) {
  for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
    if (!read_variable(config, *entry, error)) return false;
  }
  return true;
}

/* --- arguments --- */

/* Those of `serve`, taken one after the other. */
typedef struct {
  char **next;
  char **end;
} argument_list;

/* The value of the option called `label`: behind its "=" (`attached`), or the next argument. One
 * that begins with two dashes is taken for the next option. */
static const char *take_value(argument_list *list, slice label, slice attached, struct buf *error) {
  if (attached.data != NULL) return attached.data;
  if (list->next < list->end && strncmp(*list->next, "--", 2) != 0) return *list->next++;
  buf_append_format(error, "option %.*s needs a value; see 'perigee help serve'", (int)label.len,
                    label.data);
  return NULL;
}

static bool refuse_option(slice label, bool is_limit, struct buf *error) {
  buf_append_format(error, "unknown option %.*s; see 'perigee help %s'", (int)label.len, label.data,
                    is_limit ? "limits" : "serve");
  return false;
}

static bool read_option(struct config *config, argument_list *list, struct buf *error) {
  slice attached = slice_of_string(*list->next++);
  slice label = slice_split(&attached, '=');
  if (!slice_has_prefix(label, SLICE("--"))) return refuse_option(label, false, error);
  slice name = slice_skip(label, 2);
  bool is_limit = has_folded_prefix(name, limit_prefix, ARGUMENTS);
  const limit_info *limit =
      is_limit ? find_limit(slice_skip(name, strlen(limit_prefix)), ARGUMENTS) : NULL;
  const option_info *option = find_option(name, ARGUMENTS);
  if (limit == NULL && option == NULL) return refuse_option(label, is_limit, error);
  if (limit == NULL && option->value == NULL) {
    if (attached.data == NULL) return set_option(config, option, ARGUMENTS, "1", label, error);
    buf_append_format(error, "option %.*s takes no value", (int)label.len, label.data);
    return false;
  }
  const char *value = take_value(list, label, attached, error);
  if (value == NULL) return false;
  if (limit != NULL) return set_limit(config, limit, value, label, error);
  return set_option(config, option, ARGUMENTS, value, label, error);
}

static bool read_script(struct config *config, const char *script, bool *has_script,
                        struct buf *error) {
  if (*has_script) {
    buf_append_format(error, "one script is served, and \"%s\" is a second one", script);
    return false;
  }
  if (script[0] == '\0') {
    buf_append_format(error, "the script's name is empty");
    return false;
  }
  *has_script = true;
  config->script = script;
  return true;
}

static bool read_arguments(struct config *config, int count, char **arguments, struct buf *error) {
  argument_list list = {arguments, arguments + count};
  bool has_script = false;
  bool has_ended = false; /* "--" was there: no options any more */
  while (list.next < list.end) {
    const char *argument = *list.next;
    if (!has_ended && strcmp(argument, "--") == 0) {
      has_ended = true;
      list.next++;
    } else if (!has_ended && argument[0] == '-') {
      if (!read_option(config, &list, error)) return false;
    } else {
      if (!read_script(config, *list.next++, &has_script, error)) return false;
    }
  }
  return true;
}

/* --- all --- */

static size_t processor_count(void) {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  if (count < 1) return 1;
  return count < CONFIG_WORKERS_MAX ? (size_t)count : CONFIG_WORKERS_MAX;
}

bool config_parse(struct config *config, int count, char **arguments, struct buf *error) {
  *config = (struct config){
      .script = "main.lua",
      .workers = processor_count(),
      .log_level = LOG_INFO,
      .drain_timeout_ms = TIMEOUT_INITIAL_MS,
      .stall_timeout_ms = TIMEOUT_INITIAL_MS,
  };
  limits_init(&config->limits);
  return read_environment(config, error) && read_arguments(config, count, arguments, error);
}

void config_deinit(struct config *config) {
  forget_listen_variable(config);
}

/* --- help --- */

/* Indented; a newline begins a line of its own. */
static void append_help(struct buf *out, const char *help) {
  slice rest = slice_of_string(help);
  while (rest.data != NULL) {
    slice line = slice_split(&rest, '\n');
    buf_append_format(out, "      %.*s\n", (int)line.len, line.data);
  }
}

void config_help_serve(struct buf *out) {
  buf_append(out, SLICE("Usage: perigee serve [script] [options]\n"
                        "\n"
                        "Serves the script until SIGTERM or SIGINT; a second one ends at once.\n"
                        "When ready it says `listening on http://…`, one line a listener.\n"
                        "\n"
                        "Each option is a variable of the environment too; the command line wins.\n"
                        "\n"));
  buf_append_format(out, "  %-26s%-24sdefault %s\n", "[script]", "PERIGEE_SCRIPT", "main.lua");
  append_help(out, "the Lua file that declares routes and topics and returns its app");
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const option_info *option = &options[i];
    char name[NAME_BYTES];
    char variable[NAME_BYTES];
    bool is_switch = option->value == NULL;
    snprintf(name, sizeof name, "--%s %s", option->name, is_switch ? "" : option->value);
    variable_name(option->name, variable);
    if (is_switch) snprintf(variable + strlen(variable), 3, "=1");
    buf_append_format(out, "  %-26s%-24sdefault %s\n", name, variable, option->initial);
    append_help(out, option->help);
  }
  buf_append_format(out, "  %-26s%-24ssee 'perigee help limits'\n", "--limit-NAME N",
                    "PERIGEE_LIMIT_NAME");
  append_help(out, "sets a limit; sizes may end in K, M or G (1024 to the power of 1, 2, 3)");
  buf_append(out, SLICE("  -h, --help\n"));
  append_help(out, "this text");
  buf_append(out, SLICE("  --\n"));
  append_help(out, "ends the options: what follows is the script, whatever it begins with");
}

void config_help_limits(struct buf *out) {
  buf_append(out, SLICE("Limits of `perigee serve`: --limit-NAME N, or PERIGEE_LIMIT_NAME in the\n"
                        "environment with underscores for dashes. Sizes may end in K, M or G\n"
                        "(1024 to the power of 1, 2, 3): --limit-header-bytes 32K\n"
                        "\n"));
  buf_append_format(out, "  %-34s%-22s%-13s%s\n", "option", "default", "unit", "range");
  for (size_t i = 0; i < LIMIT_COUNT; i++) {
    const limit_info *limit = &limit_infos[i];
    char name[NAME_BYTES];
    char initial[SIZE_BYTES];
    char smallest[SIZE_BYTES];
    char largest[SIZE_BYTES];
    char exact[SIZE_BYTES + 24];
    format_size(limit, limit->initial, initial);
    if (strchr(initial, ' ') == NULL) {
      snprintf(exact, sizeof exact, "%s", initial);
    } else {
      snprintf(exact, sizeof exact, "%s (%llu)", initial, (unsigned long long)limit->initial);
    }
    buf_append_format(out, "\n  %-34s%-22s%-13s%s to %s\n", limit_option_name(limit->name, name),
                      exact, limit->unit, format_size(limit, limit->smallest, smallest),
                      format_size(limit, limit->largest, largest));
    append_help(out, limit->help);
  }
}
