/* The log as its callers see it, on a disk that does what it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/log.h"
#include "cluster/log/wal_internal.h"
#include "support/memory_disk.h"
#include "support/wal_model.h"

#define SEGMENT (64u << 10)

struct fixture {
    struct kt_memory_disk *memory;
    struct kt_wal *wal;
    struct kt_wal_found found;
    struct kt_error error;
    struct kt_wal_model model;
};

static enum kt_code open_wal(struct fixture *f)
{
    struct kt_wal_options options = {.disk = kt_memory_disk_disk(f->memory), .segment_bytes = SEGMENT, .seed = 7};

    return kt_wal_open(&options, &f->wal, &f->found, &f->error);
}

static void reopen(struct fixture *f)
{
    kt_wal_close(f->wal);
    assert_int_equal(open_wal(f), KT_OK);
}

static int setup(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));

    f->memory = kt_memory_disk_create(1);
    kt_wal_model_init(&f->model);
    *state = f;
    return open_wal(f) == KT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    kt_wal_close(f->wal);
    kt_memory_disk_free(f->memory);
    kt_free(f);
    return 0;
}

static void append(struct fixture *f, kt_index index, size_t count, kt_term term, uint32_t len)
{
    assert_int_equal(kt_wal_model_append(&f->model, f->wal, index, count, term, len), KT_OK);
}

static void check_all(struct fixture *f)
{
    assert_int_equal(kt_wal_last(f->wal), f->model.last);
    kt_wal_model_check(&f->model, f->wal, kt_wal_first(f->wal), f->model.last);
}

static void open__empty_folder__empty_log(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(f->found.term, 0);
    assert_int_equal(f->found.vote, 0);
    assert_int_equal(f->found.first, 1);
    assert_int_equal(f->found.last, 0);
    assert_int_equal(f->found.base_term, 0);
    assert_int_equal(kt_wal_term(f->wal, 0), 0);
    reopen(f);
    assert_int_equal(f->found.first, 1);
    assert_int_equal(f->found.last, 0);
    assert_int_equal(f->found.torn_bytes, 0);
}

static void open__segment_size_out_of_bounds__refused(void **state)
{
    struct fixture *f = *state;
    struct kt_wal_options options = {.disk = kt_memory_disk_disk(f->memory), .segment_bytes = 1000};
    struct kt_wal_found found;
    struct kt_wal *wal;

    assert_int_equal(kt_wal_open(&options, &wal, &found, &f->error), KT_BAD_REQUEST);
    assert_null(wal);
    options.segment_bytes = (2ull << 30);
    assert_int_equal(kt_wal_open(&options, &wal, &found, &f->error), KT_BAD_REQUEST);
    assert_non_null(strstr(f->error.text, "2147483648"));
}

static void vote__stored__found_after_reopen(void **state)
{
    struct fixture *f = *state;

    for (kt_term term = 1; term <= 9; term++) {
        assert_int_equal(kt_wal_vote(f->wal, term, term % 3), KT_OK);
        reopen(f);
        assert_int_equal(f->found.term, term);
        assert_int_equal(f->found.vote, term % 3);
    }
}

static void append__many_sizes__read_back_also_after_reopen(void **state)
{
    struct fixture *f = *state;
    static const uint32_t lens[] = {0, 1, 7, 8, 9, 100, 4095, 4096, 4097, 9000, 30000};

    for (size_t i = 0; i < 5 * KT_COUNT(lens); i++)
        append(f, f->model.last + 1, 3, 1 + i / 10, lens[i % KT_COUNT(lens)]);
    check_all(f);
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    reopen(f);
    assert_int_equal(f->found.last, f->model.last);
    assert_int_equal(f->found.torn_bytes, 0);
    check_all(f);
    append(f, f->model.last + 1, 3, 9, 50);
    reopen(f);
    check_all(f);
}

static void append__one_group_over_many_segments__read_back(void **state)
{
    struct fixture *f = *state;
    uint64_t bytes;
    unsigned segments;

    append(f, 1, 600, 1, 1000);
    kt_wal_usage(f->wal, &bytes, &segments);
    assert_true(segments > 8);
    assert_int_equal(bytes, (uint64_t)segments * SEGMENT);
    check_all(f);
    reopen(f);
    check_all(f);
}

static void append__larger_than_segment__gets_its_own(void **state)
{
    struct fixture *f = *state;
    uint64_t bytes;
    unsigned segments;

    append(f, 1, 1, 1, 10);
    append(f, 2, 1, 1, 3 * SEGMENT);
    append(f, 3, 2, 1, 5000);
    append(f, 5, 1, 2, KT_ENTRY_BYTES_MAX);
    append(f, 6, 1, 2, 5000);
    kt_wal_usage(f->wal, &bytes, &segments);
    assert_int_equal(segments, 5);
    check_all(f);
    reopen(f);
    check_all(f);
}

static void append__entries_from_memory_at_odd_places__read_back(void **state)
{
    struct fixture *f = *state;
    static const uint8_t text[] = "unaligned payload";
    struct kt_entry entry = {.index = 1, .term = 1, .type = KT_ENTRY_COMMAND, .data = kt_slice(text + 1, 9)};
    struct kt_entry back;
    size_t count;

    assert_int_equal(kt_wal_append(f->wal, &entry, 1), KT_OK);
    assert_int_equal(kt_wal_read(f->wal, 1, 1, 100, &back, 1, &count), KT_OK);
    assert_int_equal(count, 1);
    assert_true(kt_slice_equal(back.data, entry.data));
    kt_chunk_drop(back.chunk);
}

static void append__below_last__replaces_everything_from_there(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 300, 1, 700);
    append(f, 100, 5, 2, 300);
    check_all(f);
    reopen(f);
    check_all(f);
    append(f, 104, 200, 3, 900);
    append(f, 1, 3, 4, 40);
    check_all(f);
    reopen(f);
    assert_int_equal(f->found.last, 3);
    check_all(f);
    append(f, 4, 3, 5, 40);
    reopen(f);
    check_all(f);
}

static void append__same_index_again_and_again__last_one_stays(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 4, 1, 100);
    for (kt_term term = 2; term < 900; term++)
        append(f, 3, 1, term, 100);
    check_all(f);
    reopen(f);
    check_all(f);
}

static void append__disk_full__refused_and_possible_later(void **state)
{
    struct fixture *f = *state;
    kt_index last;

    append(f, 1, 10, 1, 1000);
    kt_memory_disk_space(f->memory, SEGMENT + 100);
    last = f->model.last;
    /* Needs more than one more segment: nothing of it may happen. */
    assert_int_equal(kt_wal_model_append(&f->model, f->wal, last + 1, 200, 1, 1000), KT_DISK_FULL);
    check_all(f);
    assert_int_equal(kt_wal_model_append(&f->model, f->wal, 5, 200, 2, 1000), KT_DISK_FULL);
    check_all(f);
    /* What fits into one does: the segment that the refused append had made is kept. */
    append(f, last + 1, 60, 1, 1000);
    check_all(f);
    assert_int_equal(kt_wal_prepare(f->wal), KT_DISK_FULL);
    kt_memory_disk_space(f->memory, UINT64_MAX);
    append(f, f->model.last + 1, 200, 3, 1000);
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    reopen(f);
    check_all(f);
}

