/*
 * Damage at rest. Whatever byte goes bad: either the log refuses to open, says where, and leaves the disk as it is, or
 * it opens with everything that was acknowledged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/log.h"
#include "cluster/log/wal_internal.h"
#include "support/memory_disk.h"
#include "support/wal_model.h"
#include "wire/writer.h"

#define SEGMENT (64u << 10)

/* A log of three segments, everything in it synced and marked. */
struct fixture {
    struct kt_memory_disk *memory;
    struct kt_wal_model model;
    struct kt_wal *wal; /* of the last open_copy */
    struct kt_wal_found found;
    struct kt_error error;
};

static enum kt_code open_on(struct fixture *f, struct kt_memory_disk *memory)
{
    struct kt_wal_options options = {.disk = kt_memory_disk_disk(memory), .segment_bytes = SEGMENT, .seed = 11};

    return kt_wal_open(&options, &f->wal, &f->found, &f->error);
}

static void append(struct fixture *f, kt_index index, size_t count, kt_term term, uint32_t len)
{
    assert_int_equal(kt_wal_model_append(&f->model, f->wal, index, count, term, len), KT_OK);
}

static int setup(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));

    *state = f;
    f->memory = kt_memory_disk_create(1);
    kt_wal_model_init(&f->model);
    assert_int_equal(open_on(f, f->memory), KT_OK);
    assert_int_equal(kt_wal_vote(f->wal, 3, 2), KT_OK);
    append(f, 1, 3, 1, 30);
    append(f, 4, 1, 1, 40000);
    append(f, 3, 1, 2, 30000); /* rolls, with the truncation before it */
    append(f, 4, 2, 2, 10000);
    append(f, 6, 3, 2, 9000); /* and again */
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    for (unsigned i = 0; i < 4; i++) {
        append(f, f->model.last + 1, 2, 3, 20 + i);
        assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    }
    append(f, 12, 3, 4, 25);
    assert_int_equal(kt_wal_sync(f->wal), KT_OK);
    assert_int_equal(kt_wal_mark(f->wal), KT_OK);
    kt_wal_close(f->wal);
    f->wal = NULL;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    kt_wal_close(f->wal);
    kt_memory_disk_free(f->memory);
    kt_free(f);
    return 0;
}

static void assert_untouched(struct kt_memory_disk *before, struct kt_memory_disk *after)
{
    const char *name;
    size_t i = 0;

    for (; (name = kt_memory_disk_name(before, i)); i++) {
        int64_t size = kt_memory_disk_size(before, name);

        assert_string_equal(name, kt_memory_disk_name(after, i));
        assert_int_equal(size, kt_memory_disk_size(after, name));
        assert_memory_equal(kt_memory_disk_bytes(before, name), kt_memory_disk_bytes(after, name), (size_t)size);
    }
    assert_null(kt_memory_disk_name(after, i));
}

/* Opens a damaged copy: refused and untouched, or complete. Takes the copy; true: it was refused. */
static bool check_damaged(struct fixture *f, struct kt_memory_disk *damaged, kt_index acknowledged, const char *what)
{
    struct kt_memory_disk *before = kt_memory_disk_copy(damaged, 1);
    enum kt_code code = open_on(f, damaged);

    if (code == KT_OK) {
        if (f->found.term != 3 || f->found.vote != 2 || f->found.last < acknowledged || f->found.first != 1)
            fail_msg("%s: opened with vote %llu/%llu and entries %llu..%llu", what, (unsigned long long)f->found.term,
                     (unsigned long long)f->found.vote, (unsigned long long)f->found.first,
                     (unsigned long long)f->found.last);
        kt_wal_model_check(&f->model, f->wal, 1, f->found.last);
        kt_wal_close(f->wal);
    } else {
        if (code != KT_CORRUPT && code != KT_BAD_VERSION)
            fail_msg("%s: %s: %s", what, kt_code_text(code), f->error.text);
        assert_null(f->wal);
        assert_untouched(before, damaged);
    }
    f->wal = NULL;
    kt_memory_disk_free(before);
    kt_memory_disk_free(damaged);
    return code != KT_OK;
}

