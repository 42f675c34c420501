--- Saving the files of soak_app.lua over and over, and seeing that each save has come to what it should:
--- live in every worker, or reported and nothing else.

local posix = require("perigee.testing.posix")
local process = require("bench.process")
local soak_app = require("bench.soak_app")

local Saves = {}
Saves.__index = Saves

local M = {}

-- One save of so many is broken.
local BROKEN_EVERY = 10

-- A save is judged within this; a worker that is held up longer makes a reload fail.
local VERDICT_SECONDS = 10

local LIVE, STAYS = " generation (%d+) live: ", " generation (%d+) stays live "

--- `server` is the gateway, of the testing kit; `load` is told what is live; `opts` has workers
--- and is_watched (else SIGHUP tells of a save).
function M.new(server, load, opts)
  return setmetatable({
    server = server,
    load = load,
    opts = opts,
    numbers = { [soak_app.MAIN] = 1, [soak_app.PART] = 0 },
    generation = 1,
    good = 0,
    live = 0,
    broken = 0,
    reported = 0,
    damaged = nil, -- the file that is broken, and has to be mended
    seen = 0, -- bytes of the log
    load_ms = {}, -- how long each reload took, as the log has it
    surprises = {},
  }, Saves)
end

function Saves:count()
  return self.good + self.broken
end

local function surprise(self, text, ...)
  table.insert(self.surprises, ("save %d: "):format(self:count()) .. text:format(...))
end

-- What the log says of a save ----------------------------------------------------------------------

-- What the log says of reloads since it was read last.
local function new_verdicts(self)
  local verdicts = {}
  local text = self.server.log:text():sub(self.seen + 1)
  for line in text:gmatch("([^\n]*)\n") do
    local live, stays = line:match(LIVE), line:match(STAYS)
    if live or stays then
      table.insert(
        verdicts,
        { generation = tonumber(live or stays), is_live = live ~= nil, line = line }
      )
    end
    self.seen = self.seen + #line + 1
  end
  return verdicts
end

-- Waits for the verdict that is wanted; every other one is a surprise.
local function expect_verdict(self, is_wanted)
  local deadline = posix.deadline(VERDICT_SECONDS)
  repeat
    local found
    for _, verdict in ipairs(new_verdicts(self)) do
      if is_wanted(verdict) then
        found = verdict
      else
        surprise(self, "%s", verdict.line)
      end
    end
    if found then
      return found
    end
    posix.pause(0.002)
  until posix.now() > deadline
  surprise(self, "the log says nothing")
end

local function tell(self)
  if not self.opts.is_watched then
    self.server:signal("HUP")
  end
end

-- Saving -------------------------------------------------------------------------------------------

local function save_good(self, name)
  self.good = self.good + 1
  self.numbers[name] = self.numbers[name] + 1
  self.server:edit(name, soak_app.text(name, self.numbers[name]))
  tell(self)
  self.generation = self.generation + 1
  local verdict = expect_verdict(self, function(verdict)
    return verdict.is_live and verdict.generation == self.generation
  end)
  if verdict then
    self.live = self.live + 1
    table.insert(self.load_ms, tonumber(verdict.line:match(", (%d+) ms, ")))
    process.say(self.load, "live " .. self.generation)
  end
end

-- A writer that is killed when it has written a part.
local function write_cut(path, text)
  local writer = posix.spawn({ "sh", "-c", 'cat >"$0"', path })
  local deadline = posix.deadline(VERDICT_SECONDS)
  posix.write_pipe(writer.stdin, text)
  while posix.read_file(path) ~= text and posix.now() < deadline do
    posix.pause(0.001)
  end
  posix.kill(writer.pid, "KILL")
  posix.wait_exit(writer.pid, deadline)
  posix.close(writer.stdin)
  posix.close(writer.stdout)
end

local function save_broken(self, broken)
  self.broken = self.broken + 1
  if broken.is_cut then
    write_cut(self.server.scripts_directory .. "/" .. broken.name, broken.text)
  else
    self.server:edit(broken.name, broken.text)
  end
  tell(self)
  local verdict = expect_verdict(self, function(verdict)
    -- What is written in place may be loaded while it is empty, and again when there is more.
    local is_reported = broken.is_cut or verdict.line:find(broken.says) ~= nil
    return not verdict.is_live and verdict.generation == self.generation and is_reported
  end)
  self.reported = self.reported + (verdict and 1 or 0)
  self.damaged = broken.name
end

-- Every worker answers with the code that is live, as soon as the log says so.
local function ask_workers(self)
  for worker = 1, self.opts.workers do
    local said = self.server:get("/generation", { worker = worker }).body
    if said ~= tostring(self.generation) then
      surprise(self, "worker %d answers with generation %s", worker, tostring(said))
    end
  end
end

local function save(self)
  if not self.damaged and (self:count() + 1) % BROKEN_EVERY == 0 then
    save_broken(self, soak_app.broken[self.broken % #soak_app.broken + 1])
  else
    save_good(self, self.damaged or self.good % 2 == 0 and soak_app.MAIN or soak_app.PART)
    self.damaged = nil
  end
  ask_workers(self)
end

--- Saves each `every` seconds until there have been `count` in all, or until the moment `ends`, and then
--- until nothing is broken any more.
function Saves:go_on(every, count, ends)
  local due = posix.now()
  while self:count() < count and due < ends do
    posix.pause(math.max(0, due - posix.now()))
    save(self)
    due = math.max(due + every, posix.now())
  end
  if self.damaged then
    save(self)
  end
end

return M
