/* base/code.c: the list of codes is complete, and its numbers are those that nodes have stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/types.h"

static const struct {
    enum kt_code code;
    unsigned number;
    const char *name, *text;
    enum kt_code_class class;
    enum kt_outcome outcome;
} rows[] = {
#define KT_CODE(symbol, number, text, class, outcome) {symbol, number, #symbol, text, class, outcome},
#include "kontiki/code.def"
#undef KT_CODE
};

static void code__every_row__answers_what_the_list_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        assert_int_equal(rows[i].code, rows[i].number);
        assert_string_equal(kt_code_text(rows[i].code), rows[i].text);
        assert_string_equal(kt_code_name(rows[i].code), rows[i].name + strlen("KT_"));
        assert_int_equal(kt_code_class(rows[i].code), rows[i].class);
        assert_int_equal(kt_code_outcome(rows[i].code), rows[i].outcome);
        assert_true(kt_code_known(rows[i].number));
    }
}

/* Stored in records and sent to peers of other versions: these pairs hold for ever. */
static void code__numbers__are_the_stored_ones(void **state)
{
    (void)state;
    assert_int_equal(KT_OK, 0);
    assert_int_equal(KT_BAD_FRAME, 10);
    assert_int_equal(KT_NOT_FOUND, 30);
    assert_int_equal(KT_CONFLICT, 38);
    assert_int_equal(KT_NOT_LEADER, 60);
    assert_int_equal(KT_OUTCOME_UNKNOWN, 62);
    assert_int_equal(KT_IO_FAILED, 90);
    assert_int_equal(KT_INTERNAL, 93);
}

static void code__number_of_no_code__is_unknown_and_harmless(void **state)
{
    (void)state;
    unsigned known = 0;
    for (unsigned number = 0; number < 1000; number++) {
        known += (unsigned)kt_code_known(number);
        if (kt_code_known(number))
            continue;
        assert_non_null(kt_code_text((enum kt_code)number));
        assert_non_null(kt_code_name((enum kt_code)number));
        assert_int_equal(kt_code_class((enum kt_code)number), KT_FATAL);
        assert_int_equal(kt_code_outcome((enum kt_code)number), KT_UNKNOWN);
    }
    assert_int_equal(known, KT_COUNT(rows));
    assert_false(kt_code_known(~0u));
}

/* Unknown may only be said where a write may have happened: never for what the client got wrong. */
static void code__client_errors__did_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        if (rows[i].class == KT_CLIENT)
            assert_int_equal(rows[i].outcome, KT_NOT_DONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code__every_row__answers_what_the_list_says),
        cmocka_unit_test(code__numbers__are_the_stored_ones),
        cmocka_unit_test(code__number_of_no_code__is_unknown_and_harmless),
        cmocka_unit_test(code__client_errors__did_nothing),
    };
    return cmocka_run_group_tests_name("code", tests, NULL, NULL);
}
