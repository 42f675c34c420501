-- perigee.crypto, ids, secrets and the clock.
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

describe("perigee.crypto", function()
  local function evaluate(body, opts)
    opts = opts or {}
    opts.app = ([[
      local crypto, c = perigee.crypto, perigee.crypto
      local function why(fn, ...) return (select(2, pcall(fn, ...))) end
      app:get("/", function() return { json = { %s } } end)
    ]]):format(body)
    local server = gateway.start(opts)
    local values = {}
    for worker = 1, opts.workers or 1 do
      values[worker] = json.decode(server:request({ path = "/", worker = worker }).body)
    end
    return values[1], values
  end

  it("gives the digests of FIPS 180-4 and RFC 4231", function()
    local value = evaluate([[
      c.hex(c.sha256("abc")), c.hex(c.sha256("")),
      c.hex(c.hmac_sha256("Jefe", "what do ya want for nothing?")),
      c.hex(c.hmac_sha256(("\170"):rep(131), "Test Using Larger Than Block-Size Key - Hash Key First")),
    ]])
    assert.same({
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    }, value)
  end)

  it("reads and writes base64, both alphabets (RFC 4648)", function()
    local value = evaluate([[
      c.base64_encode(""), c.base64_encode("f"), c.base64_encode("fo"), c.base64_encode("foo"),
      c.base64_encode("\251\255\254"), c.base64_encode("\251\255\254\0", { url = true }),
      c.base64_decode("Zg=="), c.base64_decode("Zg"), c.hex(c.base64_decode("-__-")),
      select(3, c.base64_decode("***")), select(3, c.base64_decode("Z")),
      why(c.base64_encode, "x", { urll = true }),
    ]])
    assert.same(
      { "", "Zg==", "Zm8=", "Zm9v", "+//+", "-__-AA", "f", "f", "fbfffe", "base64", "base64" },
      { unpack(value, 1, 11) }
    )
    assert.truthy(value[12]:find('unknown option "urll" for crypto.base64_encode', 1, true))
  end)

  it("makes random bytes and compares without telling where", function()
    local value = evaluate([[
      #c.random(0), #c.random(33), c.random(16) == c.random(16), c.equal("a", "a"),
      c.equal("a", "b"), c.equal("a", "ab"), why(c.random, -1), why(c.random, 2^30),
    ]])
    assert.same({ 0, 33, false, true, false, false }, { unpack(value, 1, 6) })
    assert.truthy(value[7]:find("count of bytes", 1, true))
    assert.truthy(value[8]:find("count of bytes", 1, true))
  end)

  it("seeds math.random for each worker, and makes ids of its own", function()
    local _, values =
      evaluate("math.random(2^50), perigee.id(), math.random(2^50)", { workers = 4 })
    for i = 1, 4 do
      assert.truthy(values[i][2]:find("^[0-9a-z]+$"))
      assert.is_true(#values[i][2] == 20)
      for j = i + 1, 4 do
        assert.not_equal(values[i][1], values[j][1])
        assert.not_equal(values[i][2], values[j][2])
      end
    end
  end)

  it("makes one secret for all workers, or takes the environment's", function()
    local first, values = evaluate('perigee.secret("MADE")', { workers = 4 })
    assert.is_true(#first[1] >= 32)
    for worker = 2, 4 do
      assert.same(first, values[worker])
    end
    local given = evaluate('perigee.secret("GIVEN")', { env = { GIVEN = "s3cret" } })
    assert.equal("s3cret", given[1])
    assert.is_false(given[2])
    assert.is_true(first[2])
  end)

  it("tells the time", function()
    local value = evaluate([[perigee.iso(0), perigee.iso(1769903999.123), perigee.iso(),
      perigee.time(), perigee.now() > 0, why(perigee.iso, -1)]])
    assert.equal("1970-01-01T00:00:00.000Z", value[1])
    assert.equal("2026-01-31T23:59:59.123Z", value[2])
    assert.truthy(value[3]:find("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$"))
    assert.is_true(math.abs(value[4] - os.time()) < 5)
    assert.is_true(value[5])
    assert.truthy(value[6]:find("seconds since 1970", 1, true))
  end)
end)
