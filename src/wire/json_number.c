/*
 * Numbers to text and back, exactly and without the locale: the C library is only ever given and asked for digits and
 * an exponent ("123e-4"), never a decimal point, which is the part a locale changes.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/json_internal.h"

/* The midpoint between two doubles has at most 767 digits: of the digits behind, only "all zero or not" matters. */
#define DIGITS_MAX 768

/* Beyond this an exponent is zero or infinity whatever the at most 2^31 digits of a text are. */
#define EXPONENT_MAX INT64_C(100000000000)

/* Powers of ten that doubles hold exactly. */
static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool is_digit(const char *at, const char *end)
{
    return at < end && *at >= '0' && *at <= '9';
}

/* digits (no sign, at most DIGITS_MAX + 1 of them) times ten to the exponent. */
static double digits_value(const char *digits, size_t count, int64_t exponent)
{
    char text[DIGITS_MAX + 16];
    memcpy(text, digits, count);
    int bounded = (int)KT_MAX(KT_MIN(exponent, 99999), -99999);
    snprintf(text + count, sizeof(text) - count, "e%d", bounded);
    return strtod(text, NULL);
}

/* The absolute value of what was scanned already: at is behind the sign, integer and fraction end at end. */
static double decimal_value(const char *at, const char *end, int64_t exponent)
{
    char digits[DIGITS_MAX + 1];
    size_t count = 0;
    bool behind_point = false, more = false;
    for (; at < end; at++) {
        if (*at == '.') {
            behind_point = true;
            continue;
        }
        if (count < DIGITS_MAX) {
            if (count > 0 || *at != '0')
                digits[count++] = *at;
            exponent -= behind_point;
        } else {
            more |= *at != '0';
            exponent += !behind_point;
        }
    }
    if (count == 0)
        return 0.0;
    if (more) {
        digits[count++] = '1';
        exponent--;
    }
    return digits_value(digits, count, exponent);
}

/* Digits from *at on; false if there is none. */
static bool skip_digits(const char **at, const char *end)
{
    if (!is_digit(*at, end))
        return false;
    while (is_digit(*at, end))
        (*at)++;
    return true;
}

/* The exponent behind 'e', bounded; false if it is malformed. */
static bool read_exponent(const char **at, const char *end, int64_t *exponent)
{
    bool negative = false;
    int64_t value = 0;
    if (*at < end && (**at == '-' || **at == '+')) {
        negative = **at == '-';
        (*at)++;
    }
    if (!is_digit(*at, end))
        return false;
    for (; is_digit(*at, end); (*at)++) {
        if (value < EXPONENT_MAX)
            value = value * 10 + (**at - '0');
    }
    *exponent = negative ? -value : value;
    return true;
}

size_t json_number_read(const char *at, const char *end, struct json_number *out)
{
    const char *from = at;
    bool negative = at < end && *at == '-';
    at += negative;
    const char *first = at;
    uint64_t value = 0;
    bool fits = true; /* value is the number without its point, exactly */
    if (is_digit(at, end) && *at == '0') {
        at++;
    } else {
        for (; is_digit(at, end); at++) {
            unsigned digit = (unsigned)(*at - '0');
            fits = fits && (value < UINT64_MAX / 10 || (value == UINT64_MAX / 10 && digit <= UINT64_MAX % 10));
            value = value * 10 + digit;
        }
    }
    if (at == first)
        return 0;
    const char *last = at;
    int64_t exponent = 0, fraction_digits = 0;
    if (at < end && *at == '.') {
        at++;
        for (const char *p = at; is_digit(p, end); p++) {
            fits = fits && value < UINT64_MAX / 10 - 1;
            value = value * 10 + (unsigned)(*p - '0');
        }
        const char *fraction = at;
        if (!skip_digits(&at, end))
            return 0;
        fraction_digits = at - fraction;
        last = at;
    }
    bool plain = fraction_digits == 0;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        plain = false;
        if (!read_exponent(&at, end, &exponent))
            return 0;
    }
    *out = (struct json_number){.integer = plain && fits && (!negative || value <= UINT64_C(1) << 63)};
    if (out->integer) {
        out->negative = negative && value > 0;
        out->magnitude = value;
        out->value = negative ? 0.0 - (double)value : (double)value;
        return (size_t)(at - from);
    }
    /* Both operands exact, so the one rounding of the operation is the right one (W. Clinger, 1990). */
    int64_t shift = exponent - fraction_digits;
    double absolute;
    if (FLT_EVAL_METHOD == 0 && fits && value <= UINT64_C(1) << 53 && shift >= -22 && shift <= 22)
        absolute = shift < 0 ? (double)value / exact_powers[-shift] : (double)value * exact_powers[shift];
    else
        absolute = decimal_value(first, last, exponent);
    out->value = negative ? -absolute : absolute;
    return (size_t)(at - from);
}

