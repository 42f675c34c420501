/* floor: what the kernel allows a server of one thread, as the measure for servers that do more.
 *
 * It echoes WebSocket frames on /echo; sends what arrives on /pub and /room to all of /room, and
 * the bodies of POSTs to all event streams of /sse, one send per subscriber and turn; answers
 * anything else with "Hello world!". There is no parsing to speak of, no script and no check: it
 * answers every handshake with the one key that the load generator sends, and trusts it in all
 * else. It must never listen on anything but loopback.
 *
 *   floor PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  MAX_CONNS = 70000, /* and descriptors */
  MAX_EVENTS = 1024,
  RECEIVE_BYTES = 1 << 20,
  TURN_BYTES = 1 << 24, /* what a turn's events make for all subscribers together */
  BACKLOG = 4096,
};

typedef enum { NEW, ECHO, ROOM, PUBLISHER, STREAM, WEB } conn_kind;

struct conn {
  int fd;
  conn_kind kind;
  int place; /* in its audience */

  /* The frame that is being received. */
  uint8_t header[14];
  size_t header_len;
  uint64_t left; /* payload bytes to come */
  uint8_t mask[4];
  uint32_t mask_at;
};

/* All who get the same, and what they get at the end of the turn. */
struct audience {
  struct conn *conns[MAX_CONNS];
  int count;
  char batch[TURN_BYTES];
  size_t len;
};

static struct conn conns[MAX_CONNS]; /* by descriptor */
static struct audience room;
static struct audience streams;
static char received[RECEIVE_BYTES + 1];
static char answer[2 * RECEIVE_BYTES];
static int epoll;
static int listener;

