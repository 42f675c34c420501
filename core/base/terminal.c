#include "base/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool terminal_wants_colour(int fd) {
  const char *no_color = getenv("NO_COLOR");
  const char *terminal = getenv("TERM");
  return isatty(fd) && (no_color == NULL || no_color[0] == '\0') && terminal != NULL &&
         strcmp(terminal, "dumb") != 0;
}
