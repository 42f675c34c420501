--- The routes of `perigee serve --dev`, mounted beside the script's own: what has a page in a browser
--- reload itself when it has changed, and show why the script does not load.
---
--- A page is sent with a script tag that carries a version (core/gateway/dev.h). The tag's script
--- listens for the version that is now.

local _, core = ...

local M = {}

-- As in core/gateway/dev.c, which signals.
local TOPIC = ".perigee/changes"

local SCRIPT = [[
(() => {
  const shown = document.currentScript.dataset.version;
  let source;
  let box = document.getElementById("perigee-dev"); // the page of an error has one

  // Once for each version, so that a page that somebody keeps, a service worker say, is not asked
  // for without end.
  function reload(version) {
    if (sessionStorage.getItem("perigee-dev") === version) return;
    sessionStorage.setItem("perigee-dev", version);
    location.reload();
  }

  function showFailure(text) {
    if (!text) {
      box?.remove();
      box = null;
      return;
    }
    if (!box) {
      box = document.createElement("pre");
      box.id = "perigee-dev";
      box.setAttribute("role", "alert");
      box.style.cssText = `position: fixed; right: 12px; bottom: 12px; z-index: 2147483647;
        box-sizing: border-box; max-width: min(720px, 100vw - 24px); max-height: 50vh; margin: 0;
        padding: 12px 16px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
        text-align: left; font: 13px/1.5 ui-monospace, monospace; color: #fff; background: #7d1a1a;
        border: 1px solid #fff6; border-radius: 6px; box-shadow: 0 4px 24px #0006`;
      document.body.append(box);
    }
    box.textContent = text;
  }

  // Only while somebody looks: browsers have six connections for all windows of a site.
  function listen() {
    source?.close();
    if (document.hidden) return;
    source = new EventSource("/.perigee/changes");
    source.onmessage = ({ data }) => {
      const { version, failure } = JSON.parse(data);
      if (version !== shown) reload(version);
      else showFailure(failure);
    };
  }

  document.addEventListener("visibilitychange", listen);
  listen();
})();
]]

local function tell(conn)
  local version, failure = core.dev_state()
  conn:send({ version = version, failure = failure })
end

--- @return perigee.App
function M.app()
  local app = require("perigee.app").new()
  app:get("/.perigee/dev.js", function()
    return {
      body = SCRIPT,
      headers = {
        ["Content-Type"] = "text/javascript; charset=utf-8",
        ["Cache-Control"] = "no-cache",
        ["Cross-Origin-Resource-Policy"] = "same-origin",
      },
    }
  end)
  app:sse("/.perigee/changes", {
    -- What changes from here on is signalled; what has changed before, it is told now.
    on_open = function(conn)
      conn:subscribe(TOPIC)
      tell(conn)
    end,
    on_signal = tell,
  })
  return app
end

return M