/* The part of a file that says something, and a sample of the zeros behind. */
static uint64_t next_offset(uint64_t offset, uint64_t used)
{
    return offset < used ? offset + 1 : offset + 4099;
}

static uint64_t used_bytes(struct kt_memory_disk *memory, const char *name)
{
    uint64_t used = (uint64_t)kt_memory_disk_size(memory, name);
    const uint8_t *bytes = kt_memory_disk_bytes(memory, name);

    while (used > 0 && bytes[used - 1] == 0)
        used--;
    return used;
}

/* Long payloads are alike: their bytes are sampled. */
static bool is_sampled(uint64_t offset)
{
    return offset < 1200 || offset % 512 < 3 || offset % 251 == 0;
}

static void flip__any_byte__refused_or_complete(void **state)
{
    struct fixture *f = *state;
    const char *name;
    unsigned refused = 0, opened = 0;

    for (size_t i = 0; (name = kt_memory_disk_name(f->memory, i)); i++) {
        uint64_t used = used_bytes(f->memory, name);
        bool last = strcmp(name, "0000000000000003.seg") == 0;

        for (uint64_t at = 0; at < (uint64_t)kt_memory_disk_size(f->memory, name); at = next_offset(at, used)) {
            struct kt_memory_disk *copy;
            char what[100];

            if (!is_sampled(at) && !(last && used - at < 1500))
                continue;
            copy = kt_memory_disk_copy(f->memory, 1);
            snprintf(what, sizeof(what), "%s at %llu", name, (unsigned long long)at);
            assert_true(kt_memory_disk_flip(copy, name, at, (unsigned)(at % 8)));
            if (check_damaged(f, copy, 14, what)) {
                refused++;
                if (strcmp(name, WAL_VOTE_NAME) == 0 || !strstr(f->error.text, name))
                    fail_msg("%s: %s", what, f->error.text);
            } else {
                opened++;
            }
        }
    }
    print_message("%u refused, %u opened whole\n", refused, opened);
    assert_true(refused > 1000 && opened > 100);
}

static void flip__in_tail_that_was_never_acknowledged__only_that_is_cut(void **state)
{
    struct fixture *f = *state;
    const char *name = "0000000000000003.seg";
    unsigned cut = 0;
    uint64_t used;

    assert_int_equal(open_on(f, f->memory), KT_OK);
    append(f, 15, 4, 5, 40);
    kt_wal_close(f->wal);
    f->wal = NULL;
    used = used_bytes(f->memory, name);
    for (uint64_t at = used - 600; at < used + 100; at++) {
        struct kt_memory_disk *copy = kt_memory_disk_copy(f->memory, 1);

        assert_true(kt_memory_disk_flip(copy, name, at, 3));
        if (!check_damaged(f, copy, 14, "tail"))
            cut += f->found.last < 18;
    }
    assert_true(cut > 200);
}

static void block__zeroed__refused(void **state)
{
    struct fixture *f = *state;

    for (uint64_t serial = 1; serial <= 3; serial++) {
        char name[WAL_NAME_MAX];
        uint64_t used;

        wal_segment_name(serial, name);
        used = used_bytes(f->memory, name);
        for (uint64_t block = 0; block < used; block += 512) {
            struct kt_memory_disk *copy = kt_memory_disk_copy(f->memory, 1);
            size_t size = (size_t)kt_memory_disk_size(f->memory, name);
            uint8_t *bytes = kt_alloc(size);

            memcpy(bytes, kt_memory_disk_bytes(f->memory, name), size);
            memset(bytes + block, 0, 512);
            kt_memory_disk_put(copy, name, bytes, size);
            kt_free(bytes);
            /* The seal at the end of a segment that has a successor is a note alone. */
            if (!check_damaged(f, copy, 14, "block"))
                assert_true(serial < 3 && block + 512 > used - WAL_RECORD_BYTES);
        }
    }
}

