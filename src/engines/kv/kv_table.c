#include "engines/kv/kv_table.h"

#include "base/check.h"
#include "base/hash.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define FORM_SHORT       0
#define FORM_LONG        1
#define LONG_PLACE_BYTES (KT_KV_PLACE_HEAD + KT_KV_HASH_BYTES + 1)
/* An entry: the largest value and key with their few bytes around them. */
#define SCRATCH_MAX (17u << 20)
/* Larger entries are rare; their memory is not kept. */
#define SCRATCH_KEPT (256u << 10)

_Static_assert(LONG_PLACE_BYTES + 8 <= KT_STORE_KEY_MAX, "a long key's place fits behind its expiry");

struct expiry_key {
    uint8_t bytes[8 + KT_STORE_KEY_MAX];
    size_t len;
};

/* Two seeds of our own choice make 128 bits of a 64-bit hash. Equal hashes are not assumed away: see the counter. */
static void hash_key(struct kt_slice key, uint8_t out[KT_KV_HASH_BYTES])
{
    kt_put_be64(out, kt_hash64(UINT64_C(0x6b6579206f6e6521), key.data, key.len));
    kt_put_be64(out + 8, kt_hash64(UINT64_C(0x6b6579207477696e), key.data, key.len));
}

enum kt_code kt_kv_table_open(struct kt_kv_table *table, struct kt_store *store, struct kt_error *error)
{
    enum kt_code code = kt_store_space(store, "kv", &table->entries, error);

    table->hash = hash_key;
    kt_buf_init(&table->scratch, SCRATCH_MAX);
    return code ? code : kt_store_space(store, "kv_expiry", &table->expiry, error);
}

void kt_kv_table_close(struct kt_kv_table *table)
{
    kt_buf_release(&table->scratch);
}

static struct kt_slice place_slice(const struct kt_kv_place *place)
{
    return kt_slice(place->bytes, place->len);
}

static bool is_long(const struct kt_kv_place *place)
{
    return place->bytes[KT_KV_PLACE_HEAD - 1] == FORM_LONG;
}

static struct kt_slice expiry_key(struct expiry_key *key, int64_t expires_at_ns, const struct kt_kv_place *place)
{
    kt_put_be64(key->bytes, (uint64_t)expires_at_ns); /* never negative, so it sorts */
    memcpy(key->bytes + 8, place->bytes, place->len);
    key->len = 8 + place->len;
    return kt_slice(key->bytes, key->len);
}

/* What is stored at a place of a form. */
static enum kt_code read_entry(struct kt_slice stored, bool long_key, struct kt_kv_entry *entry)
{
    struct kt_reader in;

    kt_reader_init(&in, stored);
    entry->expires_at_ns = (int64_t)kt_read_le64(&in);
    entry->key = long_key ? kt_read_bytes(&in, kt_read_le16(&in)) : kt_slice(NULL, 0);
    entry->value = kt_read_bytes(&in, kt_reader_left(&in));
    return kt_reader_ok(&in) ? KT_OK : KT_CORRUPT;
}

static enum kt_code find_long(const struct kt_kv_table *table, struct kt_txn *txn, struct kt_slice key,
                              struct kt_kv_entry *entry)
{
    struct kt_kv_place *place = &entry->place;
    struct kt_slice stored;
    enum kt_code code;

    place->bytes[KT_KV_PLACE_HEAD - 1] = FORM_LONG;
    table->hash(key, place->bytes + KT_KV_PLACE_HEAD);
    place->len = LONG_PLACE_BYTES;
    for (unsigned n = 0; n < KT_KV_CHAIN_MAX; n++) {
        place->bytes[LONG_PLACE_BYTES - 1] = (uint8_t)n;
        code = kt_txn_get(txn, table->entries, place_slice(place), &stored);
        if (code == KT_OK)
            code = read_entry(stored, true, entry);
        if (code || kt_slice_equal(entry->key, key))
            return code;
    }
    return KT_TOO_LARGE;
}

