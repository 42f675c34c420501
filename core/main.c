/* The program: what is asked for on the command line, and the exit code.
 *
 * 0: done, or ended in good order; 1: it could not serve; 2: it was called wrongly. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "command_check.h"
#include "command_new.h"
#include "command_reload.h"
#include "command_test.h"
#include "gateway/config.h"
#include "gateway/gateway.h"
#include "script/lua_state.h"

enum { EXIT_GOOD = 0, EXIT_FAILED = 1, EXIT_MISUSED = 2 };

typedef struct {
  const char *name;
  const char *help; /* its line in the overview */
  int (*run)(int count, char **arguments);
  void (*write_help)(struct buf *out);
} command_info;

static const command_info *find_command(const char *name);
static void write_overview(struct buf *out);

/* Nothing for a terminal to obey, but for those in `allowed`. */
static void replace_controls(struct buf *text, const char *allowed) {
  for (size_t i = 0; i < text->len; i++) {
    unsigned char c = (unsigned char)text->data[i];
    bool is_control = c < ' ' || c == 0x7f;
    if (is_control && (c == '\0' || strchr(allowed, c) == NULL)) text->data[i] = '?';
  }
}

/* One line on standard error, whatever the arguments in it hold. */
static int complain(struct buf *message) {
  replace_controls(message, "");
  fprintf(stderr, "perigee: %.*s\n", (int)message->len, message->data);
  buf_deinit(message);
  return EXIT_MISUSED;
}

static int print_help(void (*write_help)(struct buf *out)) {
  struct buf text;
  buf_init(&text, 0);
  write_help(&text);
  bool is_written = fwrite(text.data, 1, text.len, stdout) == text.len && fflush(stdout) == 0;
  buf_deinit(&text);
  return is_written ? EXIT_GOOD : EXIT_FAILED;
}