static void segment__of_another_length__refused(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 10, 64, 100, 5000, SEGMENT - 1, SEGMENT + 1};

    for (size_t i = 0; i < KT_COUNT(sizes); i++) {
        for (uint64_t serial = 1; serial <= 3; serial++) {
            struct kt_memory_disk *copy = kt_memory_disk_copy(f->memory, 1);
            uint8_t *bytes = kt_zalloc(SEGMENT + 1);
            char name[WAL_NAME_MAX];

            wal_segment_name(serial, name);
            memcpy(bytes, kt_memory_disk_bytes(f->memory, name), SEGMENT);
            assert_true(kt_memory_disk_lose(copy, name));
            kt_memory_disk_put(copy, name, bytes, sizes[i]);
            kt_free(bytes);
            assert_true(check_damaged(f, copy, 14, "length"));
            assert_int_equal(f->error.code, KT_CORRUPT);
        }
    }
}

static void file__missing__refused_with_its_name(void **state)
{
    struct fixture *f = *state;
    /* The end of the log is told in two places; one is enough. */
    static const struct {
        const char *lost;
        bool reach_damaged;
        const char *text;
    } cases[] = {
        {"0000000000000002.seg", false, "0000000000000002.seg is missing"},
        {"0000000000000003.seg", false, "0000000000000003.seg is missing"},
        {"0000000000000003.seg", true, "the next segment, which is missing"},
        {"vote", false, "vote file is missing"},
    };

    for (size_t i = 0; i < KT_COUNT(cases); i++) {
        struct kt_memory_disk *copy = kt_memory_disk_copy(f->memory, 1);

        if (cases[i].reach_damaged)
            assert_true(kt_memory_disk_flip(copy, WAL_VOTE_NAME, 2 * WAL_VOTE_STRIDE + 5, 0));
        assert_true(kt_memory_disk_lose(copy, cases[i].lost));
        assert_true(check_damaged(f, copy, 14, cases[i].lost));
        if (!strstr(f->error.text, cases[i].text))
            fail_msg("%s", f->error.text);
    }
}

static void segments__all_missing__refused(void **state)
{
    struct fixture *f = *state;
    struct kt_memory_disk *copy = kt_memory_disk_copy(f->memory, 1);

    assert_true(kt_memory_disk_lose(copy, "0000000000000001.seg"));
    assert_true(kt_memory_disk_lose(copy, "0000000000000002.seg"));
    assert_true(kt_memory_disk_lose(copy, "0000000000000003.seg"));
    assert_true(check_damaged(f, copy, 14, "all"));
    assert_non_null(strstr(f->error.text, "segments are missing"));
}

static void segment__under_another_name__refused(void **state)
{
    struct fixture *f = *state;
    struct kt_memory_disk *copy = kt_memory_disk_copy(f->memory, 1);

    kt_memory_disk_put(copy, "0000000000000002.seg", kt_memory_disk_bytes(f->memory, "0000000000000001.seg"), SEGMENT);
    assert_true(check_damaged(f, copy, 14, "name"));
    assert_non_null(strstr(f->error.text, "another segment under this name"));
}

static void segment__of_a_later_format__refused_by_version(void **state)
{
    struct fixture *f = *state;
    uint8_t header[SEGMENT];
    struct wal_header decoded;
    const char *what;

    memcpy(header, kt_memory_disk_bytes(f->memory, "0000000000000001.seg"), SEGMENT);
    assert_int_equal(wal_header_decode(header, &decoded, &what), KT_OK);
    kt_put_le32(header + 8, WAL_FORMAT + 1); /* the layout of format.c */
    wal_header_sign(header);
    kt_memory_disk_put(f->memory, "0000000000000001.seg", header, SEGMENT);
    assert_int_equal(open_on(f, f->memory), KT_BAD_VERSION);
}

