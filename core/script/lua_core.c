#include "script/lua_core.h"

#include "script/lua_app.h"
#include "script/lua_crypto.h"
#include "script/lua_json.h"
#include "script/lua_keep.h"
#include "script/lua_log.h"
#include "script/lua_sandbox.h"
#include "script/lua_shared.h"
#include "script/lua_task.h"
#include "script/lua_timer.h"
#include "script/lua_topic.h"

void lua_core_push(struct script *script) {
  lua_State *L = script->L;
  lua_newtable(L);
  lua_app_register(script);
  lua_newtable(L);
  lua_task_register(script);
  lua_timer_register(script);
  lua_topic_register(script);
  lua_shared_register(script);
  lua_keep_register(script);
  lua_crypto_register(script);
  lua_json_open(L, (int)script->worker->limits->json_depth);
  lua_setfield(L, -2, "json");
  lua_crypto_push(script);
  lua_setfield(L, -2, "crypto");
  lua_log_push(script);
  lua_setfield(L, -2, "log");
  lua_setfield(L, -2, "perigee");
  sandbox_push_ffi(L);
  lua_setfield(L, -2, "ffi");
}
