-- The order of the house: what each folder of core/ may include, and which few files may read the
-- time, draw random numbers or own the loop's timer.

-- Folder → the folders it may include besides itself, and the libraries it may know.
local layers = {
  base = { folders = {}, libraries = { "openssl" } },
  codec = { folders = { "base" }, libraries = { "llhttp", "nghttp2", "zlib" } },
  pubsub = { folders = { "base" }, libraries = { "sqlite", "hiredis" } },
  net = { folders = { "base" }, libraries = { "libuv", "openssl" } },
  gateway = { folders = { "base", "codec", "pubsub", "net" }, libraries = { "libuv", "libcurl" } },
  script = { folders = { "base", "codec", "pubsub", "gateway" }, libraries = { "luajit" } },
  main = { folders = { "base", "gateway", "script" }, libraries = {} },
  -- The other way in: for a Lua process, whose state it knows as well as the script's.
  module = { folders = { "base", "gateway", "script" }, libraries = { "libuv", "luajit" } },
}

-- How a library's headers begin. What is not here has to be the C library's or the kernel's.
local libraries = {
  { "openssl/", "openssl" },
  { "llhttp%.h$", "llhttp" },
  { "nghttp2/", "nghttp2" },
  { "zlib%.h$", "zlib" },
  { "sqlite3", "sqlite" },
  { "hiredis", "hiredis" },
  { "uv%.h$", "libuv" },
  { "curl/", "libcurl" },
  { "lua[^/]*%.h$", "luajit" },
  { "lauxlib%.h$", "luajit" },
}
local system_folders = { arpa = true, linux = true, net = true, netinet = true, sys = true }

-- What only one place may do: the words that do it, and the files that may.
local reserved = {
  {
    what = "reads the time",
    words = {
      "clock_gettime",
      "gettimeofday",
      "timespec_get",
      "time",
      "clock",
      "uv_now",
      "uv_hrtime",
    },
    files = { ["core/base/clock.c"] = true },
  },
  {
    what = "draws random numbers",
    words = { "rand", "rand_r", "random", "srand", "srandom", "drand48", "lrand48", "arc4random" },
    files = { ["core/base/random.c"] = true },
  },
  {
    what = "draws random numbers",
    words = { "getrandom", "getentropy", "uv_random", "RAND_bytes", "RAND_priv_bytes" },
    files = { ["core/base/random.c"] = true },
  },
  {
    what = "uses the loop's timers",
    words = { "uv_timer_init", "uv_timer_start", "uv_timer_again", "uv_timer_stop" },
    -- A worker's bounds its poll; the main thread has its own for what is no connection's.
    files = {
      ["core/gateway/worker.c"] = true,
      ["core/gateway/gateway.c"] = true,
      ["core/gateway/reload.c"] = true,
      ["core/gateway/watch.c"] = true,
    },
  },
}

local max_lines = 600

local function contains(list, wanted)
  for _, item in ipairs(list) do
    if item == wanted then
      return true
    end
  end
  return false
end

local function layer_of(path)
  if path == "core/module.c" then
    return "module"
  end
  return path:match("^core/([^/]+)/") or path:match("^core/[%w_]+%.[ch]$") and "main"
end

-- The code without comments, and without the contents of strings.
local function strip(text)
  text = text:gsub("/%*.-%*/", " "):gsub("//[^\n]*", "")
  return (text:gsub("\\.", ""):gsub('"[^"\n]*"', '""'))
end

