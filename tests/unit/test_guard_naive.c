/*
 * Guards against a second evaluator: one that reads the text again for every verdict, walks trees instead of text, and
 * knows nothing of programs or jumps. Random guards, as the grammar makes them and with a few bytes wrong, on random
 * contexts: both must accept the same texts and come to the same verdicts. KONTIKI_SEED chooses others.
 */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/random.h"
#include "engines/machine/guard.h"
#include "engines/machine/machine_limits.h"
#include "wire/json.h"

#define GUARDS   60000
#define CONTEXTS 4 /* for each guard */

/* ---- The second evaluator ---- */

struct naive {
    const char *at, *end;
    const struct kt_json *ctx;
    bool refused;
};

static void blanks(struct naive *naive)
{
    while (naive->at < naive->end && strchr(" \t\n\v\f\r", *naive->at) && *naive->at)
        naive->at++;
}

static bool token(struct naive *naive, const char *text)
{
    blanks(naive);
    if ((size_t)(naive->end - naive->at) < strlen(text) || strncmp(naive->at, text, strlen(text)) != 0)
        return false;
    naive->at += strlen(text);
    return true;
}

static bool digit(const struct naive *naive)
{
    return naive->at < naive->end && *naive->at >= '0' && *naive->at <= '9';
}

static double number(struct naive *naive)
{
    char text[MACHINE_GUARD_BYTES_MAX + 1];
    size_t digits = 0, len = 0;

    blanks(naive);
    if (naive->at < naive->end && *naive->at == '-')
        text[len++] = *naive->at++;
    for (; digit(naive); digits++)
        text[len++] = *naive->at++;
    if (naive->at < naive->end && *naive->at == '.') {
        text[len++] = *naive->at++;
        for (; digit(naive); digits++)
            text[len++] = *naive->at++;
    }
    text[len] = '\0';
    if (digits == 0 || !isfinite(strtod(text, NULL)))
        naive->refused = true;
    return strtod(text, NULL);
}

static const struct kt_json *member(const struct kt_json *object, const char *name, size_t len)
{
    const struct kt_json *found = NULL;

    if (!kt_json_is(object, KT_JSON_OBJECT))
        return NULL;
    for (const struct kt_json *child = kt_json_first(object); child; child = kt_json_next(child))
        if (kt_slice_equal(kt_json_key(child), kt_slice(name, len)))
            found = child;
    return found;
}

/* NULL: nothing there, which is as good as null. */
static const struct kt_json *field(struct naive *naive)
{
    const struct kt_json *value = naive->ctx;
    const char *from;

    if (!token(naive, "ctx.")) {
        naive->refused = true;
        return NULL;
    }
    from = naive->at;
    for (;;) {
        const char *step = naive->at;

        while (naive->at < naive->end && *naive->at != '.' &&
               ((*naive->at >= 'a' && *naive->at <= 'z') || (*naive->at >= 'A' && *naive->at <= 'Z') ||
                (*naive->at >= '0' && *naive->at <= '9') || *naive->at == '_' || (*naive->at & 0x80)))
            naive->at++;
        value = member(value, step, (size_t)(naive->at - step));
        if (naive->at == naive->end || *naive->at != '.')
            break;
        naive->at++;
    }
    if (naive->at == from)
        naive->refused = true;
    return value;
}

static bool truth(const struct kt_json *value)
{
    double as_number = 0;

    if (!value)
        return false;
    switch (kt_json_kind(value)) {
    case KT_JSON_NULL:
        return false;
    case KT_JSON_BOOL:
        return kt_json_bool(value);
    case KT_JSON_NUMBER:
        assert_true(kt_json_double(value, &as_number));
        return as_number != 0;
    case KT_JSON_STRING:
        return kt_json_string(value).len > 0;
    case KT_JSON_ARRAY:
    case KT_JSON_OBJECT:
        return kt_json_count(value) > 0;
    }
    return false;
}

