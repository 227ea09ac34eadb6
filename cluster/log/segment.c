/* The list of segments, and how a prepared file becomes the last one. */
#include <errno.h>

#include "base/alloc.h"
#include "base/check.h"
#include "cluster/log/wal_internal.h"

struct wal_segment *wal_segment_last(struct kt_wal *wal)
{
    struct wal_segment *last;

    pthread_mutex_lock(&wal->lock);
    last = wal->segments[wal->segment_count - 1];
    pthread_mutex_unlock(&wal->lock);
    return last;
}

void wal_segment_add(struct kt_wal *wal, struct wal_segment *segment)
{
    pthread_mutex_lock(&wal->lock);
    if (wal->segment_count == wal->segment_cap) {
        wal->segment_cap = wal->segment_cap ? wal->segment_cap * 2 : 16;
        wal->segments = kt_realloc(wal->segments, wal->segment_cap * sizeof(struct wal_segment *));
    }
    wal->segments[wal->segment_count++] = segment;
    pthread_mutex_unlock(&wal->lock);
}

struct wal_segment *wal_segment_acquire(struct kt_wal *wal, kt_index index)
{
    /* Live entries go through the segments in order; readers mostly want recent ones. */
    for (size_t i = wal->segment_count; i > 0; i--) {
        struct wal_segment *segment = wal->segments[i - 1];

        if (segment->live > 0 && segment->first <= index) {
            KT_CHECK(index - segment->first < segment->live);
            segment->refs++;
            return segment;
        }
    }
    KT_CHECK(!"an entry of the index is in a segment");
    return NULL;
}

void wal_segment_drop(struct kt_wal *wal, struct wal_segment *segment)
{
    bool last;

    pthread_mutex_lock(&wal->lock);
    last = --segment->refs == 0;
    pthread_mutex_unlock(&wal->lock);
    if (!last)
        return;
    segment->file->ops->close(segment->file);
    kt_free(segment);
}

void wal_segments_cut(struct kt_wal *wal, kt_index last)
{
    for (size_t i = wal->segment_count; i > 0; i--) {
        struct wal_segment *segment = wal->segments[i - 1];

        if (segment->live == 0)
            continue;
        if (segment->first > last) {
            segment->live = 0;
            continue;
        }
        segment->live = KT_MIN(segment->live, last - segment->first + 1);
        return;
    }
}

void wal_segment_push(struct kt_wal *wal, struct wal_slot slot)
{
    struct wal_segment *last = wal->segments[wal->segment_count - 1];

    wal_index_push(&wal->index, slot);
    if (last->live == 0)
        last->first = wal->index.last;
    last->live++;
}

static int write_header(const struct wal_header *header, const struct wal_spare *spare)
{
    uint8_t bytes[WAL_HEADER_BYTES];
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    int status;

    wal_header_encode(header, bytes);
    status = spare->file->ops->write(spare->file, 0, &part, 1);
    return status ? status : spare->file->ops->sync(spare->file);
}

/* The last segment so far is synced up to its end: what follows relies on it. */
static struct wal_header next_header(struct kt_wal *wal, const struct wal_spare *spare)
{
    struct wal_header header = {.serial = 1,
                                .salt = kt_random_next(&wal->random),
                                .bytes = spare->bytes,
                                .base = wal->index.last,
                                .base_term = wal_index_term(&wal->index, wal->index.last),
                                .chain = wal->chain};

    if (wal->segment_count > 0) {
        const struct wal_segment *last = wal->segments[wal->segment_count - 1];

        KT_CHECK(wal->durable == last->end);
        header.serial = last->serial + 1;
        header.previous_end = (uint32_t)last->end;
    }
    return header;
}

enum kt_code wal_segment_begin(struct kt_wal *wal, struct wal_spare *spare)
{
    struct wal_header header;
    struct wal_segment *segment;
    char from[WAL_NAME_MAX], to[WAL_NAME_MAX];
    int status;

    pthread_mutex_lock(&wal->lock);
    header = next_header(wal, spare);
    pthread_mutex_unlock(&wal->lock);
    wal_spare_name(spare->number, from);
    wal_segment_name(header.serial, to);
    /* The header is durable before the name is, and the name before any record: see wal_header. */
    status = write_header(&header, spare);
    if (status == 0)
        status = wal->disk->ops->rename(wal->disk, from, to);
    if (status == 0)
        status = wal->disk->ops->sync_folder(wal->disk);
    if (status) {
        spare->file->ops->close(spare->file);
        return wal_fail(wal, status, "beginning", to);
    }
    segment = kt_alloc(sizeof(*segment));
    *segment = (struct wal_segment){.serial = header.serial,
                                    .salt = header.salt,
                                    .bytes = header.bytes,
                                    .end = WAL_HEADER_BYTES,
                                    .base = header.base,
                                    .file = spare->file,
                                    .refs = 1};
    wal->durable = WAL_HEADER_BYTES;
    wal_segment_add(wal, segment);
    return KT_OK;
}
