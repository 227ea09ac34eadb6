#include "cluster/log/entry.h"

#include "base/alloc.h"
#include "base/check.h"

struct kt_chunk *kt_chunk_create(size_t len)
{
    struct kt_chunk *chunk = kt_alloc(sizeof(*chunk) + len);

    atomic_init(&chunk->refs, 1);
    chunk->len = len;
    return chunk;
}

void kt_chunk_acquire(struct kt_chunk *chunk)
{
    unsigned before = atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);

    KT_CHECK(before > 0);
}

void kt_chunk_drop(struct kt_chunk *chunk)
{
    unsigned before;

    if (!chunk)
        return;
    /* What this thread read happens before the memory is freed by whichever thread drops last. */
    before = atomic_fetch_sub_explicit(&chunk->refs, 1, memory_order_acq_rel);
    KT_CHECK(before > 0);
    if (before == 1)
        kt_free(chunk);
}
