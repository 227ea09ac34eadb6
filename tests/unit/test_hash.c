/* base/hash.c: published vectors, and the two ways of the checksum against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/hash_internal.h"
#include "base/random.h"

static void crc32c__published_vectors__match(void **state)
{
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(kt_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(kt_crc32c(0, "", 0), 0);
    assert_int_equal(kt_crc32c(0, NULL, 0), 0);
    assert_int_equal(kt_crc32c(0, "{}", 2), 0x297bd0aa);
    /* RFC 3720 appendix B.4. */
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(kt_crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(kt_crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(kt_crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
}

/* Bit by bit, from the definition. */
static uint32_t crc32c_slowly(const uint8_t *data, size_t len)
{
    uint32_t crc = ~UINT32_C(0);
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}

static void crc32c__every_length_and_alignment__three_ways_agree(void **state)
{
    (void)state;
    uint8_t bytes[300];
    struct kt_random random;
    kt_random_seed(&random, 1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)kt_random_next(&random);
    for (size_t from = 0; from < 9; from++) {
        for (size_t len = 0; len + from <= sizeof(bytes); len++) {
            uint32_t want = crc32c_slowly(bytes + from, len);
            assert_int_equal(hash_crc32c_tables(0, bytes + from, len), want);
            assert_int_equal(kt_crc32c(0, bytes + from, len), want);
            if (hash_crc32c_instruction_usable())
                assert_int_equal(hash_crc32c_instruction(0, bytes + from, len), want);
        }
    }
}

static void crc32c__in_pieces__chains(void **state)
{
    (void)state;
    static const char text[] = "a record of a few dozen bytes, cut anywhere";
    uint32_t whole = kt_crc32c(0, text, sizeof(text));
    for (size_t cut = 0; cut <= sizeof(text); cut++) {
        uint32_t first = kt_crc32c(0, text, cut);
        assert_int_equal(kt_crc32c(first, text + cut, sizeof(text) - cut), whole);
        assert_int_equal(hash_crc32c_tables(first, text + cut, sizeof(text) - cut), whole);
    }
}

static void hash64__published_vector__matches(void **state)
{
    (void)state;
    /* SipHash-1-3 with the key 00 01 .. 0f, which is what this seed stands for; the empty message. */
    assert_true(kt_hash64(UINT64_C(0x0706050403020100), "", 0) == UINT64_C(0xabac0158050fc4dc));
}

/* Fixed for ever: a change of these values is a change of what nodes compare. */
static void hash64__fixed_inputs__never_change(void **state)
{
    (void)state;
    assert_true(kt_hash64(0, "", 0) == UINT64_C(0x4d0fa63e6e8a1676));
    assert_true(kt_hash64(1, "a", 1) == UINT64_C(0x93924aeeac5b49e0));
    assert_true(kt_hash64(0, "12345678", 8) == UINT64_C(0x235be2bf5cc08d5c));
    assert_true(kt_hash64(0, "a text of more than sixteen bytes", 33) == UINT64_C(0x74912a8a459fdfdd));
}

/* Each bit of input or seed turns about half of the bits of the result. */
static void hash64__one_bit_of_difference__changes_half_of_the_bits(void **state)
{
    (void)state;
    uint8_t bytes[24] = {0};
    for (size_t len = 1; len <= sizeof(bytes); len++) {
        uint64_t base = kt_hash64(3, bytes, len);
        unsigned turned = 0;
        for (size_t bit = 0; bit < len * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            unsigned one = (unsigned)__builtin_popcountll(base ^ kt_hash64(3, bytes, len));
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_in_range(one, 8, 56);
            turned += one;
        }
        assert_in_range(turned / (len * 8), 26, 38);
    }
    for (unsigned bit = 0; bit < 64; bit++)
        assert_in_range(__builtin_popcountll(kt_hash64(0, "x", 1) ^ kt_hash64(UINT64_C(1) << bit, "x", 1)), 8, 56);
}

static void hash64__trailing_zeros__count(void **state)
{
    (void)state;
    static const uint8_t zeros[40];
    for (size_t len = 0; len < sizeof(zeros); len++) {
        for (size_t other = 0; other < len; other++)
            assert_true(kt_hash64(0, zeros, len) != kt_hash64(0, zeros, other));
    }
}

static void hex__any_bytes__go_there_and_back(void **state)
{
    (void)state;
    uint8_t bytes[256], back[256];
    char text[513];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    kt_hex(bytes, sizeof(bytes), text);
    assert_int_equal(strlen(text), 512);
    assert_int_equal(strncmp(text, "000102030405060708090a0b0c0d0e0f10", 34), 0);
    assert_true(kt_unhex(kt_slice_text(text), back, sizeof(back)));
    assert_memory_equal(bytes, back, sizeof(bytes));
    assert_true(kt_unhex(kt_slice_text("aBCdeF"), back, 3));
    assert_memory_equal(back, "\xab\xcd\xef", 3);
    kt_hex("", 0, text);
    assert_string_equal(text, "");
    assert_true(kt_unhex(kt_slice(NULL, 0), back, 0));
}

static void unhex__anything_else__is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {"",     "0",    "000",  "0000000", "000g", "g000",
                                       "0x00", " 000", "00 0", "000:",    "000@", "000`"};
    uint8_t out[2];
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        assert_false(kt_unhex(kt_slice_text(rows[i]), out, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c__published_vectors__match),
        cmocka_unit_test(crc32c__every_length_and_alignment__three_ways_agree),
        cmocka_unit_test(crc32c__in_pieces__chains),
        cmocka_unit_test(hash64__published_vector__matches),
        cmocka_unit_test(hash64__fixed_inputs__never_change),
        cmocka_unit_test(hash64__one_bit_of_difference__changes_half_of_the_bits),
        cmocka_unit_test(hash64__trailing_zeros__count),
        cmocka_unit_test(hex__any_bytes__go_there_and_back),
        cmocka_unit_test(unhex__anything_else__is_refused),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