static bool equals(struct naive *naive, const struct kt_json *value)
{
    enum kt_json_kind kind = value ? kt_json_kind(value) : KT_JSON_NULL;
    double literal, as_number = 0;

    if (token(naive, "true"))
        return kind == KT_JSON_BOOL && kt_json_bool(value);
    if (token(naive, "false"))
        return kind == KT_JSON_BOOL && !kt_json_bool(value);
    if (token(naive, "null"))
        return kind == KT_JSON_NULL;
    if (token(naive, "\"")) {
        const char *from = naive->at;

        while (naive->at < naive->end && *naive->at != '"')
            naive->at += *naive->at == '\\' && naive->at + 1 < naive->end ? 2 : 1;
        if (naive->at >= naive->end) {
            naive->refused = true;
            return false;
        }
        naive->at++;
        return kind == KT_JSON_STRING &&
               kt_slice_equal(kt_json_string(value), kt_slice(from, (size_t)(naive->at - 1 - from)));
    }
    literal = number(naive);
    if (kind != KT_JSON_NUMBER)
        return false;
    assert_true(kt_json_double(value, &as_number));
    return fabs(as_number - literal) < ldexp(1, -52);
}

static bool comparison(struct naive *naive)
{
    const struct kt_json *value = field(naive);
    bool is_number = kt_json_is(value, KT_JSON_NUMBER);
    double left = 0;

    if (naive->refused)
        return false;
    if (is_number)
        assert_true(kt_json_double(value, &left));
    if (token(naive, "=="))
        return equals(naive, value);
    if (token(naive, "!="))
        return !equals(naive, value);
    if (token(naive, ">="))
        return left >= number(naive) && is_number;
    if (token(naive, "<="))
        return left <= number(naive) && is_number;
    if (token(naive, ">"))
        return left > number(naive) && is_number;
    if (token(naive, "<"))
        return left < number(naive) && is_number;
    return truth(value);
}

static bool disjunction(struct naive *naive, unsigned depth);

static bool unary(struct naive *naive, unsigned depth)
{
    bool negated = false, result;

    if (depth > MACHINE_GUARD_DEPTH_MAX)
        naive->refused = true;
    if (naive->refused)
        return false;
    if (token(naive, "!")) {
        negated = true;
        result = unary(naive, depth + 1);
    } else if (token(naive, "(")) {
        if (depth + 1 > MACHINE_GUARD_DEPTH_MAX)
            naive->refused = true;
        result = !naive->refused && disjunction(naive, depth + 1);
        if (!naive->refused && !token(naive, ")"))
            naive->refused = true;
    } else {
        result = comparison(naive);
    }
    return result != negated;
}

static bool conjunction(struct naive *naive, unsigned depth)
{
    bool result = unary(naive, depth);

    while (!naive->refused && token(naive, "&&"))
        result = unary(naive, depth) && result;
    return result;
}

static bool disjunction(struct naive *naive, unsigned depth)
{
    bool result = conjunction(naive, depth);

    while (!naive->refused && token(naive, "||"))
        result = conjunction(naive, depth) || result;
    return result;
}

static bool naive_evaluate(struct kt_slice text, const struct kt_json *ctx, bool *refused)
{
    struct naive naive = {.at = text.data, .end = (const char *)text.data + text.len, .ctx = ctx};
    bool result = false;

    blanks(&naive);
    naive.refused = text.len > MACHINE_GUARD_BYTES_MAX || naive.at == naive.end;
    if (!naive.refused)
        result = disjunction(&naive, 0);
    blanks(&naive);
    *refused = naive.refused || naive.at != naive.end;
    return result;
}

/* ---- Random texts ---- */

static struct kt_random chance;

static uint64_t draw(uint64_t below)
{
    return kt_random_below(&chance, below);
}

static const char *const names[] = {"a", "b", "c", "d", "0", "x_1", "\xc3\xa4", ""};
/* Values that guards compare with and contexts hold: close to each other, at the borders, of every kind. */
static const char *const numbers[] = {"0",
                                      "-0.0",
                                      "1",
                                      "1.0",
                                      "1.0000000000000002",
                                      "-1",
                                      "5",
                                      "0.3",
                                      "0.30000000000000004",
                                      "9007199254740992",
                                      "9007199254740993",
                                      "18446744073709551615",
                                      "-9223372036854775808",
                                      "0.0000000000000001",
                                      "4.9",
                                      "123456789.125"};
static const char *const strings[] = {"\"\"",    "\"x\"",        "\"5\"",         "\"false\"",
                                      "\"x y\"", "\"\xc3\xa4\"", "\"a\\\\\\\"b\""};

#define PICK(list) (list)[draw(KT_COUNT(list))]

