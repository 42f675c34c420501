-- What the pages in docs/ say of the code, compared with it both ways: the functions that C gives to
-- Lua with their descriptions in lua/perigee/_meta, and the guides with what they describe.
local gateway = require("spec.support.gateway")
local lfs = require("lfs")

-- A luaL_Reg table in core/script to the prefix of its functions in _meta; false: not for scripts.
local TABLES = {
  perigee_task_functions = "perigee.",
  perigee_timer_functions = "perigee.",
  perigee_topic_functions = "perigee.",
  perigee_shared_functions = "perigee.",
  perigee_keep_functions = "perigee.",
  perigee_base_functions = "perigee.",
  connection_methods = "Connection:",
  request_methods = "Request:",
  timer_methods = "Timer:",
  shared_methods = "Shared:",
  crypto_functions = "crypto.",
  log_functions = "log.",
  functions = "json.", -- lua_json.c
  core_functions = false,
  sandbox_functions = false,
  metamethods = false,
  no_methods = false,
}

-- Defined in Lua, and annotated there too.
local IN_LUA = { ["perigee.app"] = true }

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

-- What GitHub makes of a heading.
local function anchor_of(heading)
  return (heading:lower():gsub("[^%w_%- ]", ""):gsub(" ", "-"))
end

local function files(directory, pattern)
  local found = {}
  for name in lfs.dir(directory) do
    if name:find(pattern) then
      found[#found + 1] = directory .. "/" .. name
    end
  end
  table.sort(found)
  return found
end

local function in_c()
  local names = {}
  for _, path in ipairs(files("core/script", "%.c$")) do
    for table_name, body in read(path):gmatch("luaL_Reg ([%w_]+)%[%] =%s*(%b{});") do
      local prefix = TABLES[table_name]
      assert.is_not_nil(prefix, path .. ": say in this spec what " .. table_name .. " is")
      for name in body:gmatch('{"([%w_]+)"') do
        if prefix then
          names[prefix .. name] = path
        end
      end
    end
  end
  return names
end

local function in_meta()
  local names = {}
  for _, path in ipairs(files("lua/perigee/_meta", "%.lua$")) do
    for name in read(path):gmatch("\nfunction ([%w_.:]+)%(") do
      assert.is_nil(names[name], name .. " is described twice")
      names[name] = path
    end
  end
  return names
end

describe("The reference", function()
  it("is what the annotations give now", function()
    local pipe = assert(io.popen("luajit .ci/reference 2>&1"))
    local made = pipe:read("*a")
    pipe:close()
    assert.is_nil(made:match("^reference: .*"))
    -- The texts are long: the message says what to do, not where they differ.
    assert.is_true(
      made == read("docs/reference.md"),
      "docs/reference.md is not what lua/perigee/_meta gives now: run `make reference`"
    )
  end)

  it("has every function that scripts can call", function()
    local page = read("docs/reference.md")
    for name in read("lua/perigee/app.lua"):gmatch("\nfunction App:([%w_]+)%(") do
      assert.truthy(page:find("\n### `app:" .. name .. "`\n", 1, true), name)
    end
    for name in pairs(in_meta()) do
      name = name:gsub("^%u%w*:", ":")
      assert.truthy(page:find(name .. "`\n\n```lua\n", 1, true), name)
    end
  end)
end)

describe("The pages", function()
  local pages = files("docs", "%.md$")
  table.insert(pages, "README.md")

  local function anchors(path)
    local found = {}
    for heading in ("\n" .. read(path):gsub("```.-\n```", "")):gmatch("\n#+ ([^\n]*)") do
      found[anchor_of(heading)] = true
    end
    return found
  end

  it("link to pages and headings that are there", function()
    for _, path in ipairs(pages) do
      local directory = path:match("^(.*/)") or ""
      for link in read(path):gmatch("%]%(([^%s)]+)%)") do
        local page, anchor = link:match("^([^#]*)#?(.*)$")
        local target = page == "" and path or directory .. page
        if not link:find("^%a+://") then
          assert.is_not_nil(lfs.attributes(target), path .. ": " .. link)
          assert.truthy(anchor == "" or anchors(target)[anchor], path .. ": " .. link)
        end
      end
    end
  end)
end)

describe("The guide to limits", function()
  local guide = read("docs/limits.md")

  -- Name to default, as a table of the guide says it: "16 KiB", "10 s", "100".
  local function limits_of_the_gateway()
    local found = {}
    local text = gateway.run({ "help", "limits" }).stdout
    for name, rest in text:gmatch("\n  (%-%-limit%-[%l-]+) +([^\n]*)") do
      local default, unit = rest:match("^(.-)  +(%l+)  +%S")
      default = default:gsub(" %(%d+%)$", "")
      found[name] = default .. (unit == "seconds" and " s" or "")
    end
    return found
  end

  it("has each of the gateway's limits once, with its default", function()
    local described = {}
    for name, default in guide:gmatch("\n| `(%-%-limit%-[%l-]+)` | ([^|]+) |") do
      assert.is_nil(described[name], name .. " is there twice")
      described[name] = default
    end
    assert.same(limits_of_the_gateway(), described)
  end)

  it("speaks of no other", function()
    local known = limits_of_the_gateway()
    for name in guide:gmatch("%-%-limit%-[%l-]+") do
      assert.is_not_nil(known[name], name)
    end
  end)

  it("has the defaults of routes and topics that editors show", function()
    local meta = read("lua/perigee/_meta/options.lua")
    local count = 0
    for name, default in guide:gmatch("\n| `([%l_]+)` | (%d+ ?%a*) |") do
      local field = meta:match("@field " .. name .. "%? ([^\n]*)")
      local number = default:gsub(" s$", "")
      assert.truthy(field:find(number .. " by default", 1, true), name .. ": " .. default)
      count = count + 1
    end
    assert.is_true(count >= 8)
  end)

  it("shows what perigee check says", function()
    local command, shown = guide:match("```console\n%$ perigee (check [^\n]*)\n(.-)```")
    local arguments = {}
    for argument in command:gmatch("%S+") do
      table.insert(arguments, argument)
    end
    assert.equal(shown, gateway.run(arguments).stderr)
  end)
end)

describe("The guide to testing", function()
  local guide = read("docs/testing.md")
  local kit = ""
  for _, path in ipairs(files("lua/perigee/testing", "%.lua$")) do
    kit = kit .. read(path)
  end

  it("names functions that are there", function()
    for object, name in guide:gmatch("([%w_.]+):([%w_]+)%(") do
      assert.truthy(kit:find("function %w+:" .. name .. "%("), object .. ":" .. name)
    end
    for name in guide:gmatch("testing%.([%w_]+)%(") do
      assert.truthy(kit:find("function M." .. name .. "%("), "testing." .. name)
    end
    -- The tables of verbs.
    for name in guide:gmatch("[|,·] `([%l_]+)%(") do
      assert.truthy(kit:find("function %w+:" .. name .. "%("), name)
    end
  end)

  it("has every option of testing.start, and no other", function()
    local known = kit:match("local OPTIONS = {(.-)}")
    local described = guide:match("testing%.start%(script, options%).-\n(|.-)\n\n")
    for name in known:gmatch("([%l_]+) =") do
      assert.truthy(described:find("`" .. name .. "`", 1, true), name)
    end
    for names in described:gmatch("\n| (`[^|]+) |") do
      for name in names:gmatch("`([%l_]+)`") do
        assert.truthy(known:find(name .. " =", 1, true), name)
      end
    end
  end)
end)

describe("The descriptions for editors", function()
  it("have every function that C gives to scripts", function()
    local described = in_meta()
    for name, path in pairs(in_c()) do
      assert.is_not_nil(described[name], name .. " of " .. path .. " is not in lua/perigee/_meta")
    end
  end)

  it("have no function that is not there", function()
    local given = in_c()
    for name, path in pairs(in_meta()) do
      if not IN_LUA[name] then
        assert.is_not_nil(given[name], name .. " in " .. path .. " is not in core/script")
      end
    end
  end)

  it("say of every function what it takes", function()
    for _, path in ipairs(files("lua/perigee/_meta", "%.lua$")) do
      local comment = ""
      for line in read(path):gmatch("([^\n]*)\n") do
        local name, arguments = line:match("^function ([%w_.:]+)(%b())")
        if name then
          assert.not_equal("", comment, name .. " is not described")
          for argument in arguments:gmatch("[%w_]+") do
            assert.truthy(comment:find("@param " .. argument, 1, true), name .. ": " .. argument)
          end
          assert.truthy(
            arguments:find("...", 1, true) == nil or comment:find("@param ...", 1, true)
          )
        end
        comment = line:find("^%-%-%-") and comment .. line .. "\n" or ""
      end
    end
  end)

  it("have every option that the Lua half accepts", function()
    local meta = ""
    for _, path in ipairs(files("lua/perigee/_meta", "%.lua$")) do
      meta = meta .. read(path)
    end
    local app = read("lua/perigee/app.lua")
    for name, check in app:gmatch('\n  ([%w_]+) = { "([%w_]+)"') do
      if check ~= "later" then
        assert.truthy(meta:find("@field " .. name .. "%?? "), name .. " is not in _meta")
      end
    end
  end)
end)
