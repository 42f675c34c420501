-- What a script sees of Lua, how its files are found, and how its faults are shown.
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")
local posix = require("perigee.testing.posix")

local function load_error(files)
  local directory = posix.temporary_directory()
  for name, content in pairs(files) do
    posix.write_file(directory, name, content)
  end
  local result = gateway.run(
    { "serve", "main.lua", "--listen", "127.0.0.1:0" },
    { directory = directory }
  )
  posix.remove_directory(directory)
  assert.equal(1, result.code, result.stderr)
  assert.truthy(result.stderr:find("^[^\n]+\n$"), result.stderr)
  return result.stderr
end

describe("A script that does not load", function()
  local function it_shows(what, files, expected)
    it("shows one line with the place: " .. what, function()
      local line = load_error(files)
      assert.truthy(line:find(expected, 1, true), line)
    end)
  end
  it_shows("of a syntax error", { ["main.lua"] = "local x =\n= 1" }, "main.lua:2: ")
  it_shows("of an error while it runs", { ["main.lua"] = "\n\nerror('boom')" }, "main.lua:3: boom")
  it_shows(
    "of an error without a place",
    { ["main.lua"] = "\nerror('boom', 0)" },
    "main.lua:2: boom"
  )
  it_shows("of an error in C", { ["main.lua"] = "\nstring.rep()" }, "main.lua:2: bad argument")
  it_shows("of the innermost of required files", {
    ["main.lua"] = 'require("a")',
    ["a.lua"] = '\nrequire("b.c")',
    ["b/c.lua"] = "\n\nlocal t = nil\nt.x = 1",
  }, "b/c.lua:4: attempt to index")
  it_shows("of a syntax error in a required file", {
    ["main.lua"] = 'require("a")',
    ["a.lua"] = "\nx = = 1",
  }, "a.lua:2: ")
  it_shows("of requiring a module that is not there", {
    ["main.lua"] = '\nrequire("not.there")',
  }, 'main.lua:2: module "not.there" not found: looked for not/there.lua and not/there/init.lua')
  it_shows("of modules that require each other", {
    ["main.lua"] = 'require("a")',
    ["a.lua"] = 'require("b")',
    ["b.lua"] = 'require("a")',
  }, 'b.lua:1: module "a" requires itself')
  it_shows("of a global that is assigned", {
    ["main.lua"] = "\nlocal function f() count = 1 end\nf()",
  }, 'main.lua:2: global "count" is assigned; write local count')
  it_shows("of its end, when it returns no app", {
    ["main.lua"] = 'local perigee = require("perigee")\nlocal app = perigee.app()\n',
  }, "main.lua:2: the script returned nothing; it must return an app")
  it_shows("of a name that is no module's", {
    ["main.lua"] = 'require("../x")',
  }, 'main.lua:1: "../x" is no module name')

  it("is a file: neither a directory nor a pipe, which would be waited for", function()
    local directory = posix.temporary_directory()
    os.execute(("mkfifo '%s/pipe.lua' && mkdir '%s/directory.lua'"):format(directory, directory))
    for _, name in ipairs({ "pipe.lua", "directory.lua" }) do
      local result = gateway.run(
        { "serve", name, "--listen", "127.0.0.1:0" },
        { directory = directory }
      )
      assert.equal(1, result.code)
      assert.equal(("perigee: %s: is no file\n"):format(name), result.stderr)
    end
    posix.remove_directory(directory)
  end)

  it("names a file that is missing", function()
    local result = gateway.run({ "serve", "no/such/file.lua", "--listen", "127.0.0.1:0" })
    assert.equal(1, result.code)
    assert.truthy(
      result.stderr:find("^[^\n]*no/such/file.lua: No such file[^\n]*\n$"),
      result.stderr
    )
  end)
end)