static bool is_help_option(const char *argument) {
  return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static bool has_help_option(int count, char **arguments) {
  for (int i = 0; i < count && strcmp(arguments[i], "--") != 0; i++) {
    if (is_help_option(arguments[i])) return true;
  }
  return false;
}

static int refuse_argument(const char *command, const char *argument) {
  struct buf message;
  buf_init(&message, 0);
  buf_append_format(&message, "unknown argument \"%s\"; see 'perigee help %s'", argument, command);
  return complain(&message);
}

static int serve(struct config *config) {
  /* A peer that is gone is told by the failing write; it must not end the process. */
  signal(SIGPIPE, SIG_IGN);
  return gateway_run(config, &lua_hooks);
}

/* A command that takes the arguments of `perigee serve`. */
static int run_configured(int count, char **arguments, int (*run)(struct config *config)) {
  struct config config;
  struct buf error;
  int code;
  buf_init(&error, 0);
  if (config_parse(&config, count, arguments, &error)) {
    log_set_level(config.log_level);
    log_use_colour(terminal_wants_colour(STDERR_FILENO));
    code = run(&config);
  } else {
    code = complain(&error);
  }
  config_deinit(&config);
  buf_deinit(&error);
  return code;
}

static int run_serve(int count, char **arguments) {
  return run_configured(count, arguments, serve);
}

static int run_check(int count, char **arguments) {
  return run_configured(count, arguments, command_check);
}

static int run_routes(int count, char **arguments) {
  return run_configured(count, arguments, command_routes);
}

static void write_serve_help(struct buf *out) {
  config_help_serve(out);
}

static int run_reload(int count, char **arguments) {
  const char *path = getenv("PERIGEE_CONTROL");
  struct buf text;
  buf_init(&text, 0);
  for (int i = 0; i < count; i++) {
    if (strncmp(arguments[i], "--control=", 10) == 0) {
      path = arguments[i] + 10;
    } else if (strcmp(arguments[i], "--control") == 0 && i + 1 < count) {
      path = arguments[++i];
    } else {
      return refuse_argument("reload", arguments[i]);
    }
  }
  if (path == NULL || path[0] == '\0') {
    buf_append(&text, SLICE("which gateway? --control PATH, as serve has it; see 'perigee help"
                            " reload'"));
    return complain(&text);
  }
  bool is_live = command_reload_run(path, &text);
  replace_controls(&text, "\n");
  fprintf(is_live ? stdout : stderr, "%s%.*s\n", is_live ? "" : "perigee: ", (int)text.len,
          text.data);
  buf_deinit(&text);
  return is_live ? EXIT_GOOD : EXIT_FAILED;
}

static int run_test(int count, char **arguments) {
  struct buf error;
  buf_init(&error, 0);
  command_test_run(count, arguments, &error);
  return complain(&error);
}

static int run_new(int count, char **arguments) {
  if (count > 0 && strcmp(arguments[0], "--") == 0) {
    count--;
    arguments++;
  } else if (count > 0 && arguments[0][0] == '-') {
    return refuse_argument("new", arguments[0]);
  }
  struct buf error;
  buf_init(&error, 0);
  if (count == 0) {
    buf_append(&error, SLICE("which directory? See 'perigee help new'"));
    return complain(&error);
  }
  if (count > 1) return refuse_argument("new", arguments[1]);
  if (command_new_run(arguments[0], &error)) return EXIT_GOOD;
  complain(&error);
  return EXIT_FAILED;
}

static int run_version(int count, char **arguments) {
  if (count > 0) return refuse_argument("version", arguments[0]);
  return puts("perigee " PERIGEE_VERSION) >= 0 && fflush(stdout) == 0 ? EXIT_GOOD : EXIT_FAILED;
}

static void write_version_help(struct buf *out) {
  buf_append(out, SLICE("Usage: perigee version\n"
                        "\n"
                        "Prints the version, \"perigee " PERIGEE_VERSION "\" here.\n"));
}

static int run_help(int count, char **arguments) {
  if (count == 0) return print_help(write_overview);
  if (count > 1) return refuse_argument("help", arguments[1]);
  if (strcmp(arguments[0], "limits") == 0) return print_help(config_help_limits);
  const command_info *command = find_command(arguments[0]);
  if (command != NULL) return print_help(command->write_help);
  struct buf message;
  buf_init(&message, 0);
  buf_append_format(&message, "no help for \"%s\"; see 'perigee help'", arguments[0]);
  return complain(&message);
}

static const command_info commands[] = {
    {"new", "perigee new <directory>           makes a small application to begin with", run_new,
     command_new_help},
    {"serve", "perigee serve [script] [options]  serves a script, ./main.lua by default", run_serve,
     write_serve_help},
    {"check", "perigee check [script]            loads a script and prints what it declares",
     run_check, command_check_help},
    {"routes", "perigee routes [script]           prints its routes, one a line", run_routes,
     command_routes_help},
    {"reload", "perigee reload --control PATH     has a gateway load its script anew", run_reload,
     command_reload_help},
    {"test", "perigee test [busted arguments]   runs an application's specs", run_test,
     command_test_help},
    {"version", "perigee version                   prints the version", run_version,
     write_version_help},
    {"help", "perigee help [command | limits]   explains a command, or lists the limits", run_help,
     write_overview},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const command_info *find_command(const char *name) {
  for (size_t i = 0; i < COMMAND_COUNT; i++) {
    if (strcmp(name, commands[i].name) == 0) return &commands[i];
  }
  return NULL;
}

static void write_overview(struct buf *out) {
  buf_append(out, SLICE("Perigee, a realtime gateway: HTTP, WebSocket and server-sent events in C,"
                        " scripted in Lua.\n"
                        "\n"));
  for (size_t i = 0; i < COMMAND_COUNT; i++) {
    buf_append_format(out, "  %s\n", commands[i].help);
  }
  buf_append(out, SLICE("\n"
                        "Every option and limit is a variable of the environment too:"
                        " PERIGEE_WORKERS=4 is --workers 4.\n"));
}

static int run(const char *name, int count, char **arguments) {
  if (is_help_option(name)) return print_help(write_overview);
  if (strcmp(name, "--version") == 0) name = "version";
  const command_info *command = find_command(name);
  if (command != NULL) {
    if (has_help_option(count, arguments)) return print_help(command->write_help);
    return command->run(count, arguments);
  }
  struct buf message;
  buf_init(&message, 0);
  buf_append_format(&message, "unknown %s \"%s\"; see 'perigee help'",
                    name[0] == '-' ? "option" : "command", name);
  return complain(&message);
}

int main(int count, char **arguments) {
  mem_setup();
  if (count >= 2) return run(arguments[1], count - 2, arguments + 2);
  struct buf text;
  buf_init(&text, 0);
  write_overview(&text);
  fwrite(text.data, 1, text.len, stderr);
  buf_deinit(&text);
  return EXIT_MISUSED;
}
