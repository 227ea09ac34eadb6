/* Encoded values of revision A: what is accepted, where it ends, and its canonical form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "engines/kv/kv_value.h"
#include "wire/writer.h"

/* Bytes of hexadecimal text; the caller frees them. */
static struct kt_slice unhex(const char *text)
{
    size_t len = strlen(text) / 2;
    uint8_t *bytes = kt_alloc(len + 1);

    assert_true(kt_unhex(kt_slice_text(text), bytes, len));
    return kt_slice(bytes, len);
}

static void expect_canonical(struct kt_slice value, struct kt_slice expected)
{
    struct kt_error error;
    struct kt_buf out;
    size_t len;

    kt_buf_init(&out, value.len + 1);
    kt_buf_append_u8(&out, 0xee); /* it appends */
    assert_int_equal(kt_kv_value_canonical(value, &out, &error), KT_OK);
    assert_int_equal(out.len, expected.len + 1);
    assert_memory_equal(out.data + 1, expected.data, expected.len);
    assert_int_equal(kt_kv_value_scan(expected, &len, &error), KT_OK);
    assert_int_equal(len, expected.len);
    kt_buf_release(&out);
}

static void expect_hex(const char *text, const char *canonical)
{
    struct kt_slice value = unhex(text), expected = unhex(canonical);

    expect_canonical(value, expected);
    kt_free((void *)(uintptr_t)value.data);
    kt_free((void *)(uintptr_t)expected.data);
}

static void value__of_every_type__is_its_own_canonical_form(void **unused)
{
    static const char *const values[] = {
        "00",
        "0100",
        "0101",
        "02ff",
        "03ffff",
        "04ffffffff",
        "050000000000000001",
        "068000",
        "0780000000",
        "088000000000000000",
        "097fc00001" /* a NaN with a payload */,
        "0980000000" /* minus zero */,
        "0a7ff8000000000123",
        "0b00000000",
        "0b0000000401ff0002",
        "0c00000000",
        "0c00000003e282ac",
        "0c00000001ff" /* no UTF-8, not checked */,
        "0d0c00030000001f0c0000000548656c6c6f0c00000005576f726c640c00000006466f6f426172",
        "0d0700020000000a07000000010700000002",
        "0d00000000000000",
        "0e0700020000001b0c00000003616765070000001e0c000000046e616d650700000004",
        "0e00000000000000",
        "0d0d0002000000120d020001000000020201"
        "0d00000000000000", /* lists of other types inside */
        "0e0d0001000000"
        "0e"
        "0c0000000161"
        "0d00000000000000",
    };

    (void)unused;
    for (size_t i = 0; i < KT_COUNT(values); i++)
        expect_hex(values[i], values[i]);
}

static void value__written_sloppily__becomes_canonical(void **unused)
{
    (void)unused;
    expect_hex("0102", "0100");
    expect_hex("01ff", "0100");
    expect_hex("0d07000000000000", "0d00000000000000"); /* an empty list of int32 */
    expect_hex("0e0c000000000000", "0e00000000000000");
    /* Both examples of the documents have payload lengths that are too small. */
    expect_hex("0d0c00030000000f0c0000000548656c6c6f0c00000005576f726c640c00000006466f6f426172",
               "0d0c00030000001f0c0000000548656c6c6f0c00000005576f726c640c00000006466f6f426172");
    expect_hex("0e0700020000001a0c00000003616765070000001e0c000000046e616d650700000004",
               "0e0700020000001b0c00000003616765070000001e0c000000046e616d650700000004");
    expect_hex("0d0100020000000001070101", "0d0100020000000401000101");
    expect_hex("0d0d0001000000000d01000100000000"
               "0107",
               "0d0d00010000000a0d010001000000020100");
}

