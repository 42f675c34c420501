-- The applications that come with the gateway, and the page that links them.
--
-- Shows: composing an app of others, serving files, headers for every page.
local perigee = require("perigee")
local page = require("page")

local app = perigee.app()

app:use("", require("feeds"))
app:use("", require("echo"))
app:use("", require("rooms"))
app:use("", require("chat"))
app:use("", require("blog"))
app:use("", require("whiteboard"))

app:get("/", page("index"))
app:static("/assets", "public")

return app
