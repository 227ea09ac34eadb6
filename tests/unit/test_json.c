/* wire/json.c and its companions: what is read, what is refused, and that everything is written back exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "wire/json.h"

#define PRINT_MAX (64 * 1024 * 1024)

static struct kt_json *parse(const char *text)
{
    struct kt_json *json;
    struct kt_error error = {.code = KT_OK};
    if (kt_json_parse(kt_slice_text(text), &json, &error) != KT_OK)
        fail_msg("%s: %s", text, error.text);
    return json;
}

static void expect_printed(const char *text, bool sorted, const char *want)
{
    struct kt_json *json = parse(text);
    struct kt_buf out;
    kt_buf_init(&out, PRINT_MAX);
    kt_json_print(json, sorted, &out);
    assert_int_equal(kt_buf_code(&out), KT_OK);
    kt_buf_append_u8(&out, 0);
    assert_string_equal((char *)out.data, want);
    kt_buf_release(&out);
    kt_json_free(json);
}

/* Parsing from memory of exactly that size, so that a step past the end is seen by the address sanitizer. */
static enum kt_code parse_exactly(const char *text, size_t len, struct kt_json **json, struct kt_error *error)
{
    char *copy = kt_alloc(len);
    memcpy(copy, text, len);
    enum kt_code code = kt_json_parse(kt_slice(copy, len), json, error);
    kt_free(copy);
    return code;
}

static void expect_refused(const char *text, size_t len)
{
    struct kt_json *json = (struct kt_json *)1;
    struct kt_error error = {.code = KT_OK};
    if (parse_exactly(text, len, &json, &error) != KT_BAD_REQUEST)
        fail_msg("accepted: %.*s", (int)len, text);
    assert_null(json);
    assert_int_equal(error.code, KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "at byte"));
}

static void number__any_spelling__prints_canonically(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"0", "0"},
        {"-0", "0"},
        {"-0.0", "-0.0"},
        {"0.0", "0.0"},
        {"0e5", "0.0"},
        {"-0e5", "-0.0"},
        {"1", "1"},
        {"-1", "-1"},
        {"1.0", "1.0"},
        {"1e2", "100.0"},
        {"1E+2", "100.0"},
        {"100e-2", "1.0"},
        {"0.1", "0.1"},
        {"19.99", "19.99"},
        {"-2.5", "-2.5"},
        {"0.30000000000000004", "0.30000000000000004"},
        {"9007199254740991", "9007199254740991"},
        {"9007199254740992", "9007199254740992"},
        {"9007199254740993", "9007199254740993"},
        {"-9007199254740993", "-9007199254740993"},
        {"9223372036854775807", "9223372036854775807"},
        {"9223372036854775808", "9223372036854775808"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"-9223372036854775809", "-9.223372036854776e18"},
        {"18446744073709551615", "18446744073709551615"},
        {"18446744073709551616", "1.8446744073709552e19"},
        {"99999999999999999999", "1e20"},
        {"100000000000000000000000000000000000000001", "1e41"},
        {"9007199254740993.0", "9007199254740992.0"},
        {"5e-324", "5e-324"},
        {"3e-324", "5e-324"},
        {"2e-324", "0.0"},
        {"-1e-999", "-0.0"},
        {"1e-99999999999999999999", "0.0"},
        {"0e99999999999999999999", "0.0"},
        {"2.2250738585072014e-308", "2.2250738585072014e-308"},
        {"2.225073858507201e-308", "2.225073858507201e-308"},
        {"1.7976931348623157e308", "1.7976931348623157e308"},
        {"1.7976931348623158e308", "1.7976931348623157e308"},
        {"1e308", "1e308"},
        {"1e21", "1e21"},
        {"1e16", "1e16"},
        {"1e15", "1000000000000000.0"},
        {"123456789012345680.0", "1.2345678901234568e17"},
        {"1234567890123456.7", "1234567890123456.8"},
        {"0.00001", "0.00001"},
        {"0.000001", "1e-6"},
        {"0.0000123", "0.0000123"},
        {"0.00000123", "1.23e-6"},
        {"123.456e-10", "1.23456e-8"},
        /* A power of two, whose nearest 16 digits read back as less. */
        {"7.1202363472230444e-307", "7.120236347223045e-307"},
        {"5.78358058743443e222", "5.78358058743443e222"},
        {"6.090821257125e287", "6.090821257125e287"},
        {"4.35", "4.35"},
        {"589958.3993", "589958.3993"},
        {"0.000", "0.0"},
        {"1000000000000000000000e-20", "10.0"},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        expect_printed(rows[i][0], false, rows[i][1]);
        expect_printed(rows[i][1], false, rows[i][1]);
    }
}

