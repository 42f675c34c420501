-- Output handler of busted: one line a file while it runs, failures where they happen, the numbers
-- at the end. Errors outside of a spec, in a file that does not load say, count as failures.
local busted = require("busted")
local pretty = require("pl.pretty")

local width = 48

local function describe(message)
  if message == nil then
    return "no message"
  elseif type(message) == "string" then
    return message
  elseif (debug.getmetatable(message) or {}).__tostring then
    return tostring(message)
  end
  return pretty.write(message)
end

local function indent(text)
  return "    " .. text:gsub("\n", "\n    ")
end

local function place(item)
  local trace = item.element.trace or item.trace
  if trace and trace.short_src then
    return trace.short_src .. ":" .. tostring(trace.currentline)
  end
  return ""
end

return function(options)
  local handler = require("busted.outputHandlers.base")()
  -- What the line of the running file has not said yet; `printed` counts failures and errors.
  local file = { specs = 0, started = 0, printed = 0 }
  local seen = { failures = 0, errors = 0, pendings = 0 }

  local function write(...)
    io.write(...)
    io.flush()
  end

  local function report(title, item)
    write(
      "\n  ",
      title,
      " ",
      item.name,
      "\n    ",
      place(item),
      "\n",
      indent(describe(item.message)),
      "\n"
    )
    local traceback = item.trace and item.trace.traceback
    if item.isError and traceback then
      write(indent(traceback:gsub("^%s+", "")), "\n")
    end
    file.printed = file.printed + 1
  end

  -- The base handler has noted the outcome before we are called; what is new in its lists is ours
  -- to tell.
  local function report_new()
    for kind, title in pairs({ failures = "FAILED", errors = "ERROR", pendings = "SKIPPED" }) do
      for i = seen[kind] + 1, #handler[kind] do
        report(title, handler[kind][i])
      end
      seen[kind] = #handler[kind]
    end
  end

  local function on_file_start(element)
    local name = element.name
    file = { specs = 0, started = busted.gettime(), printed = 0 }
    write(name, (" "):rep(width - #name), " ")
    return nil, true
  end

  local function on_file_end()
    report_new()
    local seconds = busted.gettime() - file.started
    write(
      ("%s%5d in %.2f s\n"):format(
        file.printed > 0 and (" "):rep(width + 1) or "",
        file.specs,
        seconds
      )
    )
    return nil, true
  end

  local function on_test_end(element, parent, status)
    file.specs = file.specs + 1
    write(({ success = ".", pending = "-" })[status] or "!")
    report_new()
    return nil, true
  end

  local function on_outside_error()
    report_new()
    return nil, true
  end

  local function on_suite_end()
    report_new()
    local failed = handler.failuresCount + handler.errorsCount
    local numbers = { handler.successesCount, failed, handler.pendingsCount }
    if failed > 0 then
      write("\nFailed:\n")
      for _, kind in ipairs({ "failures", "errors" }) do
        for _, item in ipairs(handler[kind]) do
          write("  ", place(item), "  ", item.name, "\n")
        end
      end
    end
    local path = os.getenv("PERIGEE_SPECS_SUMMARY")
    if path then
      local out = assert(io.open(path, "w"))
      out:write(table.concat(numbers, " "), "\n")
      out:close()
    else
      write(("%d passed, %d failed, %d skipped\n"):format(unpack(numbers)))
    end
    return nil, true
  end

  busted.subscribe({ "file", "start" }, on_file_start)
  busted.subscribe({ "file", "end" }, on_file_end)
  busted.subscribe({ "test", "end" }, on_test_end, { predicate = handler.cancelOnPending })
  busted.subscribe({ "suite", "end" }, on_suite_end)
  for _, outcome in ipairs({ "error", "failure" }) do
    for _, where in ipairs({ "file", "describe" }) do
      busted.subscribe({ outcome, where }, on_outside_error)
    end
  end

  return handler
end
