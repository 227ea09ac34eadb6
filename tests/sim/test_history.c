/* The judges of histories against a search over all possible orders (Wing and Gong, 1993), on random small histories.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/random.h"
#include "history.h"

struct search {
    const struct sim_record *records;
    size_t count;
};

/* Whether what is not in `done` can still take effect, one after the other, on a register that holds value. */
static bool some_order(const struct search *search, unsigned done, uint64_t value)
{
    sim_us first_return = UINT64_MAX;
    bool left = false;
    for (size_t i = 0; i < search->count; i++) {
        const struct sim_record *record = &search->records[i];
        if (done >> i & 1 || record->outcome != SIM_DONE)
            continue;
        left = true;
        first_return = KT_MIN(first_return, record->returned);
    }
    if (!left)
        return true;
    for (size_t i = 0; i < search->count; i++) {
        const struct sim_record *record = &search->records[i];
        bool possible = record->outcome == SIM_DONE || (record->write && record->outcome == SIM_UNKNOWN);
        if (done >> i & 1 || !possible || record->invoked > first_return)
            continue;
        if (!record->write && record->value != value)
            continue;
        if (some_order(search, done | 1u << i, record->write ? record->value : value))
            return true;
    }
    return false;
}

static void random_history(struct kt_random *random, struct sim_history *history)
{
    history->kind = SIM_SHARED;
    history->count = 0;
    size_t count = 2 + kt_random_below(random, 7);
    uint64_t writes = 0;
    for (size_t i = 0; i < count; i++) {
        bool write = kt_random_below(random, 2) == 0;
        size_t at = sim_history_begin(history, write, write ? ++writes : 0, kt_random_below(random, 12) * 10 + i);
        sim_us returned = history->records[at].invoked + 1 + kt_random_below(random, 40);
        enum sim_outcome outcome = SIM_DONE;
        if (kt_random_below(random, 6) == 0)
            outcome = kt_random_below(random, 2) ? SIM_UNKNOWN : SIM_NOT_DONE;
        sim_history_end(history, at, outcome, write ? writes : kt_random_below(random, writes + 2), returned);
    }
}

static void shared_register__random_histories__judged_as_by_search(void **state)
{
    struct sim_history history = {.name = "random"};
    struct kt_random random;
    unsigned good = 0, bad = 0;
    char why[256];
    (void)state;
    kt_random_seed(&random, 1);
    for (unsigned i = 0; i < 60000; i++) {
        random_history(&random, &history);
        struct search search = {.records = history.records, .count = history.count};
        bool expected = some_order(&search, 0, 0);
        bool got = sim_history_check(&history, why, sizeof(why));
        if (got != expected) {
            printf("search says %d, zones say %d %s\n", expected, got, got ? "" : why);
            for (size_t k = 0; k < history.count; k++)
                printf("  %s %llu from %llu to %llu outcome %d\n", history.records[k].write ? "write" : "read",
                       (unsigned long long)history.records[k].value, (unsigned long long)history.records[k].invoked,
                       (unsigned long long)history.records[k].returned, history.records[k].outcome);
        }
        assert_int_equal(got, expected);
        good += expected;
        bad += !expected;
    }
    assert_true(good > 5000 && bad > 5000);
    kt_free(history.records);
}

static void put(struct sim_history *history, bool write, uint64_t value, sim_us invoked, sim_us returned,
                enum sim_outcome outcome)
{
    sim_history_end(history, sim_history_begin(history, write, value, invoked), outcome, value, returned);
}

static bool judged(struct sim_history *history)
{
    char why[256];
    bool good = sim_history_check(history, why, sizeof(why));
    kt_free(history->records);
    return good;
}

static void owned_register__read_goes_back__refused(void **state)
{
    struct sim_history history = {.kind = SIM_OWNED, .name = "own"};
    (void)state;
    put(&history, true, 1, 10, 20, SIM_DONE);
    put(&history, true, 2, 30, 90, SIM_DONE);
    put(&history, false, 2, 40, 50, SIM_DONE);
    put(&history, false, 1, 60, 70, SIM_DONE);
    assert_false(judged(&history));
}

static void owned_register__read_of_refused_write__refused(void **state)
{
    struct sim_history history = {.kind = SIM_OWNED, .name = "own"};
    (void)state;
    put(&history, true, 1, 10, 20, SIM_NOT_DONE);
    put(&history, false, 1, 30, 40, SIM_DONE);
    assert_false(judged(&history));
}

static void owned_register__unknown_write_comes_late__accepted(void **state)
{
    struct sim_history history = {.kind = SIM_OWNED, .name = "own"};
    (void)state;
    put(&history, true, 1, 10, 20, SIM_UNKNOWN);
    put(&history, false, 0, 30, 40, SIM_DONE);
    put(&history, false, 1, 50, 60, SIM_DONE);
    assert_true(judged(&history));
}

static void counter__step_counted_twice__refused(void **state)
{
    struct sim_history history = {.kind = SIM_COUNTER, .name = "counter"};
    (void)state;
    put(&history, true, 1, 10, 20, SIM_DONE);
    put(&history, false, 2, 30, 40, SIM_DONE);
    assert_false(judged(&history));
}

static void counter__acknowledged_step_is_missing__refused(void **state)
{
    struct sim_history history = {.kind = SIM_COUNTER, .name = "counter"};
    (void)state;
    put(&history, true, 1, 10, 20, SIM_DONE);
    put(&history, true, 2, 11, 21, SIM_DONE);
    put(&history, false, 1, 30, 40, SIM_DONE);
    assert_false(judged(&history));
}

static void counter__unknown_step__may_count_or_not(void **state)
{
    (void)state;
    for (uint64_t seen = 1; seen <= 2; seen++) {
        struct sim_history history = {.kind = SIM_COUNTER, .name = "counter"};
        put(&history, true, 1, 10, 20, SIM_DONE);
        put(&history, true, 2, 11, 21, SIM_UNKNOWN);
        put(&history, false, seen, 30, 40, SIM_DONE);
        assert_true(judged(&history));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_register__random_histories__judged_as_by_search),
        cmocka_unit_test(owned_register__read_goes_back__refused),
        cmocka_unit_test(owned_register__read_of_refused_write__refused),
        cmocka_unit_test(owned_register__unknown_write_comes_late__accepted),
        cmocka_unit_test(counter__step_counted_twice__refused),
        cmocka_unit_test(counter__acknowledged_step_is_missing__refused),
        cmocka_unit_test(counter__unknown_step__may_count_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
