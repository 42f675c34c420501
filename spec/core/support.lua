-- What the specs of the C core share: the library, loaded through the FFI, and ways to feed it.
--
-- LuaJIT's heap is invisible to AddressSanitizer, so inputs are copied to a malloc of exactly their
-- size: a codec that reads one byte too many is then seen.
local ffi = require("ffi")

local M = {}

-- Kept on the ffi table because busted forgets modules between files, while a C declaration can be
-- made only once.
ffi.perigee = ffi.perigee or { declared = {} }
local state = ffi.perigee

--- Declares C text, once for each text.
function M.cdef(text)
  if not state.declared[text] then
    ffi.cdef(text)
    state.declared[text] = true
  end
end

M.cdef([[
  typedef struct { const char *data; size_t len; } slice;
  void *malloc(size_t size);
  void free(void *memory);
]])

state.lib = state.lib or ffi.load(os.getenv("PERIGEE_CORE_LIB") or "build/libperigee-core.so")
M.lib = state.lib

--- Copies `bytes` to memory of exactly their size. The pointer keeps the memory alive.
function M.exact(bytes)
  local memory = ffi.gc(ffi.cast("char *", ffi.C.malloc(#bytes)), ffi.C.free)
  ffi.copy(memory, bytes, #bytes)
  return memory, #bytes
end

local held = setmetatable({}, { __mode = "k" })

--- A slice of an exact copy of `bytes`, which lives as long as the slice.
function M.slice(bytes)
  local memory, len = M.exact(bytes)
  local slice = ffi.new("slice", memory, len)
  held[slice] = memory
  return slice
end

--- The string that a slice shows; nil where its data is NULL.
function M.string(slice)
  if slice.data == nil then
    return nil
  end
  return ffi.string(slice.data, slice.len)
end

--- Iterates over every way to cut `bytes` in two, empty ends included: `first, second`.
function M.splits(bytes)
  local at = -1
  return function()
    at = at + 1
    if at <= #bytes then
      return bytes:sub(1, at), bytes:sub(at + 1)
    end
  end
end

--- Iterates over `bytes` in pieces of `size`, the last one shorter; one byte each without `size`.
function M.pieces(bytes, size)
  size = size or 1
  local at = 1 - size
  return function()
    at = at + size
    if at <= #bytes then
      return bytes:sub(at, at + size - 1)
    end
  end
end

return M
