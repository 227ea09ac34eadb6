/*
 * A growing byte buffer with a ceiling. Appending past the ceiling, or without memory, fails the buffer: it keeps what
 * it had, later appends do nothing, and kt_buf_code says why. So a writer appends without looking and checks once.
 * One owner, one thread at a time.
 */
#ifndef KT_BASE_BUF_H
#define KT_BASE_BUF_H

#include <string.h>

#include "base/types.h"

struct kt_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max;
    enum kt_code code;
};

/* No allocation yet. max: bytes, never 0. */
void kt_buf_init(struct kt_buf *buf, size_t max);
void kt_buf_release(struct kt_buf *buf);
/* Empty again, not failed any more; the memory is kept. */
void kt_buf_clear(struct kt_buf *buf);
/* KT_OK, KT_TOO_LARGE or KT_NO_MEMORY. */
enum kt_code kt_buf_code(const struct kt_buf *buf);
struct kt_slice kt_buf_slice(const struct kt_buf *buf);
/* The rest of kt_buf_reserve, for when there is not room enough yet. */
uint8_t *kt_buf_grow(struct kt_buf *buf, size_t n);

/* Room for n more bytes at buf->data + buf->len, or NULL (failed). The caller adds to len what it used. */
static inline uint8_t *kt_buf_reserve(struct kt_buf *buf, size_t n)
{
    if (buf->code == KT_OK && buf->data && n <= buf->cap - buf->len)
        return buf->data + buf->len;
    return kt_buf_grow(buf, n);
}

static inline void kt_buf_append(struct kt_buf *buf, const void *data, size_t len)
{
    uint8_t *to = len ? kt_buf_reserve(buf, len) : NULL;
    if (!to)
        return;
    memcpy(to, data, len);
    buf->len += len;
}

static inline void kt_buf_append_slice(struct kt_buf *buf, struct kt_slice bytes)
{
    kt_buf_append(buf, bytes.data, bytes.len);
}

static inline void kt_buf_append_u8(struct kt_buf *buf, uint8_t value)
{
    uint8_t *to = kt_buf_reserve(buf, 1);
    if (!to)
        return;
    *to = value;
    buf->len++;
}

void kt_buf_append_text(struct kt_buf *buf, const char *text);
void kt_buf_printf(struct kt_buf *buf, const char *format, ...) KT_PRINTF(2, 3);
/* Drops the first n bytes (n <= len). */
void kt_buf_consume(struct kt_buf *buf, size_t n);
/* Moves the contents out; buf is as after init. The target must be released or unused. */
void kt_buf_take(struct kt_buf *buf, struct kt_buf *target);

#endif