/* Midway between 1 and the next double, then a bit more behind 900 zeros: only all the digits decide. */
static void number__digit_beyond_any_buffer__still_decides(void **state)
{
    (void)state;
    static const char half[] = "1.00000000000000011102230246251565404236316680908203125";
    char text[1200];
    double value;
    struct kt_json *json = parse(half);
    assert_true(kt_json_double(json, &value) && value == 1.0);
    kt_json_free(json);
    snprintf(text, sizeof(text), "%s%0*d1", half, 900, 0);
    json = parse(text);
    assert_true(kt_json_double(json, &value) && value == 1.0000000000000002);
    kt_json_free(json);
    /* The same digits with the point elsewhere: 1e1000 times smaller than its exponent says, and larger. */
    snprintf(text, sizeof(text), "1%0*de-1000", 1000, 0);
    json = parse(text);
    assert_true(kt_json_double(json, &value) && value == 1.0);
    kt_json_free(json);
    snprintf(text, sizeof(text), "0.%0*d1e1001", 1000, 0);
    json = parse(text);
    assert_true(kt_json_double(json, &value) && value == 1.0);
    kt_json_free(json);
}

static void number__overflowing__is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "1e309", "-1e309", "1e999", "1.7976931348623159e308", "1e99999999999999999999", "[1,-1e400]"};
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        expect_refused(rows[i], strlen(rows[i]));
    char *digits = kt_alloc(400);
    memset(digits, '9', 400);
    expect_refused(digits, 400);
    kt_free(digits);
}

static void number__integer_access__is_exact_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_i64, is_u64;
        int64_t i64;
        uint64_t u64;
    } rows[] = {
        {"0", true, true, 0, 0},
        {"-0", true, true, 0, 0},
        {"-1", true, false, -1, 0},
        {"9007199254740993", true, true, INT64_C(9007199254740993), UINT64_C(9007199254740993)},
        {"-9007199254740993", true, false, -INT64_C(9007199254740993), 0},
        {"9223372036854775807", true, true, INT64_MAX, INT64_MAX},
        {"9223372036854775808", false, true, 0, UINT64_C(9223372036854775808)},
        {"-9223372036854775808", true, false, INT64_MIN, 0},
        {"18446744073709551615", false, true, 0, UINT64_MAX},
        {"18446744073709551616", false, false, 0, 0},
        {"-9223372036854775809", false, false, 0, 0},
        {"1.0", false, false, 0, 0},
        {"1e2", false, false, 0, 0},
        {"\"1\"", false, false, 0, 0},
        {"null", false, false, 0, 0},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        int64_t i64 = 0;
        uint64_t u64 = 0;
        struct kt_json *json = parse(rows[i].text);
        assert_int_equal(kt_json_i64(json, &i64), rows[i].is_i64);
        assert_int_equal(kt_json_u64(json, &u64), rows[i].is_u64);
        if (rows[i].is_i64)
            assert_true(i64 == rows[i].i64);
        if (rows[i].is_u64)
            assert_true(u64 == rows[i].u64);
        kt_json_free(json);
    }
}

static void double__other_locale__changes_nothing(void **state)
{
    (void)state;
    const char *locale = NULL;
    static const char *const tried[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "C.UTF-8", "C"};
    for (size_t i = 0; !locale && i < KT_COUNT(tried); i++)
        locale = setlocale(LC_ALL, tried[i]);
    assert_non_null(locale);
    expect_printed("[0.1,1.5e-7,123456.789e3,0.30000000000000004]", false,
                   "[0.1,1.5e-7,123456789.0,0.30000000000000004]");
    assert_true(kt_json_text_double(kt_slice_text("1234567890.12345678901")) == 1234567890.12345678901);
    setlocale(LC_ALL, "C");
}

static void double__random_bits__reads_back_the_same(void **state)
{
    (void)state;
    uint64_t bits = 1;
    for (int i = 0; i < 100000; i++) {
        bits = bits * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double value, back;
        uint64_t pattern = bits ^ bits >> 29;
        memcpy(&value, &pattern, sizeof(value));
        struct kt_buf out;
        struct kt_json_writer writer;
        kt_buf_init(&out, 64);
        kt_json_writer_init(&writer, &out);
        kt_json_put_double(&writer, value);
        back = kt_json_text_double(kt_buf_slice(&out));
        if (isfinite(value))
            assert_memory_equal(&value, &back, sizeof(value));
        else
            assert_true(kt_slice_is(kt_buf_slice(&out), "null"));
        kt_buf_release(&out);
    }
}

static void literal__each__prints_itself(void **state)
{
    (void)state;
    expect_printed("null", false, "null");
    expect_printed("true", false, "true");
    expect_printed(" false ", true, "false");
    expect_printed("[null,true,{\"a\":false}]", true, "[null,true,{\"a\":false}]");
}

