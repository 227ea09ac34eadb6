/*
 * Reading the log at start. Every byte that a record or a header says was synced must be there and valid; only behind
 * the last such place, at the end of the last segment, may bytes be cut off. Nothing here changes the disk.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "cluster/log/wal_internal.h"

#define WINDOW (1u << 20) /* one read; grows to the largest record that is met */

/* The bytes of one file, through a window that moves forward. */
struct scan {
    struct kt_file *file;
    size_t least; /* bytes of one read */
    uint8_t *window;
    size_t cap, len;
    uint64_t at; /* of window[0] in the file */
};

/* NULL: the file ends before, or the disk failed (*status). Valid until the next call. */
static const uint8_t *scan_get(struct scan *scan, uint64_t offset, size_t len, int *status)
{
    int64_t got;

    *status = 0;
    if (scan->window && offset >= scan->at && offset + len <= scan->at + scan->len)
        return scan->window + (offset - scan->at);
    if (len > scan->cap) {
        scan->cap = KT_MAX(len, scan->least);
        kt_free(scan->window);
        scan->window = kt_alloc(scan->cap);
    }
    scan->at = offset;
    scan->len = 0;
    got = scan->file->ops->read(scan->file, offset, scan->window, scan->cap);
    if (got < 0) {
        *status = (int)got;
        return NULL;
    }
    scan->len = (size_t)got;
    return len <= scan->len ? scan->window : NULL;
}

static enum kt_code damaged(struct kt_error *error, uint64_t serial, uint64_t offset, const char *what)
{
    return kt_error_set(error, KT_CORRUPT, "log segment %016" PRIx64 ".seg is damaged at offset %" PRIu64 ": %s",
                        serial, offset, what);
}

static enum kt_code unreadable(struct kt_error *error, uint64_t serial, int status)
{
    return kt_error_errno(error, KT_IO_FAILED, -status, "cannot read log segment %016" PRIx64 ".seg", serial);
}

static enum kt_code read_header(struct kt_file *file, uint64_t serial, struct wal_header *header,
                                struct kt_error *error)
{
    uint8_t bytes[WAL_HEADER_BYTES];
    const char *what;
    int64_t size = file->ops->size(file);
    int64_t got = size < 0 ? size : file->ops->read(file, 0, bytes, sizeof(bytes));
    enum kt_code code;

    if (got < 0)
        return unreadable(error, serial, (int)got);
    if (got < (int64_t)sizeof(bytes))
        return damaged(error, serial, (uint64_t)got, "it ends within its header");
    code = wal_header_decode(bytes, header, &what);
    if (code == KT_BAD_VERSION)
        return kt_error_set(error, code, "log segment %016" PRIx64 ".seg: %s", serial, what);
    if (code != KT_OK)
        return damaged(error, serial, 0, what);
    if (header->serial != serial)
        return damaged(error, serial, 0, "it is another segment under this name");
    if (size != (int64_t)header->bytes)
        return kt_error_set(error, KT_CORRUPT,
                            "log segment %016" PRIx64 ".seg is %" PRId64 " bytes long, its header says %" PRIu64,
                            serial, size, header->bytes);
    return KT_OK;
}

/* Opens a segment; it is not in the list yet, because the one before is to be read first. */
static enum kt_code open_segment(struct kt_wal *wal, uint64_t serial, struct wal_segment **segment,
                                 struct wal_header *header, struct kt_error *error)
{
    char name[WAL_NAME_MAX];
    struct kt_file *file;
    enum kt_code code;
    int status;

    wal_segment_name(serial, name);
    status = wal->disk->ops->open(wal->disk, name, false, &file);
    if (status)
        return unreadable(error, serial, status);
    code = read_header(file, serial, header, error);
    if (code != KT_OK) {
        file->ops->close(file);
        return code;
    }
    *segment = kt_alloc(sizeof(**segment));
    **segment = (struct wal_segment){.serial = serial,
                                     .salt = header->salt,
                                     .bytes = header->bytes,
                                     .end = WAL_HEADER_BYTES,
                                     .base = header->base,
                                     .file = file,
                                     .refs = 1};
    return KT_OK;
}

/* What the record does to the log; NULL if it fits, else why it does not. */
static const char *replay(struct kt_wal *wal, const struct wal_record *record, uint64_t offset)
{
    struct wal_index *index = &wal->index;

    switch (record->kind) {
    case WAL_ENTRY:
        if (record->index != index->last + 1)
            return "the index of its entry does not follow the one before";
        if (record->term < wal_index_term(index, index->last))
            return "the term of its entry is below the one before";
        wal_segment_push(wal, (struct wal_slot){.term = record->term, .offset = (uint32_t)offset, .len = record->len});
        return NULL;
    case WAL_TRUNCATE:
        if (record->index >= index->last)
            return "it truncates the log behind its end";
        if (record->index >= index->first - 1 && record->term != wal_index_term(index, record->index))
            return "it truncates the log to an entry of another term";
        wal_segments_cut(wal, record->index);
        wal_index_cut(index, record->index, record->term);
        return NULL;
    case WAL_SEAL:
        return "the log goes on in the next segment, which is missing";
    default:
        return "its kind is not known";
    }
}

enum step { STEP_RECORD, STEP_END, STEP_FAILED };

/* The record at segment->end, if one is there. limit: no record reaches past it. */
static enum step read_record(struct kt_wal *wal, struct scan *scan, struct wal_segment *segment, uint64_t limit,
                             struct kt_error *error)
{
    uint64_t at = segment->end;
    struct wal_record record;
    const uint8_t *bytes;
    const char *what = NULL;
    int status;

