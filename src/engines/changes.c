#include "engines/changes.h"

#include "base/check.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define META_BYTES 9

/* What was cut off. */
struct trimmed {
    kt_index oldest; /* 0: nothing was */
    bool untidy;
};

void kt_change_key(uint8_t key[KT_CHANGE_KEY_BYTES], kt_index index, unsigned number)
{
    kt_put_be64(key, index);
    kt_put_be16(key + 8, (uint16_t)number);
}

enum kt_code kt_changes_open(struct kt_store *store, struct kt_changes *changes, struct kt_error *error)
{
    enum kt_code code = kt_store_space(store, "change", &changes->records, error);

    return code ? code : kt_store_space(store, "change.meta", &changes->meta, error);
}

enum kt_code kt_change_decode(struct kt_slice key, struct kt_slice value, struct kt_change *change)
{
    struct kt_reader reader;

    if (key.len != KT_CHANGE_KEY_BYTES)
        return KT_CORRUPT;
    change->index = kt_get_be64(key.data);
    change->number = kt_get_be16((const uint8_t *)key.data + 8);
    kt_reader_init(&reader, value);
    change->sequence = kt_read_varint(&reader);
    change->bytes_before = kt_read_varint(&reader);
    change->time_ms = kt_read_varint(&reader);
    change->engine = kt_read_u8(&reader);
    change->kind = kt_read_u8(&reader);
    change->topic = kt_read_string(&reader);
    change->body = kt_read_bytes(&reader, kt_reader_left(&reader));
    change->bytes = value.len;
    return kt_reader_ok(&reader) ? KT_OK : KT_CORRUPT;
}

static enum kt_code read_trimmed(const struct kt_changes *changes, struct kt_txn *txn, struct trimmed *trimmed)
{
    struct kt_slice value;
    enum kt_code code = kt_txn_get(txn, changes->meta, kt_slice_text("trim"), &value);

    *trimmed = (struct trimmed){.oldest = 0};
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code != KT_OK)
        return code;
    if (value.len != META_BYTES)
        return KT_CORRUPT;
    trimmed->oldest = kt_get_le64(value.data);
    trimmed->untidy = ((const uint8_t *)value.data)[8] != 0;
    return KT_OK;
}

static enum kt_code write_trimmed(const struct kt_changes *changes, struct kt_txn *txn, const struct trimmed *trimmed)
{
    uint8_t value[META_BYTES];

    kt_put_le64(value, trimmed->oldest);
    value[8] = trimmed->untidy;
    return kt_txn_put(txn, changes->meta, kt_slice_text("trim"), kt_slice(value, sizeof(value)));
}

/* The first record at or behind (index, number), or the last one of all if from is NULL. */
static enum kt_code find(const struct kt_changes *changes, struct kt_txn *txn, const uint8_t *from,
                         struct kt_change *change)
{
    struct kt_slice key, value;
    struct kt_cursor *cursor;
    enum kt_code code = kt_cursor_open(txn, changes->records, &cursor);

    if (code != KT_OK)
        return code;
    if (from)
        code = kt_cursor_seek(cursor, kt_slice(from, KT_CHANGE_KEY_BYTES), &key, &value);
    else
        code = kt_cursor_seek_before(cursor, kt_slice("", 0), &key, &value);
    if (code == KT_OK)
        code = kt_change_decode(key, value, change);
    kt_cursor_close(cursor);
    return code;
}

static enum kt_code find_from(const struct kt_changes *changes, struct kt_txn *txn, kt_index index,
                              struct kt_change *change)
{
    uint8_t key[KT_CHANGE_KEY_BYTES];

    kt_change_key(key, index, 0);
    return find(changes, txn, key, change);
}

/* Writing. */

