#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engines/machine/guard.h"
#include "engines/machine/machine_limits.h"

/* The verdict of a guard on a context; the guard must parse. */
static bool verdict(const char *text, const char *ctx)
{
    uint64_t work = MACHINE_GUARD_WORK_BYTES_MAX;
    struct kt_arena arena;
    struct kt_error error;
    struct guard *guard;
    bool result;

    kt_arena_init(&arena);
    if (guard_parse(kt_slice_text(text), &arena, &guard, &error) != KT_OK)
        fail_msg("%s: %s", text, error.text);
    result = guard_evaluate(guard, kt_slice_text(ctx), &work);
    assert_true(work > 0);
    kt_arena_release(&arena);
    return result;
}

/* The guard is refused with exactly these words. */
static void assert_refused_bytes(struct kt_slice text, const char *words)
{
    struct kt_arena arena;
    struct kt_error error;
    struct guard *guard;

    kt_arena_init(&arena);
    assert_int_equal(guard_parse(text, &arena, &guard, &error), KT_BAD_REQUEST);
    assert_null(guard);
    assert_int_equal(error.code, KT_BAD_REQUEST);
    assert_string_equal(error.text, words);
    kt_arena_release(&arena);
}

static void assert_refused(const char *text, const char *words)
{
    assert_refused_bytes(kt_slice_text(text), words);
}

#define INVALID "invalid guard expression: "

/* One row of the reference table: a guard, a context (canonical text), the verdict. */
struct row {
    unsigned number;
    const char *guard, *ctx;
    bool result;
};

static const struct row rows[] = {
    {1, "ctx.a", "{\"a\":true}", true},
    {2, "ctx.a", "{}", false},
    {3, "ctx.a", "{\"a\":0}", false},
    {4, "ctx.a", "{\"a\":\"false\"}", true},
    {5, "ctx.a", "{\"a\":[]}", false},
    {6, "ctx.a", "{\"a\":[0]}", true},
    {7, "ctx.a", "{\"a\":{}}", false},
    {8, "ctx.a", "null", false},
    {9, "ctx.a.b.c", "{\"a\":{\"b\":{\"c\":1}}}", true},
    {10, "ctx.a.b", "{\"a\":5}", false},
    {11, "ctx.a.length", "{\"a\":[1,2]}", false},
    {12, "ctx.a.0", "{\"a\":{\"0\":1}}", true},
    {13, "ctx.a == null", "{}", true},
    {14, "ctx.a == null", "{\"a\":false}", false},
    {15, "ctx.a != null", "{}", false},
    {16, "ctx.a == false", "{}", false},
    {17, "ctx.a == 0", "{}", false},
    {18, "ctx.a != 5", "{}", true},
    {19, "ctx.a == true", "{\"a\":1}", false},
    {20, "ctx.a == \"5\"", "{\"a\":5}", false},
    {21, "ctx.a == 5", "{\"a\":5.0}", true},
    {22, "ctx.a == 0.3", "{\"a\":0.30000000000000004}", true},
    {23, "ctx.a == 1", "{\"a\":1.0000000000000002}", false},
    {24, "ctx.a == 9007199254740992", "{\"a\":9007199254740993}", true},
    {25, "ctx.a < 5", "{}", false},
    {26, "ctx.a <= 0", "{\"a\":null}", false},
    {27, "ctx.a >= 5", "{\"a\":\"9\"}", false},
    {28, "ctx.a>5", "{\"a\":6}", true},
    {29, "ctx.a > -5", "{\"a\":0}", true},
    {30, "ctx.a > .5", "{\"a\":0.6}", true},
    {31, "ctx.a || ctx.b && ctx.c", "{\"a\":1,\"b\":0,\"c\":0}", true},
    {32, "(ctx.a || ctx.b) && ctx.c", "{\"a\":1,\"b\":0,\"c\":0}", false},
    {33, "!ctx.a", "{}", true},
    {34, "!!ctx.a", "{\"a\":1}", true},
    {35, "!ctx.a == 5", "{\"a\":5}", false},
    {36, "!ctx.a == 5", "{\"a\":6}", true},
    {37, "! ctx.a && ctx.b", "{\"a\":0,\"b\":1}", true},
    {38, "ctx.a == \"x\\\"y\"", "{\"a\":\"x\\\\\\\"y\"}", true},
    {39, "ctx..a", "{\"\":{\"a\":1}}", true},
};

static void guard__row_of_the_reference_table__verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        if (verdict(rows[i].guard, rows[i].ctx) != rows[i].result)
            fail_msg("row %u: %s on %s", rows[i].number, rows[i].guard, rows[i].ctx);
}