static void map__with_a_key_twice__keeps_the_last_in_its_place(void **unused)
{
    (void)unused;
    /* b=1 a=2 b=3 c=4 a=5: left are b=3 c=4 a=5. */
    expect_hex("0e02000500000028"
               "0c00000001620201"
               "0c00000001610202"
               "0c00000001620203"
               "0c00000001630204"
               "0c00000001610205",
               "0e02000300000018"
               "0c00000001620203"
               "0c00000001630204"
               "0c00000001610205");
    /* Unsorted but without duplicates: as it was. */
    expect_hex("0e02000200000010"
               "0c00000001620201"
               "0c00000001610202",
               "0e02000200000010"
               "0c00000001620201"
               "0c00000001610202");
    /* Equal neighbours, and the empty key. */
    expect_hex("0e02000300000015"
               "0c000000000201"
               "0c000000000202"
               "0c000000000203",
               "0e02000100000007"
               "0c000000000203");
    /* Out of order at the beginning only. */
    expect_hex("0e02000300000018"
               "0c00000001620201"
               "0c00000001620202"
               "0c00000001630203",
               "0e02000200000010"
               "0c00000001620202"
               "0c00000001630203");
    /* Inside another map and of unequal sizes. */
    expect_hex("0e0e000100000028"
               "0c0000000178"
               "0e0b00020000001a"
               "0c00000001610b0000000401020304"
               "0c00000001610b00000000",
               "0e0e000100000019"
               "0c0000000178"
               "0e0b00010000000b"
               "0c00000001610b00000000");
}

static void map__of_many_equal_keys__is_one_pair(void **unused)
{
    struct kt_buf value, expected;

    (void)unused;
    kt_buf_init(&value, 1u << 20);
    kt_buf_init(&expected, 64);
    kt_buf_append(&value, "\x0e\x04\xff\xff\0\0\0\0", 8);
    for (uint32_t i = 0; i < 65535; i++) {
        kt_buf_append(&value, "\x0c\0\0\0\x01k\x04", 7);
        kt_write_be32(&value, i);
    }
    kt_buf_append(&expected, "\x0e\x04\0\x01\0\0\0\x0b\x0c\0\0\0\x01k\x04\0\0\xff\xfe", 19);
    expect_canonical(kt_buf_slice(&value), kt_buf_slice(&expected));
    kt_buf_release(&value);
    kt_buf_release(&expected);
}

static void value__followed_by_bytes__ends_where_it_ends(void **unused)
{
    struct kt_slice value = unhex("0d02000200000004020102020c");
    struct kt_error error;
    size_t len;

    (void)unused;
    assert_int_equal(kt_kv_value_scan(value, &len, &error), KT_OK);
    assert_int_equal(len, 12);
    kt_free((void *)(uintptr_t)value.data);
    /* A list inside that declares four bytes more than its items have: they belong to the whole and are dropped. */
    value = unhex("0d0d0001000000000d02000100000006020199999999aa");
    assert_int_equal(kt_kv_value_scan(value, &len, &error), KT_OK);
    assert_int_equal(len, 22);
    assert_int_equal(kt_kv_value_scan(kt_slice(value.data, len), &len, &error), KT_OK);
    assert_int_equal(len, 22);
    assert_int_equal(kt_kv_value_scan(kt_slice(value.data, len - 1), &len, &error), KT_BAD_REQUEST);
    expect_hex("0d0d0001000000000d02000100000006020199999999aa", "0d0d00010000000a0d020001000000020201");
    kt_free((void *)(uintptr_t)value.data);
}

static void expect_refused(const char *text, const char *why)
{
    struct kt_slice value = unhex(text);
    struct kt_error error;
    struct kt_buf out;
    size_t len = 99;

    kt_buf_init(&out, 1024);
    assert_int_equal(kt_kv_value_scan(value, &len, &error), KT_BAD_REQUEST);
    assert_string_equal(error.text, why);
    assert_int_equal(len, 0);
    error.text[0] = '\0';
    assert_int_equal(kt_kv_value_canonical(value, &out, &error), KT_BAD_REQUEST);
    assert_string_equal(error.text, why);
    assert_int_equal(out.len, 0);
    kt_buf_release(&out);
    kt_free((void *)(uintptr_t)value.data);
}

static void value__that_is_none__is_refused_with_the_protocols_words(void **unused)
{
    static const char *const shorts[] = {
        "",
        "01",
        "02",
        "0300",
        "04000000",
        "05ffffffffffffff",
        "09ffffff",
        "0b",
        "0b000000",
        "0b00000001",
        "0c00000005ab",
        "0cffffffff00",
        "0d",
        "0d020001",
        "0d02000100000002",
        "0d0200010000000202",
        "0d0200090000000402010202",
    };
    static const char *const types[] = {
        "0f",
        "ff00",
        "0d020002000000050201030002",
        "0e0200010000000702000000000201",
        "0d0f000000000000",
        "0e020001000000080c00000001610301",
    };

    (void)unused;
    for (size_t i = 0; i < KT_COUNT(shorts); i++)
        expect_refused(shorts[i], "payload too short");
    for (size_t i = 0; i < KT_COUNT(types); i++)
        expect_refused(types[i], "invalid type");
    expect_refused("0e0200010000000000", "invalid type"); /* a key that is no string */
    expect_refused("0e02000100000000", "payload too short");
    expect_refused("0e020001000000060c0000000161", "payload too short");
    expect_refused("0d02000100000009020100", "payload too short"); /* the payload ends outside */
}

