/* What the files of the JSON module share: characters and numbers. This folder and its tests only. */
#ifndef KT_WIRE_JSON_INTERNAL_H
#define KT_WIRE_JSON_INTERNAL_H

#include "base/types.h"

/* The longest text of a number that json_*_write makes, with room: "-1.2345678901234567e-308" has 24 characters. */
#define JSON_NUMBER_BYTES 32
/* The digits of 2^64 - 1. */
#define JSON_U64_BYTES 20

/* How many bytes from at are printable ASCII that a JSON string holds as it is: neither quote nor backslash. */
static inline size_t json_plain_run(const char *at, const char *end)
{
    const char *from = at;
    /* Eight at a time: the high bit of a byte of hits is set if the byte is below 0x20, a quote, a backslash or not
     * ASCII. A borrow can only come from a hit further down, so "no hits" is exact. */
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (; end - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';
        uint64_t hits = (word - ones * 0x20) | (quote - ones) | (backslash - ones) | word;
        if (hits & ones * 0x80)
            break;
    }
    for (; at < end; at++) {
        uint8_t byte = (uint8_t)*at;
        if (byte < 0x20 || byte >= 0x80 || byte == '"' || byte == '\\')
            break;
    }
    return (size_t)(at - from);
}

/* The length of the UTF-8 character of several bytes that begins here (RFC 3629: no overlong, no surrogate), or 0. */
static inline size_t json_utf8_len(const char *at, const char *end)
{
    const uint8_t *p = (const uint8_t *)at;
    size_t left = (size_t)(end - at);
    if (left < 2 || p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    /* Only the second byte has bounds that depend on the first. */
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    size_t len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (left < len || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

struct json_number {
    bool integer;       /* no fraction and no exponent, and in the range of int64 or uint64 */
    bool negative;      /* of an integer; -0 is the integer 0 */
    uint64_t magnitude; /* of an integer */
    double value;       /* always; infinite if the number overflows */
};

/* Reads a number of RFC 8259 section 6 from the start of the text; its length, or 0 if there is none. */
size_t json_number_read(const char *at, const char *end, struct json_number *out);
/* The decimal digits of an integer; returns the length, no NUL. */
size_t json_u64_write(uint64_t value, char out[JSON_U64_BYTES]);
/* The shortest text that reads back as this finite double, with '.' or an exponent; returns the length, no NUL. */
size_t json_double_write(double value, char out[JSON_NUMBER_BYTES]);

#endif