    if (limit - at < WAL_RECORD_BYTES)
        return STEP_END;
    bytes = scan_get(scan, at, WAL_RECORD_BYTES, &status);
    if (!bytes) {
        (void)unreadable(error, segment->serial, status ? status : -EIO);
        return STEP_FAILED;
    }
    switch (wal_record_decode(bytes, segment->salt, at, &record)) {
    case WAL_RECORD_BAD:
        return STEP_END;
    case WAL_RECORD_ODD:
        what = "a record makes no sense";
        break;
    case WAL_RECORD_OK:
        /* Old records never lie where new ones are read: a tail is filled with zeros before anything is appended. */
        if (record.chain != wal->chain)
            what = "a record does not continue the one before";
        else if (wal_record_size(record.len) > limit - at)
            what = "a record is longer than its segment";
        break;
    }
    if (!what) {
        bytes = scan_get(scan, at + WAL_RECORD_BYTES, record.len, &status);
        if (!bytes) {
            (void)unreadable(error, segment->serial, status ? status : -EIO);
            return STEP_FAILED;
        }
        if (record.len > 0 && kt_crc32c(0, bytes, record.len) != record.payload_crc)
            return STEP_END;
        what = replay(wal, &record, at);
    }
    if (what) {
        (void)damaged(error, segment->serial, at, what);
        return STEP_FAILED;
    }
    wal->chain = record.crc;
    segment->end = at + wal_record_size(record.len);
    return STEP_RECORD;
}

/* All records of a segment up to limit, or to the first that is not valid. */
static enum kt_code read_records(struct kt_wal *wal, struct wal_segment *segment, uint64_t limit,
                                 struct kt_error *error)
{
    struct scan scan = {.file = segment->file, .least = (size_t)KT_MIN(WINDOW, segment->bytes)};
    struct kt_error reason = {.code = KT_OK};
    enum step step;

    do {
        step = read_record(wal, &scan, segment, limit, &reason);
    } while (step == STEP_RECORD);
    kt_free(scan.window);
    if (step == STEP_FAILED)
        return kt_error_set(error, reason.code, "%s", reason.text);
    return KT_OK;
}

/* A segment that has a successor was synced whole before: it must be valid to the byte where the successor continues.
 */
static enum kt_code finish_segment(struct kt_wal *wal, struct wal_segment *segment, const struct wal_header *next,
                                   struct kt_error *error)
{
    enum kt_code code;

    if (next->previous_end < WAL_HEADER_BYTES || next->previous_end > segment->bytes)
        return damaged(error, next->serial, 0, "it continues behind the end of the segment before");
    code = read_records(wal, segment, next->previous_end, error);
    if (code != KT_OK)
        return code;
    if (segment->end != next->previous_end)
        return damaged(error, segment->serial, segment->end, "the checksum of a record is wrong");
    if (next->chain != wal->chain || next->base != wal->index.last ||
        next->base_term != wal_index_term(&wal->index, wal->index.last))
        return damaged(error, next->serial, 0, "it does not continue the segment before");
    return KT_OK;
}

static enum kt_code finish_last(struct kt_wal *wal, struct wal_segment *segment, struct wal_recovered *recovered,
                                struct kt_error *error)
{
    struct wal_tail tail;
    enum kt_code code = read_records(wal, segment, segment->bytes, error);
    int status;

    if (code != KT_OK)
        return code;
    status = wal_tail_scan(segment, segment->end, &tail);
    if (status)
        return unreadable(error, segment->serial, status);
    if (tail.claim > segment->end)
        return kt_error_set(error, KT_CORRUPT,
                            "log segment %016" PRIx64 ".seg is damaged at offset %" PRIu64
                            ": no valid record, but the one at %" PRIu64 " tells that all before %" PRIu64
                            " was synced",
                            segment->serial, segment->end, tail.teller, tail.claim);
    if (wal->reach.serial == segment->serial && wal->reach.offset > segment->end)
        return kt_error_set(error, KT_CORRUPT,
                            "log segment %016" PRIx64 ".seg is damaged at offset %" PRIu64
                            ": no valid record, but all before %" PRIu64 " was synced",
                            segment->serial, segment->end, wal->reach.offset);
    recovered->end = segment->end;
    recovered->torn_end = tail.end;
    return KT_OK;
}

enum kt_code wal_recover(struct kt_wal *wal, const uint64_t *serials, size_t count, struct wal_recovered *recovered,
                         struct kt_error *error)
{
    struct wal_header header;
    struct wal_segment *segment;
    enum kt_code code = open_segment(wal, serials[0], &segment, &header, error);

    if (code != KT_OK)
        return code;
    wal_index_init(&wal->index, header.base, header.base_term);
    wal->chain = header.chain;
    wal_segment_add(wal, segment);
    for (size_t i = 1; i < count; i++) {
        if (serials[i] != serials[i - 1] + 1)
            return kt_error_set(error, KT_CORRUPT, "log segment %016" PRIx64 ".seg is missing", serials[i - 1] + 1);
        code = open_segment(wal, serials[i], &segment, &header, error);
        if (code != KT_OK)
            return code;
        code = finish_segment(wal, wal->segments[i - 1], &header, error);
        wal_segment_add(wal, segment);
        if (code != KT_OK)
            return code;
    }
    if (wal->reach.serial > serials[count - 1])
        return kt_error_set(error, KT_CORRUPT, "log segment %016" PRIx64 ".seg is missing", serials[count - 1] + 1);
    return finish_last(wal, wal->segments[count - 1], recovered, error);
}
