/*
 * The arena: a chain of blocks, the newest of ordinary size in front, each handed out from its start. What does not fit
 * an ordinary block gets one of its own behind the front, so that the room left in front is not lost.
 */
#include "base/arena.h"

#include <stdalign.h>

#include "base/alloc.h"
#include "base/check.h"

/* The first block holds a small request; doubling up to the last size keeps a large one to a few dozen mallocs. */
#define BLOCK_FIRST_BYTES ((size_t)1024)
#define BLOCK_LAST_BYTES  ((size_t)64 * 1024)
#define ALIGNMENT         alignof(max_align_t)

struct kt_arena_block {
    struct kt_arena_block *next;
    size_t size, used;
    alignas(max_align_t) unsigned char data[];
};

struct kt_arena_cleanup {
    struct kt_arena_cleanup *next;
    void (*call)(void *);
    void *data;
};

void kt_arena_init(struct kt_arena *arena)
{
    *arena = (struct kt_arena){.blocks = NULL};
}

void kt_arena_release(struct kt_arena *arena)
{
    /* A cleanup may still use the arena, so its memory goes last. */
    while (arena->cleanups) {
        struct kt_arena_cleanup *cleanup = arena->cleanups;
        arena->cleanups = cleanup->next;
        cleanup->call(cleanup->data);
    }
    for (struct kt_arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        kt_free(block);
    }
    kt_arena_init(arena);
}

static struct kt_arena_block *block_create(size_t size)
{
    struct kt_arena_block *block = kt_alloc(sizeof(*block) + size);
    block->next = NULL;
    block->size = size;
    block->used = 0;
    return block;
}

void *kt_arena_alloc(struct kt_arena *arena, size_t size)
{
    KT_CHECK(size <= SIZE_MAX / 2);
    size = (KT_MAX(size, 1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct kt_arena_block *front = arena->blocks;
    if (!front || size > front->size - front->used) {
        size_t ordinary = front ? KT_MIN(front->size * 2, BLOCK_LAST_BYTES) : BLOCK_FIRST_BYTES;
        if (size > ordinary / 2 && front) {
            struct kt_arena_block *own = block_create(size);
            own->used = size;
            own->next = front->next;
            front->next = own;
            arena->used_bytes += size;
            return own->data;
        }
        front = block_create(KT_MAX(size, ordinary));
        front->next = arena->blocks;
        arena->blocks = front;
    }
    void *memory = front->data + front->used;
    front->used += size;
    arena->used_bytes += size;
    return memory;
}

void *kt_arena_zalloc(struct kt_arena *arena, size_t size)
{
    return memset(kt_arena_alloc(arena, size), 0, size);
}

struct kt_slice kt_arena_dup(struct kt_arena *arena, struct kt_slice bytes)
{
    if (bytes.len == 0)
        return kt_slice("", 0);
    return kt_slice(memcpy(kt_arena_alloc(arena, bytes.len), bytes.data, bytes.len), bytes.len);
}

char *kt_arena_text(struct kt_arena *arena, struct kt_slice bytes)
{
    KT_CHECK(bytes.len < SIZE_MAX);
    char *text = kt_arena_alloc(arena, bytes.len + 1);
    if (bytes.len)
        memcpy(text, bytes.data, bytes.len);
    text[bytes.len] = '\0';
    return text;
}

void kt_arena_on_release(struct kt_arena *arena, void (*call)(void *), void *data)
{
    struct kt_arena_cleanup *cleanup = kt_arena_alloc(arena, sizeof(*cleanup));
    *cleanup = (struct kt_arena_cleanup){.next = arena->cleanups, .call = call, .data = data};
    arena->cleanups = cleanup;
}