static void append__disk_full_with_prepared_segment__goes_on(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 40, 1, 1000);
    assert_true(kt_wal_wants_prepare(f->wal));
    assert_int_equal(kt_wal_prepare(f->wal), KT_OK);
    assert_false(kt_wal_wants_prepare(f->wal));
    kt_memory_disk_space(f->memory, 0);
    append(f, 41, 60, 1, 1000);
    assert_int_equal(kt_wal_model_append(&f->model, f->wal, 101, 60, 1, 1000), KT_DISK_FULL);
    check_all(f);
}

static void open__disk_full__starts(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 63, 1, 960); /* to the brim */
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    kt_memory_disk_space(f->memory, 0);
    reopen(f);
    check_all(f);
    assert_int_equal(kt_wal_vote(f->wal, 5, 2), KT_OK);
    reopen(f);
    assert_int_equal(f->found.term, 5);
}

static void open__disk_full_at_first_start__says_so_and_works_later(void **state)
{
    struct fixture *f = *state;

    kt_wal_close(f->wal);
    kt_memory_disk_free(f->memory);
    f->memory = kt_memory_disk_create(3);
    for (uint64_t space = 0; space < SEGMENT; space += 512) {
        kt_memory_disk_space(f->memory, space);
        assert_int_equal(open_wal(f), KT_DISK_FULL);
        assert_null(f->wal);
        kt_memory_disk_space(f->memory, 0);
    }
    kt_memory_disk_space(f->memory, UINT64_MAX);
    assert_int_equal(open_wal(f), KT_OK);
    append(f, 1, 3, 1, 10);
    check_all(f);
}