enum kt_code kt_kv_find(const struct kt_kv_table *table, struct kt_txn *txn, uint32_t collection, struct kt_slice key,
                        struct kt_kv_entry *entry)
{
    struct kt_kv_place *place = &entry->place;
    struct kt_slice stored;
    enum kt_code code;

    entry->expires_at_ns = 0;
    kt_put_be32(place->bytes, collection);
    if (key.len > KT_KV_SHORT_MAX)
        return find_long(table, txn, key, entry);
    place->bytes[KT_KV_PLACE_HEAD - 1] = FORM_SHORT;
    if (key.len > 0)
        memcpy(place->bytes + KT_KV_PLACE_HEAD, key.data, key.len);
    place->len = KT_KV_PLACE_HEAD + key.len;
    code = kt_txn_get(txn, table->entries, place_slice(place), &stored);
    return code ? code : read_entry(stored, false, entry);
}

static enum kt_code put_scratch(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_place *place)
{
    enum kt_code code = kt_buf_code(&table->scratch);

    if (code == KT_OK)
        code = kt_txn_put(txn, table->entries, place_slice(place), kt_buf_slice(&table->scratch));
    if (table->scratch.cap > SCRATCH_KEPT)
        kt_buf_release(&table->scratch);
    return code;
}

static enum kt_code drop_expiry(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_place *place,
                                int64_t expires_at_ns)
{
    struct expiry_key key;

    if (expires_at_ns == 0)
        return KT_OK;
    return kt_txn_delete(txn, table->expiry, expiry_key(&key, expires_at_ns, place));
}

static enum kt_code add_expiry(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_place *place,
                               int64_t expires_at_ns)
{
    struct expiry_key key;

    if (expires_at_ns == 0)
        return KT_OK;
    return kt_txn_put(txn, table->expiry, expiry_key(&key, expires_at_ns, place), kt_slice("", 0));
}

enum kt_code kt_kv_write(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_entry *entry, bool found,
                         struct kt_slice key, struct kt_slice value, int64_t expires_at_ns)
{
    int64_t old_ns = found ? entry->expires_at_ns : 0;
    enum kt_code code;

    KT_CHECK(expires_at_ns >= 0);
    kt_buf_clear(&table->scratch);
    kt_write_le64(&table->scratch, (uint64_t)expires_at_ns);
    if (is_long(&entry->place)) {
        kt_write_le16(&table->scratch, (uint16_t)key.len);
        kt_buf_append_slice(&table->scratch, key);
    }
    kt_buf_append_slice(&table->scratch, value);
    code = put_scratch(table, txn, &entry->place);
    if (code || old_ns == expires_at_ns)
        return code;
    code = drop_expiry(table, txn, &entry->place, old_ns);
    return code ? code : add_expiry(table, txn, &entry->place, expires_at_ns);
}

/* Finds the last place of the hash that place belongs to; *other is false if that is place itself. */
static enum kt_code last_of_hash(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_place *place,
                                 struct kt_kv_entry *last, bool *other)
{
    struct kt_kv_place probe = *place;
    struct kt_slice stored;
    enum kt_code code;

    *other = false;
    for (unsigned n = place->bytes[LONG_PLACE_BYTES - 1] + 1u; n < KT_KV_CHAIN_MAX; n++) {
        probe.bytes[LONG_PLACE_BYTES - 1] = (uint8_t)n;
        code = kt_txn_get(txn, table->entries, place_slice(&probe), &stored);
        if (code == KT_NOT_FOUND)
            break;
        if (code == KT_OK)
            code = read_entry(stored, true, last);
        if (code)
            return code;
        last->place = probe;
        *other = true;
    }
    return KT_OK;
}

/*
 * Closes the gap that an entry leaves by moving the last one of its hash into it. What last borrows is copied before
 * the first write.
 */
