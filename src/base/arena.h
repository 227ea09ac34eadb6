/* Memory that dies together: a request's parameters, reply and error texts. One thread at a time. */
#ifndef KT_BASE_ARENA_H
#define KT_BASE_ARENA_H

#include "base/types.h"

struct kt_arena {
    struct kt_arena_block *blocks;
    struct kt_arena_cleanup *cleanups;
    size_t used_bytes;
};

void kt_arena_init(struct kt_arena *arena);
/* Runs the cleanups, newest first, and frees everything; usable again. */
void kt_arena_release(struct kt_arena *arena);
/* Aligned for any type; never NULL (sizes from outside are bounded by their frame). */
void *kt_arena_alloc(struct kt_arena *arena, size_t size);
void *kt_arena_zalloc(struct kt_arena *arena, size_t size);
struct kt_slice kt_arena_dup(struct kt_arena *arena, struct kt_slice bytes);
/* NUL-terminated copy. */
char *kt_arena_text(struct kt_arena *arena, struct kt_slice bytes);
/* call(data) runs at release. */
void kt_arena_on_release(struct kt_arena *arena, void (*call)(void *), void *data);

#endif