static void put_blanks(struct kt_buf *out)
{
    static const char *const some[] = {"", "", "", " ", "  ", "\t", "\n "};

    kt_buf_append_text(out, PICK(some));
}

static void put_field(struct kt_buf *out)
{
    kt_buf_append_text(out, "ctx.");
    kt_buf_append_text(out, draw(8) ? names[draw(4)] : names[draw(KT_COUNT(names) - 1)]);
    for (unsigned more = draw(4) ? 0 : 1 + (unsigned)draw(2); more > 0; more--)
        kt_buf_printf(out, ".%s", PICK(names));
}

static void put_literal(struct kt_buf *out)
{
    static const char *const words[] = {"true", "false", "null"};
    static const char *const texts[] = {"\"\"", "\"x\"", "\"5\"", "\"false\"", "\"x y\"", "\"\xc3\xa4\"", "\"a\\\"b\""};

    switch (draw(4)) {
    case 0:
        kt_buf_append_text(out, PICK(words));
        break;
    case 1:
        kt_buf_append_text(out, PICK(texts));
        break;
    default:
        kt_buf_append_text(out, PICK(numbers));
    }
}

static void put_expression(struct kt_buf *out, unsigned depth);

static void put_unary(struct kt_buf *out, unsigned depth)
{
    static const char *const orders[] = {"<", "<=", ">", ">="};

    put_blanks(out);
    switch (draw(depth > 0 ? 7 : 4)) {
    case 0:
        put_field(out);
        break;
    case 1:
        put_field(out);
        put_blanks(out);
        kt_buf_append_text(out, PICK(orders));
        put_blanks(out);
        kt_buf_append_text(out, PICK(numbers));
        break;
    case 2:
    case 3:
        put_field(out);
        put_blanks(out);
        kt_buf_append_text(out, draw(2) ? "==" : "!=");
        put_blanks(out);
        put_literal(out);
        break;
    case 4:
        kt_buf_append_u8(out, '!');
        put_unary(out, depth - 1);
        break;
    default:
        kt_buf_append_u8(out, '(');
        put_expression(out, depth - 1);
        kt_buf_append_u8(out, ')');
    }
    put_blanks(out);
}

static void put_expression(struct kt_buf *out, unsigned depth)
{
    put_unary(out, depth);
    for (unsigned more = (unsigned)draw(4); more > 0 && out->len < 2000; more--) {
        kt_buf_append_text(out, draw(2) ? "&&" : "||");
        put_unary(out, depth);
    }
}

/* Some bytes that are not what the grammar wants. */
static void spoil(struct kt_buf *out)
{
    static const char bytes[] = "!()&|=<>. \"\\-0159ctxaetrufalsn_[]'";

    for (unsigned i = 1 + (unsigned)draw(3); i > 0 && out->len > 0; i--) {
        size_t at = draw(out->len);

        switch (draw(3)) {
        case 0:
            out->data[at] = (uint8_t)bytes[draw(sizeof(bytes) - 1)];
            break;
        case 1:
            memmove(out->data + at, out->data + at + 1, out->len - at - 1);
            out->len--;
            break;
        default:
            kt_buf_append_u8(out, 0);
            memmove(out->data + at + 1, out->data + at, out->len - at - 1);
            out->data[at] = (uint8_t)bytes[draw(sizeof(bytes) - 1)];
        }
    }
}

static void put_value(struct kt_buf *out, unsigned depth)
{
    static const char *const words[] = {"true", "false", "null", "[]", "{}", "[0]", "[[]]", "{\"\":{\"a\":1}}"};
    unsigned count;

    switch (draw(depth > 0 ? 5 : 4)) {
    case 0:
        kt_buf_append_text(out, PICK(words));
        return;
    case 1:
        kt_buf_append_text(out, PICK(strings));
        return;
    case 2:
    case 3:
        kt_buf_append_text(out, PICK(numbers));
        return;
    default:
        break;
    }
    kt_buf_append_u8(out, '{');
    count = (unsigned)draw(6);
    for (unsigned i = 0; i < count; i++) {
        kt_buf_printf(out, "%s\"%s\":", i ? "," : "", PICK(names));
        put_value(out, depth - 1);
    }
    kt_buf_append_u8(out, '}');
}

static void put_context(struct kt_buf *out)
{
    kt_buf_append_text(out, "{\"a\":");
    put_value(out, 3);
    for (unsigned i = 1; i < 5; i++)
        if (draw(3)) {
            kt_buf_printf(out, ",\"%s\":", names[i]);
            put_value(out, 3);
        }
    kt_buf_append_u8(out, '}');
}