static void sync__fails__every_later_call_answers_the_same(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 10, 1, 100);
    kt_memory_disk_fail_sync(f->memory, 1);
    assert_int_equal(kt_wal_sync(f->wal), KT_IO_FAILED);
    assert_int_equal(kt_wal_sync(f->wal), KT_IO_FAILED);
    assert_int_equal(kt_wal_model_append(&f->model, f->wal, 11, 1, 1, 10), KT_IO_FAILED);
    assert_int_equal(kt_wal_vote(f->wal, 2, 1), KT_IO_FAILED);
    assert_int_equal(kt_wal_mark(f->wal), KT_IO_FAILED);
    assert_int_equal(kt_wal_prepare(f->wal), KT_IO_FAILED);
    assert_int_equal(kt_wal_trim(f->wal, 1), KT_IO_FAILED);
}

static void append__write_fails__final(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 10, 1, 100);
    kt_memory_disk_fail_write(f->memory, 1);
    assert_int_equal(kt_wal_model_append(&f->model, f->wal, 11, 5, 1, 100), KT_IO_FAILED);
    assert_int_equal(kt_wal_sync(f->wal), KT_IO_FAILED);
    kt_wal_model_check(&f->model, f->wal, 1, 10);
}

static void vote__sync_fails__final(void **state)
{
    struct fixture *f = *state;

    for (unsigned n = 1; n <= 2; n++) {
        kt_memory_disk_fail_sync(f->memory, n);
        assert_int_equal(kt_wal_vote(f->wal, 3, 1), KT_IO_FAILED);
        assert_int_equal(kt_wal_vote(f->wal, 3, 1), KT_IO_FAILED);
        reopen(f);
    }
}

static void trim__whole_segments__go_and_stay_gone(void **state)
{
    struct fixture *f = *state;
    unsigned before, after;
    uint64_t bytes;
    kt_index first;

    for (kt_term term = 1; term <= 60; term++)
        append(f, f->model.last + 1, 10, term, 1000);
    kt_wal_usage(f->wal, &bytes, &before);
    assert_int_equal(kt_wal_trim(f->wal, 300), KT_OK);
    kt_wal_usage(f->wal, &bytes, &after);
    assert_true(after < before);
    first = kt_wal_first(f->wal);
    assert_true(first > 200 && first <= 301);
    assert_int_equal(kt_wal_term(f->wal, first - 1), f->model.entries[first - 1].term);
    assert_int_equal(kt_wal_term(f->wal, first - 2), 0);
    check_all(f);
    reopen(f);
    assert_int_equal(f->found.first, first);
    assert_int_equal(f->found.base_term, f->model.entries[first - 1].term);
    check_all(f);
    /* Everything: the last segment stays, whatever is asked. */
    assert_int_equal(kt_wal_trim(f->wal, UINT64_MAX), KT_OK);
    kt_wal_usage(f->wal, &bytes, &after);
    assert_int_equal(after, 1);
    reopen(f);
    check_all(f);
    append(f, f->model.last + 1, 200, 61, 1000);
    reopen(f);
    check_all(f);
}

static void trim__segments_with_truncated_entries__base_is_right(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 100, 1, 1000);
    append(f, 101, 100, 2, 1000);
    /* The segments of 51..200 are dead, the log goes back behind the base of the last one. */
    append(f, 51, 250, 3, 1000);
    for (kt_index index = 10; index <= 290; index += 10) {
        kt_index first;

        assert_int_equal(kt_wal_trim(f->wal, index), KT_OK);
        first = kt_wal_first(f->wal);
        assert_true(first <= index + 1);
        check_all(f);
        reopen(f);
        assert_int_equal(f->found.first, first);
        assert_int_equal(f->found.base_term, first == 1 ? 0 : f->model.entries[first - 1].term);
        check_all(f);
    }
    assert_true(kt_wal_first(f->wal) > 210);
}

