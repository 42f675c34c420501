--- Perigee's applications under one roof: `perigee serve scripts/main.lua`.
---
--- Shows how a gateway is put together: each application is a script of its own that could be
--- served alone, and this one mounts them all, with the pages' shared files and the index.

local perigee = require("perigee")
local page = require("page")

local app = perigee.app()

app:get("/", page("index"))
app:get("/feeds", page("feeds"))
app:static("/assets", "public/assets")

app:use("/", require("events"))
app:use("/", require("updates"))
app:use("/", require("stocks"))
app:use("/", require("echo"))
app:use("/", require("rooms"))
app:use("/", require("chat"))
app:use("/", require("blog"))
app:use("/", require("whiteboard"))

return app
