rockspec_format = "3.0"
package = "perigee"
version = "scm-1"
source = {
  url = "git+file://.",
}
description = {
  summary = "A Lua-scriptable realtime gateway: WebSocket, server-sent events and HTTP",
  detailed = [[
    One binary with a C core (libuv, LuaJIT, llhttp, OpenSSL). What connections, topics and pages
    mean is written in Lua scripts. Needs the libraries' development files and pkg-config.
  ]],
  license = "MIT",
}
dependencies = {
  "lua == 5.1",
}
build = {
  type = "make",
  build_target = "all",
  install_target = "install",
  -- The Makefile's own flags are the right ones: what runs the scripts is LuaJIT, not the Lua that
  -- luarocks knows.
  build_variables = {},
  install_variables = {
    PREFIX = "$(PREFIX)",
    BINDIR = "$(BINDIR)",
    LUADIR = "$(LUADIR)",
    LIBDIR = "$(LIBDIR)",
  },
}
