-- `perigee new`: what it makes works at once, for who has installed and for who runs the build.
local gateway = require("spec.support.gateway")
local lfs = require("lfs")
local posix = require("perigee.testing.posix")

local BUILT = os.getenv("PERIGEE") or lfs.currentdir() .. "/build/perigee"
local FILES = {
  ".gitignore",
  ".luarc.json",
  "README.md",
  "main.lua",
  "public/index.html",
  "spec/main_spec.lua",
}

describe("perigee new", function()
  local directory
  before_each(function()
    directory = posix.temporary_directory()
  end)
  after_each(function()
    posix.remove_directory(directory)
  end)

  local function run(arguments, options)
    options = options or {}
    return gateway.run(arguments, {
      directory = directory .. "/" .. (options.from or ""),
      binary = options.binary,
      env = { PERIGEE_TIME_SCALE = posix.time_scale },
      seconds = 30,
    })
  end

  local function make(name, options)
    local result = run({ "new", name }, options)
    assert.equal("", result.stderr)
    assert.equal(0, result.code)
    return result.stdout
  end

  local function list(path, prefix, found)
    for name in lfs.dir(path) do
      if name ~= "." and name ~= ".." then
        if lfs.attributes(path .. "/" .. name, "mode") == "directory" then
          list(path .. "/" .. name, prefix .. name .. "/", found)
        else
          found[#found + 1] = prefix .. name
        end
      end
    end
    table.sort(found)
    return found
  end

  -- Its own specs pass, all of them, and it is served without an argument.
  local function works(name, binary)
    local result = run({ "test" }, { from = name, binary = binary })
    assert.equal(0, result.code, result.stdout .. result.stderr)
    local passed = result.stdout:match("(%d+) successes / 0 failures / 0 errors / 0 pending")
    assert.is_true(tonumber(passed) >= 5, result.stdout)
    result = run({ "check" }, { from = name, binary = binary })
    assert.equal(0, result.code)
    assert.truthy(result.stdout:find("/health", 1, true), result.stdout)

    local process = posix.spawn({ binary or BUILT, "serve", "--listen", "127.0.0.1:0" }, {
      directory = directory .. "/" .. name,
      stderr = directory .. "/log",
    })
    local line = require("string.buffer").new()
    local deadline = posix.deadline(10)
    while not tostring(line):find("\n") and posix.wait(process.stdout, true, false, deadline) do
      if not posix.receive(process.stdout, line) then
        break
      end
    end
    posix.kill(process.pid, "TERM")
    local code = posix.wait_exit(process.pid, posix.deadline(10))
    posix.close(process.stdin)
    posix.close(process.stdout)
    assert.truthy(tostring(line):find("^listening on http://127%.0%.0%.1:%d+\n"), tostring(line))
    assert.equal(0, code, posix.read_file(directory .. "/log"))
  end

  -- The editor's paths all lead to something.
  local function guides_editors(name)
    local settings = posix.read_file(directory .. "/" .. name .. "/.luarc.json")
    settings = require("perigee.testing").json.decode(settings)
    local has_meta = false
    for _, path in ipairs(settings["workspace.library"]) do
      assert.is_not_nil(lfs.attributes(path), path)
      has_meta = has_meta or path:find("/perigee/_meta$") ~= nil
    end
    assert.is_true(has_meta)
    local root = settings["runtime.path"][3]:match("^(/.*)/%?%.lua$")
    assert.is_not_nil(lfs.attributes(root .. "/perigee/testing/init.lua"), root)
  end

  it("makes an application that works, by the build's path", function()
    local text = make("chat")
    assert.same(FILES, list(directory .. "/chat", "", {}))
    for _, name in ipairs(FILES) do
      assert.truthy(text:find("\n  " .. name .. " ", 1, true), name)
    end
    -- Whoever typed a path gets one that is good in any directory.
    local next_commands = ("\n  cd chat\n  %s test\n  %s serve\n"):format(BUILT, BUILT)
    assert.truthy(text:find(next_commands, 1, true), text)
    works("chat")
    guides_editors("chat")
  end)

  it("makes one that works where it was installed", function()
    local root = lfs.currentdir()
    local prefix = directory .. "/usr local"
    local lua = prefix .. "/share/lua/5.1"
    local command = ("'%s/.ci/install-tree' lua '%s' && install -D '%s' '%s/bin/perigee'"):format(
      root,
      lua,
      BUILT,
      prefix
    )
    assert.equal(0, os.execute(command))
    local binary = prefix .. "/bin/perigee"
    make("chat", { binary = binary })
    works("chat", binary)
    guides_editors("chat")
    local settings = posix.read_file(directory .. "/chat/.luarc.json")
    assert.truthy(settings:find('"' .. lua .. '/perigee/_meta"', 1, true), settings)
  end)

  it("says perigee where perigee was typed", function()
    local command = "cd '%s' && PATH='%s' perigee new chat"
    local pipe = io.popen(command:format(directory, BUILT:match("^(.*)/")))
    local text = pipe:read("*a")
    pipe:close()
    assert.truthy(text:find("\n  cd chat\n  perigee test\n  perigee serve\n", 1, true), text)
  end)

  it("makes a page that needs nothing else", function()
    make("chat")
    local page = posix.read_file(directory .. "/chat/public/index.html")
    assert.is_nil(page:find("https?://"))
    assert.is_nil(page:find("@%u+@"))
    assert.truthy(page:find('name="viewport"', 1, true))
  end)

  it("leaves no blank in a file, and a README of six lines with the name", function()
    make('it\'s "my" \\ chat')
    local made = directory .. '/it\'s "my" \\ chat/'
    for _, name in ipairs(FILES) do
      assert.is_nil(posix.read_file(made .. name):find("@%u+@"), name)
    end
    local readme = posix.read_file(made .. "README.md")
    assert.truthy(readme:find("my", 1, true))
    assert.equal(6, select(2, readme:gsub("\n", "")))
  end)

  it("takes a directory that is empty, also the one it stands in", function()
    lfs.mkdir(directory .. "/here")
    make(".", { from = "here" })
    assert.same(FILES, list(directory .. "/here", "", {}))
    assert.truthy(posix.read_file(directory .. "/here/README.md"):find("^# here\n"))
  end)

  it("refuses one that is not empty, and leaves it as it is", function()
    posix.write_file(directory, "chat/.hidden", "mine")
    local result = run({ "new", "chat" })
    assert.equal(1, result.code)
    assert.equal("", result.stdout)
    local expected = "perigee: chat is not empty: 'perigee new' needs a directory of its own\n"
    assert.equal(expected, result.stderr)
    assert.same({ ".hidden" }, list(directory .. "/chat", "", {}))
  end)

  it("says what is wrong in one line", function()
    local function complains(arguments, code, pattern)
      local result = run(arguments)
      assert.equal(code, result.code, result.stderr)
      assert.truthy(result.stderr:find("^perigee: [^\n]*" .. pattern .. "[^\n]*\n$"), result.stderr)
      assert.equal("", result.stdout)
    end
    complains({ "new" }, 2, "which directory")
    complains({ "new", "a", "b" }, 2, '"b"')
    complains({ "new", "--force", "a" }, 2, "%-%-force")
    complains({ "new", "no/such/place" }, 1, "no/such/place: No such file")
    posix.write_file(directory, "file", "")
    complains({ "new", "file" }, 1, "file: Not a directory")
    complains({ "new", "" }, 1, "No such file")
    -- Beside a binary that stands alone there is nothing to copy.
    assert.equal(0, os.execute(("install '%s' '%s/perigee'"):format(BUILT, directory)))
    local result = run({ "new", "chat" }, { binary = directory .. "/perigee" })
    assert.equal(1, result.code)
    assert.truthy(result.stderr:find("make install", 1, true), result.stderr)
    assert.is_nil(lfs.attributes(directory .. "/chat"))
  end)
end)