describe("A script", function()
  it("sees the library without what leaves the sandbox", function()
    local server = gateway.start({
      app = [[app:get("/", function()
        local names = {}
        for _, name in ipairs({ "dofile", "loadfile", "module", "package", "ffi" }) do
          if _G[name] ~= nil then names[#names + 1] = name end
        end
        for _, name in ipairs({ "exit", "execute" }) do if os[name] then names[#names + 1] = name end end
        if io.popen then names[#names + 1] = "popen" end
        for name in pairs(debug) do if name ~= "traceback" then names[#names + 1] = name end end
        if pcall(require, "ffi") then names[#names + 1] = "require ffi" end
        if getfenv(0).dofile or getfenv(print).dofile then names[#names + 1] = "getfenv" end
        if loadstring(string.dump(function() end)) then names[#names + 1] = "bytecode" end
        return { json = perigee.json.array(names) }
      end)]],
    })
    assert.same({}, json.decode(server:get("/").body))
  end)

  it("gets the removed ones back with --unsafe", function()
    local server = gateway.start({
      arguments = { "--unsafe" },
      app = [[
      local ffi = require("ffi")
      app:get("/", function() return type(os.execute) .. " " .. tostring(ffi.sizeof("int")) end)
    ]],
    })
    assert.equal("function 4", server:get("/").body)
  end)

  it("may have child processes: what they hold open of closed connections is not heard", function()
    local server = gateway.start({
      arguments = { "--unsafe" },
      workers = 1,
      app = [[
      local ffi = require("ffi")
      ffi.cdef("int fork(void); unsigned sleep(unsigned); void _exit(int);")
      ffi.cdef("int kill(int, int); int waitpid(int, int *, int);")
      local child
      app:websocket("/", { on_message = function(conn)
        child = ffi.C.fork()
        if child == 0 then
          ffi.C.sleep(10)
          ffi.C._exit(0)
        end
        conn:send("forked")
      end })
      app:get("/end", function()
        ffi.C.kill(child, 9)
        return tostring(ffi.C.waitpid(child, nil, 0) == child)
      end)
    ]],
    })
    local client = server:websocket("/")
    client:send("go")
    client:expect("forked")
    client:send_close(1000)
    for _ = 1, 10 do
      client:send_raw("more")
      assert.equal(404, server:get("/nowhere").status)
    end
    assert.equal("true", server:get("/end").body)
    client:drop()
  end)

  it("cannot make a global in a handler, in loaded text or in a coroutine", function()
    local server = gateway.start({
      app = [[
      app:get("/", function()
        local function why(fn) return (select(2, pcall(fn))) end
        return { json = {
          why(function() made = 1 end), why(loadstring("made = 1")), why(load("made = 1")),
          why(coroutine.wrap(function() made = 1 end)),
          why(setmetatable({}, { __call = function() made = 1 end })), tostring(made),
        } }
      end)
    ]],
    })
    local value = json.decode(server:get("/").body)
    for i = 1, 5 do
      assert.truthy(value[i]:find('global "made" is assigned', 1, true), value[i])
    end
    assert.equal("nil", value[6])
  end)

  it("has its own copy of the libraries, and what LuaJIT brings", function()
    local server = gateway.start({
      app = [[
      string.shout = function(s) return s:upper() .. "!" end
      local buffer = require("string.buffer")
      app:get("/", function()
        local out = buffer.new()
        out:put(string.shout("hey"), require("bit").bor(1, 2), #require("table.new")(4, 0))
        return tostring(out)
      end)
    ]],
    })
    assert.equal("HEY!30", server:get("/").body)
  end)

  it("cannot pass anything else off as a connection", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_message = function(conn)
        getmetatable(io.stdout).__metatable = "connection"
        getmetatable("").__metatable = "connection"
        local table_of_that_name = setmetatable({}, { __metatable = "connection" })
        for _, other in ipairs({ io.stdout, io.tmpfile(), "text", table_of_that_name }) do
          conn:send(select(2, pcall(conn.send, other, "x")) or "sent")
        end
      end })
    ]],
    })
    local client = server:websocket("/")
    client:send("go")
    for _, kind in ipairs({ "userdata", "userdata", "string", "table" }) do
      local text = client:next()
      assert.truthy(
        text:find("connection (call with a colon: conn:send) expected, got " .. kind, 1, true),
        text
      )
    end
  end)

  it("loads each module once, in the same environment", function()
    local server = gateway.start({
      files = {
        ["counter.lua"] = "local n = 0 return { next = function() n = n + 1 return n end, env = getfenv(1) }",
      },
      app = [[
      local counter = require("counter")
      counter.next()
      app:get("/", function()
        return tostring(require("counter").next()) .. tostring(counter.env == getfenv(1))
      end)
    ]],
    })
    assert.equal("2true", server:get("/").body)
  end)

  it("logs with place, and nothing it logs can begin a line of its own", function()
    local server = gateway.start({
      arguments = { "--log-level", "debug" },
      app = [[
      app:get("/x", function()
        local log = perigee.log
        log.debug("literal %d %s")
        log.info("%s %d %5.1f|%-4s|%x %q %%", "text", 3, 2.25, "ab", 255, "q")
        log.info("%s %s %s", { a = { 1 } }, nil, true)
        log.info({ b = 2 })
        log.info("%d %s", "word")
        log.info("%99999d %5$d %", 1, 2)
        log.info("line\n2026-01-01T00:00:00.000Z error forged\27[31m")
        log.info(print)
        log.info()
        print("printed", 1, { c = 3 })
        return ""
      end)
    ]],
    })
    assert.equal(200, server:get("/x").status)
    local function logged(text)
      assert.truthy(server.log:text():find(text, 1, true), text .. "\n" .. server.log:text())
    end
    logged("literal %d %s generation=1 route=/x")
    logged("text 3   2.2|")
    logged("|ff q % generation=1 route=/x")
    logged('{"a":[1]} nil true')
    logged('{"b":2}')
    logged("word nil")
    logged('printed 1 {"c":3} generation=1 route=/x')
    logged("line\\n2026")
    assert.is_nil(server.log:text():find("\27", 1, true))
    assert.is_nil(server.log:text():find("\n[^\n]*error forged\27"))
  end)
end)
