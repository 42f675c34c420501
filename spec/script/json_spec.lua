-- perigee.json inside a script; the codec's own cases are in spec/core.
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

describe("perigee.json", function()
  local server
  local function evaluate(body)
    server = gateway.start({
      app = ([[
      local j = perigee.json
      local function why(fn, ...) return (select(2, pcall(fn, ...))) end
      app:post("/", function(request) return { json = { %s } } end)
    ]]):format(body),
    })
    return json.decode(server:request({ method = "POST", path = "/", body = "[]" }).body)
  end

  it("brings arrays back as arrays, empty ones too, and null as null", function()
    local value = evaluate([[
      j.encode(j.decode('{"a":[],"b":{},"c":[1,[],{}],"d":null}').a),
      j.encode(j.decode("{}")), j.encode(j.decode("[[],{}]")), j.encode(j.array({})),
      j.encode({ a = j.null }), j.decode("null") == j.null, j.encode({ 1, 2 }),
    ]])
    assert.same({ "[]", "{}", "[[],{}]", "[]", '{"a":null}', true, "[1,2]" }, value)
  end)

  it("keeps 17 digits", function()
    local value = evaluate([[
      j.encode(0.1), j.encode(2^53), j.encode(j.decode("0.30000000000000004")), j.encode(1e300),
    ]])
    assert.equal("0.1", value[1])
    assert.equal("9007199254740992", value[2])
    assert.equal("0.30000000000000004", value[3])
    assert.equal(1e300, tonumber(value[4]))
  end)

  it("answers what it cannot read or say", function()
    local value = evaluate([[
      select(3, j.decode("{")), select(3, j.decode("")), select(3, j.decode(("["):rep(1000))),
      select(3, j.decode("[1,]")), select(3, j.decode('"\255"')),
    ]])
    assert.same({ "json", "json", "json", "json", "json" }, value)
  end)

  it("stands straight in what is sent and published", function()
    local other = gateway.start({
      app = [[app:websocket("/", { on_message = function(conn, text)
        local value, _, code = perigee.json.decode(text)
        conn:send(value ~= nil and { got = value } or { code = code })
      end })]],
    })
    local ws = other:websocket("/")
    for _, text in ipairs({ "[]", "{}", "[[]]", "1.5", '"\\u00e9"', "null", "[null]" }) do
      ws:send(text)
      ws:expect_match('^{"got":.+}$')
    end
    ws:send("nonsense")
    ws:expect('{"code":"json"}')
  end)
end)
