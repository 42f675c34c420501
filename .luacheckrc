-- LuaJIT, no globals of our own; the specs see busted's.
std = "luajit"
cache = false
max_line_length = 120
-- A handler names every argument it is called with, also those it has no use for.
unused_args = false
files["spec"] = { std = "+busted" }
files["lua/perigee/template/spec"] = { std = "+busted" }
-- Declarations for editors: functions without a body, on tables nobody reads.
files["lua/perigee/_meta"] = { unused = false, ignore = { "241" } }
exclude_files = { "spec/browser/node_modules", "build" }