static void string__escapes__become_the_shortest(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"\"\"", "\"\""},
        {"\"plain text of more than eight bytes\"", "\"plain text of more than eight bytes\""},
        {"\"\\u0041\\/\"", "\"A/\""},
        {"\"\\\"\\\\\\b\\f\\n\\r\\t\"", "\"\\\"\\\\\\b\\f\\n\\r\\t\""},
        {"\"\\u0008\\u000C\\u000a\\u000d\\u0009\\u0022\\u005c\"", "\"\\b\\f\\n\\r\\t\\\"\\\\\""},
        {"\"\\u0000\\u0001\\u001F\\u007f\"", "\"\\u0000\\u0001\\u001f\x7f\""},
        {"\"\\u00e9\\u20AC\\ud83d\\uDE00\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\"\\uD7FF\\uE000\\uFFFF\"", "\"\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\""},
        {"\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""},
        {"\"\\u2028<>&\"", "\"\xe2\x80\xa8<>&\""},
        {"{\"a\\u0000\\n\":\"x\\u0000y\"}", "{\"a\\u0000\\n\":\"x\\u0000y\"}"},
        {"\"1234567\\\"90123456\xc3\xa9\"", "\"1234567\\\"90123456\xc3\xa9\""},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        expect_printed(rows[i][0], false, rows[i][1]);
        expect_printed(rows[i][1], true, rows[i][1]);
    }
}

static void string__nul__is_c0_80_in_the_tree_and_a_byte_outside(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena);
    struct kt_json *json = parse("[\"\\u0000a\\u0000\\u0000\xc3\x80\",\"plain\",\"\",1]");
    struct kt_json *first = kt_json_first(json);
    struct kt_slice stored = kt_json_string(first);
    assert_int_equal(stored.len, 9);
    assert_memory_equal(stored.data,
                        "\xc0\x80"
                        "a\xc0\x80\xc0\x80\xc3\x80",
                        9);
    struct kt_slice plain = kt_json_string_plain(first, &arena);
    assert_int_equal(plain.len, 6);
    assert_memory_equal(plain.data, "\0a\0\0\xc3\x80", 6);
    assert_true(kt_slice_is(kt_json_string_plain(kt_json_next(first), &arena), "plain"));
    assert_int_equal(kt_json_string_plain(kt_json_next(kt_json_next(first)), &arena).len, 0);
    struct kt_json *last = kt_json_next(kt_json_next(kt_json_next(first)));
    assert_int_equal(kt_json_string(last).len, 0);
    assert_int_equal(kt_json_string_plain(last, &arena).len, 0);
    assert_int_equal(kt_json_string(NULL).len, 0);
    kt_json_free(json);
    kt_arena_release(&arena);
}

static void parse__malformed__is_refused_with_a_position(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "", " ", "\n\t\r ", "nul", "nulL", "nullx", "tru", "True", "falsee", "none", "NaN", "Infinity", "-Infinity",
        "undefined",
        /* Arrays and objects. */
        "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "[1]]", "{", "}", "{\"a\"", "{\"a\":", "{\"a\":1",
        "{\"a\":1,", "{\"a\":1,}", "{a:1}", "{1:1}", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{\"a\":1]", "{,}", "{\"a\":,}",
        "{'a':1}", "{\"a\":1}{", "1 2", "// x\n1", "1 // x", "/**/1", "[1,2",
        /* Numbers. */
        "-", "+1", ".5", "5.", "-.5", "01", "-01", "00", "1.e1", "1e", "1e+", "1e-", "1.5e", "0x10", "1_000", "1,5",
        "--1", "-a", "1.2.3", "1e5.5", "[-]", "\xef\xbc\x91",
        /* Strings. */
        "\"", "\"a", "\"\\", "\"\\\"", "\"\\x41\"", "\"\\a\"", "\"\\u\"", "\"\\u12\"", "\"\\u123\"", "\"\\u12g4\"",
        "\"\\U0041\"", "\"\\u 123\"", "\"\\u+123\"", "\"a\nb\"", "\"a\tb\"", "\"\x01\"", "\"\x1f\"", "'a'", "\"\\\n\"",
        "\"\\'\"", "\"\\0\"",
        /* Surrogates. */
        "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\ud800\\ud800\"",
        "\"\\udc00\\ud800\"", "\"\\udfff\"", "\"\\ud800\\udc0\"", "\"\\ud83d\\\"", "{\"\\ud800\":1}",
        /* UTF-8: stray, cut, overlong, surrogate, beyond U+10FFFF, impossible bytes. */
        "\"\x80\"", "\"\xbf\"", "\"\xc3\"", "\"\xc3(\"", "\"\xe2\x82\"", "\"\xe2(\xa1\"", "\"\xf0\x9f\x98\"",
        "\"\xc0\x80\"", "\"\xc1\xbf\"", "\"\xe0\x80\x80\"", "\"\xe0\x9f\xbf\"", "\"\xf0\x80\x80\x80\"",
        "\"\xf0\x8f\xbf\xbf\"", "\"\xed\xa0\x80\"", "\"\xed\xbf\xbf\"", "\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"",
        "\"\xff\"", "\"\xfe\"", "\"\xf8\x88\x80\x80\x80\"", "\"abcdefgh\x80\"", "{\"\xff\":1}", "\"\xe2\x82", "\"\xc3",
        /* A byte order mark and other space. */
        "\xef\xbb\xbf{}", "\xc2\xa0{}", "\v1", "\f1"};
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        expect_refused(rows[i], strlen(rows[i]));
    expect_refused("1\0", 2);
    expect_refused("\0", 1);
    expect_refused("\"a\0b\"", 5);
    expect_refused("[1\0]", 4);
}

