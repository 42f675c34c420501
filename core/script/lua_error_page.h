/* With --dev: what the author of a script is shown in place of "Internal Server Error".
 *
 * HTML for browsers, else plain text: the error, where it was raised with the lines around it, the
 * traceback, and why the last load has failed, if it has. All of it is text that the script, or its
 * peers, may have chosen: it is escaped and has limits. */
#ifndef PERIGEE_SCRIPT_LUA_ERROR_PAGE_H
#define PERIGEE_SCRIPT_LUA_ERROR_PAGE_H

#include "gateway/exchange.h"
#include "script/lua_task.h"

/* Answers 500 for the task, whose coroutine's stack is as it has ended. `handler` is the reference
 * to its function; `fault` says what is wrong with what that has returned, NULL: it has failed with
 * task->error. */
void lua_error_page_send(const struct task *task, struct exchange *exchange, int handler,
                         const char *fault);

#endif
