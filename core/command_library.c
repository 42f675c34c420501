#define _GNU_SOURCE
#include "command_library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WITNESS "/perigee/testing/run.lua"

bool command_find_places(command_places *places, struct buf *error) {
  static const char *const candidates[] = {"/../share/lua/5.1", "/../lua", "/../../lua"};
  ssize_t len = readlink("/proc/self/exe", places->binary, sizeof places->binary - 1);
  places->binary[len > 0 ? len : 0] = '\0';
  const char *slash = strrchr(places->binary, '/');
  int directory_len = slash != NULL ? (int)(slash - places->binary) : 0;
  for (size_t i = 0; slash != NULL && i < sizeof candidates / sizeof candidates[0]; i++) {
    char path[PATH_MAX + 64];
    int end = snprintf(path, sizeof path, "%.*s%s", directory_len, places->binary, candidates[i]);
    memcpy(path + end, WITNESS, sizeof WITNESS);
    if (access(path, R_OK) != 0) continue;
    path[end] = '\0';
    if (realpath(path, places->library) != NULL) return true;
  }
  buf_append_format(error, "the Lua library is not beside %s: 'make install' puts it there",
                    places->binary);
  return false;
}