enum kt_code kt_change_begin(const struct kt_changes *changes, struct kt_txn *txn, const struct kt_apply *apply,
                             uint8_t engine, uint8_t kind, struct kt_slice topic, struct kt_buf *record,
                             uint8_t key[KT_CHANGE_KEY_BYTES])
{
    struct kt_change last;
    unsigned number = 0;
    enum kt_code code = find(changes, txn, NULL, &last);

    if (code == KT_NOT_FOUND)
        last = (struct kt_change){.sequence = 0};
    else if (code != KT_OK)
        return code;
    if (last.index == apply->index) {
        number = last.number + 1;
        KT_CHECK(number <= KT_CHANGE_NUMBER_MAX);
    }
    kt_change_key(key, apply->index, number);
    kt_buf_clear(record);
    kt_write_varint(record, last.sequence + 1);
    kt_write_varint(record, last.bytes_before + last.bytes);
    kt_write_varint(record, apply->time_ms);
    kt_buf_append_u8(record, engine);
    kt_buf_append_u8(record, kind);
    kt_write_string(record, topic);
    return KT_OK;
}

/* Removes records that are cut off, oldest first, but for the newest of all; untidy: some are left. */
static enum kt_code tidy(const struct kt_changes *changes, struct kt_txn *txn, kt_index oldest, uint64_t max,
                         uint64_t *removed, bool *untidy)
{
    struct kt_change first, last;
    uint8_t key[KT_CHANGE_KEY_BYTES];
    enum kt_code code = find(changes, txn, NULL, &last);

    for (*removed = 0; code == KT_OK; ++*removed) {
        code = find_from(changes, txn, 0, &first);
        if (code != KT_OK)
            break;
        *untidy = first.index < oldest && first.sequence != last.sequence;
        if (!*untidy || *removed == max)
            return KT_OK;
        kt_change_key(key, first.index, first.number);
        code = kt_txn_delete(txn, changes->records, kt_slice(key, sizeof(key)));
    }
    *untidy = false;
    return code == KT_NOT_FOUND ? KT_OK : code;
}

enum kt_code kt_change_put(const struct kt_changes *changes, struct kt_txn *txn, const uint8_t key[KT_CHANGE_KEY_BYTES],
                           const struct kt_buf *record)
{
    struct trimmed trimmed;
    uint64_t removed;
    bool untidy;
    enum kt_code code = kt_txn_put(txn, changes->records, kt_slice(key, KT_CHANGE_KEY_BYTES), kt_buf_slice(record));

    if (code == KT_OK)
        code = read_trimmed(changes, txn, &trimmed);
    if (code != KT_OK || !trimmed.untidy)
        return code;
    code = tidy(changes, txn, trimmed.oldest, KT_CHANGES_TRIM_INLINE, &removed, &untidy);
    if (code != KT_OK || untidy)
        return code;
    trimmed.untidy = false;
    return write_trimmed(changes, txn, &trimmed);
}

/* Reading. */

enum kt_code kt_changes_summary(const struct kt_changes *changes, struct kt_txn *txn,
                                struct kt_changes_summary *summary)
{
    struct kt_change first, last;
    struct trimmed trimmed;
    enum kt_code code = read_trimmed(changes, txn, &trimmed);

    *summary = (struct kt_changes_summary){.oldest = trimmed.oldest, .untidy = trimmed.untidy};
    if (code != KT_OK)
        return code;
    code = find(changes, txn, NULL, &last);
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code != KT_OK)
        return code;
    summary->newest = last.index;
    summary->sequence = last.sequence;
    code = find_from(changes, txn, trimmed.oldest, &first);
    if (code == KT_NOT_FOUND)
        return KT_OK;
    summary->count = last.sequence - first.sequence + 1;
    summary->bytes = last.bytes_before + last.bytes - first.bytes_before;
    return code;
}

enum kt_code kt_change_walk_begin(struct kt_change_walk *walk, const struct kt_changes *changes, struct kt_txn *txn,
                                  kt_index index, unsigned number)
{
    struct trimmed trimmed;
    enum kt_code code = read_trimmed(changes, txn, &trimmed);

    *walk = (struct kt_change_walk){.oldest = trimmed.oldest};
    if (code != KT_OK)
        return code;
    if (index < trimmed.oldest) {
        index = trimmed.oldest;
        number = 0;
    }
    kt_change_key(walk->from, index, number);
    return kt_cursor_open(txn, changes->records, &walk->cursor);
}