/* ---- The comparison ---- */

struct counts {
    unsigned guards, refused, holds, fails;
};

static void compare_verdicts(struct kt_slice text, const struct guard *guard, bool accepted, struct counts *counts)
{
    struct kt_buf json, canonical;
    struct kt_json *ctx;
    bool refused, wanted, got;
    uint64_t work = MACHINE_GUARD_WORK_BYTES_MAX;

    kt_buf_init(&json, 1u << 20);
    kt_buf_init(&canonical, 1u << 20);
    put_context(&json);
    assert_int_equal(kt_json_parse(kt_buf_slice(&json), &ctx, NULL), KT_OK);
    kt_json_print(ctx, false, &canonical);
    wanted = naive_evaluate(text, ctx, &refused);
    if (refused == accepted)
        fail_msg("%s by the second evaluator only: %.*s", refused ? "refused" : "accepted", (int)text.len,
                 (const char *)text.data);
    if (accepted) {
        got = guard_evaluate(guard, kt_buf_slice(&canonical), &work);
        if (got != wanted)
            fail_msg("%d, the second evaluator says %d: %.*s on %.*s", got, wanted, (int)text.len,
                     (const char *)text.data, (int)canonical.len, (const char *)canonical.data);
        if (got)
            counts->holds++;
        else
            counts->fails++;
    }
    kt_json_free(ctx);
    kt_buf_release(&json);
    kt_buf_release(&canonical);
}

static void compare_guard(struct kt_buf *text, struct counts *counts)
{
    struct kt_arena arena;
    struct kt_error error;
    struct guard *guard;
    bool accepted;

    kt_arena_init(&arena);
    accepted = guard_parse(kt_buf_slice(text), &arena, &guard, &error) == KT_OK;
    counts->guards++;
    counts->refused += !accepted;
    for (unsigned i = 0; i < (accepted ? CONTEXTS : 1); i++)
        compare_verdicts(kt_buf_slice(text), guard, accepted, counts);
    kt_arena_release(&arena);
}

static void guards__random__same_verdicts(void **state)
{
    struct counts counts = {0};
    struct kt_buf text;
    uint64_t first = getenv("KONTIKI_SEED") ? strtoull(getenv("KONTIKI_SEED"), NULL, 10) : 1;

    (void)state;
    kt_random_seed(&chance, first);
    kt_buf_init(&text, 1u << 20);
    for (unsigned i = 0; i < GUARDS; i++) {
        kt_buf_clear(&text);
        put_expression(&text, (unsigned)draw(6));
        if (i % 3 == 2)
            spoil(&text);
        compare_guard(&text, &counts);
    }
    kt_buf_release(&text);
    print_message("seed %llu: %u guards, %u refused, verdicts: %u true, %u false\n", (unsigned long long)first,
                  counts.guards, counts.refused, counts.holds, counts.fails);
    /* Otherwise the comparison says nothing. */
    assert_true(counts.refused > GUARDS / 10);
    assert_true(counts.holds > GUARDS / 2);
    assert_true(counts.fails > GUARDS / 2);
}

/* So deep and no deeper, whatever it is nested by. */
static void guards__nested__refused_at_the_same_depth(void **state)
{
    struct counts counts = {0};
    struct kt_buf text;

    (void)state;
    kt_random_seed(&chance, 1);
    kt_buf_init(&text, 1u << 20);
    for (unsigned depth = 1; depth <= MACHINE_GUARD_DEPTH_MAX + 2; depth++)
        for (unsigned kind = 0; kind < 20; kind++) {
            unsigned opened = 0;

            kt_buf_clear(&text);
            for (unsigned i = 0; i < depth; i++) {
                bool opens = kind == 0 || (kind > 1 && draw(2));

                kt_buf_append_u8(&text, opens ? '(' : '!');
                opened += opens;
            }
            kt_buf_append_text(&text, "ctx.a");
            while (opened-- > 0)
                kt_buf_append_u8(&text, ')');
            compare_guard(&text, &counts);
        }
    kt_buf_release(&text);
    assert_int_equal(counts.refused, 2 * 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guards__random__same_verdicts),
        cmocka_unit_test(guards__nested__refused_at_the_same_depth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
