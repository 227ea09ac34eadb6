/* Randomness: of the system for ids, and a seeded generator (xoshiro256**) for jitter and simulation. */
#ifndef KT_BASE_RANDOM_H
#define KT_BASE_RANDOM_H

#include "base/types.h"

struct kt_random {
    uint64_t s[4];
};

/* From the kernel; ends the process if there is none. Any thread. */
void kt_random_bytes(void *out, size_t len);
uint64_t kt_random_system(void);

void kt_random_seed(struct kt_random *random, uint64_t seed);
uint64_t kt_random_next(struct kt_random *random);
/* 0 <= result < bound; bound > 0. */
uint64_t kt_random_below(struct kt_random *random, uint64_t bound);

/* A random UUID, version 4, lower case with hyphens; 37 bytes with the NUL. Any thread. */
void kt_uuid(char out[37]);

#endif