static void vote__one_slot_damaged__the_other_counts_and_repairs_it(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 8; round++) {
        unsigned slot = round % 2;

        for (unsigned i = 0; i < 40; i++)
            assert_true(kt_memory_disk_flip(f->memory, WAL_VOTE_NAME, slot * WAL_VOTE_STRIDE + i, i % 8));
        assert_int_equal(open_on(f, f->memory), KT_OK);
        assert_int_equal(f->found.term, 3 + round);
        assert_int_equal(f->found.vote, 2);
        assert_int_equal(kt_wal_vote(f->wal, 4 + round, 2), KT_OK);
        kt_wal_close(f->wal);
        f->wal = NULL;
    }
}

static void vote__both_slots_damaged__refused(void **state)
{
    struct fixture *f = *state;

    assert_true(kt_memory_disk_flip(f->memory, WAL_VOTE_NAME, 30, 1));
    assert_true(kt_memory_disk_flip(f->memory, WAL_VOTE_NAME, WAL_VOTE_STRIDE + 30, 1));
    assert_int_equal(open_on(f, f->memory), KT_CORRUPT);
    assert_non_null(strstr(f->error.text, "vote file is damaged"));
}

static void vote__cut_short__refused(void **state)
{
    struct fixture *f = *state;

    kt_memory_disk_put(f->memory, WAL_VOTE_NAME, "KTVO", 4);
    assert_int_equal(open_on(f, f->memory), KT_CORRUPT);
}

/* Every record tells of the syncs before it, so only the last group depends on the note beside the log. */
static void flip__with_the_note_damaged__all_but_the_last_group_is_safe(void **state)
{
    struct fixture *f = *state;
    const char *name = "0000000000000003.seg";
    uint64_t used = used_bytes(f->memory, name);
    unsigned refused = 0;

    assert_true(kt_memory_disk_flip(f->memory, WAL_VOTE_NAME, 2 * WAL_VOTE_STRIDE, 0));
    for (uint64_t at = used - 1200; at < used; at++) {
        struct kt_memory_disk *copy = kt_memory_disk_copy(f->memory, 1);

        assert_true(kt_memory_disk_flip(copy, name, at, 5));
        if (open_on(f, copy) == KT_OK)
            kt_wal_model_check(&f->model, f->wal, 1, 11);
        else
            refused++;
        kt_wal_close(f->wal);
        f->wal = NULL;
        kt_memory_disk_free(copy);
    }
    assert_true(refused > 500);
}

/* Records that are whole but lie behind a hole were never acknowledged; they must not come back to life. */
static void torn__whole_records_behind_the_hole__are_gone_for_good(void **state)
{
    struct fixture *f = *state;
    const char *name = "0000000000000003.seg";
    uint64_t used = (used_bytes(f->memory, name) + 7) & ~(uint64_t)7;
    uint8_t *bytes = kt_alloc(SEGMENT);

    assert_int_equal(open_on(f, f->memory), KT_OK);
    append(f, 15, 3, 5, 40);
    kt_wal_close(f->wal);
    memcpy(bytes, kt_memory_disk_bytes(f->memory, name), SEGMENT);
    memset(bytes + used, 0, (size_t)wal_record_size(40));
    kt_memory_disk_put(f->memory, name, bytes, SEGMENT);
    kt_free(bytes);
    assert_int_equal(open_on(f, f->memory), KT_OK);
    assert_int_equal(f->found.last, 14);
    assert_int_equal(f->found.torn_bytes, 3 * wal_record_size(40));
    append(f, 15, 1, 6, 40);
    kt_wal_close(f->wal);
    assert_int_equal(open_on(f, f->memory), KT_OK);
    assert_int_equal(f->found.last, 15);
    assert_int_equal(f->found.torn_bytes, 0);
    kt_wal_model_check(&f->model, f->wal, 1, 15);
}

