/* Reading bytes. A failed reader stands at its end, so that every later read fails by the same comparison. */
#include "wire/reader.h"

#include "wire/writer.h"

void kt_reader_init(struct kt_reader *reader, struct kt_slice bytes)
{
    /* An empty slice may have no address; a reader always has one, so that its pointers can be compared. */
    const uint8_t *at = bytes.len ? bytes.data : (const uint8_t *)"";
    *reader = (struct kt_reader){.at = at, .end = at + bytes.len};
}

bool kt_reader_ok(const struct kt_reader *reader)
{
    return !reader->failed;
}

bool kt_reader_done(const struct kt_reader *reader)
{
    return !reader->failed && reader->at == reader->end;
}

size_t kt_reader_left(const struct kt_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* len bytes, or NULL and the reader has failed. */
static const uint8_t *take(struct kt_reader *reader, size_t len)
{
    if (len > kt_reader_left(reader)) {
        reader->failed = true;
        reader->at = reader->end;
    }
    if (reader->failed)
        return NULL;
    const uint8_t *at = reader->at;
    reader->at += len;
    return at;
}

uint8_t kt_read_u8(struct kt_reader *reader)
{
    const uint8_t *at = take(reader, 1);
    return at ? *at : 0;
}

uint16_t kt_read_be16(struct kt_reader *reader)
{
    const uint8_t *at = take(reader, 2);
    return at ? kt_get_be16(at) : 0;
}

uint32_t kt_read_be32(struct kt_reader *reader)
{
    const uint8_t *at = take(reader, 4);
    return at ? kt_get_be32(at) : 0;
}

uint64_t kt_read_be64(struct kt_reader *reader)
{
    const uint8_t *at = take(reader, 8);
    return at ? kt_get_be64(at) : 0;
}

uint16_t kt_read_le16(struct kt_reader *reader)
{
    const uint8_t *at = take(reader, 2);
    return at ? (uint16_t)(at[0] | at[1] << 8) : 0;
}

uint32_t kt_read_le32(struct kt_reader *reader)
{
    const uint8_t *at = take(reader, 4);
    return at ? kt_get_le32(at) : 0;
}

uint64_t kt_read_le64(struct kt_reader *reader)
{
    const uint8_t *at = take(reader, 8);
    return at ? kt_get_le64(at) : 0;
}

/*
 * Ten bytes hold 70 bits: the tenth may only carry the 64th, else the number would lose bits. A shorter spelling of the
 * same number is not demanded: other writers pad.
 */
uint64_t kt_read_varint(struct kt_reader *reader)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        const uint8_t *at = take(reader, 1);
        if (!at)
            return 0;
        if (shift == 63 && *at > 1)
            break;
        value |= (uint64_t)(*at & 0x7f) << shift;
        if (!(*at & 0x80))
            return value;
    }
    reader->failed = true;
    reader->at = reader->end;
    return 0;
}

struct kt_slice kt_read_bytes(struct kt_reader *reader, size_t len)
{
    const uint8_t *at = take(reader, len);
    return at ? kt_slice(at, len) : kt_slice("", 0);
}

struct kt_slice kt_read_string(struct kt_reader *reader)
{
    uint64_t len = kt_read_varint(reader);
    /* size_t may be narrower than what arrived. */
    return kt_read_bytes(reader, len > SIZE_MAX ? SIZE_MAX : (size_t)len);
}
