/* The change log by itself: keys, sequences, walking, cutting off, tidying. */
#include "engines/changes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "support/engine_driver.h"

struct fixture {
    char folder[64];
    char path[96];
    struct kt_store *store;
    struct kt_changes changes;
    struct kt_txn *txn;
    struct kt_buf record;
};

static void fixture_open(struct fixture *f)
{
    struct kt_store_options options = {.path = f->path, .bytes_max = 64u << 20, .volatile_data = true};
    struct kt_error error;

    temporary_folder(f->folder);
    snprintf(f->path, sizeof(f->path), "%s/state", f->folder);
    assert_int_equal(kt_store_open(&options, &f->store, &error), KT_OK);
    assert_int_equal(kt_changes_open(f->store, &f->changes, &error), KT_OK);
    assert_int_equal(kt_txn_begin_write(f->store, &f->txn), KT_OK);
    kt_buf_init(&f->record, 1u << 20);
}

static void fixture_close(struct fixture *f)
{
    kt_txn_abort(f->txn);
    kt_buf_release(&f->record);
    kt_store_close(f->store);
    temporary_folder_remove(f->folder);
}

/* A record whose body is `bytes` times the letter. */
static void put(struct fixture *f, kt_index index, kt_time_ms time_ms, char letter, size_t bytes)
{
    struct kt_apply apply = {.index = index, .time_ms = time_ms};
    uint8_t key[KT_CHANGE_KEY_BYTES];

    assert_int_equal(kt_change_begin(&f->changes, f->txn, &apply, 7, 9, kt_slice_text("topic"), &f->record, key),
                     KT_OK);
    for (size_t i = 0; i < bytes; i++)
        kt_buf_append_u8(&f->record, (uint8_t)letter);
    assert_int_equal(kt_change_put(&f->changes, f->txn, key, &f->record), KT_OK);
}

/* The letters of the records from a place on. */
static void expect(struct fixture *f, kt_index index, unsigned number, const char *letters)
{
    struct kt_change_walk walk;
    struct kt_change change;
    char found[128];
    size_t count = 0;

    assert_int_equal(kt_change_walk_begin(&walk, &f->changes, f->txn, index, number), KT_OK);
    while (kt_change_walk_next(&walk, &change) == KT_OK)
        found[count++] = *(const char *)change.body.data;
    kt_change_walk_end(&walk);
    found[count] = 0;
    assert_string_equal(found, letters);
}

static struct kt_changes_summary summary(struct fixture *f)
{
    struct kt_changes_summary found;

    assert_int_equal(kt_changes_summary(&f->changes, f->txn, &found), KT_OK);
    return found;
}

static kt_index cut(struct fixture *f, uint64_t bytes_max, kt_time_ms before_ms)
{
    kt_index index;

    assert_int_equal(kt_changes_cut(&f->changes, f->txn, bytes_max, before_ms, &index), KT_OK);
    return index;
}

static uint64_t trim(struct fixture *f, kt_index index, uint64_t max)
{
    uint64_t removed;

    assert_int_equal(kt_changes_trim(&f->changes, f->txn, index, max, &removed), KT_OK);
    return removed;
}

static void log__empty__has_nothing_and_nothing_to_cut(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f);
    expect(&f, 0, 0, "");
    assert_int_equal(summary(&f).sequence, 0);
    assert_int_equal(summary(&f).count, 0);
    assert_int_equal(cut(&f, 1, 1000), 0);
    assert_int_equal(trim(&f, 0, 10), 0);
    assert_int_equal(trim(&f, 50, 10), 0);
    put(&f, 50, 1, 'a', 1);
    expect(&f, 0, 0, "a");
    fixture_close(&f);
}

static void append__several_of_one_entry__are_numbered_and_sequenced(void **state)
{
    struct kt_change_walk walk;
    struct kt_change change;
    struct fixture f;

    (void)state;
    fixture_open(&f);
    put(&f, 3, 10, 'a', 5);
    put(&f, 8, 11, 'b', 5);
    put(&f, 8, 11, 'c', 5);
    put(&f, 8, 11, 'd', 5);
    put(&f, 9, 12, 'e', 5);
    expect(&f, 0, 0, "abcde");
    expect(&f, 4, 0, "bcde");
    expect(&f, 8, 1, "cde");
    expect(&f, 8, 3, "e");
    expect(&f, 10, 0, "");
    assert_int_equal(kt_change_walk_begin(&walk, &f.changes, f.txn, 8, 2), KT_OK);
    assert_int_equal(kt_change_walk_next(&walk, &change), KT_OK);
    assert_int_equal(change.index, 8);
    assert_int_equal(change.number, 2);
    assert_int_equal(change.sequence, 4);
    assert_int_equal(change.time_ms, 11);
    assert_int_equal(change.engine, 7);
    assert_int_equal(change.kind, 9);
    assert_true(kt_slice_is(change.topic, "topic"));
    assert_true(kt_slice_is(change.body, "ddddd"));
    assert_int_equal(change.bytes_before, 3 * change.bytes);
    kt_change_walk_end(&walk);
    assert_int_equal(summary(&f).count, 5);
    assert_int_equal(summary(&f).bytes, 5 * change.bytes);
    fixture_close(&f);
}

