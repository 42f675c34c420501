/* Text that is sent over and over, each time with another stamp. */
#ifndef LOADGEN_PUBLICATION_H
#define LOADGEN_PUBLICATION_H

#include "loadgen/conn.h"
#include "loadgen/stamp.h"

typedef struct {
  bytes text;
  size_t stamp_at; /* where the stamp goes */
} publication;

/* Makes one of a template with {stamp} and perhaps {pad}; with a pad the whole is `size` bytes.
 * Fails without {stamp}. */
publication publication_build(const char *template, int size);

void publication_stamp(publication *to, stamp value);

#endif
