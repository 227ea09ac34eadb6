#include "support/wal_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"

void kt_wal_model_init(struct kt_wal_model *model)
{
    memset(model, 0, sizeof(*model));
    model->first = 1;
    model->term = 1;
}

enum kt_entry_type kt_wal_model_type(kt_index index)
{
    return index % 7 == 1 ? KT_ENTRY_BARRIER : index % 11 == 2 ? KT_ENTRY_CHANGE : KT_ENTRY_COMMAND;
}

static void fill(uint8_t *bytes, kt_index index, kt_term term, uint32_t len)
{
    struct kt_random random;

    kt_random_seed(&random, index * 1000003 + term);
    for (uint32_t i = 0; i < len; i += 8) {
        uint64_t word = kt_random_next(&random);

        memcpy(bytes + i, &word, KT_MIN(8, len - i));
    }
}

struct kt_entry kt_wal_model_entry(kt_index index, kt_term term, uint32_t len)
{
    struct kt_entry entry = {.index = index, .term = term, .type = kt_wal_model_type(index)};

    if (len > 0) {
        entry.chunk = kt_chunk_create(len);
        fill(entry.chunk->data, index, term, len);
        entry.data = kt_slice(entry.chunk->data, len);
    }
    return entry;
}

enum kt_code kt_wal_model_append(struct kt_wal_model *model, struct kt_wal *wal, kt_index index, size_t count,
                                 kt_term term, uint32_t len)
{
    struct kt_entry *entries = kt_alloc(count * sizeof(*entries));
    enum kt_code code;

    assert_true(index + count - 1 <= KT_MODEL_ENTRIES_MAX);
    for (size_t i = 0; i < count; i++)
        entries[i] = kt_wal_model_entry(index + i, term, len);
    code = kt_wal_append(wal, entries, count);
    for (size_t i = 0; i < count; i++)
        kt_chunk_drop(entries[i].chunk);
    kt_free(entries);
    if (code != KT_OK)
        return code;
    for (size_t i = 0; i < count; i++)
        model->entries[index + i] = (struct kt_model_entry){.term = term, .len = len};
    model->last = index + count - 1;
    model->term = term;
    return KT_OK;
}

void kt_wal_model_forget(struct kt_wal_model *model, kt_index index, kt_term term)
{
    assert_true(index <= KT_MODEL_ENTRIES_MAX);
    model->entries[index] = (struct kt_model_entry){.term = term};
    model->first = index + 1;
    model->last = index;
}

enum kt_code kt_wal_model_reset(struct kt_wal_model *model, struct kt_wal *wal, kt_index index, kt_term term)
{
    enum kt_code code = kt_wal_reset(wal, index, term);

    if (code == KT_OK)
        kt_wal_model_forget(model, index, term);
    return code;
}

static void check_entry(const struct kt_wal_model *model, const struct kt_entry *entry, kt_index index)
{
    const struct kt_model_entry *expected = &model->entries[index];
    uint8_t *bytes = kt_alloc(expected->len + 1);

    fill(bytes, index, expected->term, expected->len);
    if (entry->index != index || entry->term != expected->term || entry->type != kt_wal_model_type(index) ||
        entry->data.len != expected->len || (expected->len > 0 && memcmp(entry->data.data, bytes, expected->len) != 0))
        fail_msg("entry %llu: read index %llu term %llu len %zu, expected term %llu len %u", (unsigned long long)index,
                 (unsigned long long)entry->index, (unsigned long long)entry->term, entry->data.len,
                 (unsigned long long)expected->term, expected->len);
    kt_free(bytes);
}

void kt_wal_model_check(const struct kt_wal_model *model, struct kt_wal *wal, kt_index first, kt_index last)
{
    struct kt_entry entries[64];

    while (first <= last) {
        size_t count = 0;
        enum kt_code code = kt_wal_read(wal, first, last, 1 << 20, entries, KT_COUNT(entries), &count);

        if (code != KT_OK)
            fail_msg("entry %llu of %llu: %s", (unsigned long long)first, (unsigned long long)last, kt_code_text(code));
        for (size_t i = 0; i < count; i++) {
            check_entry(model, &entries[i], first + i);
            assert_int_equal(kt_wal_term(wal, first + i), entries[i].term);
            kt_chunk_drop(entries[i].chunk);
        }
        first += count;
    }
}
