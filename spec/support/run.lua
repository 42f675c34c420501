-- Runs the specs: busted, in this LuaJIT and no other, so that what has to be preloaded into the
-- process that loads the library (AddressSanitizer's run-time) is preloaded there and nowhere else.
local ffi = require("ffi")

ffi.cdef([[
  int setenv(const char *name, const char *value, int overwrite);
  int unsetenv(const char *name);
]])

-- What the specs start is built as it is: browsers and node do not live with a preloaded sanitizer.
ffi.C.unsetenv("LD_PRELOAD")
local sanitizer_options = os.getenv("PERIGEE_ASAN_OPTIONS")
if sanitizer_options then
  ffi.C.setenv("ASAN_OPTIONS", sanitizer_options, 1)
end

require("busted.runner")({ standalone = false })
