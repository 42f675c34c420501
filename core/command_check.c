#include "command_check.h"

#include <stdio.h>
#include <unistd.h>

#include "base/terminal.h"
#include "gateway/gateway.h"
#include "script/lua_describe.h"
#include "script/lua_state.h"

/* What the worker's thread is asked for, and its answer; the main thread reads that when the
 * gateway has ended. */
static struct {
  const char *what;
  bool has_colour;
  struct buf text;
} asked;

static bool load_and_describe(struct worker *worker, uint64_t number, struct sources *sources,
                              struct buf *error) {
  if (!lua_hooks.load(worker, number, sources, error)) return false;
  if (lua_describe(worker, asked.what, asked.has_colour, &asked.text)) return true;
  buf_append(error, buf_peek(&asked.text));
  return false;
}

static int run(struct config *config, const char *what) {
  struct hooks hooks = lua_hooks;
  hooks.load = load_and_describe;
  config->is_check = true;
  config->is_test = false;
  config->is_supervised = false;
  config->workers = 1;
  asked.what = what;
  asked.has_colour = terminal_wants_colour(STDOUT_FILENO);
  buf_init(&asked.text, 0);
  int code = gateway_run(config, &hooks);
  const struct buf *text = &asked.text;
  if (code == 0 && (fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout) != 0)) {
    code = 1;
  }
  buf_deinit(&asked.text);
  return code;
}

int command_check(struct config *config) {
  return run(config, "check");
}

int command_routes(struct config *config) {
  return run(config, "routes");
}

void command_check_help(struct buf *out) {
  buf_append(out,
             SLICE("Usage: perigee check [script] [options of serve]\n"
                   "\n"
                   "Loads the script (main.lua) as `perigee serve` would, without listening and"
                   " without\n"
                   "starting timers, and prints what it declares:\n"
                   "\n"
                   "  Routes   method or kind, pattern, handlers, file:line, and the options that"
                   " differ\n"
                   "           from the defaults\n"
                   "  Topics   pattern, file:line and policy\n"
                   "  Limits   those that --limit-NAME or the environment has changed\n"
                   "\n"
                   "A mistake is one line with file:line on standard error, and exit code 1.\n"
                   "In colour on a terminal, unless NO_COLOR is set.\n"));
}

void command_routes_help(struct buf *out) {
  buf_append(out, SLICE("Usage: perigee routes [script] [options of serve]\n"
                        "\n"
                        "Prints the routes of the script (main.lua), one a line: method or kind,"
                        " pattern,\n"
                        "handlers. By pattern, without line numbers, for diff and grep:\n"
                        "\n"
                        "  perigee routes | grep -v authenticate    what is open to everybody\n"
                        "\n"
                        "A mistake is one line with file:line on standard error, and exit code"
                        " 1.\n"));
}
