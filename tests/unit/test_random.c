/* base/random.c: the generator's known sequence, fair bounds and ids of the right form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/random.h"

static void next__known_state__gives_the_published_sequence(void **state)
{
    (void)state;
    /* xoshiro256** of the state 1, 2, 3, 4, as its reference implementation prints it. */
    static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240};
    struct kt_random random = {.s = {1, 2, 3, 4}};
    for (size_t i = 0; i < KT_COUNT(want); i++)
        assert_true(kt_random_next(&random) == want[i]);
}

static void seed__same_seed__same_sequence_and_another_for_another(void **state)
{
    (void)state;
    struct kt_random a, b, c;
    kt_random_seed(&a, 0);
    kt_random_seed(&b, 0);
    kt_random_seed(&c, 1);
    /* splitmix64 of seed 0. */
    assert_true(a.s[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(a.s[1] == UINT64_C(0x6e789e6aa1b965f4));
    for (int i = 0; i < 1000; i++) {
        uint64_t value = kt_random_next(&a);
        assert_true(value == kt_random_next(&b));
        assert_true(value != kt_random_next(&c));
    }
}

static void below__any_bound__stays_below_and_reaches_all(void **state)
{
    (void)state;
    struct kt_random random;
    kt_random_seed(&random, 42);
    for (uint64_t bound = 1; bound < 40; bound++) {
        unsigned seen[40] = {0};
        for (int i = 0; i < 4000; i++) {
            uint64_t value = kt_random_below(&random, bound);
            assert_true(value < bound);
            seen[value]++;
        }
        for (uint64_t i = 0; i < bound; i++)
            assert_in_range(seen[i], 4000 / bound / 2, 4000 / bound * 2);
    }
    /* Three quarters of the range: a plain remainder would make the lower third twice as likely. */
    uint64_t bound = UINT64_C(3) << 62;
    unsigned low = 0;
    for (int i = 0; i < 6000; i++)
        low += kt_random_below(&random, bound) < bound / 3;
    assert_in_range(low, 1800, 2200);
    assert_true(kt_random_below(&random, UINT64_MAX) < UINT64_MAX);
}

static void bytes__of_the_system__differ_each_time(void **state)
{
    (void)state;
    uint8_t a[600] = {0}, b[600] = {0};
    kt_random_bytes(a, sizeof(a));
    kt_random_bytes(b, sizeof(b));
    kt_random_bytes(NULL, 0);
    assert_memory_not_equal(a, b, sizeof(a));
    /* The last bytes are written too. */
    assert_memory_not_equal(a + 584, b + 584, 16);
    assert_true(kt_random_system() != kt_random_system());
}

static void uuid__any__is_a_version_4_and_new(void **state)
{
    (void)state;
    char last[37] = "";
    for (int i = 0; i < 200; i++) {
        char uuid[37];
        kt_uuid(uuid);
        assert_int_equal(strlen(uuid), 36);
        assert_int_equal(strspn(uuid, "0123456789abcdef-"), 36);
        for (size_t k = 0; k < 36; k++)
            assert_int_equal(uuid[k] == '-', k == 8 || k == 13 || k == 18 || k == 23);
        assert_int_equal(uuid[14], '4');
        assert_non_null(strchr("89ab", uuid[19]));
        assert_string_not_equal(uuid, last);
        memcpy(last, uuid, sizeof(last));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next__known_state__gives_the_published_sequence),
        cmocka_unit_test(seed__same_seed__same_sequence_and_another_for_another),
        cmocka_unit_test(below__any_bound__stays_below_and_reaches_all),
        cmocka_unit_test(bytes__of_the_system__differ_each_time),
        cmocka_unit_test(uuid__any__is_a_version_4_and_new),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