static void parse__error__names_the_byte(void **state)
{
    (void)state;
    struct kt_json *json;
    struct kt_error error;
    assert_int_equal(kt_json_parse(kt_slice_text("[1, x]"), &json, &error), KT_BAD_REQUEST);
    assert_string_equal(error.text, "json is malformed at byte 4: a value is expected");
    assert_int_equal(kt_json_parse(kt_slice_text("{\"a\":1} {"), &json, &error), KT_BAD_REQUEST);
    assert_string_equal(error.text, "json is malformed at byte 8: nothing is expected behind the value");
    assert_int_equal(kt_json_parse(kt_slice_text("\"ab\\ud800\""), &json, &error), KT_BAD_REQUEST);
    assert_string_equal(error.text, "json is malformed at byte 3: a lone surrogate is no character");
    assert_int_equal(kt_json_parse(kt_slice(NULL, 0), &json, NULL), KT_BAD_REQUEST);
}

static void parse__every_prefix_of_a_document__is_refused_or_whole(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\\u00e9\":[1,-2.5e3,\"\xe2\x82\xac\\ud83d\\ude00\",true,false,null,{}],\"b\":{\"c\":[[]]}} ";
    for (size_t len = 0; len < sizeof(text) - 2; len++)
        expect_refused(text, len);
    struct kt_json *json;
    assert_int_equal(parse_exactly(text, sizeof(text) - 1, &json, NULL), KT_OK);
    kt_json_free(json);
}

static void parse__white_space__is_allowed_around_everything(void **state)
{
    (void)state;
    expect_printed(" \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } , \"c\" : [ ] }\n", false,
                   "{\"a\":[1,2],\"b\":{},\"c\":[]}");
}

static void nest(char *text, size_t depth, const char *open, const char *inside, const char *close)
{
    *text = '\0';
    for (size_t i = 0; i < depth; i++)
        text = stpcpy(text, open);
    text = stpcpy(text, inside);
    for (size_t i = 0; i < depth; i++)
        text = stpcpy(text, close);
}

static void depth__at_and_past_the_limit__is_read_and_refused(void **state)
{
    (void)state;
    char text[8 * (KT_JSON_DEPTH_MAX + 2)];
    nest(text, KT_JSON_DEPTH_MAX, "[", "", "]");
    expect_printed(text, true, text);
    nest(text, KT_JSON_DEPTH_MAX, "{\"a\":", "1", "}");
    expect_printed(text, true, text);
    nest(text, KT_JSON_DEPTH_MAX + 1, "[", "", "]");
    expect_refused(text, strlen(text));
    nest(text, KT_JSON_DEPTH_MAX + 1, "{\"a\":", "1", "}");
    expect_refused(text, strlen(text));
    size_t many = 4 * 1024 * 1024;
    char *deep = kt_alloc(many);
    memset(deep, '[', many);
    expect_refused(deep, many);
    kt_free(deep);
}

/* The length alone decides: no byte of it is read. */
static void parse__text_of_two_gigabytes__is_too_large(void **state)
{
    (void)state;
    struct kt_json *json;
    struct kt_error error;
    assert_int_equal(kt_json_parse(kt_slice("1", (size_t)INT32_MAX + 1), &json, &error), KT_TOO_LARGE);
    assert_null(json);
    assert_string_equal(error.text, "json is 2147483648 bytes, the limit is 2147483647");
}

static void parse__more_values_than_the_ceiling__is_too_large(void **state)
{
    (void)state;
    size_t count = KT_JSON_NODES_MAX; /* with the array itself one too many */
    char *text = kt_alloc(2 * count + 1), *to = text;
    *to++ = '[';
    for (size_t i = 0; i < count; i++) {
        *to++ = '0';
        *to++ = i + 1 < count ? ',' : ']';
    }
    struct kt_json *json;
    struct kt_error error;
    assert_int_equal(kt_json_parse(kt_slice(text, (size_t)(to - text)), &json, &error), KT_TOO_LARGE);
    assert_null(json);
    to[-3] = ']';
    assert_int_equal(kt_json_parse(kt_slice(text, (size_t)(to - text - 2)), &json, &error), KT_OK);
    assert_int_equal(kt_json_count(json), count - 1);
    kt_json_free(json);
    kt_free(text);
}

