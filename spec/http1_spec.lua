-- HTTP/1.1 as a client sees it (RFC 9110, RFC 9112).
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local json = require("perigee.testing.json")

local APP = [[
  app:get("/hello", function() return "hello" end)
  app:post("/echo", function(request) return request.body end)
  app:put("/echo", function(request) return "put " .. request.body end)
  app:post("/small", { max_body = 10 }, function(request) return request.body end)
  app:get("/length", function() return ("x"):rep(100000) end)
  app:get("/empty", function() return { status = 204 } end)
  app:get("/items/:id", function(request) return request.params.id end)
  app:get("/items/new", function() return "the new one" end)
  app:get("/files/*path", function(request) return request.params.path end)
  app:get("/error", function() error("it broke") end)
  app:get("/nothing", function() end)
  app:get("/typo", function() return { token = "x" } end)
  app:get("/split", function() return { body = "", headers = { Location = "/\r\nX: y" } } end)
  app:get("/late", function() perigee.sleep(0.05) return "late" end)
  app:get("/teapot", function()
    return { status = 418, headers = { ["X-One"] = "1", ["X-Many"] = { "a", "b" } }, json = { a = {} } }
  end)
  app:get("/html", function() return { html = "<p>" } end)
  app:get("/redirect", function() return { redirect = "/hello" } end)
  app:get("/cookies", function(request)
    return { body = request.cookies.a or "none", cookies = {
      plain = { value = "1" }, long = { value = "2", max_age = 60, secure = true, path = "/x" }, gone = false,
    } }
  end)
  app:get("/query", function(request)
    return { json = { q = request.query.q, empty = request.query.empty, all = request:query_all("q") } }
  end)
  app:get("/request", function(request)
    return { json = { method = request.method, path = request.path, host = request.host,
      x = request.headers["x-name"], X = request.headers["X-NAME"], remote = request.remote_address } }
  end)
  app:post("/json", function(request)
    local value, message, code = request:json()
    return { json = { value = value, message = message, code = code } }
  end)
  app:post("/form", function(request)
    local value, message, code = request:form()
    return { json = { value = value, code = code } }
  end)
  app:websocket("/socket", {})
]]

