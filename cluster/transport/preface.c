#include "cluster/transport/transport_internal.h"

#include "base/hash.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* The magic is no text of any client protocol, so that a client on the wrong port is told apart at its first bytes. */
static const uint8_t magic[4] = {'K', 0xF1, 'T', 'P'};

#define VERSION_BYTES (sizeof(magic) + 2)

_Static_assert(sizeof(magic) + 2 + 2 + 5 * 8 + 4 == PREFACE_BYTES, "the fields of a preface add up");

static void put_le16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

void preface_write(const struct preface *preface, uint8_t *to)
{
    const uint64_t fields[] = {preface->cluster, preface->from, preface->to, preface->incarnation, preface->sequence};
    uint8_t *at = to;
    memcpy(at, magic, sizeof(magic));
    at += sizeof(magic);
    put_le16(at, preface->version);
    put_le16(at + 2, preface->verdict);
    at += 4;
    for (size_t i = 0; i < KT_COUNT(fields); i++, at += 8)
        kt_put_le64(at, fields[i]);
    kt_put_le32(at, kt_crc32c(0, to, PREFACE_BYTES - 4));
}

enum kt_code preface_read(struct kt_slice in, struct preface *preface)
{
    struct kt_reader reader;
    memset(preface, 0, sizeof(*preface));
    if (in.len > 0 && memcmp(in.data, magic, KT_MIN(in.len, sizeof(magic))) != 0)
        return KT_BAD_FRAME;
    if (in.len < VERSION_BYTES)
        return KT_MORE;
    kt_reader_init(&reader, in);
    kt_read_bytes(&reader, sizeof(magic));
    preface->version = kt_read_le16(&reader);
    /* Judged before the rest is there: another version may have a preface of another length. */
    if (preface->version != PREFACE_VERSION)
        return KT_BAD_VERSION;
    if (in.len < PREFACE_BYTES)
        return KT_MORE;
    preface->verdict = kt_read_le16(&reader);
    preface->cluster = kt_read_le64(&reader);
    preface->from = kt_read_le64(&reader);
    preface->to = kt_read_le64(&reader);
    preface->incarnation = kt_read_le64(&reader);
    preface->sequence = kt_read_le64(&reader);
    return kt_read_le32(&reader) == kt_crc32c(0, in.data, PREFACE_BYTES - 4) ? KT_OK : KT_BAD_FRAME;
}