static void parse__duplicate_keys__the_last_value_takes_the_first_place(void **state)
{
    (void)state;
    expect_printed("{\"a\":1,\"b\":2,\"a\":3}", false, "{\"a\":3,\"b\":2}");
    expect_printed("{\"a\":1,\"a\":2}", false, "{\"a\":2}");
    expect_printed("{\"a\":1,\"b\":2,\"b\":3,\"b\":4}", false, "{\"a\":1,\"b\":4}");
    expect_printed("{\"a\":1,\"\\u0061\":[{\"x\":1,\"x\":{}}]}", false, "{\"a\":[{\"x\":{}}]}");
    expect_printed("{\"\":1,\"\":2,\"a\":{},\"\":3}", false, "{\"\":3,\"a\":{}}");
    /* Two keys whose key bits agree are still two. */
    expect_printed("{\"abc\":1,\"aXc\":2,\"abc\":3}", false, "{\"abc\":3,\"aXc\":2}");
}

/* Many members, so that duplicates are found by sorting; against an object computed by hand. */
static void parse__duplicates_among_many_keys__same_rule(void **state)
{
    (void)state;
    enum { KEYS = 500, MEMBERS = 2000 };
    struct kt_buf text, want;
    int place[KEYS], last[KEYS], order[KEYS], count = 0;
    kt_buf_init(&text, PRINT_MAX);
    kt_buf_init(&want, PRINT_MAX);
    for (int i = 0; i < KEYS; i++)
        place[i] = -1;
    kt_buf_append_u8(&text, '{');
    for (int i = 0; i < MEMBERS; i++) {
        int key = (i * 7919 + i / 3) % KEYS;
        kt_buf_printf(&text, "%s\"key%d\":%d", i ? "," : "", key, i);
        if (place[key] < 0) {
            place[key] = count;
            order[count++] = key;
        }
        last[key] = i;
    }
    kt_buf_append_text(&text, "}");
    kt_buf_append_u8(&text, 0);
    for (int i = 0; i < count; i++)
        kt_buf_printf(&want, "%s\"key%d\":%d", i ? "," : "{", order[i], last[order[i]]);
    kt_buf_append_u8(&want, '}');
    kt_buf_append_u8(&want, 0);
    expect_printed((char *)text.data, false, (char *)want.data);
    struct kt_json *json = parse((char *)text.data);
    assert_int_equal(kt_json_count(json), count);
    kt_json_free(json);
    kt_buf_release(&text);
    kt_buf_release(&want);
}

static void print__sorted__orders_keys_bytewise_at_every_level(void **state)
{
    (void)state;
    expect_printed("{\"b\":{\"z\":1,\"y\":[{\"d\":1,\"c\":2}]},\"a\":2}", true,
                   "{\"a\":2,\"b\":{\"y\":[{\"c\":2,\"d\":1}],\"z\":1}}");
    expect_printed("{\"b\":{\"z\":1,\"y\":2},\"a\":2}", false, "{\"b\":{\"z\":1,\"y\":2},\"a\":2}");
    expect_printed("{\"aa\":1,\"a\":2,\"\":3,\"a\\u0000\":4,\"a\\u0001\":5,\"A\":6,\"\xc3\xa9\":7,\"~\":8}", true,
                   "{\"\":3,\"A\":6,\"a\":2,\"a\\u0000\":4,\"a\\u0001\":5,\"aa\":1,\"~\":8,\"\xc3\xa9\":7}");
}

static void print__sorted_object_of_many_members__is_sorted(void **state)
{
    (void)state;
    struct kt_buf text, want;
    kt_buf_init(&text, PRINT_MAX);
    kt_buf_init(&want, PRINT_MAX);
    for (int i = 0; i < 1000; i++) {
        kt_buf_printf(&text, "%s\"%03d\":%d", i ? "," : "{", i * 577 % 1000, i * 577 % 1000);
        kt_buf_printf(&want, "%s\"%03d\":%d", i ? "," : "{", i, i);
    }
    kt_buf_append(&text, "}", 2);
    kt_buf_append(&want, "}", 2);
    expect_printed((char *)text.data, true, (char *)want.data);
    kt_buf_release(&text);
    kt_buf_release(&want);
}

static void print__past_the_ceiling__fails_the_buffer(void **state)
{
    (void)state;
    struct kt_json *json = parse("{\"a\":[1,2,3,\"text\"]}");
    struct kt_buf out;
    kt_buf_init(&out, 10);
    kt_json_print(json, true, &out);
    assert_int_equal(kt_buf_code(&out), KT_TOO_LARGE);
    kt_buf_release(&out);
    kt_json_free(json);
}

