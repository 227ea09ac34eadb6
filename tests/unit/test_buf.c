/* base/buf.c: growth up to the ceiling, and that a failed buffer keeps what it had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"

static void buf__within_the_ceiling__holds_what_was_appended(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1000);
    assert_int_equal(kt_buf_slice(&buf).len, 0);
    kt_buf_append_text(&buf, "ab");
    kt_buf_append_u8(&buf, 'c');
    kt_buf_append_slice(&buf, kt_slice("de", 2));
    kt_buf_append(&buf, NULL, 0);
    kt_buf_append_slice(&buf, kt_slice(NULL, 0));
    kt_buf_printf(&buf, "%d-%s", 7, "x");
    assert_int_equal(kt_buf_code(&buf), KT_OK);
    assert_true(kt_slice_is(kt_buf_slice(&buf), "abcde7-x"));
    kt_buf_release(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.max, 1000);
}

static void buf__append_to_exactly_the_ceiling__fits_and_no_byte_more(void **state)
{
    (void)state;
    for (size_t max = 1; max < 300; max += 7) {
        struct kt_buf buf;
        kt_buf_init(&buf, max);
        for (size_t i = 0; i < max; i++)
            kt_buf_append_u8(&buf, (uint8_t)i);
        assert_int_equal(kt_buf_code(&buf), KT_OK);
        assert_int_equal(buf.len, max);
        assert_true(buf.cap <= max);
        kt_buf_append_u8(&buf, 0);
        assert_int_equal(kt_buf_code(&buf), KT_TOO_LARGE);
        assert_int_equal(buf.len, max);
        for (size_t i = 0; i < max; i++)
            assert_int_equal(buf.data[i], (uint8_t)i);
        kt_buf_release(&buf);
    }
}

static void buf__append_past_max__keeps_the_old_and_ignores_the_rest(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 10);
    kt_buf_append_text(&buf, "12345");
    kt_buf_append_text(&buf, "123456");
    assert_int_equal(kt_buf_code(&buf), KT_TOO_LARGE);
    kt_buf_append_u8(&buf, 'x');
    kt_buf_printf(&buf, "y");
    assert_null(kt_buf_reserve(&buf, 0));
    assert_true(kt_slice_is(kt_buf_slice(&buf), "12345"));
    kt_buf_clear(&buf);
    assert_int_equal(kt_buf_code(&buf), KT_OK);
    kt_buf_append_text(&buf, "1234567890");
    assert_int_equal(kt_buf_code(&buf), KT_OK);
    assert_null(kt_buf_reserve(&buf, SIZE_MAX));
    kt_buf_release(&buf);
}

static void buf__printf_at_every_edge__is_whole_or_refused(void **state)
{
    (void)state;
    /* 255 and 256 are where the text stops fitting the scratch memory of the implementation. */
    static const int widths[] = {1, 254, 255, 256, 257, 1000};
    for (size_t i = 0; i < KT_COUNT(widths); i++) {
        struct kt_buf buf;
        kt_buf_init(&buf, (size_t)widths[i]);
        kt_buf_printf(&buf, "%*d", widths[i], 5);
        assert_int_equal(kt_buf_code(&buf), KT_OK);
        assert_int_equal(buf.len, widths[i]);
        assert_int_equal(buf.data[widths[i] - 1], '5');
        kt_buf_release(&buf);
        kt_buf_printf(&buf, "%*d", widths[i] + 1, 5);
        assert_int_equal(kt_buf_code(&buf), KT_TOO_LARGE);
        assert_int_equal(buf.len, 0);
        kt_buf_release(&buf);
    }
}

static void buf__no_memory__fails_and_keeps_the_old(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 100000);
    kt_alloc_fail_at(1);
    kt_buf_append_text(&buf, "a");
    assert_int_equal(kt_buf_code(&buf), KT_NO_MEMORY);
    assert_int_equal(buf.len, 0);
    kt_buf_clear(&buf);
    kt_buf_append_text(&buf, "kept");
    kt_alloc_fail_at(1);
    assert_null(kt_buf_reserve(&buf, 5000));
    assert_int_equal(kt_buf_code(&buf), KT_NO_MEMORY);
    assert_true(kt_slice_is(kt_buf_slice(&buf), "kept"));
    kt_buf_clear(&buf);
    kt_alloc_fail_at(1);
    kt_buf_printf(&buf, "%5000d", 1);
    assert_int_equal(kt_buf_code(&buf), KT_NO_MEMORY);
    assert_int_equal(buf.len, 0);
    kt_buf_clear(&buf);
    kt_alloc_fail_at(2);
    kt_buf_printf(&buf, "%5000d", 1);
    assert_int_equal(kt_buf_code(&buf), KT_NO_MEMORY);
    kt_alloc_fail_at(0);
    kt_buf_release(&buf);
}

static void buf__reserve__is_room_that_the_caller_fills(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    assert_non_null(kt_buf_reserve(&buf, 0));
    for (size_t n = 1; n < 5000; n = n * 2 + 1) {
        uint8_t *to = kt_buf_reserve(&buf, n);
        assert_non_null(to);
        memset(to, (int)n, n);
        buf.len += n;
        assert_int_equal(buf.data[buf.len - 1], (uint8_t)n);
    }
    kt_buf_release(&buf);
}

static void buf__consume__drops_the_front(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 100);
    kt_buf_consume(&buf, 0);
    kt_buf_append_text(&buf, "abcdef");
    kt_buf_consume(&buf, 2);
    assert_true(kt_slice_is(kt_buf_slice(&buf), "cdef"));
    kt_buf_consume(&buf, 4);
    assert_int_equal(buf.len, 0);
    kt_buf_append_text(&buf, "g");
    assert_true(kt_slice_is(kt_buf_slice(&buf), "g"));
    kt_buf_release(&buf);
}

static void buf__take__moves_the_contents(void **state)
{
    (void)state;
    struct kt_buf from, to;
    kt_buf_init(&from, 100);
    kt_buf_append_text(&from, "moved");
    kt_buf_take(&from, &to);
    assert_true(kt_slice_is(kt_buf_slice(&to), "moved"));
    assert_int_equal(from.len, 0);
    assert_null(from.data);
    kt_buf_append_text(&from, "new");
    assert_true(kt_slice_is(kt_buf_slice(&from), "new"));
    assert_true(kt_slice_is(kt_buf_slice(&to), "moved"));
    kt_buf_release(&from);
    kt_buf_release(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf__within_the_ceiling__holds_what_was_appended),
        cmocka_unit_test(buf__append_to_exactly_the_ceiling__fits_and_no_byte_more),
        cmocka_unit_test(buf__append_past_max__keeps_the_old_and_ignores_the_rest),
        cmocka_unit_test(buf__printf_at_every_edge__is_whole_or_refused),
        cmocka_unit_test(buf__no_memory__fails_and_keeps_the_old),
        cmocka_unit_test(buf__reserve__is_room_that_the_caller_fills),
        cmocka_unit_test(buf__consume__drops_the_front),
        cmocka_unit_test(buf__take__moves_the_contents),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
