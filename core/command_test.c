#define _GNU_SOURCE
#include "command_test.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "command_library.h"

#define RUNNER "/perigee/testing/run.lua"

static bool is_directory(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Makes what the arguments name findable from anywhere. The first of it, so that spec/ need not be
 * found, or NULL. An option's value that is taken for a file does no harm: busted itself looks for
 * spec/ then. */
static const char *resolve_paths(int count, char **arguments) {
  const char *first = NULL;
  for (int i = 0; i < count; i++) {
    if (arguments[i][0] == '-' || access(arguments[i], F_OK) != 0) continue;
    char *path = realpath(arguments[i], NULL);
    if (path == NULL) continue;
    if (first == NULL) first = path;
    if (!is_directory("spec")) arguments[i] = path; /* else short names stay short */
  }
  return first; /* for the life of the process, as they all are */
}

/* Goes up to the directory that has spec/, from `path`. Stays where there is none. */
static bool enter_application_above(const char *path) {
  char begin[PATH_MAX], before[PATH_MAX] = "", now[PATH_MAX];
  if (getcwd(begin, sizeof begin) == NULL || chdir(path) != 0) return false;
  while (!is_directory("spec")) {
    bool is_root = getcwd(now, sizeof now) == NULL || strcmp(now, before) == 0;
    if (is_root || chdir("..") != 0) {
      REQUIRE(chdir(begin) == 0);
      return false;
    }
    memcpy(before, now, sizeof before);
  }
  return true;
}

/* The application's directory: this one, one above it, or above what is named (NULL: nothing). */
static bool enter_application(const char *named) {
  if (enter_application_above(".")) return true;
  if (named == NULL) return false;
  char *directory = mem_copy(slice_of_string(named));
  char *slash = strrchr(directory, '/');
  if (!is_directory(named) && slash > directory) *slash = '\0';
  bool is_there = enter_application_above(directory);
  mem_free(directory);
  return is_there;
}

/* The kit's modules, and the application's own as the gateway finds them: below the script's
 * directory. LuaJIT reads ";;" as its usual places. */
static void set_paths(const char *binary, const char *library) {
  struct buf path;
  const char *given = getenv("LUA_PATH");
  buf_init(&path, 0);
  buf_append_format(&path, "./?.lua;./?/init.lua;%s/?.lua;%s/?/init.lua;%s", library, library,
                    given != NULL ? given : ";");
  buf_append_char(&path, '\0');
  setenv("LUA_PATH", path.data, 1);
  setenv("PERIGEE", binary, 1);
  buf_deinit(&path);
}

void command_test_run(int count, char **arguments, struct buf *error) {
  command_places places;
  if (!command_find_places(&places, error)) return;
  const char *named = resolve_paths(count, arguments);
  if (!enter_application(named) && named == NULL) {
    buf_append(error, SLICE("there is no directory spec/ here or above; see 'perigee help test'"));
  } else {
    set_paths(places.binary, places.library);
    char **command = mem_alloc_zero(((size_t)count + 3) * sizeof *command);
    struct buf runner;
    buf_init(&runner, 0);
    buf_append_format(&runner, "%s" RUNNER "%c", places.library, '\0');
    command[0] = "luajit";
    command[1] = runner.data;
    for (int i = 0; i < count; i++) command[i + 2] = arguments[i];
    execvp(command[0], command);
    buf_append_format(error, "cannot run luajit (%s): apt install luajit lua-busted",
                      strerror(errno));
    buf_deinit(&runner);
    mem_free(command);
  }
}

void command_test_help(struct buf *out) {
  buf_append(out, SLICE("Usage: perigee test [busted arguments]\n"
                        "\n"
                        "Runs the specs of an application with busted and LuaJIT: those in spec/,"
                        " here or in a\n"
                        "directory above, or the files and directories that are named. Specs find"
                        " the kit as\n"
                        "require(\"perigee.testing\"), the application's own modules, and this"
                        " gateway.\n"
                        "\n"
                        "  perigee test                          all specs\n"
                        "  perigee test spec/rooms_spec.lua      one file\n"
                        "  perigee test --filter \"comes back\"    those with this in their name\n"
                        "\n"
                        "Needs luajit and busted: apt install luajit lua-busted\n"));
}
