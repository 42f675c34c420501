/* `perigee test`: runs an application's specs with busted and LuaJIT, with the paths set. */
#ifndef PERIGEE_COMMAND_TEST_H
#define PERIGEE_COMMAND_TEST_H

#include "base/buf.h"

/* Becomes busted, with these arguments; returns only when it cannot, with a line on `error`. */
void command_test_run(int count, char **arguments, struct buf *error);
void command_test_help(struct buf *out);

#endif
