#include "gateway/limits.h"

const limit_info limit_infos[LIMIT_COUNT] = {
#define LIMIT(name, initial, unit, smallest, largest, help) \
  {#name, initial, unit, smallest, largest, help, offsetof(struct limits, name)},
    LIMITS(LIMIT)
#undef LIMIT
};

void limits_init(struct limits *limits) {
#define LIMIT(name, initial, unit, smallest, largest, help) limits->name = initial;
  LIMITS(LIMIT)
#undef LIMIT
}
