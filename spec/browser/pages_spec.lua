-- The applications' pages in Chromium. What people do there is in journeys.mjs; here each journey
-- gets a gateway, and two workers' addresses where there are two, so that its windows meet across
-- workers.
local lfs = require("lfs")
local buffer = require("string.buffer")

local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")
local posix = require("perigee.testing.posix")

local JOURNEY_SECONDS = 60

describe("The pages", function()
  -- Runs until the journey ends. `answer(what)` does what it asks for.
  local function travel(journey, bases, answer)
    local command = { "node", "spec/browser/journeys.mjs", journey }
    for _, base in ipairs(bases) do
      command[#command + 1] = "--base"
      command[#command + 1] = base
    end
    local work = posix.temporary_directory()
    local process = posix.spawn(command, {
      directory = lfs.currentdir(),
      stderr = work .. "/log",
      env = { PERIGEE_TIME_SCALE = tostring(posix.time_scale) },
    })
    local deadline, output, is_over = posix.deadline(JOURNEY_SECONDS), buffer.new(), false
    while not is_over and posix.now() < deadline do
      local count, why = posix.receive(process.stdout, output)
      is_over = not count and why ~= "again"
      local text = tostring(output)
      local asked, stop = text:match("^please (%a+)\n()")
      if asked then
        output:skip(stop - 1)
        answer(asked)
        posix.write_pipe(process.stdin, "done\n")
      elseif not count and not is_over then
        posix.wait(process.stdout, true, false, deadline)
      end
    end
    local code, why = posix.wait_exit(process.pid, posix.deadline(is_over and 10 or 0.1))
    if why == "timeout" then
      -- On TERM it ends its browser too.
      posix.kill(process.pid, "TERM")
      code = posix.wait_exit(process.pid, posix.deadline(5))
      if not code then
        posix.kill(process.pid, "KILL")
        posix.wait_exit(process.pid, posix.deadline(5))
      end
      why, code = "it did not end in time", nil
    end
    posix.close(process.stdin)
    posix.close(process.stdout)
    local log = posix.read_file(work .. "/log")
    posix.remove_directory(work)
    assert.is_true(code == 0, ("%s: %s\n%s"):format(journey, tostring(code or why), log))
  end

  -- The windows take the first and the last worker's address in turn.
  local function it_works(sentence, journey, env, workers)
    workers = workers or 2
    it(sentence, function()
      local server = apps.start(workers, env)
      travel(journey, { server:url(1), server:url(workers) })
    end)
  end

  it_works("are linked by the index, and say where one is", "index")
  it_works("fit a phone and a desk, in light and dark, and name what can be used", "sizes")
  it_works("show the feeds, and how many read them", "feeds")
  it_works("draw the market's prices as they move", "market")
  it_works("echo to one and broadcast to the others", "echo")
  it_works("have rooms to join, talk in and leave, and private messages", "rooms")
  for _, workers in ipairs({ 1, 4 }) do
    local with = (" (%d worker%s)"):format(workers, workers == 1 and "" or "s")
    it_works("let two people chat, by keyboard alone" .. with, "chat", nil, workers)
    it_works(
      "let people draw together, and show one who comes late all of it" .. with,
      "whiteboard",
      nil,
      workers
    )
  end
  it_works("show a reader the post that somebody writes", "blog")
  it_works("ask for the blog's token where it has one", "blog-token", {
    BLOG_TOKEN = "open sesame",
  })

  -- Of a gateway that goes and comes back when the journey says so.
  local function travel_through_restarts(journey, script)
    local function start(address)
      return gateway.start({
        script = script,
        workers = 2,
        test_mode = false,
        listen = { address },
        env = { CHAT_SECRET = "a secret of the specs", BLOG_TOKEN = false },
      })
    end
    local server = start("127.0.0.1:0")
    local url = server:url()
    travel(journey, { url }, function(what)
      if what == "stop" then
        server:stop()
      else
        server = start(url:match("^http://(.*)$"))
      end
    end)
  end

  it("show that they are reconnecting while the gateway is away, and come back", function()
    travel_through_restarts("reconnecting", "scripts/main.lua")
  end)

  it("are shown anew while they are written, and say why the script does not load", function()
    local MARKUP = '<img src=x onerror="document.title=1"><b>bold</b>'
    local SCRIPT = [[
local perigee = require("perigee")
local app = perigee.app()

app:static("/public", "public")
app:get("/", function() return { file = "public/index.html" } end)
app:websocket("/ws", { on_open = function(conn) conn:send("Connected") end })
app:get("/error", function()
  local text = '<img src=x onerror="document.title=1"><b>bold</b>'
  error(text)
end)

return app
]]
    local PAGE = [[
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A page</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/public/style.css">
<main><h1>First</h1><p id="status">Connecting</p></main>
<script>
new WebSocket(`ws://${location.host}/ws`).onmessage = ({ data }) => {
  document.getElementById("status").textContent = data;
};
</script>
]]
    local server = gateway.start({
      script = SCRIPT,
      files = { ["public/index.html"] = PAGE, ["public/style.css"] = "body { color: red }" },
      workers = 2,
      test_mode = false,
      watch = true,
      arguments = { "--dev" },
    })
    server.log:allow("stays live")
    server.log:allow("error in the handler of /error")
    local edits = {
      edit = { "public/index.html", (PAGE:gsub("First", "Second")) },
      style = { "public/style.css", "body { color: blue }" },
      ["break"] = { "main.lua", "\n\nx = = '" .. MARKUP .. "'" },
      mend = { "main.lua", SCRIPT },
      repair = {
        "main.lua",
        (SCRIPT:gsub("error%(text%)", 'return { html = "no error any more" }')),
      },
    }
    travel("dev", { server:url() }, function(what)
      server:edit(edits[what][1], edits[what][2])
    end)
  end)

  it("have one more, which perigee new makes: people talk, come late, and come back", function()
    travel_through_restarts("made", "lua/perigee/template/main.lua")
  end)
end)
