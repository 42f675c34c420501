-- Sockets, processes, files and the clock through the FFI: what plain sequential specs need, with a
-- deadline on everything that waits.
--
-- Knows no protocol. Failures of the world come back as nil and a short word ("timeout", "eof",
-- "reset"); what no spec expects raises.
local bit = require("bit")
local ffi = require("ffi")
local lfs = require("lfs")

local M = {}

-- busted forgets modules between files, while a C declaration can be made only once.
if not ffi.perigee_kit then
  ffi.perigee_kit = true
  ffi.cdef([[
    struct kit_pollfd { int fd; short events; short revents; };
    struct kit_timespec { long seconds; long nanoseconds; };
    struct kit_linger { int on; int seconds; };
    struct kit_in { uint16_t family; uint16_t port; uint8_t address[4]; uint8_t zero[8]; };
    struct kit_in6 {
      uint16_t family; uint16_t port; uint32_t flow; uint8_t address[16]; uint32_t scope;
    };
    struct kit_un { uint16_t family; char path[108]; };
    struct kit_opaque { uint64_t words[128]; };

    int socket(int domain, int type, int protocol);
    int connect(int fd, const void *address, uint32_t len);
    int bind(int fd, const void *address, uint32_t len);
    int listen(int fd, int backlog);
    int getsockname(int fd, void *address, uint32_t *len);
    int setsockopt(int fd, int level, int name, const void *value, uint32_t len);
    int shutdown(int fd, int how);
    int close(int fd);
    long recv(int fd, void *data, size_t len, int flags);
    long send(int fd, const void *data, size_t len, int flags);
    long read(int fd, void *data, size_t len);
    long write(int fd, const void *data, size_t len);
    int poll(struct kit_pollfd *fds, unsigned long count, int timeout_ms);
    int pipe2(int fds[2], int flags);
    int fcntl(int fd, int command, ...);
    int open(const char *path, int flags, ...);
    int clock_gettime(int id, struct kit_timespec *out);
    int kill(int pid, int signal);
    int waitpid(int pid, int *status, int options);
    char *mkdtemp(char *path);
    char *strerror(int number);
    extern char **environ;

    int posix_spawn(int *pid, const char *path, const void *actions, const void *attributes,
                    char *const argv[], char *const envp[]);
    int posix_spawnp(int *pid, const char *path, const void *actions, const void *attributes,
                     char *const argv[], char *const envp[]);
    int posix_spawn_file_actions_init(void *actions);
    int posix_spawn_file_actions_destroy(void *actions);
    int posix_spawn_file_actions_adddup2(void *actions, int from, int to);
    int posix_spawn_file_actions_addchdir_np(void *actions, const char *path);
    int posix_spawnattr_init(void *attributes);
    int posix_spawnattr_setflags(void *attributes, short flags);
    int posix_spawnattr_setsigdefault(void *attributes, const void *signals);
    int sigemptyset(void *signals);
    int sigaddset(void *signals, int signal);
    int setenv(const char *name, const char *value, int overwrite);
    int unsetenv(const char *name);
    void (*signal(int signal, void (*handler)(int)))(int);
  ]])
  -- A pipe to a process that is gone answers EPIPE instead of ending busted.
  ffi.C.signal(13, ffi.cast("void (*)(int)", 1))
end

local C = ffi.C

local AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
local SOCK_STREAM, SOCK_CLOEXEC, SOCK_NONBLOCK = 1, 0x80000, 0x800
local SOL_SOCKET, SO_RCVBUF, SO_LINGER = 1, 8, 13
local IPPROTO_TCP, TCP_NODELAY = 6, 1
local MSG_NOSIGNAL, MSG_DONTWAIT = 0x4000, 0x40
local O_CLOEXEC, O_WRONLY, O_CREAT, O_APPEND = 0x80000, 1, 0x40, 0x400
local F_GETFL, F_SETFL, O_NONBLOCK = 3, 4, 0x800
local EINTR, EAGAIN, EPIPE, ECONNRESET, EINPROGRESS = 4, 11, 32, 104, 115
local POLLIN, POLLOUT = 1, 4
local WNOHANG = 1

M.signals = { INT = 2, KILL = 9, TERM = 15, HUP = 1, USR1 = 10, STOP = 19, CONT = 18 }

--- What every wait is multiplied by; above 1 under sanitizers.
M.time_scale = tonumber(os.getenv("PERIGEE_TIME_SCALE") or "") or 1

local function fail(what)
  error(what .. ": " .. ffi.string(C.strerror(ffi.errno())), 3)