static void value__shortened_anywhere__is_too_short(void **unused)
{
    struct kt_slice value = unhex("0e0d00010000001c0c00000002616b0d0c0002000000"
                                  "0d"
                                  "0c00000003616263"
                                  "0c00000000");
    struct kt_error error;
    size_t len;

    (void)unused;
    assert_int_equal(kt_kv_value_scan(value, &len, &error), KT_OK);
    assert_int_equal(len, value.len);
    for (size_t i = 0; i < value.len; i++) {
        /* A copy of its own size, so that reading past it is seen. */
        uint8_t *copy = kt_alloc(i ? i : 1);

        memcpy(copy, value.data, i);
        assert_int_equal(kt_kv_value_scan(kt_slice(copy, i), &len, &error), KT_BAD_REQUEST);
        assert_string_equal(error.text, "payload too short");
        kt_free(copy);
    }
    kt_free((void *)(uintptr_t)value.data);
}

/* depth lists inside each other, innermost empty. */
static void write_nested(struct kt_buf *out, unsigned depth)
{
    for (unsigned i = depth; i > 0; i--) {
        kt_buf_append_u8(out, KT_KV_TYPE_LIST);
        kt_buf_append_u8(out, i > 1 ? KT_KV_TYPE_LIST : 0);
        kt_write_be16(out, i > 1);
        kt_write_be32(out, (i - 1) * 8);
    }
}

static void value__nested__is_refused_past_the_limit(void **unused)
{
    struct kt_error error;
    struct kt_buf value;
    size_t len;

    (void)unused;
    kt_buf_init(&value, 1u << 20);
    write_nested(&value, KT_KV_DEPTH_MAX);
    expect_canonical(kt_buf_slice(&value), kt_buf_slice(&value));
    kt_buf_clear(&value);
    write_nested(&value, KT_KV_DEPTH_MAX + 1);
    assert_int_equal(kt_kv_value_scan(kt_buf_slice(&value), &len, &error), KT_BAD_REQUEST);
    assert_string_equal(error.text, "nesting too deep");
    kt_buf_clear(&value);
    write_nested(&value, 100000);
    assert_int_equal(kt_kv_value_scan(kt_buf_slice(&value), &len, &error), KT_BAD_REQUEST);
    assert_string_equal(error.text, "nesting too deep");
    kt_buf_release(&value);
}

static void canonical__without_memory__says_so(void **unused)
{
    struct kt_slice value = unhex("0e02000200000010"
                                  "0c00000001610201"
                                  "0c00000001610202");
    struct kt_error error;
    struct kt_buf out;
    unsigned failures = 0;
    enum kt_code code;

    (void)unused;
    for (unsigned n = 1;; n++) {
        kt_buf_init(&out, 1024);
        kt_alloc_fail_at(n);
        code = kt_kv_value_canonical(value, &out, &error);
        kt_alloc_fail_at(0);
        kt_buf_release(&out);
        if (code == KT_OK)
            break;
        assert_int_equal(code, KT_NO_MEMORY);
        failures++;
    }
    assert_in_range(failures, 3, 10);
    kt_buf_init(&out, 10);
    assert_int_equal(kt_kv_value_canonical(value, &out, &error), KT_TOO_LARGE);
    kt_buf_release(&out);
    kt_free((void *)(uintptr_t)value.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(value__of_every_type__is_its_own_canonical_form),
        cmocka_unit_test(value__written_sloppily__becomes_canonical),
        cmocka_unit_test(map__with_a_key_twice__keeps_the_last_in_its_place),
        cmocka_unit_test(map__of_many_equal_keys__is_one_pair),
        cmocka_unit_test(value__followed_by_bytes__ends_where_it_ends),
        cmocka_unit_test(value__that_is_none__is_refused_with_the_protocols_words),
        cmocka_unit_test(value__shortened_anywhere__is_too_short),
        cmocka_unit_test(value__nested__is_refused_past_the_limit),
        cmocka_unit_test(canonical__without_memory__says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
