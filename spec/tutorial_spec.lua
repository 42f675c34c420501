-- The tutorial, done as a reader does it: from top to bottom, in a directory of its own, with this
-- gateway as `perigee` on PATH. What is on the page is what happens, or the spec fails at its line.
--
--   `file`:  and a block of code      the file is written
--   `file` has …:  and a block        the file has these lines
--   `file` is now:  and a block       the file is this
--   ```diff                           applied by patch, at exactly these lines
--   ```console                        run; what stands behind a "$ " line is what it prints
--   perigee serve, last in a block    goes on until a paragraph says Ctrl-C
--   ```text                           what the terminal of perigee serve says then
--   http://localhost:3000/… in text   opened: a page
--   ```sh                             the set-up, which the spec's own stands for; as in README.md
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")
local lfs = require("lfs")
local posix = require("perigee.testing.posix")

local PAGE = "docs/tutorial.md"
local BUILT = os.getenv("PERIGEE") or lfs.currentdir() .. "/build/perigee"

-- What differs from run to run, in what a command printed and in what the page shows alike. A line
-- "…" of the page stands for any lines, and an object of JSON may have its members in any order.
local DIFFERS = {
  { "http://127%.0%.0%.1:%d+", "http://127.0.0.1:PORT" },
  { "http://%[::1%]:%d+", "http://[::1]:PORT" },
  { "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d+Z", "MOMENT" },
  { "[%d.e-]+ seconds", "N seconds" },
  { "%d+ ms, %d+ connections? kept", "N ms, N connections kept" },
  { "nothing within %d+ s", "nothing within N s" }, -- PERIGEE_TIME_SCALE
  { '"time":[%d.]+', '"time":N' },
  { '"id":"%w+%.(%d+)"', '"id":"EPOCH.%1"' },
}

local function in_order(object)
  local is_json, value = pcall(json.decode, object)
  return is_json and json.encode(value) or nil
end

local function alike(text)
  text = text:gsub("%b{}", in_order)
  for _, rule in ipairs(DIFFERS) do
    text = text:gsub(rule[1], rule[2])
  end
  return (text:gsub("%s+$", ""))
end

-- Whether `text` is what the page shows, where "…" alone on a line stands for any lines.
local function is_as_shown(shown, text)
  local pattern = alike(shown):gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0")
  pattern = ("\n" .. pattern .. "\n"):gsub("\n…\n", "\n.*\n")
  return ("\n" .. alike(text) .. "\n"):find("^" .. pattern .. "$") ~= nil
end

-- The page ---------------------------------------------------------------------------------------

-- What a block under this paragraph is, by the file that the paragraph ends with.
local function kind_of(language, paragraph)
  if language == "console" or language == "diff" or language == "text" or language == "sh" then
    return language
  end
  local file, verb = paragraph:match("`([^`]+)`([^`]*):$")
  if verb == "" then
    return "write", file
  elseif verb == " is now" then
    return "equals", file
  elseif verb and verb:find("^ has ") then
    return "has", file
  end
  error(("a block of %s that says nothing of what it is for"):format(language), 0)
end

-- What a paragraph tells the reader to do: open pages, stop the gateway.
local function steps_of(paragraph, line)
  local steps = {}
  for url in paragraph:gmatch("http://localhost:3000[%w/?=]*") do
    table.insert(steps, { kind = "open", text = url, line = line })
  end
  if paragraph:find("Ctrl-C", 1, true) then
    table.insert(steps, { kind = "stop", line = line })
  end
  return steps
end

