-- The index page, which links every application, and the pages it links.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")

describe("The index page", function()
  gateway.with_workers(describe, function(workers)
    it("links pages that all exist", function()
      local server = apps.start(workers)
      local index = server:request({ path = "/", worker = workers })
      assert.equal(200, index.status)
      assert.truthy(index.headers["content-type"]:find("^text/html"))
      local count = 0
      for link in index.body:gmatch("href=[\"']?([^\"'>%s#?]+)") do
        if not link:find(":", 1, true) and not link:find("^//") then
          local path = link:sub(1, 1) == "/" and link or "/" .. link:gsub("^%./", "")
          local target = server:request({ path = path, worker = (count % workers) + 1 })
          assert.equal(200, target.status, link)
          count = count + 1
        end
      end
      assert.is_true(count >= 6, "it links " .. count)
    end)

    it("and all pages show what they were asked for, not more", function()
      local server = apps.start(workers)
      for _, path in ipairs({
        "/main.lua",
        "/rooms.lua",
        "/chat.lua",
        "/../scripts/main.lua",
        "/%2e%2e/Makefile",
      }) do
        assert.is_true(server:get(path).status >= 400, path)
      end
    end)
  end)
end)
