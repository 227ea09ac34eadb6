/* A hash map from bytes to pointers. Keys are copied. One thread. Iteration order means nothing. */
#ifndef KT_BASE_MAP_H
#define KT_BASE_MAP_H

#include "base/types.h"

struct kt_map {
    struct kt_map_slot *slots;
    size_t count, cap;
};

void kt_map_init(struct kt_map *map);
/* Frees the keys, not the values. */
void kt_map_release(struct kt_map *map);
/* The value, or NULL. */
void *kt_map_get(const struct kt_map *map, struct kt_slice key);
/* Stores a non-NULL value; returns the one it replaced, or NULL. */
void *kt_map_put(struct kt_map *map, struct kt_slice key, void *value);
/* Removes; returns the value, or NULL. */
void *kt_map_remove(struct kt_map *map, struct kt_slice key);
/* Walks: at starts at 0; false at the end. The map must not change meanwhile. */
bool kt_map_next(const struct kt_map *map, size_t *at, struct kt_slice *key, void **value);

#endif