static void guard__row_40__invalid_number(void **state)
{
    (void)state;
    assert_refused("ctx.a > \"5\"", INVALID "invalid number: ''");
    assert_refused("ctx.a == ctx.b", INVALID "invalid number: ''");
    assert_refused("ctx.a === 5", INVALID "invalid number: ''");
    assert_refused("ctx.a > +5", INVALID "invalid number: ''");
    assert_refused("ctx.a > - 5", INVALID "invalid number: '-'");
    assert_refused("ctx.a == 'x'", INVALID "invalid number: ''");
    assert_refused("ctx.a == True", INVALID "invalid number: ''");
    assert_refused("ctx.a == [1]", INVALID "invalid number: ''");
}

static void guard__row_41__field_prefix(void **state)
{
    static const char *const guards[] = {"5 < ctx.a", "true", "CTX.a", "ctx", "ctx.a &&", "&& ctx.a"};

    (void)state;
    for (size_t i = 0; i < KT_COUNT(guards); i++)
        assert_refused(guards[i], INVALID "field must start with 'ctx.'");
}

static void guard__row_42__empty_field(void **state)
{
    (void)state;
    assert_refused("ctx.", INVALID "empty field name");
    assert_refused("ctx. a", INVALID "empty field name");
}

static void guard__row_43__open_parenthesis(void **state)
{
    (void)state;
    assert_refused("(ctx.a", INVALID "expected ')'");
    assert_refused("((ctx.a)", INVALID "expected ')'");
}

static void guard__row_44__unterminated_string(void **state)
{
    (void)state;
    assert_refused("ctx.a == \"x", INVALID "unterminated string");
    assert_refused("ctx.a == \"x\\", INVALID "unterminated string");
    assert_refused("ctx.a == \"x\\\"", INVALID "unterminated string");
    assert_refused("ctx.a == \"", INVALID "unterminated string");
}

static void guard__row_45__empty(void **state)
{
    (void)state;
    assert_refused("", INVALID "empty guard expression");
    assert_refused(" \t\r\n ", INVALID "empty guard expression");
}

/* The reference reads some of these as less than they say; here they are refused. */
static void guard__trailing_input__refused(void **state)
{
    static const char *const guards[] = {
        "ctx.a garbage",    "ctx.a = 5",       "ctx.a & ctx.b",      "ctx.a == 1e3",   "ctx.a | ctx.b",
        "ctx.a == trueish", "ctx.a)",          "ctx.a == nullx",     "ctx.a == 1.2.3", "ctx.a == -1-",
        "(ctx.a) ctx.b",    "ctx.a == \"x\"y", "ctx.a \xe3\x80\x80", "ctx.a ctx.b",    "ctx.a[0]",
    };

    (void)state;
    for (size_t i = 0; i < KT_COUNT(guards); i++)
        assert_refused(guards[i], INVALID "unexpected trailing input");
}

static void guard__zero_byte__refused(void **state)
{
    (void)state;
    assert_refused_bytes(kt_slice("ctx.a\0ctx.b", 11), INVALID "unexpected trailing input");
}

static void guard__numbers__all_forms(void **state)
{
    (void)state;
    assert_true(verdict("ctx.a == 5.", "{\"a\":5}"));
    assert_true(verdict("ctx.a == -.25", "{\"a\":-0.25}"));
    assert_true(verdict("ctx.a == 0005", "{\"a\":5}"));
    assert_true(verdict("ctx.a == 00.500", "{\"a\":0.5}"));
    assert_true(verdict("ctx.a == -0", "{\"a\":0}"));
    assert_true(verdict("ctx.a == 0", "{\"a\":-0.0}"));
    assert_true(verdict("ctx.a == 18446744073709551615", "{\"a\":18446744073709551615}"));
    assert_true(verdict("ctx.a < 1", "{\"a\":-9223372036854775808}"));
    assert_true(verdict("ctx.a >= 100", "{\"a\":1e2}"));
    assert_refused("ctx.a == .", INVALID "invalid number: '.'");
    assert_refused("ctx.a == -.", INVALID "invalid number: '-.'");
    assert_refused("ctx.a <", INVALID "invalid number: ''");
}

static void guard__number_beyond_a_double__refused(void **state)
{
    char text[400], words[KT_ERROR_TEXT_MAX];
    struct kt_arena arena;
    struct kt_error error;
    struct guard *guard;

    (void)state;
    snprintf(text, sizeof(text), "ctx.a > 1%0308d", 0);
    assert_true(verdict(text, "{\"a\":1.7e308}"));
    snprintf(text, sizeof(text), "ctx.a > 1%0309d", 0);
    kt_arena_init(&arena);
    assert_int_equal(guard_parse(kt_slice_text(text), &arena, &guard, &error), KT_BAD_REQUEST);
    kt_arena_release(&arena);
    /* Cut, so that there is room behind it for where it stands. */
    snprintf(words, sizeof(words), INVALID "invalid number: '1%063d'", 0);
    assert_string_equal(error.text, words);
}

