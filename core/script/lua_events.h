/* The gateway's questions and news, as calls of handlers: the hooks of connections and exchanges.
 */
#ifndef PERIGEE_SCRIPT_LUA_EVENTS_H
#define PERIGEE_SCRIPT_LUA_EVENTS_H

#include "gateway/hooks.h"
#include "script/lua_generation.h"
#include "script/lua_script.h"

void events_authenticate(struct exchange *exchange);
void events_request(struct exchange *exchange);
void events_cancel_exchange(struct exchange *exchange);
void events_forget_exchange(struct exchange *exchange, bool keep_session);

hook_result events_on_open(struct conn *conn);
hook_result events_on_message(struct conn *conn, slice data, bool is_binary);
hook_result events_on_close(struct conn *conn, int code, slice reason);
hook_result events_on_drain(struct conn *conn);
hook_result events_on_signal(struct conn *conn, slice data, bool is_binary, slice topic);
hook_result events_on_tick(struct conn *conn);
void events_cancel(struct conn *conn);
void events_forget(struct conn *conn);

void events_rerouted(struct worker *worker, struct request *request);

/* Runs functions of a generation's beginning or end. */
void events_run(struct generation *generation, const handler_list *list, const char *event,
                const char *argument);

#endif