static void cut__by_bytes__keeps_as_much_as_fits_and_the_newest_always(void **state)
{
    struct fixture f;
    uint64_t one;

    (void)state;
    fixture_open(&f);
    for (kt_index i = 1; i <= 10; i++)
        put(&f, i * 10, 100 + i, (char)('a' + i - 1), 100);
    one = summary(&f).bytes / 10;
    assert_int_equal(cut(&f, 0, 0), 0);
    assert_int_equal(cut(&f, summary(&f).bytes, 0), 0);
    /* The index behind the last one to go: the next record is what it stands for. */
    assert_in_range(cut(&f, summary(&f).bytes - 1, 0), 11, 20);
    assert_in_range(cut(&f, one * 4 + one / 2, 0), 61, 70);
    assert_in_range(cut(&f, 1, 0), 91, 100);
    trim(&f, cut(&f, one * 4 + one / 2, 0), 100);
    expect(&f, 0, 0, "ghij");
    assert_true(summary(&f).bytes <= one * 4 + one / 2);
    fixture_close(&f);
}

static void cut__by_time__keeps_what_is_young_enough(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f);
    for (kt_index i = 1; i <= 10; i++)
        put(&f, i * 10, 100 * (i / 2), (char)('a' + i - 1), 10);
    assert_int_equal(cut(&f, 0, 0), 0);
    assert_in_range(cut(&f, 0, 1), 11, 20);
    trim(&f, cut(&f, 0, 300), 100);
    expect(&f, 0, 0, "fghij");
    assert_int_equal(cut(&f, 0, 300), 0);
    assert_int_equal(cut(&f, 0, 5000), 101);
    trim(&f, 101, 100);
    expect(&f, 0, 0, "");
    assert_int_equal(summary(&f).count, 0);
    assert_int_equal(summary(&f).bytes, 0);
    assert_int_equal(summary(&f).sequence, 10);
    /* The newest record is still there to count on from. */
    put(&f, 200, 700, 'z', 10);
    expect(&f, 0, 0, "z");
    assert_int_equal(summary(&f).sequence, 11);
    fixture_close(&f);
}

static void trim__bounded__hides_at_once_and_removes_in_pieces(void **state)
{
    struct fixture f;
    uint64_t left;

    (void)state;
    fixture_open(&f);
    for (kt_index i = 1; i <= 20; i++)
        put(&f, i, i, (char)('a' + i - 1), 10);
    assert_int_equal(trim(&f, 16, 3), 3);
    expect(&f, 0, 0, "pqrst");
    expect(&f, 2, 0, "pqrst");
    assert_true(summary(&f).untidy);
    assert_int_equal(summary(&f).oldest, 16);
    assert_int_equal(kt_txn_count(f.txn, f.changes.records, &left), KT_OK);
    assert_int_equal(left, 17);
    /* Every new record takes two along. */
    put(&f, 21, 21, 'u', 10);
    assert_int_equal(kt_txn_count(f.txn, f.changes.records, &left), KT_OK);
    assert_int_equal(left, 16);
    assert_int_equal(trim(&f, 0, 100), 10);
    assert_false(summary(&f).untidy);
    expect(&f, 0, 0, "pqrstu");
    /* It never goes back. */
    assert_int_equal(trim(&f, 5, 100), 0);
    assert_int_equal(summary(&f).oldest, 16);
    fixture_close(&f);
}

static void decode__any_prefix_of_a_record__is_refused_or_read(void **state)
{
    struct kt_change_walk walk;
    struct kt_change change, again;
    struct fixture f;
    uint8_t key[KT_CHANGE_KEY_BYTES];

    (void)state;
    fixture_open(&f);
    put(&f, 300, 1000, 'a', 20);
    assert_int_equal(kt_change_walk_begin(&walk, &f.changes, f.txn, 0, 0), KT_OK);
    assert_int_equal(kt_change_walk_next(&walk, &change), KT_OK);
    kt_change_key(key, 300, 0);
    for (size_t len = 0; len < walk.value.len - 20; len++)
        assert_int_equal(kt_change_decode(kt_slice(key, sizeof(key)), kt_slice(walk.value.data, len), &again),
                         KT_CORRUPT);
    assert_int_equal(kt_change_decode(kt_slice(key, sizeof(key) - 1), walk.value, &again), KT_CORRUPT);
    kt_change_walk_end(&walk);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log__empty__has_nothing_and_nothing_to_cut),
        cmocka_unit_test(append__several_of_one_entry__are_numbered_and_sequenced),
        cmocka_unit_test(cut__by_bytes__keeps_as_much_as_fits_and_the_newest_always),
        cmocka_unit_test(cut__by_time__keeps_what_is_young_enough),
        cmocka_unit_test(trim__bounded__hides_at_once_and_removes_in_pieces),
        cmocka_unit_test(decode__any_prefix_of_a_record__is_refused_or_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
