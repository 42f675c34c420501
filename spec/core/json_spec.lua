local support = require("spec.core.support")
local ffi = require("ffi")

-- The struct of base/buf.h under a name of our own, so that no other spec's declaration meets it.
support.cdef([[
  struct json_spec_buf { char *data; size_t len; size_t capacity; size_t max_bytes; };
  struct json_reader {
    slice string; double number; const char *error; size_t error_offset;
    const char *begin; const char *at; const char *end; struct json_spec_buf *scratch;
    int depth; int max_depth; int state; uint64_t objects[16];
  };
  void json_reader_init(struct json_reader *reader, slice text, int max_depth,
                        struct json_spec_buf *scratch);
  int json_read(struct json_reader *reader);
  int json_encode_string(struct json_spec_buf *out, slice text);
  int json_encode_number(struct json_spec_buf *out, double number);
  void mem_free(void *memory);
  double strtod(const char *text, char **end);
  int snprintf(char *out, size_t size, const char *format, ...);
]])

local lib = support.lib
local INVALID, END, KEY, STRING, NUMBER = -1, 0, 5, 6, 7
local NAMES = { "{", "}", "[", "]", "key", "string", "number", "true", "false", "null" }
local NOT_UTF8, NOT_FINITE, TOO_LARGE = -1, -2, -3

local function new_buf(max_bytes)
  return ffi.gc(ffi.new("struct json_spec_buf", { max_bytes = max_bytes or 0 }), function(buf)
    lib.mem_free(buf.data)
  end)
end

--- Calls `each(token, reader)` for the tokens before the end. Returns true, or nil, the error and
--- its offset.
local function read(text, each, max_depth, max_scratch)
  local bytes, scratch = support.slice(text), new_buf(max_scratch)
  local reader = ffi.new("struct json_reader")
  lib.json_reader_init(reader, bytes, max_depth or 128, scratch)
  while true do
    local token = lib.json_read(reader)
    if token == INVALID then
      assert.equal(INVALID, lib.json_read(reader))
      assert(bytes)
      return nil, ffi.string(reader.error), tonumber(reader.error_offset)
    elseif token == END then
      assert.equal(END, lib.json_read(reader))
      return true
    end
    each(token, reader)
  end
end

