/* base/list.h and the slices of base/types.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int number;
    struct kt_list link;
};

static int numbers(const struct kt_list *list)
{
    int value = 0;
    const struct kt_list *link;
    kt_list_each (link, list)
        value = value * 10 + KT_CONTAINER(link, const struct item, link)->number;
    return value;
}

static void list__append_and_remove__keeps_the_order(void **state)
{
    (void)state;
    struct kt_list list;
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    kt_list_init(&list);
    assert_true(kt_list_empty(&list));
    assert_null(kt_list_first(&list, struct item, link));
    for (size_t i = 0; i < KT_COUNT(items); i++)
        kt_list_append(&list, &items[i].link);
    assert_int_equal(numbers(&list), 1234);
    assert_ptr_equal(kt_list_first(&list, struct item, link), &items[0]);
    kt_list_remove(&items[1].link);
    kt_list_remove(&items[1].link);
    assert_int_equal(numbers(&list), 134);
    kt_list_remove(&items[3].link);
    kt_list_append(&list, &items[1].link);
    assert_int_equal(numbers(&list), 132);
    for (size_t i = 0; i < 3; i++)
        kt_list_remove(&items[i].link);
    assert_true(kt_list_empty(&list));
}

static void list__move__appends_everything(void **state)
{
    (void)state;
    struct kt_list a, b;
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    kt_list_init(&a);
    kt_list_init(&b);
    kt_list_move(&a, &b);
    assert_true(kt_list_empty(&a));
    kt_list_append(&b, &items[0].link);
    kt_list_append(&b, &items[1].link);
    kt_list_move(&a, &b);
    assert_int_equal(numbers(&a), 12);
    assert_true(kt_list_empty(&b));
    kt_list_append(&b, &items[2].link);
    kt_list_append(&b, &items[3].link);
    kt_list_move(&a, &b);
    assert_int_equal(numbers(&a), 1234);
    assert_ptr_equal(a.prev, &items[3].link);
}

static void slice__comparison__is_bytewise_and_short_first(void **state)
{
    (void)state;
    static const struct kt_slice ordered[] = {{NULL, 0}, {"\0", 1}, {"a", 1},   {"a\0", 2},
                                              {"aa", 2}, {"b", 1},  {"\xff", 1}};
    for (size_t i = 0; i < KT_COUNT(ordered); i++) {
        for (size_t k = 0; k < KT_COUNT(ordered); k++) {
            int order = kt_slice_compare(ordered[i], ordered[k]);
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
            assert_int_equal(kt_slice_equal(ordered[i], ordered[k]), i == k);
        }
    }
    assert_true(kt_slice_is(kt_slice("abc", 2), "ab"));
    assert_false(kt_slice_is(kt_slice("ab\0", 3), "ab"));
    assert_int_equal(kt_slice_text("four").len, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list__append_and_remove__keeps_the_order),
        cmocka_unit_test(list__move__appends_everything),
        cmocka_unit_test(slice__comparison__is_bytewise_and_short_first),
    };
    return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
