--- Answers with one of the pages in `public/`.
---
--- Shows a module of one's own: `require` finds it beside the main script. The policy lets a page
--- load and call this gateway only, and run no script that is written into the page, so that what
--- strangers write stays text whatever a page does with it.

local POLICY = table.concat({
  "default-src 'self'",
  "connect-src 'self' ws: wss:",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
}, "; ")

--- @param name string of a file in `public/`, without ".html"
--- @return fun(): perigee.Response handler
return function(name)
  local response = {
    file = "public/" .. name .. ".html",
    headers = { ["Content-Security-Policy"] = POLICY, ["Referrer-Policy"] = "same-origin" },
  }
  return function()
    return response
  end
end
