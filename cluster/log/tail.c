/* The end of the last segment: is it torn or damaged? And how it is cleaned. */
#include "base/alloc.h"
#include "cluster/log/wal_internal.h"

#define PIECE (256u << 10) /* one read or write */

/* A record that begins at offset, if one does; its payload does not matter, its header alone is evidence. */
static int look_at(const struct wal_segment *segment, uint64_t offset, struct wal_tail *tail)
{
    uint8_t bytes[WAL_RECORD_BYTES];
    struct wal_record record;
    int64_t got = segment->file->ops->read(segment->file, offset, bytes, sizeof(bytes));

    if (got < 0)
        return (int)got;
    if (got == (int64_t)sizeof(bytes) && wal_record_decode(bytes, segment->salt, offset, &record) == WAL_RECORD_OK &&
        record.durable > tail->claim) {
        tail->claim = record.durable;
        tail->teller = offset;
    }
    return 0;
}

int wal_tail_scan(const struct wal_segment *segment, uint64_t offset, struct wal_tail *tail)
{
    uint8_t *piece = kt_alloc((size_t)KT_MIN(PIECE, segment->bytes));
    int status = 0;

    *tail = (struct wal_tail){.end = offset};
    for (uint64_t at = offset; at < segment->bytes && status == 0; at += PIECE) {
        size_t want = (size_t)KT_MIN(PIECE, segment->bytes - at);
        int64_t got = segment->file->ops->read(segment->file, at, piece, want);

        if (got < 0)
            status = (int)got;
        for (size_t i = 0; status == 0 && i + 8 <= (size_t)got; i += 8) {
            uint64_t word;

            memcpy(&word, piece + i, sizeof(word));
            if (word == 0)
                continue;
            tail->end = at + i + 8;
            if (wal_record_begins(piece + i))
                status = look_at(segment, at + i, tail);
        }
    }
    kt_free(piece);
    return status;
}

int wal_tail_zero(const struct wal_segment *segment, uint64_t offset, uint64_t end)
{
    uint8_t *zeros = kt_zalloc((size_t)KT_MIN(PIECE, segment->bytes));
    int status = 0;

    while (offset < end && status == 0) {
        struct iovec part = {.iov_base = zeros, .iov_len = (size_t)KT_MIN(PIECE, end - offset)};

        status = segment->file->ops->write(segment->file, offset, &part, 1);
        offset += part.iov_len;
    }
    kt_free(zeros);
    return status;
}