end

local time = ffi.new("struct kit_timespec")

--- Monotonic seconds.
function M.now()
  C.clock_gettime(1, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

--- Seconds that an expectation waits unless it says otherwise.
M.patience = 2

--- The moment `seconds` from now, by default M.patience, scaled by PERIGEE_TIME_SCALE.
function M.deadline(seconds)
  return M.now() + (seconds or M.patience) * M.time_scale
end

--- That something has not come within `seconds`, by default M.patience, as a failure says it.
function M.in_vain(what, seconds)
  return ("%s within %g s"):format(what, (seconds or M.patience) * M.time_scale)
end

--- Waits until `fd` is readable, or writable where asked. Returns readable, writable (both false
--- when the deadline has passed).
function M.wait(fd, want_read, want_write, deadline)
  local entry = ffi.new("struct kit_pollfd", fd)
  entry.events = (want_read and POLLIN or 0) + (want_write and POLLOUT or 0)
  while true do
    local left = math.max(0, math.ceil((deadline - M.now()) * 1000))
    local count = C.poll(entry, 1, left)
    if count > 0 then
      local other = bit.band(entry.revents, bit.bnot(POLLIN + POLLOUT)) ~= 0
      local readable = bit.band(entry.revents, POLLIN) ~= 0 or other
      local writable = bit.band(entry.revents, POLLOUT) ~= 0 or other
      return want_read and readable, want_write and writable
    elseif count == 0 then
      return false, false
    elseif ffi.errno() ~= EINTR then
      fail("poll")
    end
  end
end

--- Waits `seconds` for nothing but their passing. Only for the kit's own polling; no spec sleeps.
function M.pause(seconds)
  C.poll(nil, 0, math.max(1, math.floor(seconds * 1000)))
end

--- Pauses for a moment; false when the deadline has passed.
function M.can_wait(deadline)
  if M.now() > deadline then
    return false
  end
  M.pause(0.002)
  return true
end

local function ipv4(host)
  local a, b, c, d = host:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  return a and { tonumber(a), tonumber(b), tonumber(c), tonumber(d) }
end

local function port_bytes(port)
  return bit.bor(bit.lshift(bit.band(port, 255), 8), bit.rshift(port, 8))
end

local function address_of(target)
  if target.path then
    return AF_UNIX, ffi.new("struct kit_un", AF_UNIX, target.path), ffi.sizeof("struct kit_un")
  end
  if target.host == "::1" then
    local address = ffi.new("struct kit_in6", AF_INET6, port_bytes(target.port))
    address.address[15] = 1
    return AF_INET6, address, ffi.sizeof(address)
  end
  local parts = assert(ipv4(target.host), "the kit connects to addresses, not to names")
  local address = ffi.new("struct kit_in", AF_INET, port_bytes(target.port), parts)
  return AF_INET, address, ffi.sizeof(address)
end

--- Connects to `{ host =, port = }` or `{ path = }`; `receive_buffer` is in bytes. Returns a
--- non-blocking descriptor, or nil and a message.
function M.connect(target, receive_buffer)
  local family, address, len = address_of(target)
  local fd = C.socket(family, SOCK_STREAM + SOCK_CLOEXEC + SOCK_NONBLOCK, 0)
  if fd < 0 then
    fail("socket")
  end
  local value = ffi.new("int[1]", 1)
  if family ~= AF_UNIX then
    C.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, value, 4)
  end
  if receive_buffer then
    value[0] = receive_buffer
    C.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, value, 4)
  end
  if C.connect(fd, address, len) ~= 0 then
    if ffi.errno() ~= EINPROGRESS then
      local message = ffi.string(C.strerror(ffi.errno()))
      C.close(fd)
      return nil, message
    end
    local _, writable = M.wait(fd, false, true, M.deadline(5))
    -- A connection that was refused is writable too; the second call tells.
    local again = writable and C.connect(fd, address, len) or -1
    if again ~= 0 then
      local message = writable and ffi.string(C.strerror(ffi.errno())) or "timeout"
      C.close(fd)
      return nil, message
    end
  end
  return fd
end

--- The port of this end of a TCP connection.
function M.local_port(fd)
  local address = ffi.new("struct kit_in6")
  local len = ffi.new("uint32_t[1]", ffi.sizeof(address))
  if C.getsockname(fd, address, len) ~= 0 then
    fail("getsockname")
  end
  return port_bytes(address.port)
end

