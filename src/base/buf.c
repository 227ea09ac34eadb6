/* The growing buffer: len <= cap <= max; data is NULL exactly while cap is 0; a failed buffer never grows. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"

#define FIRST_CAP 64 /* most small replies fit after one or two doublings */

void kt_buf_init(struct kt_buf *buf, size_t max)
{
    KT_CHECK(max > 0);
    *buf = (struct kt_buf){.max = max, .code = KT_OK};
}

void kt_buf_release(struct kt_buf *buf)
{
    kt_free(buf->data);
    *buf = (struct kt_buf){.max = buf->max, .code = KT_OK};
}

void kt_buf_clear(struct kt_buf *buf)
{
    buf->len = 0;
    buf->code = KT_OK;
}

enum kt_code kt_buf_code(const struct kt_buf *buf)
{
    return buf->code;
}

struct kt_slice kt_buf_slice(const struct kt_buf *buf)
{
    return kt_slice(buf->data, buf->len);
}

/* Makes cap at least need (cap < need <= max): doubling keeps appends linear in total. */
static bool grow(struct kt_buf *buf, size_t need)
{
    size_t cap = buf->cap ? buf->cap : FIRST_CAP;
    while (cap < need && cap <= buf->max / 2)
        cap *= 2;
    if (cap < need || cap > buf->max)
        cap = buf->max;
    uint8_t *data = kt_try_realloc(buf->data, cap);
    if (!data) {
        buf->code = KT_NO_MEMORY;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

uint8_t *kt_buf_grow(struct kt_buf *buf, size_t n)
{
    if (buf->code != KT_OK)
        return NULL;
    if (n > buf->max - buf->len) {
        buf->code = KT_TOO_LARGE;
        return NULL;
    }
    if ((n > buf->cap - buf->len || !buf->data) && !grow(buf, buf->len + n))
        return NULL;
    return buf->data + buf->len;
}

void kt_buf_append_text(struct kt_buf *buf, const char *text)
{
    kt_buf_append(buf, text, strlen(text));
}

/* vsnprintf wants room for a NUL that the buffer, which may end exactly at its ceiling, need not have. */
void kt_buf_printf(struct kt_buf *buf, const char *format, ...)
{
    char small[256];
    va_list args;
    if (buf->code != KT_OK)
        return;
    va_start(args, format);
    int n = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    if (n < 0 || (size_t)n > buf->max - buf->len) {
        buf->code = KT_TOO_LARGE;
        return;
    }
    if ((size_t)n < sizeof(small)) {
        kt_buf_append(buf, small, (size_t)n);
        return;
    }
    char *large = kt_try_alloc((size_t)n + 1);
    if (!large) {
        buf->code = KT_NO_MEMORY;
        return;
    }
    va_start(args, format);
    int again = vsnprintf(large, (size_t)n + 1, format, args);
    va_end(args);
    KT_CHECK(again == n);
    kt_buf_append(buf, large, (size_t)n);
    kt_free(large);
}

void kt_buf_consume(struct kt_buf *buf, size_t n)
{
    KT_CHECK(n <= buf->len);
    if (n == 0)
        return;
    buf->len -= n;
    if (buf->len)
        memmove(buf->data, buf->data + n, buf->len);
}

void kt_buf_take(struct kt_buf *buf, struct kt_buf *target)
{
    KT_CHECK(buf != target);
    *target = *buf;
    kt_buf_init(buf, target->max);
}
