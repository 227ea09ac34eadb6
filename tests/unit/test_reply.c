#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "engines/reply.h"

struct fixture {
    struct kt_reply reply, copy;
    struct kt_buf bytes;
};

static int set_up(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));

    kt_reply_init(&f->reply);
    kt_reply_init(&f->copy);
    kt_buf_init(&f->bytes, 64u << 20);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    kt_reply_release(&f->reply);
    kt_reply_release(&f->copy);
    kt_buf_release(&f->bytes);
    kt_free(f);
    return 0;
}

static void reply__encoded__decodes_to_the_same(void **state)
{
    struct fixture *f = *state;

    kt_reply_fail(&f->reply, KT_CONFLICT, "state is '%s'", "open");
    kt_buf_append_text(&f->reply.details, "{\"a\":1}");
    f->reply.offset = 300;
    kt_reply_encode(&f->reply, &f->bytes);
    kt_buf_append_text(&f->copy.body, "old");
    assert_int_equal(kt_reply_decode(kt_buf_slice(&f->bytes), &f->copy), KT_OK);
    assert_int_equal(f->copy.code, KT_CONFLICT);
    assert_int_equal(f->copy.offset, 300);
    assert_int_equal(f->copy.body.len, 0);
    assert_true(kt_slice_is(kt_buf_slice(&f->copy.details), "{\"a\":1}"));
    assert_string_equal(f->copy.text, "state is 'open'");
}

static void reply__success_with_a_body__survives_the_round_trip(void **state)
{
    struct fixture *f = *state;

    kt_buf_append(&f->reply.body, "a\0b", 3);
    kt_reply_encode(&f->reply, &f->bytes);
    assert_int_equal(kt_reply_decode(kt_buf_slice(&f->bytes), &f->copy), KT_OK);
    assert_int_equal(f->copy.code, KT_OK);
    assert_true(kt_slice_equal(kt_buf_slice(&f->copy.body), kt_slice("a\0b", 3)));
    assert_string_equal(f->copy.text, "");
}

static void reply__every_shortened_encoding__is_corrupt(void **state)
{
    struct fixture *f = *state;

    kt_reply_fail(&f->reply, KT_NOT_FOUND, "gone");
    kt_reply_encode(&f->reply, &f->bytes);
    for (size_t len = 0; len < f->bytes.len; len++)
        assert_int_equal(kt_reply_decode(kt_slice(f->bytes.data, len), &f->copy), KT_CORRUPT);
    kt_buf_append_u8(&f->bytes, 0);
    assert_int_equal(kt_reply_decode(kt_buf_slice(&f->bytes), &f->copy), KT_CORRUPT);
    assert_int_equal(f->copy.code, KT_OK);
    assert_int_equal(f->copy.offset, 0);
}

static void reply__code_that_is_none_or_long_text__is_corrupt(void **state)
{
    struct fixture *f = *state;
    static const uint8_t no_code[] = {0xff, 0xff, 0, 0, 0, 0};
    uint8_t long_text[7 + KT_ERROR_TEXT_MAX] = {0, 0, 0, 0, 0, 0x80, 0x02};

    assert_int_equal(kt_reply_decode(kt_slice(no_code, sizeof(no_code)), &f->copy), KT_CORRUPT);
    memset(long_text + 7, 'x', KT_ERROR_TEXT_MAX);
    assert_int_equal(kt_reply_decode(kt_slice(long_text, sizeof(long_text)), &f->copy), KT_CORRUPT);
    long_text[5] = 0xff; /* 255 bytes do fit */
    long_text[6] = 0x01;
    assert_int_equal(kt_reply_decode(kt_slice(long_text, sizeof(long_text) - 1), &f->copy), KT_OK);
    assert_int_equal(strlen(f->copy.text), KT_ERROR_TEXT_MAX - 1);
}

static void reply__failure__drops_the_body_and_cuts_at_a_whole_character(void **state)
{
    struct fixture *f = *state;
    char text[KT_ERROR_TEXT_MAX + 8];

    kt_buf_append_text(&f->reply.body, "half a result");
    memset(text, 'x', sizeof(text));
    memcpy(text + KT_ERROR_TEXT_MAX - 2, "\xe2\x82\xac", 4);
    assert_int_equal(kt_reply_fail(&f->reply, KT_CONFLICT, "%s", text), KT_CONFLICT);
    assert_int_equal(f->reply.body.len, 0);
    assert_int_equal(strlen(f->reply.text), KT_ERROR_TEXT_MAX - 2);
    memcpy(text + KT_ERROR_TEXT_MAX - 4,
           "\xe2\x82\xac"
           "yy",
           6);
    kt_reply_fail(&f->reply, KT_CONFLICT, "%s", text);
    assert_int_equal(strlen(f->reply.text), KT_ERROR_TEXT_MAX - 1);
    assert_memory_equal(f->reply.text + KT_ERROR_TEXT_MAX - 4, "\xe2\x82\xac", 3);
}

static void reply__moved__leaves_the_source_empty(void **state)
{
    struct fixture *f = *state;

    kt_buf_append_text(&f->reply.body, "result");
    f->reply.offset = 5;
    kt_buf_append_text(&f->copy.body, "old");
    kt_reply_move(&f->copy, &f->reply);
    assert_true(kt_slice_is(kt_buf_slice(&f->copy.body), "result"));
    assert_int_equal(f->copy.offset, 5);
    assert_int_equal(f->reply.body.len, 0);
    assert_null(f->reply.body.data);
}

static void reply__decoded_without_memory__says_so(void **state)
{
    struct fixture *f = *state;

    kt_buf_append_text(&f->reply.body, "result");
    kt_reply_encode(&f->reply, &f->bytes);
    kt_alloc_fail_at(1);
    assert_int_equal(kt_reply_decode(kt_buf_slice(&f->bytes), &f->copy), KT_NO_MEMORY);
    kt_alloc_fail_at(0);
    assert_int_equal(kt_reply_decode(kt_buf_slice(&f->bytes), &f->copy), KT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reply__encoded__decodes_to_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reply__success_with_a_body__survives_the_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reply__every_shortened_encoding__is_corrupt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reply__code_that_is_none_or_long_text__is_corrupt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reply__failure__drops_the_body_and_cuts_at_a_whole_character, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(reply__moved__leaves_the_source_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reply__decoded_without_memory__says_so, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
