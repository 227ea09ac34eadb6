/* A node's folder, on the real disk: what it comes up with, whatever it was left with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "cluster/node/founding.h"
#include "support/test_folder.h"

#define MAP_BYTES (16u << 20)

struct fixture {
    char *folder;
    struct kt_boot boot;
};

static int setup(void **state)
{
    struct fixture *f = kt_zalloc(sizeof *f);

    f->folder = kt_test_folder_create();
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    kt_boot_close(&f->boot);
    kt_test_folder_remove(f->folder);
    kt_free(f);
    return 0;
}

static enum kt_code try_boot(struct fixture *f, bool alone)
{
    struct kt_boot_options options = {.folder = f->folder,
                                      .self = 1,
                                      .alone = alone,
                                      .segment_bytes = 64u << 10,
                                      .state = {.store = {.bytes_max = MAP_BYTES}}};
    struct kt_error error;

    kt_boot_close(&f->boot);
    return kt_boot(&options, &f->boot, &error);
}

static void boot(struct fixture *f)
{
    assert_int_equal(try_boot(f, false), KT_OK);
}

/* A cluster of this node alone: founded as soon as it is asked. */
static void found(struct fixture *f)
{
    struct kt_member self = {.id = 1, .address = "127.0.0.1:1"};
    struct kt_founding_options options = {.self = 1, .member = f->boot.member, .members = &self, .member_count = 1};
    struct kt_founding *founding = kt_founding_create(&options);
    struct kt_error error;

    assert_int_equal(kt_founding_outcome(founding), KT_FOUNDING_FOUNDED);
    assert_int_equal(kt_founding_settle(founding, &f->boot, &error), KT_OK);
    kt_founding_free(founding);
}

static void append(struct fixture *f, kt_index first, kt_index last, kt_term term)
{
    for (kt_index index = first; index <= last; index++) {
        struct kt_entry entry = {.index = index, .term = term, .type = KT_ENTRY_BARRIER};
        assert_int_equal(kt_wal_append(f->boot.wal, &entry, 1), KT_OK);
    }
    assert_int_equal(kt_wal_sync(f->boot.wal), KT_OK);
}

static const char *path_of(struct fixture *f, const char *name)
{
    static char path[512];

    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    return path;
}

/* A state that has applied entries up to last, of term 1 up to the second and then of the given one, arrives. */
static void arrive(struct fixture *f, kt_index last, kt_term term)
{
    struct kt_state_options options = {.store = {.path = path_of(f, "incoming.part"), .bytes_max = MAP_BYTES}};
    struct kt_state *state;
    struct kt_error error;

    assert_int_equal(kt_state_open(&options, &state, &error), KT_OK);
    assert_int_equal(kt_state_apply_members(state, 1, 1, kt_slice_text("somebody"), &error), KT_OK);
    for (kt_index index = 2; index <= last; index++)
        assert_int_equal(kt_state_apply(state, index, index < 3 ? 1 : term, kt_slice(NULL, 0), NULL, &error), KT_OK);
    assert_int_equal(kt_state_commit(state), KT_OK);
    kt_state_close(state);
    unlink(path_of(f, "incoming.part-lock"));
    assert_int_equal(kt_boot_adopt(&f->boot, &error), KT_OK);
}

static void boot__of_a_new_folder__makes_a_member_that_stays(void **state)
{
    struct fixture *f = *state;
    kt_member_id member;

    boot(f);
    member = f->boot.member;
    assert_int_equal(kt_member_node(member), 1);
    assert_false(f->boot.founded);
    boot(f);
    assert_true(f->boot.member == member);
    assert_false(f->boot.founded);
}

static void founding__is_settled__is_there_again(void **state)
{
    struct fixture *f = *state;

    boot(f);
    found(f);
    assert_true(f->boot.founded);
    boot(f);
    assert_true(f->boot.founded);
    assert_int_equal(f->boot.found.last, 1);
    assert_int_equal(f->boot.found.term, 1);
}

