/* The bytes of headers, records and file names. Pure functions. */
#include <stdio.h>

#include "base/hash.h"
#include "cluster/log/wal_internal.h"
#include "wire/writer.h"

#define SEGMENT_MAGIC 0x4753544bu /* "KTSG" */
#define RECORD_MAGIC  0x4352544bu /* "KTRC" */

/* Segment header: offsets of its fields. */
enum {
    H_MAGIC = 0,
    H_CRC = 4,
    H_FORMAT = 8,
    H_CHAIN = 12,
    H_SERIAL = 16,
    H_SALT = 24,
    H_BYTES = 32,
    H_BASE = 40,
    H_BASE_TERM = 48,
    H_PREVIOUS_END = 56
};

/* Record: offsets of its fields. */
enum {
    R_MAGIC = 0,
    R_CRC = 4,
    R_PAYLOAD_CRC = 8,
    R_LEN = 12,
    R_KIND = 16,
    R_TYPE = 17,
    R_CHAIN = 20,
    R_INDEX = 24,
    R_TERM = 32,
    R_DURABLE = 40
};

void wal_header_sign(uint8_t header[WAL_HEADER_BYTES])
{
    kt_put_le32(header + H_CRC, kt_crc32c(0, header + H_FORMAT, WAL_HEADER_BYTES - H_FORMAT));
}

void wal_header_encode(const struct wal_header *header, uint8_t out[WAL_HEADER_BYTES])
{
    memset(out, 0, WAL_HEADER_BYTES);
    kt_put_le32(out + H_MAGIC, SEGMENT_MAGIC);
    kt_put_le32(out + H_FORMAT, WAL_FORMAT);
    kt_put_le32(out + H_CHAIN, header->chain);
    kt_put_le64(out + H_SERIAL, header->serial);
    kt_put_le64(out + H_SALT, header->salt);
    kt_put_le64(out + H_BYTES, header->bytes);
    kt_put_le64(out + H_BASE, header->base);
    kt_put_le64(out + H_BASE_TERM, header->base_term);
    kt_put_le32(out + H_PREVIOUS_END, header->previous_end);
    wal_header_sign(out);
}

enum kt_code wal_header_decode(const uint8_t in[WAL_HEADER_BYTES], struct wal_header *header, const char **what)
{
    if (kt_get_le32(in + H_MAGIC) != SEGMENT_MAGIC) {
        *what = "it does not begin as a segment does";
        return KT_CORRUPT;
    }
    if (kt_get_le32(in + H_CRC) != kt_crc32c(0, in + H_FORMAT, WAL_HEADER_BYTES - H_FORMAT)) {
        *what = "the checksum of its header is wrong";
        return KT_CORRUPT;
    }
    if (kt_get_le32(in + H_FORMAT) != WAL_FORMAT) {
        *what = "a later version wrote it";
        return KT_BAD_VERSION;
    }
    header->chain = kt_get_le32(in + H_CHAIN);
    header->serial = kt_get_le64(in + H_SERIAL);
    header->salt = kt_get_le64(in + H_SALT);
    header->bytes = kt_get_le64(in + H_BYTES);
    header->base = kt_get_le64(in + H_BASE);
    header->base_term = kt_get_le64(in + H_BASE_TERM);
    header->previous_end = kt_get_le32(in + H_PREVIOUS_END);
    /* The bounds that arithmetic on offsets and indices relies on; a fitting checksum over other values is no accident.
     */
    if (header->bytes < WAL_HEADER_BYTES || header->bytes > WAL_SEGMENT_MAX + KT_ENTRY_BYTES_MAX + WAL_RESERVE_BYTES ||
        header->base >= UINT64_MAX / 2 || header->previous_end % 8 != 0) {
        *what = "its header makes no sense";
        return KT_CORRUPT;
    }
    return KT_OK;
}

static uint32_t place_crc(uint64_t salt, uint64_t offset)
{
    uint8_t place[16];

    kt_put_le64(place, salt);
    kt_put_le64(place + 8, offset);
    return kt_crc32c(0, place, sizeof(place));
}

/* salt and offset come first, so the same bytes elsewhere are no record. */
static uint32_t record_crc(const uint8_t *record, uint64_t salt, uint64_t offset)
{
    return kt_crc32c(place_crc(salt, offset), record + R_PAYLOAD_CRC, WAL_RECORD_BYTES - R_PAYLOAD_CRC);
}

