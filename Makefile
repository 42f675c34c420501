# Perigee's build; `make help` lists the goals.
#
# run, test, asan, lint, format and the benchmarks first install what this machine lacks, then call
# make again, so that pkg-config is asked when it is there. The other goals install nothing and only
# say what is missing.

VERSION := 0.1.0

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LUADIR ?= $(PREFIX)/share/lua/5.1
LIBDIR ?= $(PREFIX)/lib/lua/5.1
DATADIR ?= $(PREFIX)/share/perigee
DOCDIR ?= $(PREFIX)/share/doc/perigee
DESTDIR ?=
INSTALL ?= install

BUILD ?= build
CFLAGS ?= -O2 -g
LDFLAGS ?=
# `make WERROR=` for a compiler that warns of more than ours.
WERROR ?= -Werror
SPECS ?= spec
CLANG_FORMAT ?= clang-format-14
CLANG_TIDY ?= clang-tidy-14
# Of the benchmarks: how often, and which loads (ONLY='echo'); SECONDS is 1 for each, 60 for a soak.
ROUNDS ?= 3

# `make V=1` shows the whole commands.
ifndef V
quiet := @
endif

ifeq ($(MAKELEVEL),0)
MAKEFLAGS += --no-print-directory
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 1)
endif
endif

.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: all
all: $(BUILD)/perigee $(BUILD)/perigee_core.so

# Goals for people ------------------------------------------------------------------------------

bench_goals := bench bench-report bench-steadiness bench-peers bench-instructions soak
setup_goals := help dependencies run test asan lint format reference clean $(bench_goals)
.PHONY: $(setup_goals)

help:
	@echo 'make                builds build/perigee; LTO= for quicker links'
	@echo 'make run            installs what is missing, builds, serves scripts/main.lua'
	@echo 'make test           the same for the specs, and runs them; SPECS=spec/core for some'
	@echo 'make asan           the specs under AddressSanitizer and UBSan'
	@echo 'make lint           checks format and code, changes nothing; make format fixes the format'
	@echo 'make reference      writes docs/reference.md from lua/perigee/_meta'
	@echo 'make bench          compares with the floor; ROUNDS=3 SECONDS=1. -report writes it down,'
	@echo '                    -steadiness is its second table, -peers measures other servers,'
	@echo '                    -instructions counts instructions'
	@echo 'make soak           reloads under load, none of which may be noticed; SECONDS=60 CONNS=10000'
	@echo 'make install        PREFIX=/usr/local DESTDIR='
	@echo 'make dependencies   installs what the build needs'
	@echo 'make clean          removes build/ and what npm fetched'

dependencies:
	@.ci/install build

run:
	@.ci/install build
	@$(MAKE) all
	@exec $(BUILD)/perigee serve scripts/main.lua

test:
	@.ci/install build test
	@$(MAKE) specs

asan:
	@.ci/install build test
	@$(MAKE) specs BUILD=$(BUILD)/asan SANITIZE=1

lint:
	@.ci/install build lint
	@$(MAKE) check

format:
	@.ci/install lint
	@$(MAKE) reformat

# By way of another file, so that the page stays as it is when the generator fails.
reference:
	@mkdir -p $(BUILD)
	@luajit .ci/reference >$(BUILD)/reference.md
	@mv $(BUILD)/reference.md docs/reference.md

bench:
	@.ci/install build bench
	@$(MAKE) measure COMMAND=run

bench-report:
	@.ci/install build bench
	@$(MAKE) measure COMMAND=report

bench-steadiness:
	@.ci/install build bench
	@$(MAKE) measure COMMAND=steadiness

bench-peers:
	@.ci/install build bench peers
	@$(MAKE) measure COMMAND=peers

# RECORD=1 writes what it counts down, for later ones to be compared with.
bench-instructions:
	@.ci/install build bench
	@$(MAKE) measure COMMAND=$(if $(RECORD),record,instructions)

soak:
	@.ci/install build bench
	@$(MAKE) endure

clean:
	rm -rf $(BUILD) spec/browser/node_modules

# Flags -----------------------------------------------------------------------------------------

ifneq ($(filter-out $(setup_goals),$(or $(MAKECMDGOALS),all)),)
include $(BUILD)/config.mk
endif

$(BUILD)/config.mk: .ci/configure
	@mkdir -p $(@D)
	@CC='$(CC)' .ci/configure >$@