--- A TCP listener on 127.0.0.1 that accepts nobody. Returns its descriptor and port.
function M.listen()
  local address = ffi.new("struct kit_in", AF_INET, 0, { 127, 0, 0, 1 })
  local fd = C.socket(AF_INET, SOCK_STREAM + SOCK_CLOEXEC, 0)
  if C.bind(fd, address, ffi.sizeof(address)) ~= 0 or C.listen(fd, 8) ~= 0 then
    fail("listen")
  end
  return fd, M.local_port(fd)
end

local CHUNK = 256 * 1024
local chunk = ffi.new("char[?]", CHUNK)

-- Why a socket gave or took nothing: "again", "reset", or nil where it is to be asked again.
local function why_not(what)
  local number = ffi.errno()
  if number == EAGAIN then
    return "again"
  elseif number == ECONNRESET or number == EPIPE then
    return "reset"
  elseif number ~= EINTR then
    fail(what)
  end
end

--- Reads what is there into the string.buffer `into`. Returns its length, or nil and "again",
--- "eof" or "reset".
function M.receive(fd, into)
  while true do
    local count = tonumber(C.read(fd, chunk, CHUNK))
    if count > 0 then
      into:putcdata(chunk, count)
      return count
    elseif count == 0 then
      return nil, "eof"
    end
    local why = why_not("read")
    if why then
      return nil, why
    end
  end
end