static void tree__access__finds_what_is_there(void **state)
{
    (void)state;
    struct kt_json *json = parse("{\"n\":null,\"t\":true,\"f\":false,\"i\":1,\"s\":\"x\",\"a\":[1,[]],\"o\":{}}");
    static const struct {
        const char *name;
        enum kt_json_kind kind;
    } members[] = {{"n", KT_JSON_NULL},   {"t", KT_JSON_BOOL},  {"f", KT_JSON_BOOL},  {"i", KT_JSON_NUMBER},
                   {"s", KT_JSON_STRING}, {"a", KT_JSON_ARRAY}, {"o", KT_JSON_OBJECT}};
    size_t at = 0;
    assert_true(kt_json_is(json, KT_JSON_OBJECT));
    assert_int_equal(kt_json_count(json), KT_COUNT(members));
    for (struct kt_json *member = kt_json_first(json); member; member = kt_json_next(member), at++) {
        assert_true(kt_slice_is(kt_json_key(member), members[at].name));
        assert_int_equal(kt_json_kind(member), members[at].kind);
        assert_ptr_equal(kt_json_get(json, members[at].name), member);
    }
    assert_int_equal(at, KT_COUNT(members));
    assert_true(kt_json_bool(kt_json_get(json, "t")));
    assert_false(kt_json_bool(kt_json_get(json, "f")));
    assert_false(kt_json_bool(kt_json_get(json, "i")));
    assert_true(kt_slice_is(kt_json_string(kt_json_get(json, "s")), "x"));
    assert_int_equal(kt_json_count(kt_json_get(json, "a")), 2);
    assert_int_equal(kt_json_count(kt_json_get(json, "i")), 0);
    assert_int_equal(kt_json_key(json).len, 0);
    assert_int_equal(kt_json_key(kt_json_first(kt_json_get(json, "a"))).len, 0);
    double value;
    assert_false(kt_json_double(kt_json_get(json, "s"), &value));
    assert_null(kt_json_get(json, "missing"));
    assert_null(kt_json_get(json, "N"));
    assert_null(kt_json_get(kt_json_get(json, "a"), "n"));
    assert_null(kt_json_first(kt_json_get(json, "o")));
    kt_json_free(json);
}

static void tree__null__is_nothing(void **state)
{
    (void)state;
    int64_t i64;
    uint64_t u64;
    double value;
    assert_null(kt_json_get(NULL, "a"));
    assert_null(kt_json_first(NULL));
    assert_null(kt_json_next(NULL));
    assert_int_equal(kt_json_count(NULL), 0);
    assert_int_equal(kt_json_key(NULL).len, 0);
    assert_false(kt_json_is(NULL, KT_JSON_NULL));
    assert_false(kt_json_bool(NULL));
    assert_false(kt_json_i64(NULL, &i64));
    assert_false(kt_json_u64(NULL, &u64));
    assert_false(kt_json_double(NULL, &value));
    kt_json_free(NULL);
}

static void parse_in__arena__dies_with_it(void **state)
{
    (void)state;
    struct kt_arena arena;
    struct kt_json *json;
    kt_arena_init(&arena);
    assert_int_equal(kt_json_parse_in(&arena, kt_slice_text("{\"a\":[1,2]}"), &json, NULL), KT_OK);
    assert_int_equal(kt_json_count(kt_json_get(json, "a")), 2);
    assert_int_equal(kt_json_parse_in(&arena, kt_slice_text("{\"a\":[1,2}"), &json, NULL), KT_BAD_REQUEST);
    assert_null(json);
    kt_arena_release(&arena);
}

static void parse__each_allocation_failing__reports_and_leaks_nothing(void **state)
{
    (void)state;
    struct kt_buf text;
    kt_buf_init(&text, PRINT_MAX);
    kt_buf_append_text(&text, "{\"a\":[1,18446744073709551615,\"x\\n\",{\"b\":null}],\"a\":true");
    for (int i = 0; i < 40; i++)
        kt_buf_printf(&text, ",\"k%d\":%d", i % 38, i);
    kt_buf_append_u8(&text, '}');
    for (unsigned n = 1;; n++) {
        struct kt_json *json;
        struct kt_error error;
        kt_alloc_fail_at(n);
        enum kt_code code = kt_json_parse(kt_buf_slice(&text), &json, &error);
        kt_alloc_fail_at(0);
        if (code == KT_OK) {
            assert_true(n > 80);
            kt_json_free(json);
            break;
        }
        assert_int_equal(code, KT_NO_MEMORY);
        assert_int_equal(error.code, KT_NO_MEMORY);
        assert_null(json);
    }
    kt_buf_release(&text);
}

static void print__sorting_without_memory__fails_the_buffer(void **state)
{
    (void)state;
    struct kt_buf text, out;
    struct kt_json *json;
    kt_buf_init(&text, PRINT_MAX);
    kt_buf_init(&out, PRINT_MAX);
    for (int i = 0; i < 100; i++)
        kt_buf_printf(&text, "%s\"%d\":0", i ? "," : "{", i);
    kt_buf_append_u8(&text, '}');
    assert_int_equal(kt_json_parse(kt_buf_slice(&text), &json, NULL), KT_OK);
    assert_non_null(kt_buf_reserve(&out, 4096));
    kt_alloc_fail_at(1);
    kt_json_print(json, true, &out);
    kt_alloc_fail_at(0);
    assert_int_equal(kt_buf_code(&out), KT_NO_MEMORY);
    kt_json_free(json);
    kt_buf_release(&text);
    kt_buf_release(&out);
}

