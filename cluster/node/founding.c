#include "cluster/node/founding.h"

#include <stdlib.h>

#include <raft.h>

#include "base/alloc.h"

static int by_id(const void *a, const void *b)
{
    const struct kt_member *left = a, *right = b;
    return (left->id > right->id) - (left->id < right->id);
}

enum kt_code kt_founding_entry(const struct kt_member *members, size_t count, struct kt_entry *entry,
                               struct kt_error *error)
{
    struct raft_configuration configuration;
    struct raft_buffer bytes;
    struct kt_member *sorted = kt_alloc(count * sizeof *sorted);
    enum kt_code code = KT_OK;

    memcpy(sorted, members, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_id);
    raft_configuration_init(&configuration);
    for (size_t i = 0; i < count && code == KT_OK; i++)
        if (raft_configuration_add(&configuration, sorted[i].id, sorted[i].address, RAFT_VOTER) != 0)
            code = kt_error_set(error, KT_BAD_REQUEST, "member %llu at %s is named twice, by id or by address",
                                (unsigned long long)sorted[i].id, sorted[i].address);
    if (code == KT_OK && raft_configuration_encode(&configuration, &bytes) != 0)
        code = kt_error_set(error, KT_NO_MEMORY, "no memory for the founding entry");
    if (code == KT_OK) {
        struct kt_chunk *chunk = kt_chunk_create(bytes.len);
        memcpy(chunk->data, bytes.base, bytes.len);
        *entry = (struct kt_entry){
            .index = 1, .term = 1, .type = KT_ENTRY_CHANGE, .data = kt_slice(chunk->data, bytes.len), .chunk = chunk};
        raft_free(bytes.base);
    }
    raft_configuration_close(&configuration);
    kt_free(sorted);
    return code;
}

static enum kt_code write_first(struct kt_wal *wal, const struct kt_entry *entry, struct kt_wal_found *found,
                                struct kt_error *error)
{
    enum kt_code code = kt_wal_vote(wal, 1, 0);
    if (code == KT_OK)
        code = kt_wal_append(wal, entry, 1);
    if (code == KT_OK)
        code = kt_wal_sync(wal);
    if (code != KT_OK)
        return kt_error_set(error, code, "cannot write the founding entry: %s", kt_code_text(code));
    found->term = 1;
    found->vote = 0;
    found->first = 1;
    found->last = 1;
    return KT_OK;
}

static enum kt_code compare_first(struct kt_wal *wal, const struct kt_entry *entry, struct kt_error *error)
{
    struct kt_entry first;
    size_t count = 0;
    bool same;
    enum kt_code code = kt_wal_read(wal, 1, 1, 1, &first, 1, &count);
    if (code != KT_OK || count != 1)
        return kt_error_set(error, code == KT_OK ? KT_CORRUPT : code, "cannot read the founding entry: %s",
                            kt_code_text(code));
    same = first.type == KT_ENTRY_CHANGE && kt_slice_equal(first.data, entry->data);
    kt_chunk_drop(first.chunk);
    if (!same)
        return kt_error_set(error, KT_BAD_REQUEST,
                            "the member list is not the one that this node's log was founded with");
    return KT_OK;
}

enum kt_code kt_founding_write(struct kt_wal *wal, const struct kt_member *members, size_t count,
                               struct kt_wal_found *found, struct kt_error *error)
{
    struct kt_entry entry;
    enum kt_code code = kt_founding_entry(members, count, &entry, error);
    if (code != KT_OK)
        return code;
    if (found->last == 0)
        code = write_first(wal, &entry, found, error);
    else if (found->first == 1)
        code = compare_first(wal, &entry, error);
    kt_chunk_drop(entry.chunk);
    return code;
}
