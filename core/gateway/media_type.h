/* The media type of a file, by the extension of its name. */
#ifndef PERIGEE_GATEWAY_MEDIA_TYPE_H
#define PERIGEE_GATEWAY_MEDIA_TYPE_H

#include "base/slice.h"

/* The value of Content-Type, static text; case of the extension ignored. Text is said to be UTF-8;
 * an unknown extension, or none, is application/octet-stream. */
slice media_type_find(slice file_name);

#endif