static enum kt_code move_last(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_place *to,
                              const struct kt_kv_entry *last)
{
    enum kt_code code;

    kt_buf_clear(&table->scratch);
    kt_write_le64(&table->scratch, (uint64_t)last->expires_at_ns);
    kt_write_le16(&table->scratch, (uint16_t)last->key.len);
    kt_buf_append_slice(&table->scratch, last->key);
    kt_buf_append_slice(&table->scratch, last->value);
    code = put_scratch(table, txn, to);
    if (code == KT_OK)
        code = add_expiry(table, txn, to, last->expires_at_ns);
    if (code == KT_OK)
        code = drop_expiry(table, txn, &last->place, last->expires_at_ns);
    return code ? code : kt_txn_delete(txn, table->entries, place_slice(&last->place));
}

enum kt_code kt_kv_remove(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_place *place,
                          int64_t expires_at_ns)
{
    struct kt_kv_entry last;
    bool other = false;
    enum kt_code code = KT_OK;

    if (is_long(place))
        code = last_of_hash(table, txn, place, &last, &other);
    if (code)
        return code;
    if (!other) {
        code = drop_expiry(table, txn, place, expires_at_ns);
        return code ? code : kt_txn_delete(txn, table->entries, place_slice(place));
    }
    code = move_last(table, txn, place, &last);
    /* With equal expiries the row of the entry that went is that of the one which came. */
    if (code || expires_at_ns == last.expires_at_ns)
        return code;
    return drop_expiry(table, txn, place, expires_at_ns);
}

/* The first row of the index: its expiry, and its place. */
static enum kt_code first_expiry(struct kt_cursor *cursor, int64_t *expires_at_ns, struct kt_kv_place *place)
{
    struct kt_slice key, value;
    enum kt_code code = kt_cursor_seek(cursor, kt_slice(NULL, 0), &key, &value);

    if (code)
        return code;
    if (key.len < 8 + KT_KV_PLACE_HEAD)
        return KT_CORRUPT;
    *expires_at_ns = (int64_t)kt_get_be64(key.data);
    place->len = key.len - 8;
    memcpy(place->bytes, (const uint8_t *)key.data + 8, place->len);
    return KT_OK;
}

enum kt_code kt_kv_next_expiry(const struct kt_kv_table *table, struct kt_txn *txn, int64_t *expires_at_ns)
{
    struct kt_kv_place place;
    struct kt_cursor *cursor;
    enum kt_code code = kt_cursor_open(txn, table->expiry, &cursor);

    if (code)
        return code;
    code = first_expiry(cursor, expires_at_ns, &place);
    kt_cursor_close(cursor);
    return code;
}

enum kt_code kt_kv_remove_expired(struct kt_kv_table *table, struct kt_txn *txn, int64_t until_ns, unsigned max)
{
    struct kt_kv_place place;
    struct kt_cursor *cursor;
    int64_t expires_at_ns;
    enum kt_code code = kt_cursor_open(txn, table->expiry, &cursor);

    if (code)
        return code;
    for (unsigned i = 0; i < max; i++) {
        /* From the front each time: a removal may move another entry's row. */
        code = first_expiry(cursor, &expires_at_ns, &place);
        if (code || expires_at_ns > until_ns)
            break;
        code = kt_kv_remove(table, txn, &place, expires_at_ns);
        if (code)
            break;
    }
    kt_cursor_close(cursor);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

enum kt_code kt_kv_walk(struct kt_cursor *cursor, uint32_t collection, bool *begun, struct kt_kv_entry *entry)
{
    struct kt_slice key, stored;
    uint8_t from[4];
    enum kt_code code;

    kt_put_be32(from, collection);
    code = *begun ? kt_cursor_next(cursor, &key, &stored)
                  : kt_cursor_seek(cursor, kt_slice(from, sizeof(from)), &key, &stored);
    *begun = true;
    if (code)
        return code;
    if (key.len < KT_KV_PLACE_HEAD)
        return KT_CORRUPT;
    if (kt_get_be32(key.data) != collection)
        return KT_NOT_FOUND;
    const uint8_t *at = key.data;
    bool long_key = at[KT_KV_PLACE_HEAD - 1] == FORM_LONG;

    code = read_entry(stored, long_key, entry);
    if (code == KT_OK && !long_key)
        entry->key = kt_slice(at + KT_KV_PLACE_HEAD, key.len - KT_KV_PLACE_HEAD);
    return code;
}
