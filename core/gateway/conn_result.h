/* What becomes of a call on a connection, and how a script is told. */
#ifndef PERIGEE_GATEWAY_CONN_RESULT_H
#define PERIGEE_GATEWAY_CONN_RESULT_H

typedef enum {
  CONN_OK = 0,
  CONN_CLOSED = -1,    /* "closed" */
  CONN_TOO_LARGE = -2, /* past max_outbox: the connection closes with 1013; "too_large" */
  CONN_BAD_UTF8 = -3,  /* "utf8" */
  CONN_BAD_TOPIC = -4, /* "topic" */
  CONN_LIMIT = -5,     /* "limit" */
  CONN_FULL = -6,      /* "full" */
  CONN_BAD_EVENT = -7, /* an SSE event name with CR, LF or NUL: misuse */
} conn_result;

/* The stable short string for a negative result. */
const char *conn_result_code(conn_result result);
const char *conn_result_message(conn_result result);

#endif
