#include "gateway/origin.h"

/* Host and port without the scheme's default port. */
static slice strip_port(slice host, slice port) {
  if (host.len > port.len &&
      slice_is_equal(slice_of(host.data + host.len - port.len, port.len), port)) {
    host.len -= port.len;
  }
  return host;
}

static bool is_same_host(slice origin, slice host) {
  slice port;
  if (slice_has_prefix(origin, SLICE("https://"))) {
    origin = slice_skip(origin, 8);
    port = SLICE(":443");
  } else if (slice_has_prefix(origin, SLICE("http://"))) {
    origin = slice_skip(origin, 7);
    port = SLICE(":80");
  } else {
    return false;
  }
  return slice_is_equal_nocase(strip_port(origin, port), strip_port(host, port));
}

origin_verdict origin_judge(const route_options *options, slice origin, slice host) {
  if (origin.data == NULL) return ORIGIN_NONE;
  for (char **at = options->origins; at != NULL && *at != NULL; at++) {
    if (slice_is_equal_nocase(slice_of_string(*at), origin)) return ORIGIN_LISTED;
  }
  if (options->any_origin) return ORIGIN_LISTED;
  return is_same_host(origin, host) ? ORIGIN_SAME : ORIGIN_FOREIGN;
}
