/* Entries whose keys have equal hashes: rare enough in life that only a poor hash shows that they stay apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/random.h"
#include "engines/kv/kv_table.h"
#include "support/engine_driver.h"
#include "wire/writer.h"

#define KEY_BYTES  600
#define KEYS       8
#define COLLECTION 7

struct fixture {
    char folder[64], path[96];
    struct kt_store *store;
    struct kt_kv_table table;
    struct kt_txn *txn;
    uint8_t key[KEY_BYTES];
};

/* Two hashes for all keys. */
static void poor_hash(struct kt_slice key, uint8_t out[KT_KV_HASH_BYTES])
{
    memset(out, 0, KT_KV_HASH_BYTES);
    out[0] = ((const uint8_t *)key.data)[KEY_BYTES - 1] & 1u;
}

static int set_up(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));
    struct kt_store_options options = {.bytes_max = 1, .volatile_data = true};
    struct kt_error error;

    temporary_folder(f->folder);
    snprintf(f->path, sizeof(f->path), "%s/data", f->folder);
    options.path = f->path;
    assert_int_equal(kt_store_open(&options, &f->store, &error), KT_OK);
    assert_int_equal(kt_kv_table_open(&f->table, f->store, &error), KT_OK);
    f->table.hash = poor_hash;
    assert_int_equal(kt_txn_begin_write(f->store, &f->txn), KT_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    kt_txn_abort(f->txn);
    kt_kv_table_close(&f->table);
    kt_store_close(f->store);
    temporary_folder_remove(f->folder);
    kt_free(f);
    return 0;
}

static struct kt_slice key_of(struct fixture *f, unsigned n)
{
    f->key[0] = (uint8_t)(n >> 8);
    f->key[KEY_BYTES - 1] = (uint8_t)n;
    return kt_slice(f->key, KEY_BYTES);
}

static enum kt_code write_entry(struct fixture *f, unsigned n, uint8_t value, int64_t expires_at_ns)
{
    struct kt_kv_entry entry;
    enum kt_code code = kt_kv_find(&f->table, f->txn, COLLECTION, key_of(f, n), &entry);

    if (code && code != KT_NOT_FOUND)
        return code;
    return kt_kv_write(&f->table, f->txn, &entry, code == KT_OK, key_of(f, n), kt_slice(&value, 1), expires_at_ns);
}

static enum kt_code remove_entry(struct fixture *f, unsigned n)
{
    struct kt_kv_entry entry;
    enum kt_code code = kt_kv_find(&f->table, f->txn, COLLECTION, key_of(f, n), &entry);

    return code ? code : kt_kv_remove(&f->table, f->txn, &entry.place, entry.expires_at_ns);
}

/* values: what each key should have, 0 none; and no row too many anywhere. */
static void expect_table(struct fixture *f, const uint8_t values[KEYS], const int64_t expiries[KEYS])
{
    uint64_t entries, rows, expected = 0, expiring = 0;

    for (unsigned n = 0; n < KEYS; n++) {
        struct kt_kv_entry entry;
        enum kt_code code = kt_kv_find(&f->table, f->txn, COLLECTION, key_of(f, n), &entry);

        assert_int_equal(code, values[n] ? KT_OK : KT_NOT_FOUND);
        if (!values[n])
            continue;
        assert_int_equal(entry.value.len, 1);
        assert_int_equal(*(const uint8_t *)entry.value.data, values[n]);
        assert_int_equal(entry.expires_at_ns, expiries[n]);
        expected++;
        expiring += expiries[n] != 0;
    }
    assert_int_equal(kt_txn_count(f->txn, f->table.entries, &entries), KT_OK);
    assert_int_equal(kt_txn_count(f->txn, f->table.expiry, &rows), KT_OK);
    assert_int_equal(entries, expected);
    assert_int_equal(rows, expiring);
}

static void keys__of_one_hash__stay_apart_through_any_order_of_writes(void **state)
{
    struct fixture *f = *state;
    uint8_t values[KEYS] = {0};
    int64_t expiries[KEYS] = {0};
    struct kt_random random;

    kt_random_seed(&random, 20250301);
    for (unsigned step = 0; step < 3000; step++) {
        unsigned n = (unsigned)kt_random_below(&random, KEYS);

        if (kt_random_below(&random, 3) == 0) {
            assert_int_equal(remove_entry(f, n), values[n] ? KT_OK : KT_NOT_FOUND);
            values[n] = 0;
        } else {
            values[n] = (uint8_t)(1 + kt_random_below(&random, 255));
            expiries[n] = (int64_t)kt_random_below(&random, 4) * 100; /* equal ones are frequent */
            assert_int_equal(write_entry(f, n, values[n], expiries[n]), KT_OK);
        }
        expect_table(f, values, expiries);
    }
}

