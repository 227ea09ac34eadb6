/* base/error.c: sentences that fit, and sentences that are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/error.h"

static void error__set__returns_the_code_and_keeps_the_text(void **state)
{
    (void)state;
    struct kt_error error;
    assert_int_equal(kt_error_set(&error, KT_NOT_FOUND, "no key %d of %s", 7, "x"), KT_NOT_FOUND);
    assert_int_equal(error.code, KT_NOT_FOUND);
    assert_string_equal(error.text, "no key 7 of x");
    assert_int_equal(kt_error_set(NULL, KT_BUSY, "unseen %d", 1), KT_BUSY);
    assert_int_equal(kt_error_errno(NULL, KT_BUSY, EIO, "unseen"), KT_BUSY);
}

static void error__errno__is_told_in_words(void **state)
{
    (void)state;
    struct kt_error error;
    assert_int_equal(kt_error_errno(&error, KT_IO_FAILED, ENOENT, "file %s", "a"), KT_IO_FAILED);
    assert_string_equal(error.text, "file a: No such file or directory");
    kt_error_errno(&error, KT_IO_FAILED, 99999, "file");
    assert_non_null(strstr(error.text, "99999"));
}

static void error__its_own_text_as_argument__is_wrapped(void **state)
{
    (void)state;
    struct kt_error error;
    kt_error_set(&error, KT_IO_FAILED, "disk");
    kt_error_set(&error, KT_INTERNAL, "while writing: %s", error.text);
    assert_string_equal(error.text, "while writing: disk");
    kt_error_errno(&error, KT_INTERNAL, EIO, "again: %s", error.text);
    assert_string_equal(error.text, "again: while writing: disk: Input/output error");
}

/* Characters of one to four bytes, at every place around the cut. */
static void error__too_long__is_cut_at_a_whole_character(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t c = 0; c < KT_COUNT(characters); c++) {
        size_t width = strlen(characters[c]);
        for (size_t lead = 0; lead < 8; lead++) {
            char text[2 * KT_ERROR_TEXT_MAX] = "";
            struct kt_error error;
            for (size_t len = lead; len + width < sizeof(text); len += width)
                memcpy(text + len, characters[c], width);
            memset(text, '-', lead);
            kt_error_set(&error, KT_BAD_REQUEST, "%s", text);
            size_t fits = KT_ERROR_TEXT_MAX - 1;
            assert_int_equal(strlen(error.text), lead + (fits - lead) / width * width);
            assert_memory_equal(error.text, text, strlen(error.text));
            kt_error_errno(&error, KT_BAD_REQUEST, EIO, "%s", text);
            static const char reason[] = ": Input/output error";
            fits -= sizeof(reason) - 1;
            size_t sentence = lead + (fits - lead) / width * width;
            assert_int_equal(strlen(error.text), sentence + sizeof(reason) - 1);
            assert_memory_equal(error.text, text, sentence);
            assert_string_equal(error.text + sentence, reason);
        }
    }
}

static void error__exactly_full__is_not_cut(void **state)
{
    (void)state;
    struct kt_error error;
    kt_error_set(&error, KT_BAD_REQUEST, "%*d", KT_ERROR_TEXT_MAX - 1, 5);
    assert_int_equal(strlen(error.text), KT_ERROR_TEXT_MAX - 1);
    assert_int_equal(error.text[KT_ERROR_TEXT_MAX - 2], '5');
    kt_error_set(&error, KT_BAD_REQUEST, "%*d", KT_ERROR_TEXT_MAX, 5);
    assert_int_equal(strlen(error.text), KT_ERROR_TEXT_MAX - 1);
    assert_int_equal(error.text[KT_ERROR_TEXT_MAX - 2], ' ');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error__set__returns_the_code_and_keeps_the_text),
        cmocka_unit_test(error__errno__is_told_in_words),
        cmocka_unit_test(error__its_own_text_as_argument__is_wrapped),
        cmocka_unit_test(error__too_long__is_cut_at_a_whole_character),
        cmocka_unit_test(error__exactly_full__is_not_cut),
    };
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
