#include "gateway/media_type.h"

typedef struct {
  const char *extension;
  const char *type;
} media_type;

static const media_type types[] = {
    {"html", "text/html; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"txt", "text/plain; charset=utf-8"},
    {"md", "text/markdown; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"webmanifest", "application/manifest+json"},
    /* Not text/xml: an XML document says its encoding itself. */
    {"xml", "application/xml"},
    {"svg", "image/svg+xml"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"avif", "image/avif"},
    {"ico", "image/x-icon"},
    {"wasm", "application/wasm"},
    {"pdf", "application/pdf"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"ttf", "font/ttf"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"webm", "video/webm"},
};

slice media_type_find(slice file_name) {
  size_t at = file_name.len;
  while (at > 0 && file_name.data[at - 1] != '.' && file_name.data[at - 1] != '/') at--;
  if (at > 0 && file_name.data[at - 1] == '.') {
    slice extension = slice_skip(file_name, at);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
      if (slice_is_equal_nocase(extension, slice_of_string(types[i].extension))) {
        return slice_of_string(types[i].type);
      }
    }
  }
  return SLICE("application/octet-stream");
}
