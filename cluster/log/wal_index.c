/* The in-memory index: from an entry's index to its term and place. 16 bytes per entry. */
#include "base/alloc.h"
#include "base/check.h"
#include "cluster/log/wal_internal.h"

#define BLOCK_SLOTS 1024u

_Static_assert(sizeof(struct wal_slot) == 16, "an entry costs 16 bytes of memory");

void wal_index_init(struct wal_index *index, kt_index base, kt_term base_term)
{
    *index = (struct wal_index){.first = base + 1, .last = base, .base_term = base_term};
}

void wal_index_release(struct wal_index *index)
{
    for (size_t i = 0; i < index->block_count; i++)
        kt_free(index->blocks[i]);
    kt_free(index->blocks);
    index->blocks = NULL;
    index->block_count = index->block_cap = 0;
}

static struct wal_slot *slot_at(const struct wal_index *index, kt_index at)
{
    return &index->blocks[at / BLOCK_SLOTS - index->block_first][at % BLOCK_SLOTS];
}

const struct wal_slot *wal_index_at(const struct wal_index *index, kt_index at)
{
    return at < index->first || at > index->last ? NULL : slot_at(index, at);
}

void wal_index_push(struct wal_index *index, struct wal_slot slot)
{
    kt_index at = index->last + 1;

    if (index->block_count == 0)
        index->block_first = at / BLOCK_SLOTS;
    if (at / BLOCK_SLOTS - index->block_first == index->block_count) {
        if (index->block_count == index->block_cap) {
            index->block_cap = index->block_cap ? index->block_cap * 2 : 16;
            index->blocks = kt_realloc(index->blocks, index->block_cap * sizeof(*index->blocks));
        }
        index->blocks[index->block_count++] = kt_alloc(BLOCK_SLOTS * sizeof(struct wal_slot));
    }
    index->last = at;
    *slot_at(index, at) = slot;
}

/* Blocks that hold no entry any more. */
static void free_blocks(struct wal_index *index)
{
    size_t head = 0, keep = 0;

    if (index->last >= index->first && index->block_count > 0) {
        head = (size_t)(index->first / BLOCK_SLOTS - index->block_first);
        keep = (size_t)(index->last / BLOCK_SLOTS - index->block_first) + 1 - head;
    }
    for (size_t i = 0; i < index->block_count; i++)
        if (i < head || i >= head + keep)
            kt_free(index->blocks[i]);
    if (keep > 0 && head > 0)
        memmove(index->blocks, index->blocks + head, keep * sizeof(*index->blocks));
    index->block_first += head;
    index->block_count = keep;
}

void wal_index_cut(struct wal_index *index, kt_index last, kt_term term)
{
    if (last >= index->last)
        return;
    if (last < index->first - 1) {
        /* At recovery: the segments of the entries before were trimmed, the truncation itself is still in the log. */
        index->first = last + 1;
        index->base_term = term;
    }
    index->last = last;
    free_blocks(index);
}

void wal_index_reset(struct wal_index *index, kt_index base, kt_term base_term)
{
    wal_index_release(index);
    wal_index_init(index, base, base_term);
}

void wal_index_trim(struct wal_index *index, kt_index first)
{
    if (first <= index->first)
        return;
    KT_CHECK(first <= index->last + 1);
    index->base_term = wal_index_term(index, first - 1);
    index->first = first;
    free_blocks(index);
}

kt_term wal_index_term(const struct wal_index *index, kt_index at)
{
    const struct wal_slot *slot = wal_index_at(index, at);

    if (slot)
        return slot->term;
    return at == index->first - 1 ? index->base_term : 0;
}
