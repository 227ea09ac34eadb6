/* Described structs: from JSON, to and from bytes, in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "engines/field.h"
#include "wire/json.h"
#include "wire/writer.h"

struct sample {
    uint64_t given;
    struct kt_slice text, bytes, json, object, sorted;
    uint64_t number;
    int64_t integer;
    bool flag;
};

#define ROW(member, kind, option, limit)                                                                               \
    {                                                                                                                  \
        .name = #member, .type = (kind), .offset = offsetof(struct sample, member), .flags = (option), .max = (limit)  \
    }

enum { TEXT_ROW, BYTES_ROW, JSON_ROW, OBJECT_ROW, SORTED_ROW, NUMBER_ROW, INTEGER_ROW, FLAG_ROW };

static const struct kt_field rows[] = {
    ROW(text, KT_FIELD_TEXT, KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY, 8),
    ROW(bytes, KT_FIELD_BYTES, 0, 0),
    ROW(json, KT_FIELD_JSON, 0, 20),
    ROW(object, KT_FIELD_JSON_OBJECT, 0, 0),
    ROW(sorted, KT_FIELD_JSON, KT_FIELD_SORTED, 0),
    ROW(number, KT_FIELD_U64, 0, 1000),
    ROW(integer, KT_FIELD_I64, 0, 50),
    ROW(flag, KT_FIELD_BOOL, 0, 0),
};

static const struct kt_struct type = KT_STRUCT(struct sample, rows);

struct fixture {
    struct kt_arena arena;
    struct kt_buf buf;
    struct sample sample;
    struct kt_error error;
};

static int set_up(void **state)
{
    struct fixture *f = kt_zalloc(sizeof(*f));

    kt_arena_init(&f->arena);
    kt_buf_init(&f->buf, 1u << 20);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    kt_arena_release(&f->arena);
    kt_buf_release(&f->buf);
    kt_free(f);
    return 0;
}

static enum kt_code from_json(struct fixture *f, const char *text)
{
    struct kt_json *json;
    enum kt_code code;

    assert_int_equal(kt_json_parse(kt_slice_text(text), &json, &f->error), KT_OK);
    memset(&f->sample, 0xee, sizeof(f->sample));
    code = kt_struct_from_json(&type, json, &f->arena, &f->sample, &f->error);
    kt_json_free(json); /* what was taken from it lives in the arena */
    return code;
}

static void expect_text(struct kt_slice slice, const char *text)
{
    assert_int_equal(slice.len, strlen(text));
    assert_memory_equal(slice.data, text, slice.len);
}

static void json__with_every_member__fills_the_struct(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(from_json(f, "{\"text\":\"a\\u0000b\\u20ac\",\"json\":[1, 1.0],\"object\":{\"b\":1,\"a\":2},"
                                  "\"sorted\":{\"b\":1,\"a\":{\"d\":1,\"c\":2}},\"number\":1000,\"integer\":-7,"
                                  "\"flag\":true,\"unknown\":{}}"),
                     KT_OK);
    assert_int_equal(f->sample.given, 0xff & ~(1u << BYTES_ROW));
    assert_true(kt_slice_equal(f->sample.text, kt_slice("a\0b\xe2\x82\xac", 6)));
    expect_text(f->sample.json, "[1,1.0]");
    expect_text(f->sample.object, "{\"b\":1,\"a\":2}");
    expect_text(f->sample.sorted, "{\"a\":{\"c\":2,\"d\":1},\"b\":1}");
    assert_int_equal(f->sample.number, 1000);
    assert_int_equal(f->sample.integer, -7);
    assert_true(f->sample.flag);
}

static void json__without_optional_members__leaves_them_zero(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(from_json(f, "{\"text\":\"a\",\"number\":null,\"json\":null}"), KT_OK);
    assert_int_equal(f->sample.given, 1u << TEXT_ROW);
    assert_int_equal(f->sample.number, 0);
    assert_null(f->sample.json.data);
    assert_true(KT_GIVEN(&f->sample, TEXT_ROW));
    assert_false(KT_GIVEN(&f->sample, NUMBER_ROW));
}

