/* Just enough of HTTP/1.1 responses. */
#ifndef LOADGEN_HTTP_H
#define LOADGEN_HTTP_H

#include <stddef.h>

/* The size of the response at the start of `data`, or 0 when it is not whole. */
size_t http_response_size(const char *data, size_t len);

#endif
