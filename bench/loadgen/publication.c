#include "loadgen/publication.h"

#include <string.h>

#include "loadgen/base.h"

publication publication_build(const char *template, int size) {
  publication result = {0};
  const char *at = strstr(template, "{stamp}");
  const char *pad = strstr(template, "{pad}");
  if (at == NULL) base_fail("a publication has no {stamp}");
  size_t fixed = strlen(template) - strlen("{stamp}") + STAMP_BYTES;
  if (pad != NULL) fixed -= strlen("{pad}");
  size_t fill = pad != NULL && (size_t)size > fixed ? (size_t)size - fixed : 0;
  for (const char *from = template; *from != '\0';) {
    if (from == at) {
      result.stamp_at = result.text.len;
      for (int i = 0; i < STAMP_BYTES; i++) bytes_append(&result.text, "~", 1);
      from += strlen("{stamp}");
    } else if (from == pad) {
      for (size_t i = 0; i < fill; i++) bytes_append(&result.text, ".", 1);
      from += strlen("{pad}");
    } else {
      bytes_append(&result.text, from++, 1);
    }
  }
  return result;
}

void publication_stamp(publication *to, stamp value) {
  stamp_encode(to->text.data + to->stamp_at, value);
}