static void guard__white_space__free_between_tokens(void **state)
{
    (void)state;
    assert_true(verdict(" \t( ctx.a\n==\r5 )\v&&\f! ctx.b ", "{\"a\":5}"));
    assert_true(verdict("ctx.a==5&&!ctx.b||ctx.c", "{\"a\":5}"));
}

static void guard__text_beyond_ascii__compared(void **state)
{
    (void)state;
    assert_true(verdict("ctx.größe == \"日本\"", "{\"größe\":\"日本\"}"));
    assert_false(verdict("ctx.größe == \"日本\"", "{\"größe\":\"日\"}"));
    assert_true(verdict("ctx.a == \"\\é\"", "{\"a\":\"\\\\é\"}"));
    assert_true(verdict("ctx.\xf0\x9f\x9a\xaa.b", "{\"\xf0\x9f\x9a\xaa\":{\"b\":1}}"));
}

static void guard__string_with_control_characters__compared_as_they_are(void **state)
{
    (void)state;
    assert_true(verdict("ctx.a == \"x\ny\"", "{\"a\":\"x\\ny\"}"));
    assert_true(verdict("ctx.a == \"x\001y\"", "{\"a\":\"x\\u0001y\"}"));
    assert_true(verdict("ctx.a == \"x\\ny\"", "{\"a\":\"x\\\\ny\"}"));
    assert_true(verdict("ctx.a == \"\"", "{\"a\":\"\"}"));
    assert_false(verdict("ctx.a", "{\"a\":\"\"}"));
}

static void guard__kinds__never_converted(void **state)
{
    (void)state;
    assert_true(verdict("ctx.a == true", "{\"a\":true}"));
    assert_false(verdict("ctx.a == true", "{\"a\":false}"));
    assert_false(verdict("ctx.a == true", "{\"a\":\"true\"}"));
    assert_true(verdict("ctx.a != true", "{\"a\":\"true\"}"));
    assert_false(verdict("ctx.a == false", "{\"a\":0}"));
    assert_false(verdict("ctx.a == null", "{\"a\":\"null\"}"));
    assert_false(verdict("ctx.a == 1", "{\"a\":[1]}"));
    assert_false(verdict("ctx.a == \"{}\"", "{\"a\":{}}"));
    assert_true(verdict("ctx.a != 1", "{\"a\":{}}"));
    assert_false(verdict("ctx.a < 5", "{\"a\":true}"));
}

static void guard__ordering__at_the_border(void **state)
{
    (void)state;
    assert_false(verdict("ctx.a > 5", "{\"a\":5}"));
    assert_true(verdict("ctx.a >= 5", "{\"a\":5}"));
    assert_false(verdict("ctx.a < 5", "{\"a\":5}"));
    assert_true(verdict("ctx.a <= 5", "{\"a\":5}"));
    assert_true(verdict("ctx.a < 5", "{\"a\":4.999}"));
    /* Ordering has no tolerance: 0.30000000000000004 equals 0.3 and is greater all the same. */
    assert_true(verdict("ctx.a > 0.3", "{\"a\":0.30000000000000004}"));
}

static void guard__paths__only_through_objects(void **state)
{
    (void)state;
    assert_true(verdict("ctx.a.", "{\"a\":{\"\":1}}"));
    assert_true(verdict("ctx..", "{\"\":{\"\":1}}"));
    assert_false(verdict("ctx.a.b", "{\"a\":\"{\\\"b\\\":1}\"}"));
    assert_false(verdict("ctx.a", "[1]"));
    assert_false(verdict("ctx.a", "\"a\""));
    assert_false(verdict("ctx.a", ""));
    assert_true(verdict("ctx.ctx.a", "{\"ctx\":{\"a\":1}}"));
    /* A key that contains a dot cannot be addressed. */
    assert_false(verdict("ctx.a.b", "{\"a.b\":1}"));
}

/* Every combination of three operands against C's own operators. */
static void guard__all_combinations__as_c_decides(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 8; bits++) {
        bool a = bits & 1, b = bits & 2, c = bits & 4;
        char ctx[64];

        snprintf(ctx, sizeof(ctx), "{\"a\":%d,\"b\":%d,\"c\":%d}", a, b, c);
        assert_int_equal(verdict("ctx.a && ctx.b && ctx.c", ctx), a && b && c);
        assert_int_equal(verdict("ctx.a || ctx.b || ctx.c", ctx), a || b || c);
        assert_int_equal(verdict("ctx.a && ctx.b || ctx.c", ctx), (a && b) || c);
        assert_int_equal(verdict("ctx.a || ctx.b && ctx.c", ctx), a || (b && c));
        assert_int_equal(verdict("ctx.a && (ctx.b || ctx.c)", ctx), a && (b || c));
        assert_int_equal(verdict("!(ctx.a && ctx.b) || !ctx.c", ctx), !(a && b) || !c);
        assert_int_equal(verdict("!(ctx.a || !ctx.b && ctx.c)", ctx), !(a || (!b && c)));
        assert_int_equal(verdict("(ctx.a || ctx.b) && (ctx.b || ctx.c) && !(ctx.a && ctx.c)", ctx),
                         (a || b) && (b || c) && !(a && c));
        assert_int_equal(verdict("(ctx.a && !ctx.b) || (!ctx.a && ctx.b)", ctx), a != b);
    }
}

