-- Runs busted in this LuaJIT: what `perigee test` calls, with busted's own arguments.
local ok, runner = pcall(require, "busted.runner")
if not ok then
  io.stderr:write(
    "perigee: LuaJIT does not find busted, which runs the specs: apt install lua-busted, or luarocks\n"
      .. '  --lua-version=5.1 install busted (with --local: eval "$(luarocks path)" first)\n'
  )
  os.exit(2)
end
runner({ standalone = false })
