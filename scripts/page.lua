-- Handlers for pages: a file below public/, sent with headers that keep a browser to this origin.
--
-- Shows: a module of plain functions, responses from files.

local headers = {
  ["Content-Security-Policy"] = "default-src 'self'; connect-src 'self' ws: wss:; "
    .. "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  ["Referrer-Policy"] = "same-origin",
  ["X-Content-Type-Options"] = "nosniff",
}

--- Makes the handler for one page.
---
--- @param name string public/<name>.html
--- @return fun(request: perigee.Request): table
return function(name)
  local file = "public/" .. name .. ".html"
  return function()
    return { file = file, headers = headers }
  end
end