describe("HTTP/1.1", function()
  local server

  setup(function()
    server = gateway.start({ app = APP })
    server.log:allow("it broke")
    server.log:allow("/error")
    server.log:allow("/nothing")
    server.log:allow("/typo")
    server.log:allow("/split")
  end)

  -- A request head with Host, from its first line and further lines.
  local function head(first, ...)
    return table.concat({ first, "Host: localhost", ... }, "\r\n") .. "\r\n\r\n"
  end

  -- What these bytes are answered with; the connection must end after it.
  local function refused(bytes, status)
    local conn = server:raw()
    conn:write(bytes)
    local response = http.read_response(conn, "GET")
    assert.equal(
      status,
      response.status,
      ("%q gave %d %s"):format(bytes:sub(1, 200), response.status, response.body)
    )
    assert.equal("close", response.headers.connection)
    conn:expect_eof()
    return response
  end

  describe("connections", function()
    it("stay open for the next request", function()
      local conn = server:raw()
      for _ = 1, 3 do
        local response = http.exchange(conn, { path = "/hello" })
        assert.equal("hello", response.body)
        assert.is_nil(response.headers.connection)
      end
    end)

    it("answer pipelined requests in their order", function()
      local conn = server:raw()
      conn:write(
        head("GET /late HTTP/1.1")
          .. head("GET /items/1 HTTP/1.1")
          .. head("HEAD /hello HTTP/1.1")
          .. head("POST /echo HTTP/1.1", "Content-Length: 3")
          .. "abc"
          .. head("GET /items/2 HTTP/1.1")
      )
      assert.equal("late", http.read_response(conn).body)
      assert.equal("1", http.read_response(conn).body)
      assert.equal(200, http.read_response(conn, "HEAD").status)
      assert.equal("abc", http.read_response(conn).body)
      assert.equal("2", http.read_response(conn).body)
    end)

    it("answer a thousand pipelined requests", function()
      local conn, parts = server:raw(), {}
      for i = 1, 1000 do
        parts[i] = head(("GET /items/%d HTTP/1.1"):format(i))
      end
      conn:write(table.concat(parts))
      for i = 1, 1000 do
        assert.equal(tostring(i), http.read_response(conn, "GET", 10).body)
      end
    end)

    it("close after Connection: close, and say so", function()
      local conn = server:raw()
      conn:write(head("GET /hello HTTP/1.1", "Connection: close") .. head("GET /hello HTTP/1.1"))
      local response = http.read_response(conn)
      assert.equal("close", response.headers.connection)
      assert.equal("hello", response.body)
      conn:expect_eof()
    end)

    it("close after HTTP/1.0", function()
      local conn = server:raw()
      conn:write("GET /hello HTTP/1.0\r\n\r\n")
      assert.equal("hello", http.read_response(conn).body)
      conn:expect_eof()
    end)

    it("stay open for HTTP/1.0 that asks for it", function()
      local conn = server:raw()
      for _ = 1, 2 do
        conn:write("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        local response = http.read_response(conn)
        assert.equal("keep-alive", response.headers.connection)
        assert.equal("hello", response.body)
      end
    end)

    it("give a half-closed client its answer", function()
      local conn = server:raw()
      conn:write(head("GET /late HTTP/1.1"))
      conn:half_close()
      assert.equal("late", http.read_response(conn).body)
      conn:expect_eof()
    end)

    it("give a half-closed client all its pipelined answers", function()
      local conn = server:raw()
      conn:write(head("GET /late HTTP/1.1") .. head("GET /items/2 HTTP/1.1"))
      conn:half_close()
      assert.equal("late", http.read_response(conn).body)
      assert.equal("2", http.read_response(conn).body)
      conn:expect_eof()
    end)

    it("end in silence when nothing was asked", function()
      local conn = server:raw()
      conn:half_close()
      conn:expect_eof()
    end)

    it("survive a client that is gone before its answer", function()
      local conn = server:raw()
      conn:write(head("GET /late HTTP/1.1"))
      conn:reset()
      assert.equal("hello", server:get("/hello").body)
    end)

    it("read a request that comes byte by byte", function()
      local conn = server:raw()
      for byte in
        (head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked") .. "3\r\nabc\r\n0\r\n\r\n"):gmatch(
          "."
        )
      do
        conn:write(byte)
      end
      assert.equal("abc", http.read_response(conn).body)
    end)

    it("skip an empty line before a request", function()
      local conn = server:raw()
      conn:write("\r\n" .. head("GET /hello HTTP/1.1"))
      assert.equal("hello", http.read_response(conn).body)
    end)

    it("count the empty lines ahead of a request, however slowly they come", function()
      local conn = server:raw()
      conn:write(head("GET /hello HTTP/1.1"))
      assert.equal("hello", http.read_response(conn).body)
      for _ = 1, 5 do
        conn:write("\r\n")
        server:counters()
      end
      assert.equal(400, http.read_response(conn).status)
    end)

    it("are served on every listener", function()
      assert.equal("hello", server:request({ path = "/hello", listener = 1 }).body)
    end)
  end)

  describe("responses", function()
    it("carry Date and Content-Length once", function()
      local response = server:get("/hello")
      local seen = {}
      for _, entry in ipairs(response.list) do
        local name = entry[1]:lower()
        assert.is_nil(seen[name], name .. " twice")
        seen[name] = true
      end
      assert.equal("5", response.headers["content-length"])
      assert.equal("text/plain; charset=utf-8", response.headers["content-type"])
      local date = assert(http.parse_date(response.headers.date), response.headers.date)
      assert.is_true(math.abs(date - http.wall()) <= 5)
      assert.equal("1.1", response.version)
      assert.equal("OK", response.reason)
    end)

    it("to HEAD have the headers of GET and no body", function()
      local conn = server:raw()
      conn:write(head("HEAD /length HTTP/1.1") .. head("GET /hello HTTP/1.1"))
      local response = http.read_response(conn, "HEAD")
      assert.equal("100000", response.headers["content-length"])
      assert.equal("hello", http.read_response(conn).body)
    end)

    it("with 204 have neither body nor length", function()
      local response = server:get("/empty")
      assert.equal(204, response.status)
      assert.is_nil(response.headers["content-length"])
      assert.is_nil(response.headers["transfer-encoding"])
    end)

    it("carry status, headers and JSON as the handler said", function()
      local response = server:get("/teapot")
      assert.equal(418, response.status)
      assert.equal("1", response.headers["x-one"])
      assert.equal("a, b", response.headers["x-many"])
      assert.truthy(response.headers["content-type"]:find("^application/json"))
      assert.truthy(json.decode(response.body).a)
    end)

    it("carry HTML and redirects", function()
      local response = server:get("/html")
      assert.equal("text/html; charset=utf-8", response.headers["content-type"])
      assert.equal("<p>", response.body)
      response = server:get("/redirect")
      assert.equal(303, response.status)
      assert.equal("/hello", response.headers.location)
    end)

    it("set and delete cookies", function()
      local response = server:request({ path = "/cookies", headers = { Cookie = "b=2; a=1; a=3" } })
      assert.equal("1", response.body)
      local cookies = {}
      for _, entry in ipairs(response.list) do
        if entry[1]:lower() == "set-cookie" then
          cookies[entry[2]:match("^[^=]+")] = entry[2]
        end
      end
      assert.truthy(cookies.plain:find("^plain=1;"))
      assert.truthy(cookies.plain:find("HttpOnly"))
      assert.truthy(cookies.plain:find("SameSite=Lax"))
      assert.truthy(cookies.plain:find("Path=/"))
      assert.truthy(cookies.long:find("Max%-Age=60"))
      assert.truthy(cookies.long:find("Secure"))
      assert.truthy(cookies.long:find("Path=/x"))
      assert.truthy(cookies.gone:find("Max%-Age=0"))
    end)

    it("are 500 when the handler raises, returns nothing, a typo or a split header", function()
      for _, path in ipairs({ "/error", "/nothing", "/typo", "/split" }) do
        local response = server:get(path)
        assert.equal(500, response.status, path)
        assert.is_nil(response.body:find("broke"), "the answer tells the error to the peer")
      end
      assert.equal("hello", server:get("/hello").body)
    end)
  end)

  describe("request bodies", function()
    it("come with Content-Length", function()
      assert.equal("abc", server:request({ method = "POST", path = "/echo", body = "abc" }).body)
      assert.equal("put abc", server:request({ method = "PUT", path = "/echo", body = "abc" }).body)
      assert.equal("", server:request({ method = "POST", path = "/echo", body = "" }).body)
    end)

    it("come in chunks, with extensions and trailers", function()
      local conn = server:raw()
      conn:write(
        head("POST /echo HTTP/1.1", "Transfer-Encoding: Chunked")
          .. '5;name="value"\r\nhello\r\n6\r\n world\r\n000\r\nX-Trailer: 1\r\n\r\n'
          .. head("GET /hello HTTP/1.1")
      )
      assert.equal("hello world", http.read_response(conn).body)
      assert.equal("hello", http.read_response(conn).body)
    end)

    it("of half a mebibyte come whole", function()
      local body = ("0123456789abcdef"):rep(32768)
      assert.equal(body, server:request({ method = "POST", path = "/echo", body = body }).body)
      local chunks = {}
      for i = 1, 128 do
        chunks[i] = body:sub((i - 1) * 4096 + 1, i * 4096)
      end
      assert.equal(body, server:request({ method = "POST", path = "/echo", chunks = chunks }).body)
    end)

    it("are awaited with 100 Continue", function()
      local conn = server:raw()
      conn:write(head("POST /echo HTTP/1.1", "Content-Length: 3", "Expect: 100-Continue"))
      assert.equal(100, http.read_response(conn).status)
      conn:write("abc")
      assert.equal("abc", http.read_response(conn).body)
    end)

    it("that are refused are not awaited", function()
      local conn = server:raw()
      conn:write(head("POST /small HTTP/1.1", "Content-Length: 11", "Expect: 100-continue"))
      assert.equal(413, http.read_response(conn).status)
      conn = server:raw()
      conn:write(head("POST /nowhere HTTP/1.1", "Content-Length: 11", "Expect: 100-continue"))
      assert.equal(404, http.read_response(conn).status)
    end)

    it("need no 100 Continue where nothing is expected to come", function()
      local conn = server:raw()
      conn:write(head("GET /hello HTTP/1.1", "Expect: 100-continue"))
      assert.equal(200, http.read_response(conn).status)
      conn = server:raw()
      conn:write("POST /echo HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc")
      assert.equal("abc", http.read_response(conn).body)
    end)

    it("past the route's limit are 413, announced or in chunks", function()
      assert.equal(
        "0123456789",
        server:request({ method = "POST", path = "/small", body = "0123456789" }).body
      )
      refused(head("POST /small HTTP/1.1", "Content-Length: 11") .. "01234567890", 413)
      refused(
        head("POST /small HTTP/1.1", "Transfer-Encoding: chunked")
          .. "6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n",
        413
      )
      refused(head("POST /small HTTP/1.1", "Transfer-Encoding: chunked") .. "ffffffffff\r\n", 413)
      refused(head("POST /echo HTTP/1.1", "Content-Length: 1048577"), 413)
    end)

    it("are read as JSON, or the handler is told why not", function()
      local function post(body)
        return json.decode(server:request({ method = "POST", path = "/json", body = body }).body)
      end
      assert.same({ 1, 2 }, { unpack(post('{"a":[1,2]}').value.a) })
      assert.equal("json", post("{").code)
      assert.equal("json", post("").code)
      assert.equal("json", post('{"a":1} x').code)
      assert.truthy(post("[1,").message)
    end)

    it("are read as forms", function()
      local response = server:request({ method = "POST", path = "/form", body = "a=1&b=x+y%21&c" })
      local value = json.decode(response.body).value
      assert.equal("1", value.a)
      assert.equal("x y!", value.b)
      assert.equal("", value.c)
      response = server:request({ method = "POST", path = "/form", body = "a=%zz" })
      assert.equal("form", json.decode(response.body).code)
    end)
  end)

  describe("paths and queries", function()
    it("prefer literals to parameters to the rest", function()
      assert.equal("the new one", server:get("/items/new").body)
      assert.equal("newer", server:get("/items/newer").body)
      assert.equal("a/b/c", server:get("/files/a/b/c").body)
    end)

    it("are percent-decoded, segment by segment", function()
      assert.equal("a b/ü", server:get("/items/a%20b%2F%C3%BC").body)
      assert.equal("a+b", server:get("/items/a+b").body)
      assert.equal("a/b c", server:get("/files/a/b%20c").body)
    end)

    it("with bad escapes or NUL are 400", function()
      for _, path in ipairs({
        "/items/%",
        "/items/%zz",
        "/items/%1",
        "/items/%00",
        "/query?q=%zz",
        "/query?q=%00",
      }) do
        assert.equal(400, server:get(path).status, path)
      end
    end)

    it("give the first value, all values, and plus as a space", function()
      local value = json.decode(server:get("/query?q=a+b&empty&q=%C3%BC").body)
      assert.equal("a b", value.q)
      assert.equal("", value.empty)
      assert.equal("ü", value.all[2])
    end)

    it("show the request as it came", function()
      local value = json.decode(server:request({
        path = "/request?x=1",
        host = "EXAMPLE.org:8080",
        headers = { { "X-Name", "a" }, { "x-nAME", "b" } },
      }).body)
      assert.equal("GET", value.method)
      assert.equal("/request", value.path)
      assert.equal("example.org:8080", value.host)
      assert.equal("a, b", value.x)
      assert.equal("a, b", value.X)
      assert.equal("127.0.0.1", value.remote)
    end)

    it("may be absolute", function()
      local conn = server:raw()
      conn:write(head("GET http://localhost/hello HTTP/1.1"))
      assert.equal("hello", http.read_response(conn).body)
    end)
  end)

  describe("methods and routes", function()
    it("unknown are 404", function()
      assert.equal(404, server:get("/nowhere").status)
      assert.equal(404, server:request({ method = "POST", path = "/nowhere", body = "x" }).status)
      assert.equal(404, server:get("/hello/").status)
    end)

    it("of another kind are 405 with Allow", function()
      local response = server:request({ method = "POST", path = "/hello", body = "x" })
      assert.equal(405, response.status)
      for _, method in ipairs({ "GET", "HEAD", "OPTIONS" }) do
        assert.truthy(
          (", " .. response.headers.allow .. ","):find(" " .. method .. ",", 1, true),
          method
        )
      end
      response = server:get("/echo")
      assert.equal(405, response.status)
      assert.truthy(response.headers.allow:find("POST"))
      assert.truthy(response.headers.allow:find("PUT"))
      assert.is_nil(response.headers.allow:find("GET"))
    end)

    it("answer OPTIONS by themselves", function()
      local response = server:request({ method = "OPTIONS", path = "/echo" })
      assert.is_true(response.status == 204 or response.status == 200)
      assert.truthy(response.headers.allow:find("POST"))
      local conn = server:raw()
      conn:write(head("OPTIONS * HTTP/1.1"))
      assert.is_true(http.read_response(conn).status < 300)
    end)

    it("that nobody has are 501", function()
      refused(head("BREW /hello HTTP/1.1"), 501)
      refused(head("TRACE /hello HTTP/1.1"), 501)
      refused(head("CONNECT localhost:80 HTTP/1.1"), 501)
    end)

    it("ask for an upgrade where only WebSockets are spoken", function()
      local response = server:get("/socket")
      assert.equal(426, response.status)
      assert.equal("websocket", response.headers.upgrade:lower())
    end)

    it("ignore an upgrade to what is not spoken", function()
      local conn = server:raw()
      conn:write(
        head(
          "GET /hello HTTP/1.1",
          "Connection: Upgrade, HTTP2-Settings",
          "Upgrade: h2c",
          "HTTP2-Settings: AAMAAABkAAQAAP__"
        )
      )
      assert.equal("hello", http.read_response(conn).body)
    end)
  end)

  describe("refuses and closes", function()
    local shapes = {
      ["both lengths"] = {
        "POST /echo HTTP/1.1",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
      },
      ["two lengths that differ"] = {
        "POST /echo HTTP/1.1",
        "Content-Length: 3",
        "Content-Length: 4",
      },
      ["two lengths in one line"] = { "POST /echo HTTP/1.1", "Content-Length: 3, 4" },
      ["a signed length"] = { "POST /echo HTTP/1.1", "Content-Length: +3" },
      ["a negative length"] = { "POST /echo HTTP/1.1", "Content-Length: -3" },
      ["a hexadecimal length"] = { "POST /echo HTTP/1.1", "Content-Length: 0x3" },
      ["an empty length"] = { "POST /echo HTTP/1.1", "Content-Length: " },
      ["a length past 64 bits"] = { "POST /echo HTTP/1.1", "Content-Length: 18446744073709551619" },
      ["chunked that is not last"] = {
        "POST /echo HTTP/1.1",
        "Transfer-Encoding: chunked, identity",
      },
      ["chunked twice"] = { "POST /echo HTTP/1.1", "Transfer-Encoding: chunked, chunked" },
      ["two hosts"] = { "GET /hello HTTP/1.1", "Host: other" },
      ["a folded header"] = { "GET /hello HTTP/1.1", "X-A: 1", " folded" },
      ["a header folded by a tab"] = { "GET /hello HTTP/1.1", "X-A: 1", "\tfolded" },
      ["a space before the colon"] = { "GET /hello HTTP/1.1", "X-A : 1" },
      ["a tab before the colon"] = { "POST /echo HTTP/1.1", "Content-Length\t: 3" },
      ["an empty header name"] = { "GET /hello HTTP/1.1", ": 1" },
      ["a header without a colon"] = { "GET /hello HTTP/1.1", "X-A" },
      ["a space inside a header name"] = { "GET /hello HTTP/1.1", "X A: 1" },
      ["a slash in a header name"] = { "GET /hello HTTP/1.1", "X/A: 1" },
      ["a NUL in a value"] = { "GET /hello HTTP/1.1", "X-A: a\0b" },
      ["a control character in a value"] = { "GET /hello HTTP/1.1", "X-A: a\1b" },
      ["a bare CR in a value"] = { "GET /hello HTTP/1.1", "X-A: a\rb" },
      ["a bare LF between headers"] = { "GET /hello HTTP/1.1", "X-A: a\nX-B: b" },
      ["a bare LF after the request line"] = { "GET /hello HTTP/1.1\nX-A: a" },
      ["two spaces in the request line"] = { "GET  /hello HTTP/1.1" },
      ["a request line without a version"] = { "GET /hello" },
      ["a lower-case protocol"] = { "GET /hello http/1.1" },
      ["a version without a dot"] = { "GET /hello HTTP/11" },
      ["a target that is no path"] = { "GET hello HTTP/1.1" },
      ["an asterisk for GET"] = { "GET * HTTP/1.1" },
      ["a space in the target"] = { "GET /hel lo HTTP/1.1" },
    }
    for name, lines in pairs(shapes) do
      it(name, function()
        refused(head(unpack(lines)), 400)
      end)
    end

    local hosts = {
      ["no Host"] = "GET /hello HTTP/1.1\r\n\r\n",
      ["an empty Host"] = "GET /hello HTTP/1.1\r\nHost: \r\n\r\n",
      ["a Host with a path"] = "GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n",
      ["a Host with a user"] = "GET /hello HTTP/1.1\r\nHost: u@a\r\n\r\n",
      ["a Host with a space"] = "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n",
      ["a Host with a bad port"] = "GET /hello HTTP/1.1\r\nHost: a:b\r\n\r\n",
      ["a list of hosts"] = "GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n",
      ["white space before the first header"] = "GET /hello HTTP/1.1\r\n Host: a\r\n\r\n",
    }
    for name, bytes in pairs(hosts) do
      it(name, function()
        refused(bytes, 400)
      end)
    end

    local chunked = head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked")
    local bodies = {
      ["a chunk size that is no number"] = "x\r\nabc\r\n0\r\n\r\n",
      ["a chunk size with a sign"] = "+3\r\nabc\r\n0\r\n\r\n",
      ["a chunk size with 0x"] = "0x3\r\nabc\r\n0\r\n\r\n",
      ["a chunk size ended by LF"] = "3\nabc\r\n0\r\n\r\n",
      ["a chunk longer than its size"] = "3\r\nabcd\r\n0\r\n\r\n",
      ["a chunk ended by LF"] = "3\r\nabc\n0\r\n\r\n",
      ["a chunk size past 64 bits"] = "10000000000000003\r\nabc\r\n0\r\n\r\n",
      ["an empty chunk size"] = "\r\nabc\r\n0\r\n\r\n",
      ["a bare LF in a trailer"] = "3\r\nabc\r\n0\r\nX: 1\n\r\n",
      ["Content-Length in a trailer"] = "3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
      ["a folded trailer"] = "3\r\nabc\r\n0\r\nX: 1\r\n y\r\n\r\n",
    }
    for name, body in pairs(bodies) do
      it(name, function()
        local conn = server:raw()
        conn:write(chunked .. body .. head("GET /items/smuggled HTTP/1.1"))
        local response = http.read_response(conn)
        assert.is_true(
          response.status == 400 or (name:find("64 bits") and response.status == 413),
          tostring(response.status)
        )
        assert.equal("close", response.headers.connection)
        conn:expect_eof()
      end)
    end

    it("chunked in HTTP/1.0", function()
      refused("POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)
    end)

    it("a transfer coding that nobody has", function()
      refused(head("POST /echo HTTP/1.1", "Transfer-Encoding: gzip, chunked"), 501)
    end)

    it("an expectation that nobody meets", function()
      refused(head("POST /echo HTTP/1.1", "Content-Length: 3", "Expect: 200-ok"), 417)
    end)

    it("a version that is not spoken", function()
      refused(head("GET /hello HTTP/2.0"), 505)
      refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)
    end)

    it("a target that is too long", function()
      assert.equal(404, server:get("/" .. ("a"):rep(8000)).status)
      refused(head("GET /" .. ("a"):rep(8192) .. " HTTP/1.1"), 414)
    end)

    it("headers that are too long or too many", function()
      refused(head("GET /hello HTTP/1.1", "X-A: " .. ("a"):rep(16384)), 431)
      local lines = {}
      for i = 1, 101 do
        lines[i] = "X-" .. i .. ": 1"
      end
      refused(head("GET /hello HTTP/1.1", unpack(lines)), 431)
    end)

    it("what is not HTTP at all", function()
      refused("\22\3\1\2\0\1\0\1\252\3\3\r\n\r\n", 400)
      refused("hello\r\n\r\n", 400)
    end)

    it("nothing of what follows a refused request", function()
      refused(
        head("POST /echo HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked")
          .. "0\r\n\r\n"
          .. head("GET /items/smuggled HTTP/1.1"),
        400
      )
    end)

    it("a big body without losing the answer to a reset", function()
      local conn = server:raw()
      conn:write(head("POST /small HTTP/1.1", "Content-Length: 1000000"))
      conn:write(("x"):rep(200000))
      assert.equal(413, http.read_response(conn).status)
    end)
  end)

  it("takes two equal lengths for one or refuses, never for two", function()
    local conn = server:raw()
    conn:write(
      head("POST /echo HTTP/1.1", "Content-Length: 3", "Content-Length: 3", "Connection: close")
        .. "abc"
    )
    local response = http.read_response(conn)
    assert.is_true(response.status == 400 or response.body == "abc")
    conn:expect_eof()
  end)
end)

describe("HTTP/1.1 over time", function()
  local server
  before_each(function()
    server = gateway.start({
      app = APP .. [[
      app:get("/for-ever", { timeout = 30 }, function() perigee.sleep(1000) return "late" end)
    ]],
    })
    server:freeze()
  end)

  local HELLO = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"

  -- A connection whose first request was answered and which has begun a second one with `bytes`.
  local function begun(bytes)
    local conn = server:raw()
    conn:write(HELLO .. bytes)
    assert.equal("hello", http.read_response(conn).body)
    return conn
  end

  it("answers 408 when a head takes longer than 10 s", function()
    local conn = begun("GET /hello HTTP/1.1\r\nHost:")
    server:advance(9.9)
    server:advance(0.2)
    local response = http.read_response(conn)
    assert.equal(408, response.status)
    assert.equal("close", response.headers.connection)
    conn:expect_eof()
  end)

  it("lets a head take 9 s", function()
    local conn = begun("GET /hello HTTP/1.1\r\nHost:")
    server:advance(9)
    conn:write(" a\r\n\r\n")
    assert.equal("hello", http.read_response(conn).body)
  end)

  it("answers 408 when a body takes longer than a minute", function()
    local conn = begun("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    server:advance(59)
    server:advance(1.1)
    assert.equal(408, http.read_response(conn).status)
    conn:expect_eof()
  end)

  it("closes an idle connection after 75 s, without a word", function()
    local conn = begun("")
    server:advance(74)
    conn:write(HELLO)
    assert.equal("hello", http.read_response(conn).body)
    server:advance(75.1)
    conn:expect_eof()
  end)

  it("answers 503 for a handler that suspends for ever", function()
    local conn = begun("GET /for-ever HTTP/1.1\r\nHost: a\r\n\r\n")
    server:wait_for(function(counters)
      return counters.tasks > 0
    end)
    server.log:allow("for%-ever")
    server:advance(30.1)
    assert.equal(503, http.read_response(conn).status)
  end)

  it("moves Date with the clock", function()
    local before = http.parse_date(server:get("/hello").headers.date)
    server:advance(3600)
    assert.equal(3600, http.parse_date(server:get("/hello").headers.date) - before)
  end)
end)
