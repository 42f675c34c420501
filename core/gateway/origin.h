/* Who may use a route from a browser's page: the Origin of a request against the route's list.
 *
 * Pure. RFC 6454; CORS headers as in the Fetch standard. */
#ifndef PERIGEE_GATEWAY_ORIGIN_H
#define PERIGEE_GATEWAY_ORIGIN_H

#include <stdbool.h>

#include "base/slice.h"
#include "gateway/routes.h"

typedef enum {
  ORIGIN_NONE,    /* no Origin: not a browser's cross-origin request */
  ORIGIN_SAME,    /* the request's own host */
  ORIGIN_LISTED,  /* the route names it: CORS headers are due */
  ORIGIN_FOREIGN, /* nobody allowed it */
} origin_verdict;

/* `origin` is the header's value (data NULL: absent), `host` the request's, in lower case. */
origin_verdict origin_judge(const route_options *options, slice origin, slice host);

#endif