static void founding__interrupted_before_the_mark__keeps_its_member(void **state)
{
    struct fixture *f = *state;
    kt_member_id member;
    FILE *file;

    boot(f);
    found(f);
    member = f->boot.member;
    file = fopen(path_of(f, "member"), "w");
    assert_non_null(file);
    fprintf(file, "%016llx fresh\n", (unsigned long long)member);
    fclose(file);
    boot(f);
    assert_true(f->boot.founded);
    assert_true(f->boot.member == member);
    assert_int_equal(f->boot.found.last, 1);
}

static void state__that_arrived__takes_the_place_of_a_shorter_log(void **state)
{
    struct fixture *f = *state;

    boot(f);
    found(f);
    append(f, 2, 3, 1);
    assert_int_equal(kt_wal_vote(f->boot.wal, 7, 5), KT_OK);
    arrive(f, 9, 4);
    boot(f);
    assert_int_equal(kt_state_applied(f->boot.state).index, 9);
    assert_int_equal(f->boot.found.first, 10);
    assert_int_equal(f->boot.found.last, 9);
    assert_int_equal(f->boot.found.base_term, 4);
    assert_int_equal(f->boot.found.term, 7);
    assert_int_equal(f->boot.found.vote, 5);
}

static void state__that_arrived__keeps_what_the_log_has_behind_it(void **state)
{
    struct fixture *f = *state;

    boot(f);
    found(f);
    append(f, 2, 2, 1);
    append(f, 3, 8, 4);
    arrive(f, 5, 4);
    boot(f);
    assert_int_equal(kt_state_applied(f->boot.state).index, 5);
    assert_int_equal(f->boot.found.first, 1);
    assert_int_equal(f->boot.found.last, 8);
}

static void state__that_arrived__replaces_a_log_of_other_entries(void **state)
{
    struct fixture *f = *state;

    boot(f);
    found(f);
    append(f, 2, 2, 1);
    append(f, 3, 8, 2);
    arrive(f, 5, 4);
    boot(f);
    assert_int_equal(f->boot.found.first, 6);
    assert_int_equal(f->boot.found.last, 5);
    assert_int_equal(f->boot.found.term, 4);
}

static void data__that_is_condemned__is_set_aside_and_the_member_with_it(void **state)
{
    struct fixture *f = *state;
    struct kt_error error;
    kt_member_id member;

    boot(f);
    found(f);
    member = f->boot.member;
    assert_int_equal(kt_boot_condemn(&f->boot, &error), KT_OK);
    boot(f);
    assert_true(f->boot.member != member);
    assert_false(f->boot.founded);
    assert_int_equal(f->boot.found.last, 0);
    assert_int_equal(access(path_of(f, "log.damaged-1"), F_OK), 0);
    assert_int_equal(access(path_of(f, "state.mdb.damaged-1"), F_OK), 0);
    assert_int_equal(access(path_of(f, "aside"), F_OK), -1);
}

/* The state is gone and the log does not reach back to its beginning: alone, the node waits for somebody who knows. */
static void data__that_does_not_agree__is_set_aside_only_among_others(void **state)
{
    struct fixture *f = *state;

    boot(f);
    found(f);
    assert_int_equal(kt_wal_reset(f->boot.wal, 20, 1), KT_OK);
    assert_int_equal(try_boot(f, true), KT_CORRUPT);
    assert_int_equal(access(path_of(f, "log.damaged-1"), F_OK), -1);
    assert_int_equal(try_boot(f, false), KT_OK);
    assert_int_equal(access(path_of(f, "log.damaged-1"), F_OK), 0);
    assert_false(f->boot.founded);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(boot__of_a_new_folder__makes_a_member_that_stays),
        TEST(founding__is_settled__is_there_again),
        TEST(founding__interrupted_before_the_mark__keeps_its_member),
        TEST(state__that_arrived__takes_the_place_of_a_shorter_log),
        TEST(state__that_arrived__keeps_what_the_log_has_behind_it),
        TEST(state__that_arrived__replaces_a_log_of_other_entries),
        TEST(data__that_is_condemned__is_set_aside_and_the_member_with_it),
        TEST(data__that_does_not_agree__is_set_aside_only_among_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