static void guard__nesting__capped(void **state)
{
    const char *words = INVALID "nested too deeply, the limit is 64";
    char text[400];
    int len;

    (void)state;
    for (unsigned depth = 64; depth <= 65; depth++) {
        len = 0;
        for (unsigned i = 0; i < depth; i++)
            len += snprintf(text + len, sizeof(text) - (size_t)len, "(");
        len += snprintf(text + len, sizeof(text) - (size_t)len, "ctx.a");
        for (unsigned i = 0; i < depth; i++)
            len += snprintf(text + len, sizeof(text) - (size_t)len, ")");
        if (depth == 64)
            assert_true(verdict(text, "{\"a\":1}"));
        else
            assert_refused(text, words);
        memset(text, '!', depth);
        memcpy(text + depth, "ctx.a", 6);
        if (depth == 64)
            assert_true(verdict(text, "{\"a\":1}"));
        else
            assert_refused(text, words);
    }
    /* Depth is what is open at once, not what was opened in all. */
    len = 0;
    for (int i = 0; i < 40; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "%s(!ctx.a)", i ? "&&" : "");
    assert_true(verdict(text, "{}"));
}

static void guard__length__capped(void **state)
{
    char text[MACHINE_GUARD_BYTES_MAX + 2];
    size_t len = 0;

    (void)state;
    for (unsigned i = 0; i < 584; i++, len += 7)
        memcpy(text + len, "ctx.a&&", 7);
    memcpy(text + len, "ctx.a   ", 9);
    assert_int_equal(strlen(text), MACHINE_GUARD_BYTES_MAX);
    assert_true(verdict(text, "{\"a\":1}"));
    assert_false(verdict(text, "{\"a\":0}"));
    memcpy(text + MACHINE_GUARD_BYTES_MAX, " ", 2);
    assert_refused(text, INVALID "4097 bytes, the limit is 4096");
}

/* A context costs what is looked at, and no more than was allowed. */
static void guard__work_used_up__stops(void **state)
{
    const char *ctx = "{\"filler\":\"0123456789012345678901234567890123456789\",\"a\":1}";
    struct kt_arena arena;
    struct guard *guard;
    uint64_t work = 100;

    (void)state;
    kt_arena_init(&arena);
    assert_int_equal(guard_parse(kt_slice_text("ctx.a && ctx.a && ctx.a"), &arena, &guard, NULL), KT_OK);
    assert_false(guard_evaluate(guard, kt_slice_text(ctx), &work));
    assert_int_equal(work, 0);
    work = 1000;
    assert_true(guard_evaluate(guard, kt_slice_text(ctx), &work));
    assert_in_range(work, 1000 - 3 * strlen(ctx), 1000 - 3);
    kt_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard__row_of_the_reference_table__verdict),
        cmocka_unit_test(guard__row_40__invalid_number),
        cmocka_unit_test(guard__row_41__field_prefix),
        cmocka_unit_test(guard__row_42__empty_field),
        cmocka_unit_test(guard__row_43__open_parenthesis),
        cmocka_unit_test(guard__row_44__unterminated_string),
        cmocka_unit_test(guard__row_45__empty),
        cmocka_unit_test(guard__trailing_input__refused),
        cmocka_unit_test(guard__zero_byte__refused),
        cmocka_unit_test(guard__numbers__all_forms),
        cmocka_unit_test(guard__number_beyond_a_double__refused),
        cmocka_unit_test(guard__white_space__free_between_tokens),
        cmocka_unit_test(guard__text_beyond_ascii__compared),
        cmocka_unit_test(guard__string_with_control_characters__compared_as_they_are),
        cmocka_unit_test(guard__kinds__never_converted),
        cmocka_unit_test(guard__ordering__at_the_border),
        cmocka_unit_test(guard__paths__only_through_objects),
        cmocka_unit_test(guard__all_combinations__as_c_decides),
        cmocka_unit_test(guard__nesting__capped),
        cmocka_unit_test(guard__length__capped),
        cmocka_unit_test(guard__work_used_up__stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
