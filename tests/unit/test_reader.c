/* wire/reader.c and wire/writer.c against each other and against fixed bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/reader.h"
#include "wire/writer.h"

static void expect_bytes(struct kt_buf *out, const void *bytes, size_t len)
{
    assert_int_equal(kt_buf_code(out), KT_OK);
    assert_int_equal(out->len, len);
    assert_memory_equal(out->data, bytes, len);
    kt_buf_clear(out);
}

static void writer__each_width__writes_its_order(void **state)
{
    (void)state;
    struct kt_buf out;
    kt_buf_init(&out, 64);
    kt_write_be16(&out, 0x0102);
    expect_bytes(&out, "\x01\x02", 2);
    kt_write_be32(&out, 0xf1020304);
    expect_bytes(&out, "\xf1\x02\x03\x04", 4);
    kt_write_be64(&out, UINT64_C(0xf102030405060708));
    expect_bytes(&out, "\xf1\x02\x03\x04\x05\x06\x07\x08", 8);
    kt_write_le16(&out, 0xf102);
    expect_bytes(&out, "\x02\xf1", 2);
    kt_write_le32(&out, 0xf1020304);
    expect_bytes(&out, "\x04\x03\x02\xf1", 4);
    kt_write_le64(&out, UINT64_C(0xf102030405060708));
    expect_bytes(&out, "\x08\x07\x06\x05\x04\x03\x02\xf1", 8);
    kt_write_string(&out, kt_slice_text("abc"));
    expect_bytes(&out,
                 "\x03"
                 "abc",
                 4);
    kt_write_string(&out, kt_slice(NULL, 0));
    expect_bytes(&out, "\0", 1);
    kt_buf_release(&out);
}

static void writer__past_the_ceiling__fails_the_buffer_and_keeps_it(void **state)
{
    (void)state;
    struct kt_buf out;
    kt_buf_init(&out, 7);
    kt_write_be32(&out, 1);
    kt_write_be32(&out, 2);
    kt_write_be64(&out, 3);
    kt_write_le32(&out, 4);
    kt_write_le64(&out, 4);
    kt_write_be16(&out, 4);
    kt_write_varint(&out, 5);
    assert_int_equal(kt_buf_code(&out), KT_TOO_LARGE);
    assert_int_equal(out.len, 4);
    kt_buf_release(&out);
}

static void reader__each_width__reads_its_order(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0xf1, 2, 3, 4, 5, 6, 7, 8};
    struct kt_reader reader;
    struct kt_slice all = kt_slice(bytes, sizeof(bytes));
    kt_reader_init(&reader, all);
    assert_int_equal(kt_read_u8(&reader), 0xf1);
    assert_int_equal(kt_reader_left(&reader), 7);
    kt_reader_init(&reader, all);
    assert_int_equal(kt_read_be16(&reader), 0xf102);
    assert_int_equal(kt_read_le16(&reader), 0x0403);
    assert_int_equal(kt_read_le32(&reader), 0x08070605);
    assert_true(kt_reader_done(&reader));
    kt_reader_init(&reader, all);
    assert_int_equal(kt_read_be32(&reader), 0xf1020304);
    assert_false(kt_reader_done(&reader));
    assert_true(kt_reader_ok(&reader));
    kt_reader_init(&reader, all);
    assert_true(kt_read_be64(&reader) == UINT64_C(0xf102030405060708));
    kt_reader_init(&reader, all);
    assert_true(kt_read_le64(&reader) == UINT64_C(0x08070605040302f1));
    kt_reader_init(&reader, all);
    assert_int_equal(kt_read_le32(&reader), 0x040302f1);
}

static void reader__past_the_end__yields_zeros_from_then_on(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3};
    struct kt_reader reader;
    kt_reader_init(&reader, kt_slice(bytes, sizeof(bytes)));
    assert_int_equal(kt_read_be32(&reader), 0);
    assert_false(kt_reader_ok(&reader));
    assert_false(kt_reader_done(&reader));
    assert_int_equal(kt_read_u8(&reader), 0);
    assert_int_equal(kt_read_be16(&reader), 0);
    assert_int_equal(kt_read_le16(&reader), 0);
    assert_int_equal(kt_read_le32(&reader), 0);
    assert_true(kt_read_be64(&reader) == 0);
    assert_true(kt_read_le64(&reader) == 0);
    assert_true(kt_read_varint(&reader) == 0);
    assert_int_equal(kt_read_bytes(&reader, 1).len, 0);
    assert_int_equal(kt_read_bytes(&reader, 0).len, 0);
    assert_int_equal(kt_read_string(&reader).len, 0);
    assert_int_equal(kt_reader_left(&reader), 0);
}

static void reader__no_bytes_at_all__is_done_at_once(void **state)
{
    (void)state;
    struct kt_reader reader;
    kt_reader_init(&reader, kt_slice(NULL, 0));
    assert_true(kt_reader_done(&reader));
    assert_int_equal(kt_read_bytes(&reader, 0).len, 0);
    assert_true(kt_reader_done(&reader));
    assert_int_equal(kt_read_u8(&reader), 0);
    assert_false(kt_reader_ok(&reader));
}

static void varint__edges_of_every_length__come_back(void **state)
{
    (void)state;
    struct kt_buf out;
    struct kt_reader reader;
    kt_buf_init(&out, 16);
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t edge = bits == 64 ? UINT64_MAX : UINT64_C(1) << bits;
        for (uint64_t value = edge - 1; value - (edge - 1) < 3; value++) {
            size_t want = 1;
            for (uint64_t rest = value >> 7; rest; rest >>= 7)
                want++;
            kt_buf_clear(&out);
            kt_write_varint(&out, value);
            assert_int_equal(out.len, want);
            kt_reader_init(&reader, kt_buf_slice(&out));
            assert_true(kt_read_varint(&reader) == value);
            assert_true(kt_reader_done(&reader));
        }
    }
    kt_buf_release(&out);
}

static void varint__longer_than_64_bits__fails(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[11];
        size_t len;
        bool ok;
    } rows[] = {
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 10, true},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, 10, false},
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x81, 0x00}, 11, false},
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, 11, false},
        {{0x80, 0x00}, 2, true}, /* padded zero */
        {{0x80}, 1, false},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct kt_reader reader;
        kt_reader_init(&reader, kt_slice(rows[i].bytes, rows[i].len));
        (void)kt_read_varint(&reader);
        assert_int_equal(kt_reader_done(&reader), rows[i].ok);
    }
}

