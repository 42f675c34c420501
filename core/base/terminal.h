/* Whether what is written is read on a terminal, by somebody who wants colours there. */
#ifndef PERIGEE_BASE_TERMINAL_H
#define PERIGEE_BASE_TERMINAL_H

#include <stdbool.h>

/* The descriptor is a terminal that understands, and its user does not mind (no-color.org). */
bool terminal_wants_colour(int fd);

#endif
