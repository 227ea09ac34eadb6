#include "engines/op.h"

#include "base/check.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define OP_TIME_AT     4
#define OP_ORIGIN_AT   12
#define OP_SEQUENCE_AT 20
#define OP_DONE_AT     28

_Static_assert(OP_DONE_AT + 8 == KT_OP_HEADER_BYTES, "the header ends with done_below");

void kt_op_begin(struct kt_buf *out, uint16_t code)
{
    uint8_t *header = kt_buf_reserve(out, KT_OP_HEADER_BYTES);

    if (!header)
        return;
    memset(header, 0, KT_OP_HEADER_BYTES);
    header[0] = KT_OP_FORMAT;
    header[2] = (uint8_t)code;
    header[3] = (uint8_t)(code >> 8);
    out->len += KT_OP_HEADER_BYTES;
}

void kt_op_stamp_time(void *bytes, kt_time_ms time_ms)
{
    KT_CHECK(*(const uint8_t *)bytes == KT_OP_FORMAT);
    kt_put_le64((uint8_t *)bytes + OP_TIME_AT, time_ms);
}

void kt_op_stamp_origin(void *bytes, uint64_t origin, uint64_t sequence, uint64_t done_below)
{
    KT_CHECK(*(const uint8_t *)bytes == KT_OP_FORMAT);
    kt_put_le64((uint8_t *)bytes + OP_ORIGIN_AT, origin);
    kt_put_le64((uint8_t *)bytes + OP_SEQUENCE_AT, sequence);
    kt_put_le64((uint8_t *)bytes + OP_DONE_AT, done_below);
}

enum kt_code kt_op_decode(struct kt_slice bytes, struct kt_op *op)
{
    struct kt_reader reader;
    uint8_t format, reserved;

    kt_reader_init(&reader, bytes);
    format = kt_read_u8(&reader);
    reserved = kt_read_u8(&reader);
    op->code = kt_read_le16(&reader);
    op->time_ms = kt_read_le64(&reader);
    op->origin = kt_read_le64(&reader);
    op->sequence = kt_read_le64(&reader);
    op->done_below = kt_read_le64(&reader);
    op->body = kt_read_bytes(&reader, kt_reader_left(&reader));
    if (!kt_reader_ok(&reader) || format != KT_OP_FORMAT || reserved != 0)
        return KT_CORRUPT;
    return KT_OK;
}