--- The tokens in one line; "ERROR" where the text is refused.
local function tokens(text, max_depth)
  local list = {}
  local ok = read(text, function(token, reader)
    local shown = NAMES[token]
    if token == KEY or token == STRING then
      shown = shown .. ":" .. support.string(reader.string)
    elseif token == NUMBER then
      shown = ("%s:%.17g"):format(shown, reader.number)
    end
    list[#list + 1] = shown
  end, max_depth)
  if not ok then
    list[#list + 1] = "ERROR"
  end
  return table.concat(list, " ")
end

local function is_valid(text, max_depth)
  return read(text, function() end, max_depth) ~= nil
end

local function failure(text, max_depth)
  local ok, message, offset = read(text, function() end, max_depth)
  assert.is_nil(ok, text)
  return message .. " @" .. offset
end

--- The one string or number that `text` holds.
local function value(text)
  local result
  assert(read(text, function(token, reader)
    result = token == NUMBER and reader.number or support.string(reader.string)
  end))
  return result
end

local function encode_string(text, max_bytes)
  local out = new_buf(max_bytes)
  local result = lib.json_encode_string(out, support.slice(text))
  if result ~= 0 then
    assert.equal(0, tonumber(out.len))
    return nil, result
  end
  return ffi.string(out.data, out.len)
end

local function encode_number(number, max_bytes)
  local out = new_buf(max_bytes)
  local result = lib.json_encode_number(out, number)
  if result ~= 0 then
    assert.equal(0, tonumber(out.len))
    return nil, result
  end
  return ffi.string(out.data, out.len)
end

local function printf(format, number)
  local out = ffi.new("char[64]")
  ffi.C.snprintf(out, 64, format, ffi.cast("double", number))
  return ffi.string(out)
end

local function strtod(text)
  return ffi.C.strtod(text, nil)
end

describe("reading JSON", function()
  it("gives tokens in the order of the text", function()
    assert.equal(
      "{ key:a [ number:1 true false null ] key:b { } key:c string:x }",
      tokens(' {"a" : [1, true,false ,null],\r\n\t"b":{}, "c":"x"} ')
    )
    assert.equal("[ [ ] { key:a [ [ ] ] } number:1 ]", tokens('[[],{"a":[[]]},1]'))
  end)

  it("takes any value at the top", function()
    assert.equal("number:42", tokens("42"))
    assert.equal("string:", tokens('""'))
    assert.equal("null", tokens(" null\n"))
    assert.equal("false", tokens("false"))
  end)

  it("leaves equal keys to whoever builds the object", function()
    assert.equal("{ key:a number:1 key:a number:2 }", tokens('{"a":1,"a":2}'))
  end)

  it("accepts all that RFC 8259 allows", function()
    local texts = {
      "[[]   ]",
      '[""]',
      "[]",
      '["a"]',
      '[null, 1, "1", {}]',
      "[1\n]",
      " [1]",
      "[123e65]",
      "[0e+1]",
      "[0e1]",
      "[-0]",
      "[-1]",
      "[1E22]",
      "[1E-2]",
      "[1E+2]",
      "[123.456e78]",
      "[1e-999]",
      '{"":0}',
      '{"foo\\u0000bar": 42}',
      '{"min": -1.0e+28, "max": 1.0e+28}',
      '{"a":"b","a":"b"}',
      '["\\u0060\\u012a\\u12AB"]',
      '["\\uD801\\udc37"]',
      '["\\ud83d\\ude39\\ud83d\\udc8d"]',
      '["\\"\\\\\\/\\b\\f\\n\\r\\t"]',
      '["\\\\u0000"]',
      '["a/*b*/c/*d//e"]',
      '["\\uFFFF"]',
      '["\\uDBFF\\uDFFF"]',
      '["\127"]',
      '["\226\128\168\226\128\169"]',
      '["\239\187\191"]',
      '["\244\143\191\191"]',
      '["\\uFDD0\\uFFFE"]',
      '["asd "]',
      "-0.1",
      "true",
    }
    for _, text in ipairs(texts) do
      assert.is_true(is_valid(text), text)
    end
  end)

  it("refuses all else", function()
    local texts = {
      "",
      " ",
      "[1 true]",
      '["": 1]',
      '[""],',
      "[,1]",
      "[1,,2]",
      '["x",,]',
      '["x"]]',
      '["",]',
      '["x"',
      "[x",
      "[3[4]]",
      "[1:2]",
      "[,]",
      "[-]",
      "[1,]",
      "[*]",
      "[{}",
      "[fals]",
      "[nul]",
      "[tru]",
      "[++1]",
      "[+1]",
      "[+Inf]",
      "[-01]",
      "[-1.0.]",
      "[-2.]",
      "[NaN]",
      "[-NaN]",
      "[.-1]",
      "[.2e-3]",
      "[0.1.2]",
      "[0.3e+]",
      "[0.3e]",
      "[0.e1]",
      "[0E+]",
      "[0E]",
      "[1.0e]",
      "[1 000.0]",
      "[1eE2]",
      "[2.e3]",
      "[Inf]",
      "[Infinity]",
      "[-Infinity]",
      "[\239\188\145]",
      "[0x1]",
      "[0e+-1]",
      "[- 1]",
      "[012]",
      "[1.]",
      "[1.2a-3]",
      "00",
      "01",
      "-",
      "1e",
      "1.5e",
      '{[: "x"}',
      '{"x", null}',
      '{"x"::"b"}',
      '{"a":"a" 123}',
      "{key: 'value'}",
      '{"a" b}',
      '{:"b"}',
      '{"a" "b"}',
      '{"a":',
      '{"a"',
      "{1:1}",
      "{null:null}",
      '{"id":0,,}',
      "{'a':0}",
      '{"id":0,}',
      '{"a":"b"}/**/',
      '{"a":"b"}//',
      '{"a":/*x*/"b"}',
      '{"a":"b"}#',
      "{,}",
      "{]",
      "[}",
      "}",
      "]",
      "{}}",
      "[1]x",
      "[][]",
      "1 2",
      "nulll",
      "True",
      "'x'",
      "abc",
      '"',
      '"\\',
      '["\\uD800\\"]',
      '["\\uD800\\u"]',
      '["\\uD800\\u1x"]',
      '["\\uD800\\u1234"]',
      '["\\uD800"]',
      '["\\uDC00"]',
      '["\\uDC00\\uD800"]',
      '["\\uD800\\uD800"]',
      '["\\uD800\\uE000"]',
      '["\\uD800 \\uDC00"]',
      '["\\\0"]',
      '["\\x00"]',
      '["\\a"]',
      '["\\u00A"]',
      '["\\uqqqq"]',
      '["\\\240\159\140\128"]',
      '["a\0a"]',
      '["new\nline"]',
      '["\t"]',
      '["\31"]',
      '["\\U0041"]',
      "\239\187\191{}",
      "[\12]",
      "[\11]",
      "[\226\129\160]",
      "[\194\160]",
      "[\0]",
      "1\0",
    }
    for _, text in ipairs(texts) do
      assert.is_false(is_valid(text), text)
    end
  end)

  it("refuses strings that are not UTF-8, in keys and behind escapes too", function()
    local bad = {
      "\255",
      "\192\175",
      "\237\160\128",
      "\244\144\128\128",
      "\129",
      "\233",
      "\195",
      "\226\130",
      "\240\159\152",
      "\224\128\128",
    }
    for _, bytes in ipairs(bad) do
      for _, before in ipairs({ "", ("x"):rep(15), ("x"):rep(16), "é" }) do
        assert.is_false(is_valid('"' .. before .. bytes .. '"'))
        assert.is_false(is_valid('"\\n' .. before .. bytes .. '"'))
        assert.is_false(is_valid('"' .. before .. bytes .. '\\n"'))
        assert.is_false(is_valid('{"' .. before .. bytes .. '":1}'))
      end
    end
  end)

  it("reads no byte beyond the text, wherever that ends", function()
    local rich =
      '{"a":[1,2.5,-3e-7,true,false,null,"x\\u00e9\\ud83d\\ude00\\n\\"","π"],"b":{"c":[]}}'
    assert.is_true(is_valid(rich))
    for i = 0, #rich - 1 do
      assert.is_false(is_valid(rich:sub(1, i)), rich:sub(1, i))
    end
  end)

  it("survives any byte in any place", function()
    local rich = '{"a":[1,2.5e-3,true,null,"x\\u00e9\\ud83d\\ude00","π"]}'
    for i = 1, #rich do
      for byte = 0, 255 do
        read(rich:sub(1, i - 1) .. string.char(byte) .. rich:sub(i + 1), function() end)
      end
    end
  end)

  it("says what is wrong and where", function()
    assert.equal("the text ends too early @0", failure(""))
    assert.equal("the text ends too early @3", failure("[1,"))
    assert.equal("a value was expected @3", failure("[1,]"))
    assert.equal("a value was expected @3", failure("nulx"))
    assert.equal("a comma or ] was expected @3", failure("[1 2]"))
    assert.equal("a comma or } was expected @7", failure('{"a":1 "b"}'))
    assert.equal("a key in quotes was expected @7", failure('{"a":1,}'))
    assert.equal("a colon was expected @5", failure('{"a" 1}'))
    assert.equal("a number begins with a needless zero @1", failure("[01]"))
    assert.equal("a digit was expected @2", failure("1.x"))
    assert.equal("a number is out of range @1", failure("[1e999]"))
    assert.equal("a control character stands in a string @3", failure('"ab\n"'))
    assert.equal("there is no such escape @3", failure('["a\\x"]'))
    assert.equal("a surrogate has no partner @1", failure('"\\ud800"'))
    assert.equal("\\u needs four hexadecimal digits @1", failure('"\\u12g4"'))
    assert.equal("a string is not valid UTF-8 @1", failure('["\255"]'))
    assert.equal("something follows the value @3", failure("1  2"))
  end)

  it("nests as deep as it is allowed to, and no deeper", function()
    assert.is_true(is_valid(("["):rep(128) .. ("]"):rep(128)))
    assert.equal("nested too deeply @128", failure(("["):rep(129) .. ("]"):rep(129)))
    assert.is_true(is_valid(('{"a":'):rep(1024) .. "1" .. ("}"):rep(1024), 1024))
    assert.equal("nested too deeply @0", failure("[]", 0))
    assert.is_true(is_valid("1", 0))
    assert.equal("nested too deeply @128", failure(("["):rep(1000000)))
  end)

  it("knows objects from arrays at every depth", function()
    local text = ('[{"a":'):rep(64) .. "1" .. ("}]"):rep(64)
    assert.is_true(is_valid(text))
    assert.is_false(is_valid((text:gsub("}]}]$", "]}}]"))))
  end)

  it("decodes every escape", function()
    assert.equal('"\\/\b\f\n\r\t', value('"\\"\\\\\\/\\b\\f\\n\\r\\t"'))
    assert.equal("A\0é€😀", value('"\\u0041\\u0000\\u00e9\\u20AC\\uD83D\\ude00"'))
    assert.equal(
      "\127\194\128\223\191\224\160\128\239\191\191",
      value('"\\u007f\\u0080\\u07ff\\u0800\\uffff"')
    )
    assert.equal("\240\144\128\128\244\143\191\191", value('"\\ud800\\udc00\\udbff\\udfff"'))
  end)

  it("gives strings of every length, with something special at every place", function()
    for len = 0, 40 do
      for place = 0, len do
        local before, after = ("a"):rep(place), ("b"):rep(len - place)
        assert.equal(before .. after, value('"' .. before .. after .. '"'))
        assert.equal(before .. "\n" .. after, value('"' .. before .. "\\n" .. after .. '"'))
        assert.equal(before .. "é" .. after, value('"' .. before .. "é" .. after .. '"'))
        assert.is_false(is_valid('"' .. before .. "\31" .. after .. '"'))
      end
    end
  end)

  it("borrows a string without escapes from the text", function()
    read('["plain","esc\\n"]', function(token, reader)
      if token == STRING then
        local offset = tonumber(reader.string.data - reader.begin)
        local is_inside = offset >= 0 and reader.string.data < reader["end"]
        assert.equal(support.string(reader.string) == "plain", is_inside)
      end
    end)
  end)

  it("refuses an escaped string that passes the limit of the scratch buf", function()
    assert.is_true(read('"' .. ("x"):rep(98) .. '\\n"', function() end, 128, 100))
    local ok, message = read('"' .. ("x"):rep(99) .. '\\n"', function() end, 128, 100)
    assert.is_nil(ok)
    assert.equal("a string is too long", message)
    assert.is_true(read('"' .. ("x"):rep(1000) .. '"', function() end, 128, 100))
  end)
end)

describe("JSON's numbers", function()
  it("are read to the nearest double", function()
    local texts = {
      "0",
      "1",
      "-1",
      "9007199254740993",
      "9007199254740993.0000000000000000000000001",
      "1e22",
      "1e23",
      "-1e23",
      "123456789012345678901234567890",
      "0.1",
      "0.30000000000000004",
      "2.4703282292062327208e-324",
      "2.4703282292062328e-324",
      "4.9406564584124654e-324",
      "2.2250738585072011e-308",
      "2.2250738585072014e-308",
      "1.7976931348623157e308",
      "1.7976931348623158e308",
      "0.000000000000000000000000000000000000001e39",
      "1000000000000000000000000000000e-30",
      "7.2057594037927933e16",
      "8.5e-7",
      "1e-400",
      "0e999",
      "0.0e-99999999999999999999",
      "1e-99999999999999999999",
      "9007199254740992e1",
    }
    for _, text in ipairs(texts) do
      assert.equal(strtod(text), value(text), text)
    end
  end)

  it("are read right when only a far digit decides", function()
    local half = "9007199254740993." .. ("0"):rep(2000)
    assert.equal(9007199254740992, value(half))
    assert.equal(9007199254740994, value(half .. "1"))
    assert.equal(1, value("0." .. ("0"):rep(3000) .. "1e3001"))
    assert.equal(strtod(("1"):rep(3000) .. "e-2999"), value(("1"):rep(3000) .. "e-2999"))
    assert.equal(1e308, value("1" .. ("0"):rep(308)))
  end)

  it("agree with the C library on random texts", function()
    math.randomseed(20260131)
    local function digits(max)
      local list = {}
      for i = 1, math.random(1, max) do
        list[i] = math.random(0, 9)
      end
      return table.concat(list)
    end
    for _ = 1, 5000 do
      local text = digits(25):gsub("^0+(%d)", "%1")
      if math.random() < 0.7 then
        text = text .. "." .. digits(25)
      end
      if math.random() < 0.6 then
        text = text .. "e" .. ({ "", "+", "-" })[math.random(3)] .. math.random(0, 250)
      end
      assert.equal(strtod(text), value(text), text)
    end
  end)

  it("keep the sign of zero", function()
    assert.equal(-math.huge, 1 / value("-0"))
    assert.equal(-math.huge, 1 / value("-0.0e5"))
    assert.equal("-0", encode_number(-0.0))
    assert.equal("0", encode_number(0))
  end)

  it("out of a double's range are refused", function()
    for _, text in ipairs({ "1e999", "-1e309", "1.7976931348623159e308", "1" .. ("0"):rep(309) }) do
      assert.is_false(is_valid(text), text)
    end
    assert.is_false(is_valid("1e99999999999999999999"))
  end)

  it("are written in full when they are integers below 2^53", function()
    for _, case in ipairs({
      { 1, "1" },
      { -1, "-1" },
      { 10, "10" },
      { 1234567890, "1234567890" },
      { 1e15, "1000000000000000" },
      { 2 ^ 53 - 1, "9007199254740991" },
      { -(2 ^ 53 - 1), "-9007199254740991" },
    }) do
      assert.equal(case[2], encode_number(case[1]))
    end
  end)

  it("are written with as few digits as read back the same", function()
    for _, case in ipairs({
      { 0.1, "0.1" },
      { 0.1 + 0.2, "0.30000000000000004" },
      { 1 / 3, "0.3333333333333333" },
      { 100.25, "100.25" },
      { -4.35, "-4.35" },
      { 1e-5, "1e-05" },
      { 0.0001, "0.0001" },
      { 1e21, "1e+21" },
      { 1e300, "1e+300" },
      { 5e-324, "4.94065645841247e-324" },
      { 2 ^ 53, "9007199254740992" },
      { 1.5e-10, "1.5e-10" },
      { 123456.789, "123456.789" },
      { 0.00012345, "0.00012345" },
      { 999999999999999.9, "999999999999999.9" },
    }) do
      assert.equal(case[2], encode_number(case[1]))
    end
  end)

  it("have the form of the C library's %g, for random doubles", function()
    math.randomseed(20260131)
    local function expected(number)
      for precision = 15, 17 do
        local text = printf("%." .. precision .. "g", number)
        if strtod(text) == number then
          return text
        end
      end
    end
    local bits = ffi.new("union { double number; uint32_t half[2]; }")
    local function check(number)
      if number ~= math.floor(number) or math.abs(number) >= 2 ^ 53 then
        assert.equal(expected(number), encode_number(number))
      end
    end
    for _ = 1, 3000 do
      bits.half[0], bits.half[1] = math.random(0, 2 ^ 32 - 1), math.random(0, 2 ^ 32 - 1)
      if bits.number == bits.number and math.abs(bits.number) < math.huge then
        check(bits.number)
      end
      check(math.random())
      check(math.random(-1e9, 1e9) / 10 ^ math.random(0, 12))
      check(math.random(1, 1e15) / 10 ^ math.random(0, 20))
    end
  end)

  it("cannot be NaN or infinite", function()
    for _, number in ipairs({ 0 / 0, 1 / 0, -1 / 0 }) do
      local text, result = encode_number(number)
      assert.is_nil(text)
      assert.equal(NOT_FINITE, result)
    end
  end)

  it("are written whole or not at all", function()
    assert.equal("12345", encode_number(12345, 5))
    assert.equal(TOO_LARGE, select(2, encode_number(123456, 5)))
  end)
end)

describe("JSON's strings", function()
  it(
    "are written with quotes, backslashes and control characters escaped, and nothing else",
    function()
      for byte = 0, 127 do
        local c = string.char(byte)
        local short = ({
          ['"'] = '\\"',
          ["\\"] = "\\\\",
          ["\b"] = "\\b",
          ["\f"] = "\\f",
          ["\n"] = "\\n",
          ["\r"] = "\\r",
          ["\t"] = "\\t",
        })[c]
        local expected = short or byte < 32 and ("\\u%04x"):format(byte) or c
        assert.equal('"' .. expected .. '"', encode_string(c))
      end
      assert.equal('"</é😀\226\128\168"', encode_string("</é😀\226\128\168"))
      assert.equal('""', encode_string(""))
    end
  )

  it("read back as they were, with something special at every place", function()
    for len = 0, 40 do
      for place = 0, len do
        for _, special in ipairs({ '"', "\\", "\0", "\n", "é", "\n\n", "é\n" }) do
          local text = ("a"):rep(place) .. special .. ("b"):rep(len - place)
          assert.equal(text, value(encode_string(text)))
        end
      end
    end
  end)

  it("that are not UTF-8 are refused, and leave nothing behind", function()
    for _, text in ipairs({ "\255", "abc\195", "\n\237\160\128", ("x"):rep(64) .. "\192\175" }) do
      local encoded, result = encode_string(text)
      assert.is_nil(encoded)
      assert.equal(NOT_UTF8, result)
    end
  end)

  it("are written whole or not at all", function()
    for _, text in ipairs({
      ("x"):rep(50),
      ("x"):rep(40) .. "\n" .. ("y"):rep(20),
      ("é"):rep(30),
      ("\1"):rep(12),
    }) do
      local size = #encode_string(text)
      for limit = 1, size + 8 do
        local encoded, result = encode_string(text, limit)
        assert.equal(limit >= size and 0 or TOO_LARGE, result or 0)
        assert.equal(limit >= size, encoded ~= nil)
      end
    end
  end)
end)