static void writer__nested_calls__put_commas_where_they_belong(void **state)
{
    (void)state;
    struct kt_buf out;
    struct kt_json_writer w;
    kt_buf_init(&out, 4096);
    kt_json_writer_init(&w, &out);
    kt_json_begin_object(&w);
    kt_json_put_text_member(&w, "text", "a\"b\n");
    kt_json_put_key(&w, "array");
    kt_json_begin_array(&w);
    kt_json_begin_object(&w);
    kt_json_end_object(&w);
    kt_json_begin_array(&w);
    kt_json_end_array(&w);
    kt_json_put_u64(&w, UINT64_MAX);
    kt_json_put_i64(&w, INT64_MIN);
    kt_json_put_i64(&w, 0);
    kt_json_put_i64(&w, 7);
    kt_json_put_double(&w, 1.0);
    kt_json_put_double(&w, -0.0);
    kt_json_put_double(&w, NAN);
    kt_json_put_double(&w, INFINITY);
    kt_json_put_bool(&w, true);
    kt_json_put_bool(&w, false);
    kt_json_put_null(&w);
    kt_json_put_raw(&w, kt_slice_text("{\"x\":[1]}"));
    kt_json_put_text(&w, "");
    kt_json_end_array(&w);
    kt_json_put_u64_member(&w, "u", 5);
    kt_json_put_bool_member(&w, "b", true);
    kt_json_put_raw_member(&w, "r", kt_slice_text("[]"));
    kt_json_put_string_member(&w, "s", kt_slice("x\0y", 3));
    kt_json_put_key_slice(&w, kt_slice("k\0", 2));
    kt_json_put_null(&w);
    kt_json_end_object(&w);
    kt_buf_append_u8(&out, 0);
    assert_string_equal(
        (char *)out.data,
        "{\"text\":\"a\\\"b\\n\",\"array\":[{},[],18446744073709551615,-9223372036854775808,0,7,1.0,-0.0,null,"
        "null,true,false,null,{\"x\":[1]},\"\"],\"u\":5,\"b\":true,\"r\":[],\"s\":\"x\\u0000y\",\"k\\u0000\":"
        "null}");
    kt_buf_release(&out);
}

static void writer__bytes_that_are_no_utf8__become_replacement_characters(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"a\xff"
         "b",
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xc3", "\"\xef\xbf\xbd\""},
        {"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xc0", "\"\xef\xbf\xbd\""},
        {"\xc0\x80x", "\"\\u0000x\""},
        {"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct kt_buf out;
        struct kt_json_writer w;
        kt_buf_init(&out, 64);
        kt_json_writer_init(&w, &out);
        kt_json_put_text(&w, rows[i][0]);
        assert_true(kt_slice_is(kt_buf_slice(&out), rows[i][1]));
        kt_buf_release(&out);
    }
}

static void iter__object__yields_members_in_order(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":1,\"b\\\"\":\"x\\\\\",\"\":{\"c\":[\"}\",{}]},\"d\":[],\"e\":null,\"f\":-1.5e-7,\"g\":\"a,b\"}";
    static const char *const want[][2] = {{"a", "1"},      {"b\\\"", "\"x\\\\\""}, {"", "{\"c\":[\"}\",{}]}"},
                                          {"d", "[]"},     {"e", "null"},          {"f", "-1.5e-7"},
                                          {"g", "\"a,b\""}};
    struct kt_json_iter iter;
    struct kt_slice key, value;
    kt_json_iter_init(&iter, kt_slice_text(text));
    for (size_t i = 0; i < KT_COUNT(want); i++) {
        assert_true(kt_json_iter_next(&iter, &key, &value));
        assert_true(kt_slice_is(key, want[i][0]));
        assert_true(kt_slice_is(value, want[i][1]));
        assert_true(kt_json_member(kt_slice_text(text), kt_slice_text(want[i][0]), &value));
        assert_true(kt_slice_is(value, want[i][1]));
    }
    assert_false(kt_json_iter_next(&iter, &key, &value));
    assert_false(kt_json_iter_next(&iter, &key, &value));
    assert_false(kt_json_member(kt_slice_text(text), kt_slice_text("c"), &value));
    assert_false(kt_json_member(kt_slice_text(text), kt_slice_text("b\""), &value));
}

static void iter__array__yields_elements_without_keys(void **state)
{
    (void)state;
    static const char text[] = "[\"a:\",2,[3,[4]],{\"b\":5},true]";
    static const char *const want[] = {"\"a:\"", "2", "[3,[4]]", "{\"b\":5}", "true"};
    struct kt_json_iter iter;
    struct kt_slice key, value;
    kt_json_iter_init(&iter, kt_slice_text(text));
    for (size_t i = 0; i < KT_COUNT(want); i++) {
        assert_true(kt_json_iter_next(&iter, &key, &value));
        assert_int_equal(key.len, 0);
        assert_true(kt_slice_is(value, want[i]));
    }
    assert_false(kt_json_iter_next(&iter, &key, &value));
    assert_false(kt_json_member(kt_slice_text(text), kt_slice_text(""), &value));
}