static void reader__string_longer_than_what_is_there__fails(void **state)
{
    (void)state;
    struct kt_reader reader;
    kt_reader_init(&reader, kt_slice("\x04"
                                     "abc",
                                     4));
    assert_int_equal(kt_read_string(&reader).len, 0);
    assert_false(kt_reader_ok(&reader));
    kt_reader_init(&reader, kt_slice("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10));
    assert_int_equal(kt_read_string(&reader).len, 0);
    assert_false(kt_reader_ok(&reader));
    kt_reader_init(&reader, kt_slice("\x03"
                                     "abcd",
                                     5));
    assert_true(kt_slice_is(kt_read_string(&reader), "abc"));
    assert_true(kt_slice_is(kt_read_bytes(&reader, 1), "d"));
    assert_true(kt_reader_done(&reader));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writer__each_width__writes_its_order),
        cmocka_unit_test(writer__past_the_ceiling__fails_the_buffer_and_keeps_it),
        cmocka_unit_test(reader__each_width__reads_its_order),
        cmocka_unit_test(reader__past_the_end__yields_zeros_from_then_on),
        cmocka_unit_test(reader__no_bytes_at_all__is_done_at_once),
        cmocka_unit_test(varint__edges_of_every_length__come_back),
        cmocka_unit_test(varint__longer_than_64_bits__fails),
        cmocka_unit_test(reader__string_longer_than_what_is_there__fails),
    };
    return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}