local function judge_include(layer, header, problems)
  local rules = layers[layer]
  local folder = header:match("^([^/]+)/") or "main"
  if folder ~= layer and not contains(rules.folders, folder) then
    problems[#problems + 1] = layer .. "/ may not include " .. header
  end
end

local function judge_library(layer, header, problems)
  for _, library in ipairs(libraries) do
    if header:find("^" .. library[1]) then
      if not contains(layers[layer].libraries, library[2]) then
        problems[#problems + 1] = layer .. "/ may not know " .. library[2]
      end
      return
    end
  end
  local folder = header:match("^([^/]+)/")
  if folder and not system_folders[folder] then
    problems[#problems + 1] = "<" .. header .. "> is of no known library"
  end
end

local function judge_words(path, code, problems)
  for _, rule in ipairs(reserved) do
    for _, word in ipairs(rule.words) do
      -- A member or a longer name is not meant, a call is.
      if not rule.files[path] and (" " .. code):find("[^%w_.>]" .. word .. "%s*%(") then
        problems[#problems + 1] = word .. "() " .. rule.what
      end
    end
  end
  if not contains(layers[layer_of(path)].libraries, "luajit") and code:find("lua_State") then
    problems[#problems + 1] = "lua_State belongs to core/script/ and core/module.c"
  end
end

local function judge(path, text)
  local problems = {}
  local layer = layer_of(path)
  if not layers[layer] then
    return { "no such folder in the design" }
  end
  for line in text:gmatch("[^\n]+") do
    local ours = line:match('^%s*#%s*include%s+"([^"]+)"')
    local theirs = line:match("^%s*#%s*include%s+<([^>]+)>")
    if ours then
      judge_include(layer, ours, problems)
    elseif theirs then
      judge_library(layer, theirs, problems)
    end
  end
  judge_words(path, strip(text), problems)
  return problems
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function files(command)
  local list = {}
  local pipe = assert(io.popen(command))
  for path in pipe:lines() do
    list[#list + 1] = path
  end
  pipe:close()
  table.sort(list)
  return list
end

describe("the layers of core/", function()
  local sources = files("find core -name '*.[ch]'")

  it("are kept by every file", function()
    assert.is_true(#sources > 0)
    local problems = {}
    for _, path in ipairs(sources) do
      for _, problem in ipairs(judge(path, read(path))) do
        problems[#problems + 1] = path .. ": " .. problem
      end
    end
    assert.are.equal("", table.concat(problems, "\n"))
  end)

  it("have files of one job each, of at most 600 lines", function()
    local long = {}
    for _, path in ipairs(files("find core lua -name '*.[ch]' -o -name '*.lua'")) do
      local _, lines = read(path):gsub("\n", "")
      if lines > max_lines then
        long[#long + 1] = ("%s has %d lines"):format(path, lines)
      end
    end
    assert.are.equal("", table.concat(long, "\n"))
  end)
end)

describe("the judge of layers", function()
  local function problem(path, text)
    return judge(path, text)[1]
  end

  it("lets a layer use what it lists", function()
    assert.is_nil(problem("core/gateway/a.c", '#include "codec/sse.h"\n#include <uv.h>\n'))
    assert.is_nil(problem("core/net/a.c", "#include <sys/socket.h>\n#include <openssl/ssl.h>\n"))
    assert.is_nil(problem("core/script/a.c", "#include <lauxlib.h>\nlua_State *lua;\n"))
    assert.is_nil(problem("core/module.c", "#include <lauxlib.h>\nlua_State *lua;\n"))
  end)

  it("refuses a layer above, and one beside", function()
    assert.are.equal(
      "codec/ may not include net/stream.h",
      problem("core/codec/a.c", '#include "net/stream.h"\n')
    )
    assert.are.equal(
      "pubsub/ may not include codec/json.h",
      problem("core/pubsub/a.c", '#include "codec/json.h"\n')
    )
    assert.are.equal(
      "base/ may not include slice.h",
      problem("core/base/a.c", '#include "slice.h"\n')
    )
  end)

  it("refuses a library that the layer does not own", function()
    assert.are.equal("pubsub/ may not know libuv", problem("core/pubsub/a.c", "#include <uv.h>\n"))
    assert.are.equal(
      "gateway/ may not know luajit",
      problem("core/gateway/a.h", "#include <luajit.h>\n")
    )
    assert.are.equal(
      "<event2/event.h> is of no known library",
      problem("core/net/a.c", "#include <event2/event.h>\n")
    )
  end)

  it("keeps Lua's states where they belong", function()
    local where = "lua_State belongs to core/script/ and core/module.c"
    assert.are.equal(where, problem("core/main.c", "lua_State *lua;\n"))
    assert.are.equal(where, problem("core/gateway/a.h", "lua_State *lua;\n"))
  end)

  it("finds calls that only one file may make, not names like them", function()
    assert.are.equal("time() reads the time", problem("core/net/a.c", "x = time(NULL);\n"))
    assert.are.equal("uv_now() reads the time", problem("core/gateway/a.c", "uv_now(loop);\n"))
    assert.are.equal(
      "uv_timer_start() uses the loop's timers",
      problem("core/gateway/conn.c", "uv_timer_start(&t, f, 1, 0);\n")
    )
    assert.is_nil(problem("core/net/a.c", "my_time(1); a.time(2); b->time(3); /* time(NULL) */\n"))
    assert.is_nil(problem("core/base/clock.c", "clock_gettime(id, &now);\n"))
  end)
end)
