-- GET /blog-updates and POST /new-post.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

describe("/blog", function()
  gateway.with_workers(describe, function(workers)
    local server
    before_each(function()
      server = apps.start(workers)
    end)

    local function publish(post, worker)
      local response = server:post("/new-post", post, { worker = worker })
      assert.equal(200, response.status, response.body)
      assert.equal("Post published", response.body)
    end

    local function post(title)
      return {
        title = title,
        id = function(id)
          return id ~= nil
        end,
        timestamp = apps.is_iso,
      }
    end

    -- The title that is the last of those there; a gateway may begin with posts of its own.
    local function read_to(stream, title)
      local event
      repeat
        event = stream:next()
      until json.decode(event.data).title == title
      return event
    end

    it("gives a reader every post that exists, then each as it is published", function()
      publish({ title = "one", content = "first" }, 1)
      publish({ title = "two", content = "second" }, workers)
      for worker = 1, workers do
        local stream = server:sse("/blog-updates", { worker = worker })
        read_to(stream, "one")
        local event = stream:expect(post("two"))
        assert.is_nil(event.event)
        assert.equal("second", event.json.content)
        stream:close()
      end
      local near, far =
        server:sse("/blog-updates"), server:sse("/blog-updates", { worker = workers })
      read_to(near, "two")
      read_to(far, "two")
      publish({ title = "three", tags = json.array(), nested = { a = { 1, 2 } } }, workers)
      local event = near:expect(post("three"))
      assert.truthy(event.data:gsub("%s", ""):find('"tags":[]', 1, true))
      assert.equal(2, event.json.nested.a[2])
      assert.equal(event.data, far:expect(post("three")).data)
    end)

    it("gives every post an id of its own, whatever the author says", function()
      publish({ title = "one", id = "mine", timestamp = "never" }, 1)
      publish({ title = "two", id = "mine" }, workers)
      local stream = server:sse("/blog-updates")
      local one = read_to(stream, "one")
      local two = stream:expect(post("two"))
      assert.are_not.equal("mine", two.json.id)
      assert.are_not.equal(json.decode(one.data).id, two.json.id)
      assert.is_true(apps.is_iso(json.decode(one.data).timestamp))
    end)

    it("gives one who comes back exactly what was missed", function()
      publish({ title = "one" }, 1)
      local stream = server:sse("/blog-updates")
      read_to(stream, "one")
      local id = stream.last_event_id
      assert.is_true(id ~= "")
      stream:close()
      publish({ title = "two" }, workers)
      publish({ title = "three" }, 1)
      for worker = 1, workers do
        local again = server:sse("/blog-updates", { worker = worker, last_event_id = id })
        again:expect(post("two"))
        again:expect(post("three"))
        again:close()
      end
      local current = server:sse("/blog-updates")
      id = read_to(current, "three").id
      current:close()
      local again = server:sse("/blog-updates", { worker = workers, last_event_id = id })
      publish({ title = "four" }, 1)
      again:expect(post("four"))
    end)

    it("refuses what is no post, with a reason", function()
      local bodies = {
        "",
        "not JSON",
        "{}",
        "[]",
        "7",
        '{"title":""}',
        '{"title":7}',
        '{"content":"x"}',
        '{"title":null}',
      }
      for _, body in ipairs(bodies) do
        local response =
          server:request({ method = "POST", path = "/new-post", body = body, worker = workers })
        assert.equal(400, response.status, body)
        assert.is_true(#response.body > 0)
      end
      local stream = server:sse("/blog-updates")
      publish({ title = "the first good one" })
      read_to(stream, "the first good one")
    end)

    it("wants the token first, where one is set", function()
      local closed = apps.start(workers, { BLOG_TOKEN = "open sesame" })
      local function status(authorization, body)
        local response = closed:request({
          method = "POST",
          path = "/new-post",
          worker = workers,
          body = body or '{"title":"x"}',
          headers = authorization and { Authorization = authorization } or {},
        })
        if response.status == 401 then
          assert.equal("Bearer", response.headers["www-authenticate"]:match("^%a+"))
        end
        return response.status
      end
      assert.equal(401, status(nil))
      assert.equal(401, status("Bearer wrong"))
      assert.equal(401, status("Bearer open sesame2"))
      assert.equal(401, status("open sesame"))
      assert.equal(401, status("Basic open sesame"))
      assert.equal(401, status(nil, "not JSON"))
      assert.equal(400, status("Bearer open sesame", "not JSON"))
      assert.equal(200, status("Bearer open sesame"))
    end)

    it("has a page", function()
      local response = server:request({ path = "/blog", worker = workers })
      assert.equal(200, response.status)
      assert.truthy(response.headers["content-type"]:find("^text/html"))
    end)
  end)
end)
