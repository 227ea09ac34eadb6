/* CRC-32C by instruction or tables, SipHash-1-3, and hexadecimal digits. */
#include "base/hash.h"

#include <pthread.h>

#include "base/hash_internal.h"

/* The Castagnoli polynomial, bits reversed (RFC 3720 appendix B.4). */
#define CASTAGNOLI UINT32_C(0x82f63b78)

static uint32_t tables[8][256]; /* tables[k][b]: byte b followed by k zero bytes */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void tables_fill(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? CASTAGNOLI : 0);
        tables[0][byte] = crc;
    }
    for (size_t k = 1; k < KT_COUNT(tables); k++) {
        for (size_t byte = 0; byte < 256; byte++)
            tables[k][byte] = tables[k - 1][byte] >> 8 ^ tables[0][tables[k - 1][byte] & 0xff];
    }
}

/* Little-endian on every machine; compilers make one load of it where that is what the machine does. */
static uint64_t load_le64(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
           (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

/* Slicing by eight: the eight bytes of a word are looked up independently of each other. */
uint32_t hash_crc32c_tables(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&tables_once, tables_fill);
    const uint8_t *at = data;
    crc = ~crc;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word = load_le64(at) ^ crc;
        crc = tables[7][word & 0xff] ^ tables[6][word >> 8 & 0xff] ^ tables[5][word >> 16 & 0xff] ^
              tables[4][word >> 24 & 0xff] ^ tables[3][word >> 32 & 0xff] ^ tables[2][word >> 40 & 0xff] ^
              tables[1][word >> 48 & 0xff] ^ tables[0][word >> 56];
    }
    for (; len > 0; at++, len--)
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)

bool hash_crc32c_instruction_usable(void)
{
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) uint32_t hash_crc32c_instruction(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *at = data;
    uint64_t wide = (uint32_t)~crc;
    for (; len >= 8; at += 8, len -= 8)
        wide = __builtin_ia32_crc32di(wide, load_le64(at));
    uint32_t narrow = (uint32_t)wide;
    for (; len > 0; at++, len--)
        narrow = __builtin_ia32_crc32qi(narrow, *at);
    return ~narrow;
}

#else

bool hash_crc32c_instruction_usable(void)
{
    return false;
}

uint32_t hash_crc32c_instruction(uint32_t crc, const void *data, size_t len)
{
    return hash_crc32c_tables(crc, data, len);
}

#endif

uint32_t kt_crc32c(uint32_t crc, const void *data, size_t len)
{
    return hash_crc32c_instruction_usable() ? hash_crc32c_instruction(crc, data, len)
                                            : hash_crc32c_tables(crc, data, len);
}

static uint64_t rotate(uint64_t value, int by)
{
    return value << by | value >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

/*
 * SipHash-1-3 (Aumasson and Bernstein), because tables hash what clients send: without the seed nobody can construct
 * keys that collide. Its second key half follows from the seed so that the published test vectors are those of the seed
 * 0x0706050403020100.
 */
uint64_t kt_hash64(uint64_t seed, const void *data, size_t len)
{
    uint64_t second = seed + UINT64_C(0x0808080808080808);
    uint64_t v[4] = {seed ^ UINT64_C(0x736f6d6570736575), second ^ UINT64_C(0x646f72616e646f6d),
                     seed ^ UINT64_C(0x6c7967656e657261), second ^ UINT64_C(0x7465646279746573)};
    const uint8_t *at = data;
    uint64_t last = (uint64_t)len << 56;
    for (; len >= 8; at += 8, len -= 8)
        sip_word(v, load_le64(at));
    for (size_t i = 0; i < len; i++)
        last |= (uint64_t)at[i] << (8 * i);
    sip_word(v, last);
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void kt_hex(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 0x0f];
    }
    *out = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool kt_unhex(struct kt_slice text, void *out, size_t len)
{
    const char *at = text.data;
    uint8_t *to = out;
    if (text.len / 2 != len || text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(at[2 * i]), low = hex_digit(at[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