static void json__that_does_not_fit__names_the_field(void **state)
{
    static const struct {
        const char *json, *text;
    } cases[] = {
        {"{}", "missing field 'text'"},
        {"{\"text\":null}", "missing field 'text'"},
        {"null", "missing field 'text'"},
        {"[]", "parameters must be an object"},
        {"{\"text\":1}", "field 'text' must be a string"},
        {"{\"text\":\"\"}", "field 'text' must not be empty"},
        {"{\"text\":\"123456789\"}", "field 'text' is 9 bytes, the limit is 8"},
        {"{\"text\":\"a\",\"json\":\"1234567890123456789\"}", "field 'json' is 21 bytes, the limit is 20"},
        {"{\"text\":\"a\",\"object\":[]}", "field 'object' must be an object"},
        {"{\"text\":\"a\",\"number\":-1}", "field 'number' must be a non-negative integer"},
        {"{\"text\":\"a\",\"number\":1.0}", "field 'number' must be a non-negative integer"},
        {"{\"text\":\"a\",\"number\":\"1\"}", "field 'number' must be a non-negative integer"},
        {"{\"text\":\"a\",\"number\":1001}", "field 'number' is 1001, the limit is 1000"},
        {"{\"text\":\"a\",\"integer\":0.5}", "field 'integer' must be an integer"},
        {"{\"text\":\"a\",\"integer\":51}", "field 'integer' is 51, the limit is 50"},
        {"{\"text\":\"a\",\"flag\":1}", "field 'flag' must be a boolean"},
        {"{\"text\":\"a\",\"bytes\":\"x\"}", "field 'bytes' must be left out: bytes cannot be given in JSON"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < KT_COUNT(cases); i++) {
        assert_int_equal(from_json(f, cases[i].json), KT_BAD_REQUEST);
        assert_string_equal(f->error.text, cases[i].text);
    }
    memset(&f->sample, 0, sizeof(f->sample));
    assert_int_equal(kt_struct_from_json(&type, NULL, &f->arena, &f->sample, &f->error), KT_BAD_REQUEST);
}

static void check__of_a_struct_filled_by_hand__finds_the_same(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(kt_struct_check(&type, &f->sample, &f->error), KT_BAD_REQUEST);
    assert_string_equal(f->error.text, "missing field 'text'");
    f->sample.given = 1u << TEXT_ROW | 1u << NUMBER_ROW;
    assert_int_equal(kt_struct_check(&type, &f->sample, &f->error), KT_BAD_REQUEST);
    assert_string_equal(f->error.text, "field 'text' must not be empty");
    f->sample.text = kt_slice_text("a");
    assert_int_equal(kt_struct_check(&type, &f->sample, &f->error), KT_OK);
    f->sample.number = 1001;
    assert_int_equal(kt_struct_check(&type, &f->sample, &f->error), KT_BAD_REQUEST);
    f->sample.given = 1u << TEXT_ROW; /* what is not given is not looked at */
    assert_int_equal(kt_struct_check(&type, &f->sample, NULL), KT_OK);
}

static void fill(struct sample *sample)
{
    *sample = (struct sample){
        .given = 0xff & ~(1u << JSON_ROW),
        .text = kt_slice_text("text"),
        .bytes = kt_slice("\0\xff", 2),
        .object = kt_slice_text("{}"),
        .sorted = kt_slice_text("[]"),
        .number = UINT64_MAX,
        .integer = INT64_MIN,
        .flag = true,
    };
}

static void struct__encoded__decodes_to_the_same(void **state)
{
    static const int64_t integers[] = {0, 1, -1, 63, -64, 64, INT64_MAX, INT64_MIN};
    struct fixture *f = *state;
    struct sample copy;

    for (size_t i = 0; i < KT_COUNT(integers); i++) {
        fill(&f->sample);
        f->sample.integer = integers[i];
        kt_buf_clear(&f->buf);
        kt_struct_encode(&type, &f->sample, &f->buf);
        memset(&copy, 0xee, sizeof(copy));
        assert_int_equal(kt_struct_decode(&type, kt_buf_slice(&f->buf), &copy), KT_OK);
        assert_int_equal(copy.given, f->sample.given);
        expect_text(copy.text, "text");
        assert_true(kt_slice_equal(copy.bytes, f->sample.bytes));
        assert_null(copy.json.data);
        expect_text(copy.object, "{}");
        expect_text(copy.sorted, "[]");
        assert_true(copy.number == UINT64_MAX);
        assert_true(copy.integer == integers[i]);
        assert_true(copy.flag);
    }
}

static void bytes__that_are_no_struct__are_corrupt(void **state)
{
    struct fixture *f = *state;
    struct sample copy;

    fill(&f->sample);
    kt_struct_encode(&type, &f->sample, &f->buf);
    for (size_t len = 0; len < f->buf.len; len++)
        assert_int_equal(kt_struct_decode(&type, kt_slice(f->buf.data, len), &copy), KT_CORRUPT);
    kt_buf_append_u8(&f->buf, 0);
    assert_int_equal(kt_struct_decode(&type, kt_buf_slice(&f->buf), &copy), KT_CORRUPT);
    /* A row that this version does not know; a required one that is not there; a bool that is none. */
    kt_buf_clear(&f->buf);
    kt_write_varint(&f->buf, 1u << TEXT_ROW | 0x100);
    kt_write_string(&f->buf, kt_slice_text("a"));
    assert_int_equal(kt_struct_decode(&type, kt_buf_slice(&f->buf), &copy), KT_CORRUPT);
    assert_int_equal(kt_struct_decode(&type, kt_slice("\0", 1), &copy), KT_CORRUPT);
    kt_buf_clear(&f->buf);
    kt_write_varint(&f->buf, 1u << TEXT_ROW | 1u << FLAG_ROW);
    kt_write_string(&f->buf, kt_slice_text("a"));
    kt_buf_append_u8(&f->buf, 2);
    assert_int_equal(kt_struct_decode(&type, kt_buf_slice(&f->buf), &copy), KT_CORRUPT);
    f->buf.data[f->buf.len - 1] = 1;
    assert_int_equal(kt_struct_decode(&type, kt_buf_slice(&f->buf), &copy), KT_OK);
    /* A length that would wrap around. */
    kt_buf_clear(&f->buf);
    kt_write_varint(&f->buf, 1u << TEXT_ROW);
    kt_write_varint(&f->buf, UINT64_MAX);
    kt_buf_append_text(&f->buf, "abc");
    assert_int_equal(kt_struct_decode(&type, kt_buf_slice(&f->buf), &copy), KT_CORRUPT);
}

static void description__of_a_struct__is_printable_and_short(void **state)
{
    struct fixture *f = *state;
    char text[200];

    fill(&f->sample);
    kt_struct_describe(&type, &f->sample, &f->buf);
    expect_text(kt_buf_slice(&f->buf), "text=\"text\" bytes=\"\\x00\\xff\" object=\"{}\" sorted=\"[]\" "
                                       "number=18446744073709551615 integer=-9223372036854775808 flag=true");
    kt_buf_clear(&f->buf);
    memset(text, 'x', sizeof(text));
    f->sample.given = 1;
    f->sample.text = kt_slice(text, sizeof(text));
    kt_struct_describe(&type, &f->sample, &f->buf);
    assert_int_equal(f->buf.len, strlen("text=\"\"...(200 bytes)") + 64);
    assert_memory_equal(f->buf.data + f->buf.len - 15, "\"...(200 bytes)", 15);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(json__with_every_member__fills_the_struct),
        TEST(json__without_optional_members__leaves_them_zero),
        TEST(json__that_does_not_fit__names_the_field),
        TEST(check__of_a_struct_filled_by_hand__finds_the_same),
        TEST(struct__encoded__decodes_to_the_same),
        TEST(bytes__that_are_no_struct__are_corrupt),
        TEST(description__of_a_struct__is_printable_and_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