/* It once left a log that began behind its own state: what had emptied the old segment was not on the disk yet. */
static void trim__segment_emptied_by_unsynced_truncation__stays(void **state)
{
    struct fixture *f = *state;
    unsigned old = 0;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        kt_wal_close(f->wal);
        kt_memory_disk_free(f->memory);
        f->memory = kt_memory_disk_create(seed);
        kt_wal_model_init(&f->model);
        assert_int_equal(open_wal(f), KT_OK);
        append(f, 1, 100, 1, 1000);
        assert_int_equal(kt_wal_sync(f->wal), KT_OK);
        append(f, 31, 1, 2, 1000);
        assert_int_equal(kt_wal_trim(f->wal, 30), KT_OK);
        kt_wal_close(f->wal);
        kt_memory_disk_crash(f->memory);
        assert_int_equal(open_wal(f), KT_OK);
        assert_int_equal(f->found.first, 1);
        assert_true(f->found.last == 30 || f->found.last == 31 || f->found.last == 100);
        old += f->found.last == 100;
    }
    assert_true(old > 0 && old < 20);
}

static void read__limits__are_kept(void **state)
{
    struct fixture *f = *state;
    struct kt_entry entries[KT_WAL_READ_MAX + 10];
    size_t count;

    append(f, 1, 400, 1, 100);
    assert_int_equal(kt_wal_read(f->wal, 1, 400, SIZE_MAX, entries, KT_COUNT(entries), &count), KT_OK);
    assert_int_equal(count, KT_WAL_READ_MAX);
    for (size_t i = 0; i < count; i++)
        kt_chunk_drop(entries[i].chunk);
    assert_int_equal(kt_wal_read(f->wal, 1, 400, 0, entries, KT_COUNT(entries), &count), KT_OK);
    assert_int_equal(count, 1);
    kt_chunk_drop(entries[0].chunk);
    assert_int_equal(kt_wal_read(f->wal, 5, 400, 350, entries, KT_COUNT(entries), &count), KT_OK);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++)
        kt_chunk_drop(entries[i].chunk);
    assert_int_equal(kt_wal_read(f->wal, 5, 6, 350, entries, KT_COUNT(entries), &count), KT_OK);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++)
        kt_chunk_drop(entries[i].chunk);
    assert_int_equal(kt_wal_read(f->wal, 5, 6, 350, entries, 1, &count), KT_OK);
    assert_int_equal(count, 1);
    kt_chunk_drop(entries[0].chunk);
}

static void read__outside__not_found(void **state)
{
    struct fixture *f = *state;
    struct kt_entry entry;
    size_t count = 9;

    assert_int_equal(kt_wal_read(f->wal, 1, 1, 100, &entry, 1, &count), KT_NOT_FOUND);
    assert_int_equal(count, 0);
    append(f, 1, 400, 1, 1000);
    assert_int_equal(kt_wal_trim(f->wal, 200), KT_OK);
    assert_int_equal(kt_wal_read(f->wal, 1, 400, 100, &entry, 1, &count), KT_NOT_FOUND);
    assert_int_equal(kt_wal_read(f->wal, 401, 500, 100, &entry, 1, &count), KT_NOT_FOUND);
    assert_int_equal(kt_wal_read(f->wal, 0, 500, 100, &entry, 1, &count), KT_NOT_FOUND);
}

static void read__damage_at_rest__corrupt(void **state)
{
    struct fixture *f = *state;
    struct kt_entry entries[10];
    size_t count;
    char name[WAL_NAME_MAX];

    append(f, 1, 10, 1, 100);
    wal_segment_name(1, name);
    assert_true(kt_memory_disk_flip(f->memory, name, WAL_HEADER_BYTES + 3 * wal_record_size(100) + 60, 2));
    assert_int_equal(kt_wal_read(f->wal, 1, 3, 10000, entries, KT_COUNT(entries), &count), KT_OK);
    for (size_t i = 0; i < count; i++)
        kt_chunk_drop(entries[i].chunk);
    assert_int_equal(kt_wal_read(f->wal, 1, 10, 10000, entries, KT_COUNT(entries), &count), KT_CORRUPT);
    assert_int_equal(count, 0);
}

static void mark__after_sync__once(void **state)
{
    struct fixture *f = *state;
    uint64_t changes;

    append(f, 1, 10, 1, 100);
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    assert_int_equal(kt_wal_mark(f->wal), KT_OK);
    changes = kt_memory_disk_changes(f->memory);
    assert_int_equal(kt_wal_mark(f->wal), KT_OK);
    assert_int_equal(kt_memory_disk_changes(f->memory), changes);
    append(f, 11, 10, 1, 100);
    check_all(f);
    reopen(f);
    check_all(f);
}

