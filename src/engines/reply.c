#include "engines/reply.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* Binary form: le16 code, varint offset, then body, details and text, each with a varint length. */

/* What a failure says besides its sentence is a few members, never data. */
#define REPLY_DETAILS_MAX (1u << 20)

void kt_reply_init(struct kt_reply *reply)
{
    reply->code = KT_OK;
    reply->offset = 0;
    reply->term = 0;
    kt_buf_init(&reply->body, KT_REPLY_BYTES_MAX);
    kt_buf_init(&reply->details, REPLY_DETAILS_MAX);
    reply->text[0] = '\0';
}

void kt_reply_release(struct kt_reply *reply)
{
    kt_buf_release(&reply->body);
    kt_buf_release(&reply->details);
    kt_reply_init(reply);
}

void kt_reply_clear(struct kt_reply *reply)
{
    reply->code = KT_OK;
    reply->offset = 0;
    reply->term = 0;
    kt_buf_clear(&reply->body);
    kt_buf_clear(&reply->details);
    reply->text[0] = '\0';
}

/* Cuts at a whole UTF-8 character: a text that was cut in the middle of one is no text any more. */
static void cut_text(char *text, size_t len)
{
    size_t start = len;

    if (len == 0)
        return;
    do
        start--;
    while (start > 0 && ((unsigned char)text[start] & 0xc0) == 0x80);
    unsigned char lead = (unsigned char)text[start];
    size_t need = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    text[len - start < need ? start : len] = '\0';
}

enum kt_code kt_reply_fail(struct kt_reply *reply, enum kt_code code, const char *format, ...)
{
    va_list args;
    int len;

    KT_CHECK(code != KT_OK);
    reply->code = code;
    kt_buf_clear(&reply->body);
    va_start(args, format);
    len = vsnprintf(reply->text, sizeof(reply->text), format, args);
    va_end(args);
    if (len < 0)
        reply->text[0] = '\0';
    else if ((size_t)len >= sizeof(reply->text))
        cut_text(reply->text, sizeof(reply->text) - 1);
    return code;
}

enum kt_code kt_reply_fail_error(struct kt_reply *reply, const struct kt_error *error)
{
    return kt_reply_fail(reply, error->code, "%s", error->text);
}

void kt_reply_move(struct kt_reply *target, struct kt_reply *source)
{
    kt_reply_release(target);
    *target = *source;
    kt_reply_init(source);
}

void kt_reply_encode(const struct kt_reply *reply, struct kt_buf *out)
{
    kt_write_le16(out, (uint16_t)reply->code);
    kt_write_varint(out, reply->offset);
    kt_write_string(out, kt_buf_slice(&reply->body));
    kt_write_string(out, kt_buf_slice(&reply->details));
    kt_write_string(out, kt_slice_text(reply->text));
}

enum kt_code kt_reply_decode(struct kt_slice bytes, struct kt_reply *reply)
{
    struct kt_reader reader;
    struct kt_slice body, details, text;
    unsigned code;

    kt_reply_clear(reply);
    kt_reader_init(&reader, bytes);
    code = kt_read_le16(&reader);
    reply->offset = kt_read_varint(&reader);
    body = kt_read_string(&reader);
    details = kt_read_string(&reader);
    text = kt_read_string(&reader);
    if (!kt_reader_done(&reader) || !kt_code_known(code) || text.len >= sizeof(reply->text) ||
        (text.len > 0 && memchr(text.data, '\0', text.len))) {
        reply->offset = 0;
        return KT_CORRUPT;
    }
    reply->code = (enum kt_code)code;
    kt_buf_append_slice(&reply->body, body);
    kt_buf_append_slice(&reply->details, details);
    if (text.len > 0)
        memcpy(reply->text, text.data, text.len);
    reply->text[text.len] = '\0';
    if (kt_buf_code(&reply->body) == KT_NO_MEMORY || kt_buf_code(&reply->details) == KT_NO_MEMORY) {
        kt_reply_clear(reply);
        return KT_NO_MEMORY;
    }
    if (kt_buf_code(&reply->body) || kt_buf_code(&reply->details)) {
        kt_reply_clear(reply);
        return KT_CORRUPT;
    }
    return KT_OK;
}