# One set of objects serves the binary and the library for the specs, hence -fPIC for all; without
# semantic interposition that costs the binary nothing.
own_flags := -std=gnu11 -Icore -DPERIGEE_VERSION=\"$(VERSION)\" -pthread \
  -fPIC -fno-semantic-interposition -fno-plt
warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
own_ldflags := -pthread -Wl,--as-needed

# Across files the compiler sees more, and a link takes seconds: `make LTO=` while one changes C.

ifdef SANITIZE
# The sanitizers' own code paths make gcc warn of what cannot be.
override WERROR :=
override LTO :=
override CFLAGS := -O1 -g -fno-omit-frame-pointer
own_flags += -fsanitize=address,undefined -fno-sanitize-recover=all
own_ldflags += -fsanitize=address,undefined
else
own_flags += -fstack-protector-strong $(LTO)
own_ldflags += -Wl,-z,relro,-z,now $(LTO)
# A layer that reaches above itself does not link.
library_ldflags := -Wl,-z,defs
endif

compile = $(CC) $(own_flags) $(LIBRARY_CFLAGS) $(CPPFLAGS) $(CFLAGS)

# A change of compiler or flags builds everything anew.
$(BUILD)/flags: force
	@mkdir -p $(@D)
	@echo '$(compile) $(WERROR) $(LDFLAGS)' | cmp -s - $@ || echo '$(compile) $(WERROR) $(LDFLAGS)' >$@

.PHONY: force
force:

# Objects ---------------------------------------------------------------------------------------