--- Writes bytes from `offset` (0-based) on a socket. Returns how many were taken, or nil and
--- "again" or "reset".
function M.send(fd, bytes, offset)
  while true do
    local from = ffi.cast("const char *", bytes) + offset
    local count = tonumber(C.send(fd, from, #bytes - offset, MSG_NOSIGNAL + MSG_DONTWAIT))
    if count >= 0 then
      return count
    end
    local why = why_not("send")
    if why then
      return nil, why
    end
  end
end

--- Writes all of a short text to a pipe; false when its reader is gone.
function M.write_pipe(fd, bytes)
  return tonumber(C.write(fd, bytes, #bytes)) == #bytes
end

function M.half_close(fd)
  C.shutdown(fd, 1)
end

--- Closes a descriptor; with `reset` the peer gets RST instead of FIN.
function M.close(fd, reset)
  if reset then
    local linger = ffi.new("struct kit_linger", 1, 0)
    C.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, ffi.sizeof(linger))
  end
  C.close(fd)
end

-- Processes ------------------------------------------------------------------------------------

-- Calls `visit(entry, name)` for each variable of this process, "NAME=value".
local function each_variable(visit)
  local i = 0
  while C.environ[i] ~= nil do
    local entry = ffi.string(C.environ[i])
    visit(entry, entry:match("^([^=]*)=") or "")
    i = i + 1
  end
end

-- What configures the specs must not configure the gateway.
local function is_of_specs(name)
  return name:find("^PERIGEE") ~= nil
end

--- Changes variables of this process, name to value, false removes. Returns what they were before.
function M.set_environment(changes)
  local before = {}
  for name, value in pairs(changes) do
    before[name] = os.getenv(name) or false
    if value then
      C.setenv(name, tostring(value), 1)
    else
      C.unsetenv(name)
    end
  end
  return before
end

--- Hides from a gateway in this process what configures the specs, but for the names in `except`.
--- Returns what set_environment takes to undo that.
function M.hide_environment(except)
  local hidden = {}
  each_variable(function(_, name)
    if is_of_specs(name) and except[name] == nil then
      hidden[name] = false
    end
  end)
  return M.set_environment(hidden)
end

local function environment(changes)
  local list = {}
  each_variable(function(entry, name)
    if not is_of_specs(name) and changes[name] == nil then
      list[#list + 1] = entry
    end
  end)
  for name, value in pairs(changes) do
    if value then
      list[#list + 1] = name .. "=" .. tostring(value)
    end
  end
  return list
end

local function c_strings(list)
  local array = ffi.new("char *[?]", #list + 1)
  for i, text in ipairs(list) do
    array[i - 1] = ffi.cast("char *", text)
  end
  array[#list] = nil
  return array
end

local function pipe()
  local fds = ffi.new("int[2]")
  if C.pipe2(fds, O_CLOEXEC) ~= 0 then
    fail("pipe")
  end
  return fds[0], fds[1]
end

--- Starts `{ path, argument... }`, with `env` (name to value, false removes; PERIGEE names are not
--- inherited), `directory`, and standard error appended to the file `stderr`. Returns
--- `{ pid, stdin, stdout }`.
function M.spawn(command, opts)
  opts = opts or {}
  local in_read, in_write = pipe()
  local out_read, out_write = pipe()
  local err = C.open(
    opts.stderr or "/dev/null",
    O_WRONLY + O_CREAT + O_APPEND + O_CLOEXEC,
    ffi.cast("int", 420)
  )
  local actions, attributes = ffi.new("struct kit_opaque"), ffi.new("struct kit_opaque")
  local signals = ffi.new("struct kit_opaque")
  C.posix_spawn_file_actions_init(actions)
  C.posix_spawn_file_actions_adddup2(actions, in_read, 0)
  C.posix_spawn_file_actions_adddup2(actions, out_write, 1)
  C.posix_spawn_file_actions_adddup2(actions, err, 2)
  if opts.directory then
    C.posix_spawn_file_actions_addchdir_np(actions, opts.directory)
  end
  C.posix_spawnattr_init(attributes)
  C.sigemptyset(signals)
  C.sigaddset(signals, 13)
  C.posix_spawnattr_setsigdefault(attributes, signals)
  C.posix_spawnattr_setflags(attributes, 4)
  local envp = environment(opts.env or {})
  local pid = ffi.new("int[1]")
  local result =
    C.posix_spawnp(pid, command[1], actions, attributes, c_strings(command), c_strings(envp))
  C.posix_spawn_file_actions_destroy(actions)
  C.close(in_read)
  C.close(out_write)
  C.close(err)
  if result ~= 0 then
    C.close(in_write)
    C.close(out_read)
    error(command[1] .. ": " .. ffi.string(C.strerror(result)), 2)
  end
  C.fcntl(out_read, F_SETFL, ffi.cast("int", bit.bor(C.fcntl(out_read, F_GETFL), O_NONBLOCK)))
  return { pid = pid[0], stdin = in_write, stdout = out_read }
end

function M.kill(pid, signal)
  return C.kill(pid, M.signals[signal] or signal) == 0
end

--- Waits for a child to end. Returns its exit code, or nil and "signal N", or nil and "timeout".
function M.wait_exit(pid, deadline)
  local status = ffi.new("int[1]")
  while true do
    local result = C.waitpid(pid, status, WNOHANG)
    if result == pid then
      local signal = bit.band(status[0], 127)
      if signal ~= 0 then
        return nil, "signal " .. signal
      end
      return bit.band(bit.rshift(status[0], 8), 255)
    elseif result < 0 and ffi.errno() ~= EINTR then
      fail("waitpid")
    elseif M.now() > deadline then
      return nil, "timeout"
    end
    M.pause(0.002)
  end
end

-- Files ----------------------------------------------------------------------------------------

function M.temporary_directory()
  local template = ffi.new("char[64]", (os.getenv("TMPDIR") or "/tmp") .. "/perigee-spec-XXXXXX")
  if C.mkdtemp(template) == nil then
    fail("mkdtemp")
  end
  return ffi.string(template)
end

--- Writes a file below `directory`, with the folders it needs.
function M.write_file(directory, name, content)
  local folder = directory
  for part in name:gmatch("([^/]+)/") do
    folder = folder .. "/" .. part
    lfs.mkdir(folder)
  end
  local file = assert(io.open(directory .. "/" .. name, "wb"))
  file:write(content)
  file:close()
end

--- Copies the files below `from` into the directory `to`; hidden ones and node_modules are left out.
function M.copy_directory(from, to)
  for name in lfs.dir(from) do
    local source, target = from .. "/" .. name, to .. "/" .. name
    local is_wanted = not name:find("^%.") and name ~= "node_modules"
    local mode = is_wanted and lfs.attributes(source, "mode")
    if mode == "directory" then
      lfs.mkdir(target)
      M.copy_directory(source, target)
    elseif mode == "file" then
      M.write_file(to, name, M.read_file(source))
    end
  end
end

function M.read_file(path)
  local file = io.open(path, "rb")
  if not file then
    return ""
  end
  local content = file:read("*a")
  file:close()
  return content
end

--- @param path string
--- @return boolean
function M.file_exists(path)
  return lfs.attributes(path, "mode") == "file"
end

--- Removes a directory made by temporary_directory, and what is in it.
function M.remove_directory(path)
  assert(path:find("/perigee-spec-", 1, true), "not a directory of the specs")
  for name in lfs.dir(path) do
    if name ~= "." and name ~= ".." then
      local full = path .. "/" .. name
      if lfs.symlinkattributes(full, "mode") == "directory" then
        M.remove_directory(full)
      else
        os.remove(full)
      end
    end
  end
  lfs.rmdir(path)
end

return M
