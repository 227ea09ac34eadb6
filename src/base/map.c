/*
 * The hash map: open addressing, linear probing, at most three quarters full, removal by shifting back (no tombstones).
 * Keys come from clients, so the hash is keyed with a secret of the process: nobody outside can aim at one slot.
 */
#include "base/map.h"

#include <pthread.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/random.h"

#define FIRST_CAP 16

struct kt_map_slot {
    void *value; /* NULL: the slot is empty */
    char *key;
    size_t key_len;
    uint64_t hash;
};

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static uint64_t seed;

static void seed_draw(void)
{
    seed = kt_random_system();
}

static uint64_t hash_of(struct kt_slice key)
{
    pthread_once(&seed_once, seed_draw);
    return kt_hash64(seed, key.data, key.len);
}

void kt_map_init(struct kt_map *map)
{
    *map = (struct kt_map){.slots = NULL};
}

void kt_map_release(struct kt_map *map)
{
    for (size_t i = 0; i < map->cap; i++) {
        if (map->slots[i].value)
            kt_free(map->slots[i].key);
    }
    kt_free(map->slots);
    kt_map_init(map);
}

/* The slot that holds the key, or the empty one where it belongs. The map has slots, and one of them is empty. */
static size_t find(const struct kt_map *map, struct kt_slice key, uint64_t hash)
{
    size_t mask = map->cap - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        const struct kt_map_slot *slot = &map->slots[i];
        if (!slot->value || (slot->hash == hash && kt_slice_equal(kt_slice(slot->key, slot->key_len), key)))
            return i;
    }
}

static void grow(struct kt_map *map)
{
    struct kt_map old = *map;
    KT_CHECK(old.cap <= SIZE_MAX / 2 / sizeof(struct kt_map_slot));
    map->cap = old.cap ? old.cap * 2 : FIRST_CAP;
    map->slots = kt_zalloc(map->cap * sizeof(*map->slots));
    for (size_t i = 0; i < old.cap; i++) {
        const struct kt_map_slot *slot = &old.slots[i];
        if (slot->value)
            map->slots[find(map, kt_slice(slot->key, slot->key_len), slot->hash)] = *slot;
    }
    kt_free(old.slots);
}

void *kt_map_get(const struct kt_map *map, struct kt_slice key)
{
    return map->count ? map->slots[find(map, key, hash_of(key))].value : NULL;
}

void *kt_map_put(struct kt_map *map, struct kt_slice key, void *value)
{
    KT_CHECK(value != NULL);
    if (map->count >= map->cap / 4 * 3)
        grow(map);
    uint64_t hash = hash_of(key);
    struct kt_map_slot *slot = &map->slots[find(map, key, hash)];
    void *replaced = slot->value;
    if (!replaced) {
        slot->key = kt_alloc(key.len);
        if (key.len)
            memcpy(slot->key, key.data, key.len);
        slot->key_len = key.len;
        slot->hash = hash;
        map->count++;
    }
    slot->value = value;
    return replaced;
}

void *kt_map_remove(struct kt_map *map, struct kt_slice key)
{
    if (!map->count)
        return NULL;
    size_t mask = map->cap - 1;
    size_t hole = find(map, key, hash_of(key));
    void *removed = map->slots[hole].value;
    if (!removed)
        return NULL;
    kt_free(map->slots[hole].key);
    map->count--;
    /* Whoever was pushed past the hole, and may stand in it by the hash, moves in; its old place is the new hole. */
    for (size_t i = (hole + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
        size_t home = map->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole] = (struct kt_map_slot){.value = NULL};
    return removed;
}

bool kt_map_next(const struct kt_map *map, size_t *at, struct kt_slice *key, void **value)
{
    for (; *at < map->cap; (*at)++) {
        const struct kt_map_slot *slot = &map->slots[*at];
        if (slot->value) {
            *key = kt_slice(slot->key, slot->key_len);
            *value = slot->value;
            (*at)++;
            return true;
        }
    }
    return false;
}
