/* base/map.c against a plain array, under growth and removal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/map.h"
#include "base/random.h"

static void map__empty__has_nothing(void **state)
{
    (void)state;
    struct kt_map map;
    struct kt_slice key;
    void *value;
    size_t at = 0;
    kt_map_init(&map);
    assert_null(kt_map_get(&map, kt_slice_text("a")));
    assert_null(kt_map_remove(&map, kt_slice_text("a")));
    assert_false(kt_map_next(&map, &at, &key, &value));
    kt_map_release(&map);
}

static void map__keys_of_any_bytes__are_told_apart(void **state)
{
    (void)state;
    struct kt_map map;
    int values[5];
    static const struct kt_slice keys[] = {{"", 0}, {"\0", 1}, {"\0\0", 2}, {"a", 1}, {"a\0", 2}};
    kt_map_init(&map);
    for (size_t i = 0; i < KT_COUNT(keys); i++)
        assert_null(kt_map_put(&map, keys[i], &values[i]));
    assert_int_equal(map.count, 5);
    for (size_t i = 0; i < KT_COUNT(keys); i++)
        assert_ptr_equal(kt_map_get(&map, keys[i]), &values[i]);
    assert_ptr_equal(kt_map_get(&map, kt_slice(NULL, 0)), &values[0]);
    assert_ptr_equal(kt_map_put(&map, keys[3], &values[0]), &values[3]);
    assert_int_equal(map.count, 5);
    assert_ptr_equal(kt_map_remove(&map, keys[3]), &values[0]);
    assert_null(kt_map_get(&map, keys[3]));
    assert_ptr_equal(kt_map_get(&map, keys[4]), &values[4]);
    kt_map_release(&map);
    assert_null(kt_map_get(&map, keys[0]));
}

static void map__key__is_copied(void **state)
{
    (void)state;
    struct kt_map map;
    char key[] = "key";
    int value;
    kt_map_init(&map);
    kt_map_put(&map, kt_slice_text(key), &value);
    key[0] = 'x';
    assert_ptr_equal(kt_map_get(&map, kt_slice_text("key")), &value);
    assert_null(kt_map_get(&map, kt_slice_text("xey")));
    kt_map_release(&map);
}

static void map__random_puts_and_removes__agrees_with_an_array(void **state)
{
    (void)state;
    enum { KEYS = 700, STEPS = 60000 };
    static char present[KEYS];
    static int values[KEYS];
    struct kt_map map;
    struct kt_random random;
    size_t count = 0;
    kt_map_init(&map);
    kt_random_seed(&random, 5);
    for (int step = 0; step < STEPS; step++) {
        char text[32];
        size_t k = kt_random_below(&random, KEYS);
        struct kt_slice key = kt_slice(text, (size_t)snprintf(text, sizeof(text), "k%zu", k));
        /* Phases of mostly filling and mostly emptying, so that every load is met. */
        bool put = kt_random_below(&random, 10) < (step / 10000 % 2 ? 2 : 8);
        void *want = present[k] ? &values[k] : NULL;
        assert_ptr_equal(kt_map_get(&map, key), want);
        assert_ptr_equal(put ? kt_map_put(&map, key, &values[k]) : kt_map_remove(&map, key), want);
        count += (size_t)put - (size_t)(present[k] != 0);
        present[k] = put;
        assert_int_equal(map.count, count);
    }
    size_t at = 0, seen = 0;
    struct kt_slice key;
    void *value;
    while (kt_map_next(&map, &at, &key, &value)) {
        size_t k = (size_t)((int *)value - values);
        char text[32];
        snprintf(text, sizeof(text), "k%zu", k);
        assert_true(kt_slice_is(key, text));
        assert_int_equal(present[k], 1);
        present[k] = 2;
        seen++;
    }
    assert_int_equal(seen, count);
    kt_map_release(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__empty__has_nothing),
        cmocka_unit_test(map__keys_of_any_bytes__are_told_apart),
        cmocka_unit_test(map__key__is_copied),
        cmocka_unit_test(map__random_puts_and_removes__agrees_with_an_array),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