/* A checksum that fits over nonsense is no torn write, wherever it is. */
static void record__valid_but_senseless__refused(void **state)
{
    struct fixture *f = *state;
    const char *name = "0000000000000003.seg";
    const struct wal_record records[] = {
        {.kind = 9, .durable = WAL_HEADER_BYTES},
        {.kind = WAL_ENTRY, .type = 1, .index = 15, .term = 9, .durable = 8},
        {.kind = WAL_ENTRY, .type = 77, .index = 15, .term = 9, .durable = WAL_HEADER_BYTES},
        {.kind = WAL_ENTRY, .type = 1, .index = 16, .term = 9, .durable = WAL_HEADER_BYTES},
        {.kind = WAL_ENTRY, .type = 1, .index = 15, .term = 1, .durable = WAL_HEADER_BYTES},
        {.kind = WAL_ENTRY, .type = 1, .index = 15, .term = 9, .durable = WAL_HEADER_BYTES, .len = 17000000},
        {.kind = WAL_TRUNCATE, .index = 14, .term = 4, .durable = WAL_HEADER_BYTES},
        {.kind = WAL_TRUNCATE, .index = 12, .term = 3, .durable = WAL_HEADER_BYTES},
        {.kind = WAL_TRUNCATE, .index = 13, .term = 4, .durable = WAL_HEADER_BYTES, .chain = 1},
        {.kind = WAL_SEAL, .durable = WAL_HEADER_BYTES},
    };

    for (size_t i = 0; i < KT_COUNT(records); i++) {
        struct kt_memory_disk *copy = kt_memory_disk_copy(f->memory, 1);
        uint64_t used = used_bytes(f->memory, name);
        uint8_t *bytes = kt_alloc(SEGMENT);
        struct wal_record record = records[i], before;
        struct wal_header header;
        const char *what;

        memcpy(bytes, kt_memory_disk_bytes(f->memory, name), SEGMENT);
        assert_int_equal(wal_header_decode(bytes, &header, &what), KT_OK);
        /* Three entries of 25 bytes are the last records. */
        used = (used + 7) & ~(uint64_t)7;
        assert_int_equal(
            wal_record_decode(bytes + used - wal_record_size(25), header.salt, used - wal_record_size(25), &before),
            WAL_RECORD_OK);
        record.chain += before.crc;
        record.payload_crc = 0;
        if (record.len > 0) {
            uint8_t *payload = kt_zalloc(record.len);

            wal_record_encode(&record, header.salt, used, payload, bytes + used);
            kt_free(payload);
        } else {
            wal_record_encode(&record, header.salt, used, NULL, bytes + used);
        }
        kt_memory_disk_put(copy, name, bytes, SEGMENT);
        kt_free(bytes);
        if (!check_damaged(f, copy, 14, "senseless"))
            fail_msg("record %zu was accepted", i);
        assert_non_null(strstr(f->error.text, "0000000000000003.seg is damaged at offset"));
    }
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
        TEST(flip__any_byte__refused_or_complete),
        TEST(flip__in_tail_that_was_never_acknowledged__only_that_is_cut),
        TEST(block__zeroed__refused),
        TEST(segment__of_another_length__refused),
        TEST(file__missing__refused_with_its_name),
        TEST(segments__all_missing__refused),
        TEST(segment__under_another_name__refused),
        TEST(segment__of_a_later_format__refused_by_version),
        TEST(vote__one_slot_damaged__the_other_counts_and_repairs_it),
        TEST(vote__both_slots_damaged__refused),
        TEST(vote__cut_short__refused),
        TEST(flip__with_the_note_damaged__all_but_the_last_group_is_safe),
        TEST(torn__whole_records_behind_the_hole__are_gone_for_good),
        TEST(record__valid_but_senseless__refused),
    };

    kt_log_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