sources := $(wildcard core/*/*.c core/*.c)
objects := $(sources:core/%.c=$(BUILD)/core/%.o)
llhttp_objects := $(if $(LLHTTP_SOURCES),$(patsubst %,$(BUILD)/llhttp/%.o,api http llhttp))
# The same gateway is a program and a module for Lua; each has its own way in.
program_objects := $(patsubst core/%.c,$(BUILD)/core/%.o,core/main.c $(wildcard core/command_*.c))
module_objects := $(BUILD)/core/module.o
pure_objects := $(filter $(BUILD)/core/base/% $(BUILD)/core/codec/% $(BUILD)/core/pubsub/%, \
  $(objects)) $(llhttp_objects)
# What the gateway runs; testing/ runs in busted, template/ is what `perigee new` copies.
library_lua := $(shell find lua/perigee '(' -name _meta -o -name testing -o -name template ')' \
  -prune -o -name '*.lua' -print | LC_ALL=C sort)

$(BUILD)/core/%.o: core/%.c $(BUILD)/flags $(BUILD)/config.mk
	@mkdir -p $(@D)
	@echo '  CC      $<'
	$(quiet)$(compile) $(LLHTTP_CFLAGS) $(warnings) $(WERROR) -MMD -MP -c $< -o $@

$(BUILD)/llhttp/%.o: $(LLHTTP_SOURCES)/%.c $(BUILD)/flags $(BUILD)/config.mk
	@mkdir -p $(@D)
	@echo '  CC      $<'
	$(quiet)$(compile) $(LLHTTP_CFLAGS) -DLLHTTP_STRICT_MODE=1 -w -c $< -o $@

# The list of files is kept beside it, so that a file that goes away is noticed.
$(BUILD)/embedded_lua.list: force
	@mkdir -p $(@D)
	@echo '$(library_lua)' | cmp -s - $@ || echo '$(library_lua)' >$@

$(BUILD)/embedded_lua.c: .ci/embed-lua $(BUILD)/embedded_lua.list $(library_lua)
	@echo '  EMBED   $@'
	$(quiet).ci/embed-lua lua $(library_lua) >$@

$(BUILD)/embedded_lua.o: $(BUILD)/embedded_lua.c core/script/embedded_lua.h $(BUILD)/flags
	@echo '  CC      $<'
	$(quiet)$(compile) $(warnings) $(WERROR) -c $< -o $@

-include $(objects:.o=.d)

# What is built ---------------------------------------------------------------------------------

$(BUILD)/perigee: $(filter-out $(module_objects),$(objects)) $(llhttp_objects) $(BUILD)/embedded_lua.o
	@echo '  LINK    $@'
	$(quiet)$(CC) $(own_ldflags) $(CFLAGS) $(LDFLAGS) $^ $(LIBS) -o $@

# The layers that know neither sockets nor Lua, for the specs that call them through the FFI.
$(BUILD)/libperigee-core.so: $(pure_objects)
	@echo '  LINK    $@'
	$(quiet)$(CC) -shared $(own_ldflags) $(library_ldflags) $(CFLAGS) $(LDFLAGS) $^ $(CORE_LIBS) -o $@

# Lua's own functions are those of the process that loads it. It stays loaded: threads that end later
# than Lua may have been its callers.
$(BUILD)/perigee_core.so: $(filter-out $(program_objects),$(objects)) $(llhttp_objects) \
  $(BUILD)/embedded_lua.o .ci/module.map
	@echo '  LINK    $@'
	$(quiet)$(CC) -shared -Wl,-z,nodelete -Wl,--version-script=.ci/module.map $(own_ldflags) $(CFLAGS) \
	  $(LDFLAGS) $(filter %.o,$^) $(MODULE_LIBS) -o $@

# npm leaves this file last, with everything in its place.
spec/browser/node_modules/.package-lock.json: spec/browser/package.json \
  spec/browser/package-lock.json
	cd spec/browser && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: specs
specs: $(BUILD)/perigee $(BUILD)/perigee_core.so $(BUILD)/libperigee-core.so \
  $(BUILD)/bench/loadgen spec/browser/node_modules/.package-lock.json
	@CC='$(CC)' SANITIZE='$(SANITIZE)' .ci/specs $(BUILD) $(SPECS)

# Lint ------------------------------------------------------------------------------------------

stylua := $(BUILD)/lint/node_modules/.bin/stylua

$(stylua): .ci/package.json .ci/package-lock.json
	@mkdir -p $(BUILD)/lint
	cp $^ $(BUILD)/lint/
	cd $(BUILD)/lint && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

lint_tools = CLANG_FORMAT='$(CLANG_FORMAT)' CLANG_TIDY='$(CLANG_TIDY)' STYLUA='$(stylua)'

.PHONY: check reformat
check: $(stylua)
	@$(lint_tools) .ci/lint $(own_flags) $(LIBRARY_CFLAGS) $(LLHTTP_CFLAGS)

reformat: $(stylua)
	@$(lint_tools) .ci/format

# Benchmarks ------------------------------------------------------------------------------------

# They share nothing with the gateway, so that a mistake of both ends cannot hide.
bench_compile = $(CC) -std=gnu11 -Ibench $(CFLAGS) $(warnings) $(WERROR)

$(BUILD)/bench/loadgen: $(wildcard bench/loadgen/*.[ch])
	@mkdir -p $(@D)
	@echo '  CC      $@'
	$(quiet)$(bench_compile) $(filter %.c,$^) -o $@

$(BUILD)/bench/floor: bench/floor.c
	@mkdir -p $(@D)
	@echo '  CC      $@'
	$(quiet)$(bench_compile) $< -o $@

.PHONY: measure
measure: $(BUILD)/perigee $(BUILD)/bench/loadgen $(BUILD)/bench/floor
	@luajit bench/main.lua $(COMMAND) --build $(BUILD) --rounds $(ROUNDS) \
	  --seconds $(or $(SECONDS),1) --only '$(ONLY)'

soak_option = $(if $($(1)),--$(2) $($(1)))

.PHONY: endure
endure: $(BUILD)/perigee $(BUILD)/bench/loadgen
	@luajit bench/main.lua soak --build $(BUILD) \
	  $(call soak_option,SECONDS,seconds) $(call soak_option,EVERY,every) \
	  $(call soak_option,CONNS,conns) $(call soak_option,STREAMS,streams) \
	  $(call soak_option,WORKERS,workers) $(call soak_option,RATE,rate)

# Install ---------------------------------------------------------------------------------------

.PHONY: install
install: all
	$(INSTALL) -d '$(DESTDIR)$(BINDIR)'
	$(INSTALL) -m 755 $(BUILD)/perigee '$(DESTDIR)$(BINDIR)/perigee'
	$(INSTALL) -d '$(DESTDIR)$(LIBDIR)'
	$(INSTALL) -m 755 $(BUILD)/perigee_core.so '$(DESTDIR)$(LIBDIR)/perigee_core.so'
	.ci/install-tree lua '$(DESTDIR)$(LUADIR)'
	.ci/install-tree scripts '$(DESTDIR)$(DATADIR)/scripts'
	.ci/install-tree docs '$(DESTDIR)$(DOCDIR)'
	$(INSTALL) -m 644 README.md LICENSE '$(DESTDIR)$(DOCDIR)'