-- What the page has the reader do: { kind, line, text, file }, in order.
local function read_page()
  local steps = {}
  local paragraph, has_ended, block = "", true, nil
  local number = 0
  for line in posix.read_file(PAGE):gmatch("([^\n]*)\n") do
    number = number + 1
    local language = line:match("^```(%l*)$")
    if block and language then
      block.text = table.concat(block.lines, "\n", 1, #block.lines) .. "\n"
      table.insert(steps, block)
      block, paragraph = nil, ""
    elseif block then
      table.insert(block.lines, line)
    elseif language then
      local kind, file = kind_of(language, paragraph)
      block = { kind = kind, file = file, line = number, lines = {} }
    elseif line ~= "" then
      paragraph = has_ended and line or paragraph .. " " .. line
      has_ended = false
    elseif not has_ended then
      -- A block stands behind an empty line, and still belongs to the paragraph before it.
      has_ended = true
      for _, step in ipairs(steps_of(paragraph, number - 1)) do
        table.insert(steps, step)
      end
    end
  end
  return steps
end

-- Doing it ---------------------------------------------------------------------------------------

describe("The tutorial", function()
  local root -- of everything that is made
  local directory -- where the reader's shell is
  local served -- what runs behind `perigee serve`: { process, log, url }

  setup(function()
    root = posix.temporary_directory()
    directory = root
    -- On a terminal curl shows no progress either.
    posix.write_file(root, ".curlrc", "silent\nshow-error\n")
  end)

  local function stop()
    posix.kill(served.process.pid, "INT")
    local code = posix.wait_exit(served.process.pid, posix.deadline(10))
    posix.close(served.process.stdin)
    posix.close(served.process.stdout)
    served.is_stopped = true
    return code
  end

  teardown(function()
    if served and not served.is_stopped then
      stop()
    end
    posix.remove_directory(root)
  end)

  local function environment()
    return {
      PATH = BUILT:match("^(.*)/") .. ":" .. os.getenv("PATH"),
      CURL_HOME = root,
      CHAT_TOKEN = false,
      PERIGEE_TIME_SCALE = posix.time_scale,
      -- Ports that are free here, where the page has 3000.
      PERIGEE_LISTEN = "127.0.0.1:0,[::1]:0",
    }
  end

  local function run(command)
    local script = "exec 2>&1\n%s\ncode=$?\npwd >'%s/pwd'\nexit $code"
    local result = gateway.run({ "-c", script:format(command, root) }, {
      binary = "/bin/bash",
      directory = directory,
      env = environment(),
      seconds = 60,
    })
    directory = posix.read_file(root .. "/pwd"):match("^(.-)\n") or directory
    return result
  end

  -- What it has printed when there are so many lines, or when there will be no more.
  local function read_lines(process, count)
    local output, deadline = require("string.buffer").new(), posix.deadline(10)
    local function is_enough()
      return select(2, tostring(output):gsub("\n", "")) >= count
    end
    while not is_enough() and posix.wait(process.stdout, true, false, deadline) do
      if not posix.receive(process.stdout, output) then
        break
      end
    end
    return tostring(output)
  end

  local function serve(command, shown)
    assert(not served or served.is_stopped, "the page has not said to stop the other gateway")
    local log = root .. "/log"
    os.remove(log)
    -- The shell becomes the gateway, so that it is the gateway which is stopped.
    local script = command:gsub("perigee", "exec perigee", 1)
    local process = posix.spawn({ "/bin/bash", "-c", script }, {
      directory = directory,
      env = environment(),
      stderr = log,
    })
    served = { process = process, log = require("perigee.testing.log").open(log) }
    local text = read_lines(process, select(2, shown:gsub("\n", "")))
    served.url = text:match("http://127%.0%.0%.1:%d+")
    return text .. served.log:text()
  end

  local function at_the_gateway(text)
    if not text:find("http://localhost:3000", 1, true) then
      return text
    end
    assert(served and not served.is_stopped, "the page asks a gateway that does not run")
    return (text:gsub("http://localhost:3000", served.url))
  end

  local function compare(shown, text)
    if not is_as_shown(shown, text) then
      error(("the page shows\n%s\nand it is\n%s"):format(alike(shown), alike(text)), 0)
    end
  end

  local actions = {}

  function actions.sh(step)
    local readme = posix.read_file("README.md")
    for command in step.text:gmatch("([^\n]+)") do
      command = command:gsub("%s+#.*$", "")
      local is_path = command == 'export PATH="$PWD/build:$PATH"'
      assert(is_path or readme:find(command, 1, true), command .. " is not in README.md")
    end
  end

  function actions.console(step)
    for command, shown in ("\n" .. step.text):gsub("\n%$ ", "\0"):gmatch("%z([^\n]*)\n?([^%z]*)") do
      if command:find("perigee serve", 1, true) then
        compare(shown, serve(command, shown))
      else
        local result = run(at_the_gateway(command))
        compare(shown, result.stdout)
        -- What fails in silence is not what the page means.
        assert(result.code == 0 or shown ~= "", command .. " has failed")
      end
    end
  end

  function actions.write(step)
    posix.write_file(directory, step.file, step.text)
  end

  function actions.equals(step)
    assert.equal(step.text, posix.read_file(directory .. "/" .. step.file))
  end

  function actions.has(step)
    local text = posix.read_file(directory .. "/" .. step.file)
    assert(text:find(step.text, 1, true), step.file .. " has no such lines")
  end

  function actions.diff(step)
    posix.write_file(root, "change.diff", step.text)
    local result = run("patch -p0 --fuzz=0 --no-backup-if-mismatch <../change.diff")
    local is_exact = result.code == 0 and not result.stdout:find("offset", 1, true)
    assert(is_exact, result.stdout)
  end

  function actions.text(step)
    for line in step.text:gmatch("[^\n]+") do
      local deadline = posix.deadline(10)
      while not alike(served.log:text()):find(alike(line), 1, true) do
        assert(posix.now() < deadline, "the terminal says\n" .. served.log:text())
        posix.pause(0.005)
      end
    end
  end

  function actions.open(step)
    local result = run("curl --fail --location " .. at_the_gateway(step.text))
    assert(result.code == 0 and result.stdout:find("<title>", 1, true), result.stdout)
  end

  function actions.stop()
    assert(served and not served.is_stopped, "no gateway runs that could be stopped")
    local code = stop()
    assert(code == 0, "it ended with " .. tostring(code))
  end

  it("says what happens, from its first line to its last", function()
    local steps = read_page()
    assert.is_true(#steps > 30)
    for _, step in ipairs(steps) do
      local ok, message = pcall(actions[step.kind], step)
      assert(ok, ("%s:%d: %s"):format(PAGE, step.line, tostring(message)))
    end
    assert.is_true(served.is_stopped, "the page stops the gateway that it starts")
  end)
end)