static const char upgraded[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char stream_opened[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nHello world!";

/* Spins on a full socket: the load generator always reads on. */
static void send_all(int fd, const char *data, size_t len) {
  while (len > 0) {
    ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return;
    if (sent < 0) continue;
    data += sent;
    len -= (size_t)sent;
  }
}

static void unmask(char *out, const char *data, size_t len, const uint8_t mask[4], uint32_t at) {
  uint8_t key[8];
  uint64_t key64;
  size_t i = 0;
  for (uint32_t k = 0; k < 8; k++) key[k] = mask[(at + k) & 3];
  memcpy(&key64, key, 8);
  for (; i + 8 <= len; i += 8) {
    uint64_t word;
    memcpy(&word, data + i, 8);
    word ^= key64;
    memcpy(out + i, &word, 8);
  }
  for (; i < len; i++) out[i] = (char)(data[i] ^ key[i & 7]);
}

static size_t extended_len(const struct conn *conn) {
  uint8_t len = conn->header[1] & 127;
  return len == 126 ? 2 : len == 127 ? 8 : 0;
}

static bool has_header(const struct conn *conn) {
  return conn->header_len >= 2 && conn->header_len == 2 + extended_len(conn) + sizeof conn->mask;
}

/* The client's header is whole: writes the server's. Returns its size. */
static size_t turn_header(struct conn *conn, char *out) {
  size_t extended = extended_len(conn);
  conn->left = conn->header[1] & 127;
  if (extended > 0) {
    conn->left = 0;
    for (size_t i = 0; i < extended; i++) conn->left = conn->left << 8 | conn->header[2 + i];
  }
  memcpy(conn->mask, conn->header + 2 + extended, sizeof conn->mask);
  conn->mask_at = 0;
  conn->header_len = 0;
  memcpy(out, conn->header, 2 + extended);
  out[1] &= 127;
  return 2 + extended;
}

/* Masked frames in, the same frames unmasked out, as they come. Returns how much was written. */
static size_t turn_frames(struct conn *conn, const char *data, size_t len, char *out) {
  char *start = out;
  while (len > 0) {
    if (conn->left == 0) {
      while (len > 0 && !has_header(conn)) {
        conn->header[conn->header_len++] = (uint8_t)*data++;
        len--;
      }
      if (!has_header(conn)) break;
      out += turn_header(conn, out);
    }
    size_t taken = len < conn->left ? len : (size_t)conn->left;
    unmask(out, data, taken, conn->mask, conn->mask_at);
    conn->mask_at += (uint32_t)taken;
    conn->left -= taken;
    out += taken;
    data += taken;
    len -= taken;
  }
  return (size_t)(out - start);
}

static void join(struct audience *audience, struct conn *conn) {
  conn->place = audience->count;
  audience->conns[audience->count++] = conn;
}

static void leave(struct audience *audience, struct conn *conn) {
  struct conn *last = audience->conns[--audience->count];
  audience->conns[conn->place] = last;
  last->place = conn->place;
}

static void close_conn(struct conn *conn) {
  if (conn->kind == ROOM) leave(&room, conn);
  if (conn->kind == STREAM) leave(&streams, conn);
  close(conn->fd);
}

static void send_batch(struct audience *audience) {
  if (audience->len == 0) return;
  for (int i = 0; i < audience->count; i++) {
    send_all(audience->conns[i]->fd, audience->batch, audience->len);
  }
  audience->len = 0;
}

static bool begins(const char *with) {
  return strncmp(received, with, strlen(with)) == 0;
}

static conn_kind kind_of_request(void) {
  if (begins("GET /echo ")) return ECHO;
  if (begins("GET /room ")) return ROOM;
  if (begins("GET /pub ")) return PUBLISHER;
  if (begins("GET /sse ")) return STREAM;
  return WEB;
}

static void on_request(struct conn *conn) {
  conn->kind = kind_of_request();
  if (conn->kind == STREAM) {
    send_all(conn->fd, stream_opened, sizeof stream_opened - 1);
    join(&streams, conn);
  } else if (conn->kind != WEB) {
    send_all(conn->fd, upgraded, sizeof upgraded - 1);
    if (conn->kind == ROOM) join(&room, conn);
  }
}

static void append(struct audience *audience, const char *data, size_t len) {
  memcpy(audience->batch + audience->len, data, len);
  audience->len += len;
}

/* One answer for each empty line; what follows a POST's is published. */
static void on_web(const struct conn *conn, size_t len) {
  size_t answered = 0;
  const char *at = received;
  const char *end = received + len;
  while (at < end && (at = memmem(at, (size_t)(end - at), "\r\n\r\n", 4)) != NULL) {
    at += 4;
    if (received[0] == 'P') {
      append(&streams, "data: ", 6);
      append(&streams, at, (size_t)(end - at));
      append(&streams, "\n\n", 2);
      at = end;
    }
    memcpy(answer + answered, hello, sizeof hello - 1);
    answered += sizeof hello - 1;
  }
  send_all(conn->fd, answer, answered);
}

/* Bytes on a WebSocket. Returns false when it is closed. */
static bool on_frames(struct conn *conn, size_t len) {
  bool is_close = conn->left == 0 && conn->header_len == 0 && (received[0] & 15) == 8;
  if (conn->kind == ECHO || is_close) {
    send_all(conn->fd, answer, turn_frames(conn, received, len, answer));
  } else {
    room.len += turn_frames(conn, received, len, room.batch + room.len);
  }
  return !is_close;
}

static void on_readable(struct conn *conn) {
  ssize_t len = recv(conn->fd, received, RECEIVE_BYTES, 0);
  if (len < 0 && errno == EAGAIN) return;
  bool stays = len > 0;
  if (stays && conn->kind == NEW) {
    received[len] = '\0';
    on_request(conn);
    if (conn->kind == WEB) on_web(conn, (size_t)len);
  } else if (stays && conn->kind == WEB) {
    on_web(conn, (size_t)len);
  } else if (stays) {
    stays = on_frames(conn, (size_t)len);
  }
  if (!stays) close_conn(conn);
}

static void accept_all(void) {
  int on = 1;
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    if (fd >= MAX_CONNS) abort();
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    conns[fd] = (struct conn){.fd = fd};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

static bool start(int port) {
  int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) return false;
  if (listen(listener, BACKLOG) != 0) return false;
  epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0;
}

int main(int count, char **arguments) {
  static struct epoll_event events[MAX_EVENTS];
  int port = count == 2 ? (int)strtol(arguments[1], NULL, 10) : 0;
  if (port <= 0 || port > 0xffff) {
    fputs("floor PORT\n", stderr);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  if (!start(port)) {
    perror("floor");
    return 1;
  }
  printf("listening on http://127.0.0.1:%d\n", port);
  fflush(stdout);
  for (;;) {
    int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.fd == listener) {
        accept_all();
      } else {
        on_readable(&conns[events[i].data.fd]);
      }
    }
    send_batch(&room);
    send_batch(&streams);
  }
}
