-- Runs pubsub_stress.c, several threads on one hub, against the library that the other specs use.

local library = os.getenv("PERIGEE_CORE_LIB") or "build/libperigee-core.so"

local function run(command)
  local pipe = assert(io.popen("( " .. command .. " ) 2>&1; echo exit $?"))
  local output = pipe:read("*a")
  pipe:close()
  return output
end

describe("publishing, subscribing and clearing on many threads", function()
  it("gives every subscriber every publication once, in order, replayed or live", function()
    local is_sanitized = os.getenv("PERIGEE_SANITIZE") == "1"
    local program = library:gsub("[^/]*$", "") .. "pubsub_stress"
    local compile = table.concat({
      "env -u LD_PRELOAD",
      os.getenv("CC") or "cc",
      "-std=gnu11 -g -O1 -Icore -pthread",
      is_sanitized and "-fsanitize=address,undefined" or "",
      "-o " .. program,
      "spec/core/pubsub_stress.c",
      library,
      "-Wl,-rpath,'$ORIGIN'",
    }, " ")
    assert.equal("exit 0\n", run(compile))
    local options = os.getenv("PERIGEE_ASAN_OPTIONS") or ""
    local output = run("env -u LD_PRELOAD ASAN_OPTIONS='" .. options .. "' " .. program .. " 1000")
    assert.matches("^pubsub stress: %d+ releases.*\nexit 0\n$", output)
  end)
end)
