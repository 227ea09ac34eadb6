#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engines/op.h"

static void op__stamped__decodes_to_what_was_stamped(void **unused)
{
    struct kt_buf buf;
    struct kt_op op;

    (void)unused;
    kt_buf_init(&buf, 1024);
    kt_op_begin(&buf, KT_OP_CODE(7, 9));
    kt_buf_append_text(&buf, "body");
    kt_op_stamp_time(buf.data, 123456789012345);
    kt_op_stamp_origin(buf.data, 11, 22, 20);
    assert_int_equal(kt_op_decode(kt_buf_slice(&buf), &op), KT_OK);
    assert_int_equal(op.code, 0x0709);
    assert_int_equal(op.time_ms, 123456789012345);
    assert_int_equal(op.origin, 11);
    assert_int_equal(op.sequence, 22);
    assert_int_equal(op.done_below, 20);
    assert_true(kt_slice_is(op.body, "body"));
    kt_buf_release(&buf);
}

static void op__layout__is_the_documented_one(void **unused)
{
    static const uint8_t expected[KT_OP_HEADER_BYTES + 1] = {1, 0, 2, 1, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0,   0,
                                                             0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0xff};
    struct kt_buf buf;

    (void)unused;
    kt_buf_init(&buf, 1024);
    kt_op_begin(&buf, 0x0102);
    kt_buf_append_u8(&buf, 0xff);
    kt_op_stamp_time(buf.data, 3);
    kt_op_stamp_origin(buf.data, 4, 5, 6);
    assert_int_equal(buf.len, sizeof(expected));
    assert_memory_equal(buf.data, expected, sizeof(expected));
    kt_buf_release(&buf);
}

static void op__bytes_that_are_none__are_corrupt(void **unused)
{
    uint8_t bytes[KT_OP_HEADER_BYTES] = {1};
    struct kt_op op;

    (void)unused;
    assert_int_equal(kt_op_decode(kt_slice(bytes, sizeof(bytes)), &op), KT_OK);
    assert_int_equal(op.body.len, 0);
    for (size_t len = 0; len < sizeof(bytes); len++)
        assert_int_equal(kt_op_decode(kt_slice(bytes, len), &op), KT_CORRUPT);
    bytes[0] = 2;
    assert_int_equal(kt_op_decode(kt_slice(bytes, sizeof(bytes)), &op), KT_CORRUPT);
    bytes[0] = 1;
    bytes[1] = 1;
    assert_int_equal(kt_op_decode(kt_slice(bytes, sizeof(bytes)), &op), KT_CORRUPT);
}

static void op__begun_in_a_full_buffer__fails_the_buffer(void **unused)
{
    struct kt_buf buf;

    (void)unused;
    kt_buf_init(&buf, KT_OP_HEADER_BYTES - 1);
    kt_op_begin(&buf, 1);
    assert_int_equal(kt_buf_code(&buf), KT_TOO_LARGE);
    assert_int_equal(buf.len, 0);
    kt_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(op__stamped__decodes_to_what_was_stamped),
        cmocka_unit_test(op__layout__is_the_documented_one),
        cmocka_unit_test(op__bytes_that_are_none__are_corrupt),
        cmocka_unit_test(op__begun_in_a_full_buffer__fails_the_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