static void iter__other_text__ends_at_once_or_inside(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",         "1",    "\"x\"",     "null",    "{}",         "[]",   "{",        "[",
        "[[",       "{\"a", "{\"a\"",    "{\"a\":", "[\"\\",      "[1,",  "{\"a\":}", "]",
        "{\"a\":[", "[,,1", "{\"a\":\"", "[\"\\\"", "{\"a\":{\"", "[}1]", "{:1}",     "[:"};
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        size_t len = strlen(rows[i]);
        char *copy = kt_alloc(len);
        memcpy(copy, rows[i], len);
        struct kt_json_iter iter;
        struct kt_slice key, value;
        size_t steps = 0;
        kt_json_iter_init(&iter, kt_slice(copy, len));
        while (kt_json_iter_next(&iter, &key, &value)) {
            const char *at = value.data;
            assert_true(value.len > 0 && at >= copy && at + value.len <= copy + len);
            assert_true(++steps <= len);
        }
        kt_free(copy);
    }
    struct kt_json_iter iter;
    struct kt_slice key, value;
    kt_json_iter_init(&iter, kt_slice(NULL, 0));
    assert_false(kt_json_iter_next(&iter, &key, &value));
    assert_false(kt_json_member(kt_slice(NULL, 0), kt_slice_text("a"), &value));
}

static void text_kind__first_byte__decides(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum kt_json_kind kind;
    } rows[] = {{"null", KT_JSON_NULL}, {"true", KT_JSON_BOOL}, {"false", KT_JSON_BOOL},   {"0", KT_JSON_NUMBER},
                {"9", KT_JSON_NUMBER},  {"-1", KT_JSON_NUMBER}, {"\"x\"", KT_JSON_STRING}, {"[1]", KT_JSON_ARRAY},
                {"{}", KT_JSON_OBJECT}, {"", KT_JSON_NULL}};
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        assert_int_equal(kt_json_text_kind(kt_slice_text(rows[i].text)), rows[i].kind);
    assert_true(kt_json_text_double(kt_slice_text("1.5")) == 1.5);
    assert_true(kt_json_text_double(kt_slice_text("-9007199254740993")) == -9007199254740992.0);
    assert_true(kt_json_text_double(kt_slice_text("x")) == 0.0);
    assert_true(kt_json_text_double(kt_slice(NULL, 0)) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number__any_spelling__prints_canonically),
        cmocka_unit_test(number__digit_beyond_any_buffer__still_decides),
        cmocka_unit_test(number__overflowing__is_refused),
        cmocka_unit_test(number__integer_access__is_exact_or_refused),
        cmocka_unit_test(double__other_locale__changes_nothing),
        cmocka_unit_test(double__random_bits__reads_back_the_same),
        cmocka_unit_test(literal__each__prints_itself),
        cmocka_unit_test(string__escapes__become_the_shortest),
        cmocka_unit_test(string__nul__is_c0_80_in_the_tree_and_a_byte_outside),
        cmocka_unit_test(parse__malformed__is_refused_with_a_position),
        cmocka_unit_test(parse__error__names_the_byte),
        cmocka_unit_test(parse__every_prefix_of_a_document__is_refused_or_whole),
        cmocka_unit_test(parse__white_space__is_allowed_around_everything),
        cmocka_unit_test(depth__at_and_past_the_limit__is_read_and_refused),
        cmocka_unit_test(parse__text_of_two_gigabytes__is_too_large),
        cmocka_unit_test(parse__more_values_than_the_ceiling__is_too_large),
        cmocka_unit_test(parse__duplicate_keys__the_last_value_takes_the_first_place),
        cmocka_unit_test(parse__duplicates_among_many_keys__same_rule),
        cmocka_unit_test(print__sorted__orders_keys_bytewise_at_every_level),
        cmocka_unit_test(print__sorted_object_of_many_members__is_sorted),
        cmocka_unit_test(print__past_the_ceiling__fails_the_buffer),
        cmocka_unit_test(tree__access__finds_what_is_there),
        cmocka_unit_test(tree__null__is_nothing),
        cmocka_unit_test(parse_in__arena__dies_with_it),
        cmocka_unit_test(parse__each_allocation_failing__reports_and_leaks_nothing),
        cmocka_unit_test(print__sorting_without_memory__fails_the_buffer),
        cmocka_unit_test(writer__nested_calls__put_commas_where_they_belong),
        cmocka_unit_test(writer__bytes_that_are_no_utf8__become_replacement_characters),
        cmocka_unit_test(iter__object__yields_members_in_order),
        cmocka_unit_test(iter__array__yields_elements_without_keys),
        cmocka_unit_test(iter__other_text__ends_at_once_or_inside),
        cmocka_unit_test(text_kind__first_byte__decides),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
