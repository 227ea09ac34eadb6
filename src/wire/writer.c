/* Writing bytes, by shifts: the same on every machine, and one store where the machine's order is the one asked for. */
#include "wire/writer.h"

void kt_put_be16(void *to, uint16_t value)
{
    uint8_t *p = to;
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

void kt_put_be32(void *to, uint32_t value)
{
    uint8_t *p = to;
    p[0] = (uint8_t)(value >> 24);
    p[1] = (uint8_t)(value >> 16);
    p[2] = (uint8_t)(value >> 8);
    p[3] = (uint8_t)value;
}

void kt_put_be64(void *to, uint64_t value)
{
    uint8_t *p = to;
    kt_put_be32(p, (uint32_t)(value >> 32));
    kt_put_be32(p + 4, (uint32_t)value);
}

void kt_put_le32(void *to, uint32_t value)
{
    uint8_t *p = to;
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    p[2] = (uint8_t)(value >> 16);
    p[3] = (uint8_t)(value >> 24);
}

void kt_put_le64(void *to, uint64_t value)
{
    uint8_t *p = to;
    kt_put_le32(p, (uint32_t)value);
    kt_put_le32(p + 4, (uint32_t)(value >> 32));
}

uint16_t kt_get_be16(const void *from)
{
    const uint8_t *p = from;
    return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t kt_get_be32(const void *from)
{
    const uint8_t *p = from;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint64_t kt_get_be64(const void *from)
{
    const uint8_t *p = from;
    return (uint64_t)kt_get_be32(p) << 32 | kt_get_be32(p + 4);
}

uint32_t kt_get_le32(const void *from)
{
    const uint8_t *p = from;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t kt_get_le64(const void *from)
{
    const uint8_t *p = from;
    return (uint64_t)kt_get_le32(p) | (uint64_t)kt_get_le32(p + 4) << 32;
}

void kt_write_be16(struct kt_buf *out, uint16_t value)
{
    uint8_t *to = kt_buf_reserve(out, 2);
    if (to) {
        kt_put_be16(to, value);
        out->len += 2;
    }
}

void kt_write_be32(struct kt_buf *out, uint32_t value)
{
    uint8_t *to = kt_buf_reserve(out, 4);
    if (to) {
        kt_put_be32(to, value);
        out->len += 4;
    }
}

void kt_write_be64(struct kt_buf *out, uint64_t value)
{
    uint8_t *to = kt_buf_reserve(out, 8);
    if (to) {
        kt_put_be64(to, value);
        out->len += 8;
    }
}

void kt_write_le16(struct kt_buf *out, uint16_t value)
{
    uint8_t bytes[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    kt_buf_append(out, bytes, sizeof(bytes));
}

void kt_write_le32(struct kt_buf *out, uint32_t value)
{
    uint8_t *to = kt_buf_reserve(out, 4);
    if (to) {
        kt_put_le32(to, value);
        out->len += 4;
    }
}

void kt_write_le64(struct kt_buf *out, uint64_t value)
{
    uint8_t *to = kt_buf_reserve(out, 8);
    if (to) {
        kt_put_le64(to, value);
        out->len += 8;
    }
}

void kt_write_varint(struct kt_buf *out, uint64_t value)
{
    uint8_t bytes[10];
    size_t len = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[len++] = (uint8_t)(value | 0x80);
    bytes[len++] = (uint8_t)value;
    kt_buf_append(out, bytes, len);
}

void kt_write_string(struct kt_buf *out, struct kt_slice bytes)
{
    kt_write_varint(out, bytes.len);
    kt_buf_append_slice(out, bytes);
}