size_t json_u64_write(uint64_t value, char out[JSON_U64_BYTES])
{
    char reversed[JSON_U64_BYTES];
    size_t len = 0;
    do {
        reversed[len++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    for (size_t i = 0; i < len; i++)
        out[i] = reversed[len - 1 - i];
    return len;
}

static size_t without_zeros(const char *digits, size_t len)
{
    while (len > 1 && digits[len - 1] == '0')
        len--;
    return len;
}

/* The neighbour below a power of two is only half as far away as the one above. */
static bool is_power_of_two(double value)
{
    int exponent;
    return frexp(value, &exponent) == 0.5;
}

/* The next decimal number of as many digits; false if there is none. */
static bool count_up(char *digits, size_t len)
{
    while (len > 0 && digits[len - 1] == '9')
        digits[--len] = '0';
    if (len == 0)
        return false;
    digits[len - 1]++;
    return true;
}

/*
 * The fewest digits that read back as the (positive) value, and where the point stands: value = 0.digits * 10^point.
 * For a normal double, digits that suffice and are at most 15 are what 15 digits print without their trailing zeros.
 * The digits nearest to a power of two may lie below it and read back as less, while the next ones above would do.
 */
static size_t shortest_digits(double value, char digits[JSON_NUMBER_BYTES], int *point)
{
    size_t len = 0;
    for (int wanted = value < DBL_MIN ? 1 : 15; wanted <= 17; wanted++) {
        char text[64];
        snprintf(text, sizeof(text), "%.*e", wanted - 1, value);
        const char *at = text;
        /* Whatever stands between the digits is the locale's point. */
        for (len = 0; *at != 'e'; at++) {
            if (*at >= '0' && *at <= '9')
                digits[len++] = *at;
        }
        *point = (int)strtol(at + 1, NULL, 10) + 1;
        if (digits_value(digits, len, *point - (int64_t)len) == value)
            break;
        if (wanted < 17 && is_power_of_two(value) && count_up(digits, len) &&
            digits_value(digits, len, *point - (int64_t)len) == value)
            break;
    }
    return without_zeros(digits, len);
}

/* Short decimals like 19.99 without the C library: as integer / 10^places, when that division gives the value back. */
static size_t decimal_digits(double value, char digits[JSON_NUMBER_BYTES], int *point)
{
    if (FLT_EVAL_METHOD != 0 || value < 1e-3 || value >= 1e15)
        return 0;
    for (int places = 1; places <= 6; places++) {
        double scaled = value * exact_powers[places];
        if (scaled >= 1e15)
            return 0;
        /* The multiplication may have rounded; the division of exact numbers tells. */
        uint64_t whole = (uint64_t)(scaled + 0.5);
        if ((double)whole / exact_powers[places] == value) {
            size_t len = json_u64_write(whole, digits);
            *point = (int)len - places;
            return without_zeros(digits, len);
        }
    }
    return 0;
}

static char *append(char *to, const char *from, size_t len)
{
    memcpy(to, from, len);
    return to + len;
}

static char *append_zeros(char *to, int count)
{
    memset(to, '0', (size_t)count);
    return to + count;
}

size_t json_double_write(double value, char out[JSON_NUMBER_BYTES])
{
    char digits[JSON_NUMBER_BYTES];
    char *to = out;
    int point;
    if (signbit(value)) {
        *to++ = '-';
        value = -value;
    }
    if (value < 1e16 && value == (double)(uint64_t)value) {
        to += json_u64_write((uint64_t)value, to);
        return (size_t)(append(to, ".0", 2) - out);
    }
    size_t len = decimal_digits(value, digits, &point);
    if (len == 0)
        len = shortest_digits(value, digits, &point);
    /* Not an integer, or 1e16 and more: the point never stands behind the last digit. */
    if (point > 0 && point <= 16) {
        to = append(to, digits, (size_t)point);
        *to++ = '.';
        to = append(to, digits + point, len - (size_t)point);
    } else if (point > -5 && point <= 0) {
        to = append(to, "0.", 2);
        to = append_zeros(to, -point);
        to = append(to, digits, len);
    } else {
        *to++ = digits[0];
        if (len > 1) {
            *to++ = '.';
            to = append(to, digits + 1, len - 1);
        }
        *to++ = 'e';
        if (point - 1 < 0)
            *to++ = '-';
        to += json_u64_write((uint64_t)abs(point - 1), to);
    }
    return (size_t)(to - out);
}
