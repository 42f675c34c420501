#include "script/lua_crypto.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "gateway/gateway.h"

enum { MAX_RANDOM_BYTES = 1024 * 1024, ID_CHARS = 20 /* 103 bits */ };

static int l_random(lua_State *L) {
  struct buf *out = &script_of(L)->scratch;
  double count = luaL_checknumber(L, 1);
  if (!(count >= 0 && count <= MAX_RANDOM_BYTES)) {
    return luaL_argerror(L, 1, "a count of bytes up to 1048576");
  }
  buf_clear(out);
  char *bytes = buf_reserve(out, (size_t)count + 1);
  random_fill(bytes, (size_t)count);
  lua_pushlstring(L, bytes, (size_t)count);
  return 1;
}

static int l_sha256(lua_State *L) {
  uint8_t digest[DIGEST_SHA256_BYTES];
  digest_sha256(script_check_slice(L, 1), digest);
  lua_pushlstring(L, (const char *)digest, sizeof digest);
  return 1;
}

static int l_hmac_sha256(lua_State *L) {
  uint8_t digest[DIGEST_SHA256_BYTES];
  slice key = script_check_slice(L, 1);
  slice data = script_check_slice(L, 2);
  digest_hmac_sha256(key, data, digest);
  lua_pushlstring(L, (const char *)digest, sizeof digest);
  return 1;
}

static int l_hex(lua_State *L) {
  slice data = script_check_slice(L, 1);
  struct buf *out = &script_of(L)->scratch;
  buf_clear(out);
  char *text = buf_reserve(out, data.len * 2 + 1);
  for (size_t i = 0; i < data.len; i++) {
    unsigned char byte = (unsigned char)data.data[i];
    text[i * 2] = "0123456789abcdef"[byte >> 4];
    text[i * 2 + 1] = "0123456789abcdef"[byte & 15];
  }
  lua_pushlstring(L, text, data.len * 2);
  return 1;
}

static int l_base64_encode(lua_State *L) {
  slice data = script_check_slice(L, 1);
  bool is_url_safe = false;
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 2) != 0; lua_pop(L, 1)) {
      bool is_url =
          lua_type(L, -2) == LUA_TSTRING && slice_is_equal(script_slice_at(L, -2), SLICE("url"));
      if (!is_url) script_unknown_option(L, "crypto.base64_encode", NULL);
      is_url_safe = lua_toboolean(L, -1);
    }
  }
  struct buf *out = &script_of(L)->scratch;
  buf_clear(out);
  char *text = buf_reserve(out, digest_base64_size(data.len) + 1);
  lua_pushlstring(L, text, digest_base64_encode(data, is_url_safe, text));
  return 1;
}

static int l_base64_decode(lua_State *L) {
  slice text = script_check_slice(L, 1);
  struct buf *out = &script_of(L)->scratch;
  buf_clear(out);
  char *bytes = buf_reserve(out, text.len / 4 * 3 + 3);
  long len = digest_base64_decode(text, bytes);
  if (len < 0) return script_push_failure(L, "the text is not base64", "base64");
  lua_pushlstring(L, bytes, (size_t)len);
  return 1;
}

static int l_equal(lua_State *L) {
  slice a = script_check_slice(L, 1);
  slice b = script_check_slice(L, 2);
  lua_pushboolean(L, digest_is_equal(a, b));
  return 1;
}

static const luaL_Reg crypto_functions[] = {
    {"random", l_random},
    {"sha256", l_sha256},
    {"hmac_sha256", l_hmac_sha256},
    {"hex", l_hex},
    {"base64_encode", l_base64_encode},
    {"base64_decode", l_base64_decode},
    {"equal", l_equal},
    {NULL, NULL},
};

void lua_crypto_push(struct script *script) {
  lua_newtable(script->L);
  script_register(script, crypto_functions);
}

/* --- secret, id, time --- */

static int l_secret(lua_State *L) {
  slice name = script_check_slice(L, 1);
  bool is_made = false;
  script_push_slice(L, gateway_secret(script_of(L)->worker->gateway, name, &is_made));
  lua_pushboolean(L, is_made);
  return 2;
}

static int l_id(lua_State *L) {
  char text[ID_CHARS];
  random_text(text, sizeof text);
  lua_pushlstring(L, text, sizeof text);
  return 1;
}

static int l_time(lua_State *L) {
  lua_pushnumber(L, (double)clock_wall_ms() / 1000);
  return 1;
}

static int l_now(lua_State *L) {
  lua_pushnumber(L, (double)clock_now_ns() / 1e9);
  return 1;
}

static int l_iso(lua_State *L) {
  char text[CLOCK_ISO_BYTES];
  uint64_t wall_ms = clock_wall_ms();
  if (!lua_isnoneornil(L, 1)) {
    double seconds = luaL_checknumber(L, 1);
    /* To the end of the year 9999: four digits. */
    if (!(seconds >= 0 && seconds < 253402300800.0)) {
      return luaL_argerror(L, 1, "seconds since 1970, up to the year 9999");
    }
    wall_ms = (uint64_t)(seconds * 1000 + 0.5);
  }
  lua_pushlstring(L, text, clock_format_iso(wall_ms, text));
  return 1;
}

static const luaL_Reg perigee_base_functions[] = {
    {"secret", l_secret}, {"id", l_id},   {"time", l_time},
    {"now", l_now},       {"iso", l_iso}, {NULL, NULL},
};

void lua_crypto_register(struct script *script) {
  script_register(script, perigee_base_functions);
}
