-- A handler without an end holds up its worker: it is named, and the others go on.
local gateway = require("spec.support.gateway")
local posix = require("perigee.testing.posix")

describe("A worker that is stuck", function()
  local directory, release
  before_each(function()
    directory = posix.temporary_directory()
    release = directory .. "/release"
  end)
  after_each(function()
    posix.write_file(directory, "release", "")
    posix.remove_directory(directory)
  end)

  -- A gateway whose `hold()` loops until let_go. Its lines count from the first of `app`.
  local function start(opts)
    opts.app = ("local function hold() while not io.open(%q) do end end "):format(release)
      .. opts.app
    opts.arguments = opts.arguments or { "--stall-timeout", "0.3" }
    return gateway.start(opts)
  end

  local function let_go()
    posix.write_file(directory, "release", "")
  end

  -- What the log says of it, expected to be there.
  local function stuck_line(server, what)
    local line = server.log:expect("stuck", 5)
    assert.truthy(line:find(what), line)
    server.log:expect("stuck")
    return line
  end

  it("is named with route, handler, place and connection, and again when it goes on", function()
    local server = start({
      app = [[app:websocket("/rooms", {
        on_message = function(conn, data)
          if data == "hold" then hold() end
          conn:send(conn.id)
        end,
      })]],
    })
    local ws = server:websocket("/rooms")
    ws:send("hello")
    local id = ws:expect_match("^%w+$")
    ws:send("hold")
    local line = stuck_line(server, "worker 1 has been stuck for %d+%.%d s in on_message of /rooms")
    assert.truthy(line:find("main.lua:2)", 1, true), line)
    assert.truthy(line:find(", connection " .. id, 1, true), line)
    let_go()
    ws:expect(id)
    server.log:expect("worker 1 goes on after %d+%.%d s")
    local _, count = server.log:text():gsub("stuck", "")
    assert.equal(1, count)
  end)

  it("is named in an HTTP handler too", function()
    local server = start({ app = [[app:get("/slow/:id", function() hold() return "" end)]] })
    server:raw():write("GET /slow/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stuck_line(server, "in the handler of /slow/:id %(.*main%.lua:1%)$")
    let_go()
    server.log:expect("goes on")
  end)

  it("is named in a timer, also when that has slept before", function()
    local server = start({
      app = [[
        app:get("/", function()
          perigee.spawn(function()
            perigee.sleep(0.01)
            hold()
          end)
          return ""
        end)
      ]],
    })
    server:get("/")
    stuck_line(server, "in perigee%.spawn %(.*main%.lua:2%)$")
    let_go()
    server.log:expect("goes on")
  end)

  it("does not hold up the others", function()
    local server = start({
      workers = 2,
      app = [[
        app:get("/hold", function() hold() return "" end)
        app:get("/", function() return "fine" end)
      ]],
    })
    server:raw({ worker = 2 }):write("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stuck_line(server, "worker 2 .* in the handler of /hold")
    for _ = 1, 10 do
      assert.equal("fine", server:request({ path = "/", worker = 1 }).body)
    end
    let_go()
    server.log:expect("worker 2 goes on")
  end)

  it("gets no new connections from the port that they share, until it goes on", function()
    local server = start({
      workers = 3,
      app = [[
        app:get("/hold", function() hold() return "" end)
        local name = perigee.id()
        app:get("/", function() return name end)
      ]],
    })
    -- The names of those who answer on the common port.
    local function answering()
      local names, count = {}, 0
      for _ = 1, 60 do
        local name = server:request({ path = "/", listener = 1 }).body
        if not names[name] then
          names[name], count = true, count + 1
        end
      end
      return count
    end
    assert.equal(3, answering())
    server:raw({ worker = 2 }):write("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stuck_line(server, "worker 2")
    assert.equal(2, answering())
    let_go()
    server.log:expect("worker 2 goes on")
    assert.equal(3, answering())
  end)

  it("is not one that sleeps for want of work", function()
    local server = start({
      arguments = { "--stall-timeout", "0.04" },
      workers = 2,
      app = [[
        app:get("/", function() return "" end)
        app:get("/later", function() perigee.sleep(0.5) return "" end)
      ]],
    })
    -- Noise of a busy machine may be told; what counts is that nobody is stuck for long.
    server.log:allow("stuck for 0%.%d s outside of handlers")
    assert.equal(200, server:get("/later").status)
  end)

  it("is nobody's affair when the timeout is 0", function()
    local server = start({
      arguments = { "--stall-timeout", "0" },
      app = [[
        app:get("/", function()
          local stop = os.clock() + 0.3
          while os.clock() < stop do end
          return "done"
        end)
      ]],
    })
    assert.equal("done", server:request({ path = "/", seconds = 10 }).body)
  end)

  it("does not keep the gateway from ending when the drain time is over", function()
    local server = start({
      arguments = { "--stall-timeout", "0.2", "--drain-timeout", "0.2" },
      test_mode = false,
      workers = 2,
      app = [[app:get("/", function() hold() return "" end)]],
    })
    server:raw():write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stuck_line(server, "in the handler of /")
    server.log:allow("ends without it")
    server:signal("TERM")
    server:expect_exit(1)
    server.log:expect("ends without it")
  end)
end)