enum kt_code kt_change_walk_next(struct kt_change_walk *walk, struct kt_change *change)
{
    struct kt_slice key, value;
    enum kt_code code;

    if (walk->begun)
        code = kt_cursor_next(walk->cursor, &key, &value);
    else
        code = kt_cursor_seek(walk->cursor, kt_slice(walk->from, sizeof(walk->from)), &key, &value);
    walk->begun = true;
    if (code != KT_OK)
        return code;
    walk->value = value;
    return kt_change_decode(key, value, change);
}

void kt_change_walk_end(struct kt_change_walk *walk)
{
    kt_cursor_close(walk->cursor);
    walk->cursor = NULL;
}

/* Cutting off. */

struct bound {
    uint64_t bytes_before; /* a record with at least so many bytes before it may stay */
    kt_time_ms time_ms;    /* and of at least this time */
};

/* Both grow with the index, so the records that stay are the last ones: found by halving. */
static enum kt_code first_staying(const struct kt_changes *changes, struct kt_txn *txn, struct bound bound,
                                  kt_index low, kt_index high, kt_index *index)
{
    while (low < high) {
        kt_index middle = low + (high - low) / 2;
        struct kt_change change;
        enum kt_code code = find_from(changes, txn, middle, &change);

        if (code != KT_OK)
            return code;
        if (change.bytes_before >= bound.bytes_before && change.time_ms >= bound.time_ms)
            high = middle;
        else
            low = change.index + 1;
    }
    *index = high;
    return KT_OK;
}

enum kt_code kt_changes_cut(const struct kt_changes *changes, struct kt_txn *txn, uint64_t bytes_max,
                            kt_time_ms before_ms, kt_index *index)
{
    struct kt_change first, last;
    struct trimmed trimmed;
    kt_index by_bytes, by_time;
    uint64_t bytes;
    enum kt_code code = read_trimmed(changes, txn, &trimmed);

    *index = 0;
    if (code == KT_OK)
        code = find_from(changes, txn, trimmed.oldest, &first);
    if (code == KT_OK)
        code = find(changes, txn, NULL, &last);
    if (code != KT_OK)
        return code == KT_NOT_FOUND ? KT_OK : code;
    by_bytes = by_time = first.index;
    bytes = last.bytes_before + last.bytes;
    if (bytes_max > 0 && bytes - first.bytes_before > bytes_max) {
        struct bound bound = {.bytes_before = bytes - bytes_max};

        code = first_staying(changes, txn, bound, first.index, last.index, &by_bytes);
    }
    if (code == KT_OK && before_ms > first.time_ms) {
        struct bound bound = {.time_ms = before_ms};
        kt_index end = last.time_ms < before_ms ? last.index + 1 : last.index;

        if (end > last.index)
            by_time = end;
        else
            code = first_staying(changes, txn, bound, first.index, end, &by_time);
    }
    if (code == KT_OK && KT_MAX(by_bytes, by_time) > first.index)
        *index = KT_MAX(by_bytes, by_time);
    return code;
}

enum kt_code kt_changes_trim(const struct kt_changes *changes, struct kt_txn *txn, kt_index index, uint64_t max,
                             uint64_t *removed)
{
    struct trimmed before, after;
    enum kt_code code = read_trimmed(changes, txn, &before);

    *removed = 0;
    if (code != KT_OK)
        return code;
    after = before;
    after.oldest = KT_MAX(before.oldest, index);
    if (after.oldest == 0)
        return KT_OK;
    code = tidy(changes, txn, after.oldest, max, removed, &after.untidy);
    if (code != KT_OK || (after.oldest == before.oldest && after.untidy == before.untidy))
        return code;
    return write_trimmed(changes, txn, &after);
}