uint32_t wal_record_sign(uint8_t record[WAL_RECORD_BYTES], uint64_t salt, uint64_t offset)
{
    uint32_t crc = record_crc(record, salt, offset);

    kt_put_le32(record + R_CRC, crc);
    return crc;
}

void wal_record_encode(struct wal_record *record, uint64_t salt, uint64_t offset, const void *payload,
                       uint8_t out[WAL_RECORD_BYTES])
{
    record->payload_crc = record->len > 0 ? kt_crc32c(0, payload, record->len) : 0;
    memset(out, 0, WAL_RECORD_BYTES);
    kt_put_le32(out + R_MAGIC, RECORD_MAGIC);
    kt_put_le32(out + R_PAYLOAD_CRC, record->payload_crc);
    kt_put_le32(out + R_LEN, record->len);
    out[R_KIND] = record->kind;
    out[R_TYPE] = record->type;
    kt_put_le32(out + R_CHAIN, record->chain);
    kt_put_le64(out + R_INDEX, record->index);
    kt_put_le64(out + R_TERM, record->term);
    kt_put_le32(out + R_DURABLE, record->durable);
    record->crc = wal_record_sign(out, salt, offset);
}

bool wal_record_begins(const uint8_t *in)
{
    return kt_get_le32(in + R_MAGIC) == RECORD_MAGIC;
}

static bool makes_sense(const struct wal_record *record, uint64_t offset)
{
    if (record->durable < WAL_HEADER_BYTES || record->durable > offset || record->durable % 8 != 0)
        return false;
    switch (record->kind) {
    case WAL_ENTRY:
        return record->len <= KT_ENTRY_BYTES_MAX && record->type >= KT_ENTRY_COMMAND &&
               record->type <= KT_ENTRY_CHANGE && record->index > 0 && record->index < UINT64_MAX / 2;
    case WAL_TRUNCATE:
    case WAL_SEAL:
        return record->len == 0 && record->type == 0;
    case WAL_RESET:
        return record->len == 0 && record->type == 0 && record->index > 0 && record->index < UINT64_MAX / 2;
    default:
        return false;
    }
}

enum wal_decoded wal_record_decode(const uint8_t in[WAL_RECORD_BYTES], uint64_t salt, uint64_t offset,
                                   struct wal_record *record)
{
    if (!wal_record_begins(in))
        return WAL_RECORD_BAD;
    record->crc = kt_get_le32(in + R_CRC);
    if (record->crc != record_crc(in, salt, offset))
        return WAL_RECORD_BAD;
    record->payload_crc = kt_get_le32(in + R_PAYLOAD_CRC);
    record->len = kt_get_le32(in + R_LEN);
    record->kind = in[R_KIND];
    record->type = in[R_TYPE];
    record->chain = kt_get_le32(in + R_CHAIN);
    record->index = kt_get_le64(in + R_INDEX);
    record->term = kt_get_le64(in + R_TERM);
    record->durable = kt_get_le32(in + R_DURABLE);
    return makes_sense(record, offset) ? WAL_RECORD_OK : WAL_RECORD_ODD;
}

uint64_t wal_record_size(uint64_t len)
{
    return WAL_RECORD_BYTES + ((len + 7) & ~(uint64_t)7);
}

void wal_segment_name(uint64_t serial, char out[WAL_NAME_MAX])
{
    snprintf(out, WAL_NAME_MAX, "%016llx.seg", (unsigned long long)serial);
}

void wal_spare_name(uint64_t number, char out[WAL_NAME_MAX])
{
    snprintf(out, WAL_NAME_MAX, "prepared-%llu.tmp", (unsigned long long)number);
}

/* A name is ours only if it is exactly what we would write: "+1" or "01" are somebody else's files. */
bool wal_segment_name_parse(const char *name, uint64_t *serial)
{
    char again[WAL_NAME_MAX];
    unsigned long long value;

    if (strlen(name) != 20 || sscanf(name, "%16llx.seg", &value) != 1)
        return false;
    wal_segment_name(value, again);
    *serial = value;
    return strcmp(name, again) == 0;
}

bool wal_spare_name_parse(const char *name, uint64_t *number)
{
    char again[WAL_NAME_MAX];
    unsigned long long value;

    if (strlen(name) >= WAL_NAME_MAX || sscanf(name, "prepared-%llu.tmp", &value) != 1)
        return false;
    wal_spare_name(value, again);
    *number = value;
    return strcmp(name, again) == 0;
}
