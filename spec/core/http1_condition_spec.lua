local support = require("spec.core.support")

support.cdef([[
  bool http1_etag_list_has(slice list, slice etag, bool is_strong);
]])

local lib = support.lib

describe("a list of entity tags", function()
  local function has(list, etag, is_strong)
    return lib.http1_etag_list_has(support.slice(list), support.slice(etag), is_strong or false)
  end

  it("has the tags that stand in it", function()
    assert.is_true(has('"a"', '"a"'))
    assert.is_true(has('"b", "a"', '"a"'))
    assert.is_true(has('"b","a" , "c"', '"a"'))
    assert.is_true(has(', ,"b",, "a",', '"a"'))
    assert.is_true(has("*", '"a"'))
    assert.is_true(has('""', '""'))
    assert.is_false(has('"b"', '"a"'))
    assert.is_false(has("", '"a"'))
    assert.is_false(has('"A"', '"a"'))
  end)

  it("may have commas within a tag", function()
    assert.is_true(has('"x,y", "a"', '"a"'))
    assert.is_false(has('"x,"a",y"', '"a,"'))
  end)

  it("has a weak tag only by the weak comparison", function()
    assert.is_true(has('W/"a"', '"a"'))
    assert.is_true(has('"a"', 'W/"a"'))
    assert.is_false(has('W/"a"', '"a"', true))
    assert.is_false(has('"a"', 'W/"a"', true))
    assert.is_true(has('"a"', '"a"', true))
    assert.is_true(has("*", '"a"', true))
  end)

  it("ends where it stops making sense", function()
    for _, list in ipairs({ "a", '"a', 'W/a, "a"', 'w/"a"', "W/", '"', "*, ", 'x "a"' }) do
      assert.is_false(has(list, '"a"'), list)
    end
  end)

  it("is never read past its end", function()
    for head in support.splits('W/"abc", "x,y" ,W/"a"') do
      has(head, '"none"')
    end
  end)
end)