static void sync__nothing_new__no_disk_call(void **state)
{
    struct fixture *f = *state;
    uint64_t changes;

    append(f, 1, 100, 1, 100);
    changes = kt_memory_disk_changes(f->memory);
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    assert_int_equal(kt_memory_disk_changes(f->memory), changes + 1);
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    assert_int_equal(kt_memory_disk_changes(f->memory), changes + 1);
    /* A group of small entries is one write. */
    append(f, 101, 200, 1, 100);
    assert_int_equal(kt_memory_disk_changes(f->memory), changes + 2);
}

static void reopen__again_and_again__leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    size_t names = 0;

    for (unsigned i = 0; i < 40; i++) {
        append(f, f->model.last + 1, 20, 1 + i, 1000);
        assert_int_equal(kt_wal_prepare(f->wal), KT_OK);
        assert_int_equal(kt_wal_sync(f->wal), KT_OK);
        if (i % 8 == 7)
            assert_int_equal(kt_wal_trim(f->wal, f->model.last - 50), KT_OK);
        reopen(f);
        check_all(f);
    }
    while (kt_memory_disk_name(f->memory, names))
        names++;
    /* The vote, at most three segments of trimmed log and what came since, one or two spares. */
    assert_true(names <= 8);
}

static void open__other_files_in_folder__left_alone(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 10, 1, 100);
    kt_memory_disk_put(f->memory, "lock", "", 0);
    kt_memory_disk_put(f->memory, "1.seg", "x", 1);
    kt_memory_disk_put(f->memory, "prepared-01.tmp", "x", 1);
    kt_memory_disk_put(f->memory, "000000000000000A.seg", "x", 1);
    reopen(f);
    check_all(f);
    assert_int_equal(kt_memory_disk_size(f->memory, "prepared-01.tmp"), 1);
    assert_int_equal(kt_memory_disk_size(f->memory, "000000000000000A.seg"), 1);
}

static void open__leftover_spares__reused_clean_or_removed(void **state)
{
    struct fixture *f = *state;
    uint8_t *dirt = kt_alloc(SEGMENT);
    unsigned spares = 0;
    const char *name;

    memset(dirt, 0xa5, SEGMENT);
    append(f, 1, 10, 1, 100);
    kt_memory_disk_put(f->memory, "prepared-77.tmp", dirt, SEGMENT);
    kt_memory_disk_put(f->memory, "prepared-78.tmp", dirt, SEGMENT / 2);
    kt_memory_disk_put(f->memory, "prepared-79.tmp", dirt, SEGMENT);
    kt_memory_disk_put(f->memory, "prepared-80.tmp", dirt, SEGMENT);
    kt_free(dirt);
    reopen(f);
    for (size_t i = 0; (name = kt_memory_disk_name(f->memory, i)); i++)
        spares += strncmp(name, "prepared", 8) == 0;
    assert_int_equal(spares, 2);
    kt_memory_disk_space(f->memory, 0);
    append(f, 11, 150, 1, 1000);
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    check_all(f);
    reopen(f);
    assert_int_equal(f->found.torn_bytes, 0);
    check_all(f);
}

static void quiet(void *data, const char *line)
{
    (void)data;
    (void)line;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(open__empty_folder__empty_log),
        TEST(open__segment_size_out_of_bounds__refused),
        TEST(vote__stored__found_after_reopen),
        TEST(append__many_sizes__read_back_also_after_reopen),
        TEST(append__one_group_over_many_segments__read_back),
        TEST(append__larger_than_segment__gets_its_own),
        TEST(append__entries_from_memory_at_odd_places__read_back),
        TEST(append__below_last__replaces_everything_from_there),
        TEST(append__same_index_again_and_again__last_one_stays),
        TEST(append__disk_full__refused_and_possible_later),
        TEST(append__disk_full_with_prepared_segment__goes_on),
        TEST(open__disk_full__starts),
        TEST(open__disk_full_at_first_start__says_so_and_works_later),
        TEST(sync__fails__every_later_call_answers_the_same),
        TEST(append__write_fails__final),
        TEST(vote__sync_fails__final),
        TEST(trim__whole_segments__go_and_stay_gone),
        TEST(trim__segments_with_truncated_entries__base_is_right),
        TEST(trim__segment_emptied_by_unsynced_truncation__stays),
        TEST(read__limits__are_kept),
        TEST(read__outside__not_found),
        TEST(read__damage_at_rest__corrupt),
        TEST(mark__after_sync__once),
        TEST(sync__nothing_new__no_disk_call),
        TEST(reopen__again_and_again__leaves_nothing_behind),
        TEST(open__other_files_in_folder__left_alone),
        TEST(open__leftover_spares__reused_clean_or_removed),
    };

    kt_log_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
