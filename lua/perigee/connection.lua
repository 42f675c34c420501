--- A connection's methods and fields as scripts find them: the part that LuaJIT compiles into the
--- handler that uses it. The methods themselves are written in C (core/script/lua_conn.c).

local _, core = ...

local getmetatable, type = getmetatable, type

--- Completes the methods; returns the metatable's __index.
return function(methods, c)
  local field, failure = c.field, c.failure
  local send = methods.send
  local send_text = core.ffi.cast("int (*)(void *, const char *, size_t)", c.send_text)

  -- Text without options, which most messages are, needs nothing of Lua but its bytes.
  function methods.send(conn, data, opts)
    -- A script can give this name to a metatable too: send_text looks at what userdata it is.
    if
      opts == nil
      and type(data) == "string"
      and getmetatable(conn) == "connection"
      and type(conn) == "userdata"
    then
      local code = send_text(conn, data, #data)
      if code == 0 then
        return true
      elseif code < 0 then
        return failure(code)
      end
    end
    return send(conn, data, opts)
  end

  return function(conn, key)
    local method = methods[key]
    if method ~= nil then
      return method
    end
    return field(conn, key)
  end
end