static void expired__among_keys_of_one_hash__are_the_ones_that_go(void **state)
{
    struct fixture *f = *state;
    const int64_t expiries[KEYS] = {300, 300, 100, 100, 0, 200, 200, 0};
    uint8_t values[KEYS] = {1, 2, 3, 4, 5, 6, 7, 8};
    int64_t next_ns;

    for (unsigned n = 0; n < KEYS; n++)
        assert_int_equal(write_entry(f, n, values[n], expiries[n]), KT_OK);
    assert_int_equal(kt_kv_remove_expired(&f->table, f->txn, 99, 100), KT_OK);
    expect_table(f, values, expiries);
    assert_int_equal(kt_kv_remove_expired(&f->table, f->txn, 200, 100), KT_OK);
    values[2] = values[3] = values[5] = values[6] = 0;
    expect_table(f, values, expiries);
    assert_int_equal(kt_kv_next_expiry(&f->table, f->txn, &next_ns), KT_OK);
    assert_int_equal(next_ns, 300);
    assert_int_equal(kt_kv_remove_expired(&f->table, f->txn, 300, 1), KT_OK);
    values[0] = 0;
    expect_table(f, values, expiries);
    assert_int_equal(kt_kv_remove_expired(&f->table, f->txn, 300, 1), KT_OK);
    values[1] = 0;
    expect_table(f, values, expiries);
    assert_int_equal(kt_kv_next_expiry(&f->table, f->txn, &next_ns), KT_NOT_FOUND);
}

static void keys__past_the_last_place_of_a_hash__are_refused(void **state)
{
    struct fixture *f = *state;
    struct kt_kv_entry entry;

    for (unsigned i = 0; i < KT_KV_CHAIN_MAX; i++)
        assert_int_equal(write_entry(f, i * 2, (uint8_t)i, 0), KT_OK);
    assert_int_equal(write_entry(f, 0x4000, 1, 0), KT_TOO_LARGE);
    assert_int_equal(kt_kv_find(&f->table, f->txn, COLLECTION, key_of(f, 0x4000), &entry), KT_TOO_LARGE);
    assert_int_equal(write_entry(f, 1, 1, 0), KT_OK);
    assert_int_equal(remove_entry(f, 10), KT_OK);
    assert_int_equal(write_entry(f, 0x4000, 77, 0), KT_OK);
    assert_int_equal(kt_kv_find(&f->table, f->txn, COLLECTION, key_of(f, 510), &entry), KT_OK);
    assert_int_equal(*(const uint8_t *)entry.value.data, 255);
}

static void keys__in_other_collections__are_others(void **state)
{
    struct fixture *f = *state;
    struct kt_kv_entry entry;

    assert_int_equal(write_entry(f, 0, 1, 0), KT_OK);
    assert_int_equal(kt_kv_find(&f->table, f->txn, COLLECTION + 1, key_of(f, 0), &entry), KT_NOT_FOUND);
}

static void walk__over_a_collection__gives_each_key_once(void **state)
{
    struct fixture *f = *state;
    struct kt_kv_entry entry;
    struct kt_cursor *cursor;
    bool begun = false, seen[KEYS] = {false};
    unsigned count = 0;

    for (unsigned n = 0; n < KEYS; n++)
        assert_int_equal(write_entry(f, n, 1, 0), KT_OK);
    assert_int_equal(kt_kv_find(&f->table, f->txn, COLLECTION + 1, kt_slice_text("other"), &entry), KT_NOT_FOUND);
    assert_int_equal(kt_kv_write(&f->table, f->txn, &entry, false, kt_slice_text("other"), kt_slice_text("v"), 0),
                     KT_OK);
    assert_int_equal(kt_kv_find(&f->table, f->txn, COLLECTION, kt_slice_text("short"), &entry), KT_NOT_FOUND);
    assert_int_equal(kt_kv_write(&f->table, f->txn, &entry, false, kt_slice_text("short"), kt_slice_text("v"), 0),
                     KT_OK);
    assert_int_equal(kt_cursor_open(f->txn, f->table.entries, &cursor), KT_OK);
    while (kt_kv_walk(cursor, COLLECTION, &begun, &entry) == KT_OK) {
        if (count++ == 0) {
            assert_true(kt_slice_is(entry.key, "short"));
            continue;
        }
        unsigned n = ((const uint8_t *)entry.key.data)[KEY_BYTES - 1];

        assert_int_equal(entry.key.len, KEY_BYTES);
        assert_in_range(n, 0, KEYS - 1);
        assert_false(seen[n]);
        seen[n] = true;
    }
    assert_int_equal(count, KEYS + 1);
    kt_cursor_close(cursor);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys__of_one_hash__stay_apart_through_any_order_of_writes),
        TEST(expired__among_keys_of_one_hash__are_the_ones_that_go),
        TEST(keys__past_the_last_place_of_a_hash__are_refused),
        TEST(keys__in_other_collections__are_others),
        TEST(walk__over_a_collection__gives_each_key_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
