/*
 * Writing: votes, entries, syncs, trimming. An append first makes sure of all the segments that it will need, so
 * that a full disk is met before the first byte; then it writes record after record, one write per segment.
 */
#include "cluster/log/wal.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "cluster/log/wal_internal.h"

#define COPY_MAX                                                                                                       \
    4096u /* payloads up to this size are copied beside their header; larger ones are written from where they are */

_Static_assert(COPY_MAX + 2 * WAL_RECORD_BYTES < WAL_SEGMENT_MIN, "a small record fits an empty staging buffer");

/* One write being collected: records that follow each other in the last segment. */
struct writing {
    struct kt_wal *wal;
    struct wal_segment *segment;
    uint64_t offset; /* where the write begins */
    uint64_t end;    /* and ends so far */
    size_t staged;   /* bytes of the staging buffer in use */
    int part_count;
    const struct kt_entry *entries; /* written but not in the index yet */
    size_t entry_count;
    uint64_t entry_offset; /* where the first of them is */
    bool cut;              /* before them, the log ends at cut_last */
    kt_index cut_last;
};

enum kt_code wal_failed(struct kt_wal *wal)
{
    enum kt_code code;

    pthread_mutex_lock(&wal->lock);
    code = wal->failed;
    pthread_mutex_unlock(&wal->lock);
    return code;
}

enum kt_code wal_fail(struct kt_wal *wal, int error_number, const char *what, const char *name)
{
    enum kt_code code;

    pthread_mutex_lock(&wal->lock);
    if (wal->failed == KT_OK)
        wal->failed = KT_IO_FAILED;
    code = wal->failed;
    pthread_mutex_unlock(&wal->lock);
    kt_fail("log", "disk failed what=\"%s\" file=%s error=\"%s\"", what, name, strerror(abs(error_number)));
    return code;
}

static enum kt_code fail_segment(struct kt_wal *wal, int status, const char *what, const struct wal_segment *segment)
{
    char name[WAL_NAME_MAX];

    wal_segment_name(segment->serial, name);
    return wal_fail(wal, status, what, name);
}

enum kt_code kt_wal_vote(struct kt_wal *wal, kt_term term, kt_node_id vote)
{
    struct wal_vote next = {.generation = wal->vote.generation + 1, .term = term, .vote = vote};
    enum kt_code code = wal_failed(wal);
    int status;

    if (code != KT_OK)
        return code;
    status = wal_vote_store(wal->vote_file, &next);
    if (status)
        return wal_fail(wal, status, "writing", WAL_VOTE_NAME);
    wal->vote = next;
    return KT_OK;
}

static void begin_writing(struct writing *writing, struct kt_wal *wal)
{
    struct wal_segment *last = wal_segment_last(wal);

    *writing = (struct writing){.wal = wal, .segment = last, .offset = last->end, .end = last->end};
}

/* What was written becomes part of the log. */
static void publish(struct writing *writing)
{
    struct kt_wal *wal = writing->wal;
    uint64_t offset = writing->entry_offset;

    pthread_mutex_lock(&wal->lock);
    if (writing->cut) {
        wal_segments_cut(wal, writing->cut_last);
        wal_index_cut(&wal->index, writing->cut_last, 0);
        wal->cuts++;
    }
    for (size_t i = 0; i < writing->entry_count; i++) {
        const struct kt_entry *entry = &writing->entries[i];

        wal_segment_push(
            wal, (struct wal_slot){.term = entry->term, .offset = (uint32_t)offset, .len = (uint32_t)entry->data.len});
        offset += wal_record_size(entry->data.len);
    }
    writing->segment->end = writing->end;
    pthread_mutex_unlock(&wal->lock);
    writing->cut = false;
    writing->entries += writing->entry_count;
    writing->entry_count = 0;
    writing->entry_offset = writing->end;
}

static enum kt_code flush(struct writing *writing)
{
    struct kt_wal *wal = writing->wal;
    int status;

    if (writing->part_count == 0)
        return KT_OK;
    status =
        writing->segment->file->ops->write(writing->segment->file, writing->offset, wal->parts, writing->part_count);
    if (status)
        return fail_segment(wal, status, "writing", writing->segment);
    writing->offset = writing->end;
    writing->staged = 0;
    writing->part_count = 0;
    publish(writing);
    return KT_OK;
}

/* Bytes that are already in memory, or, with data NULL, the next `len` bytes of the staging buffer. */
static void add_part(struct writing *writing, const void *data, size_t len)
{
    struct kt_wal *wal = writing->wal;
    struct iovec *last = writing->part_count > 0 ? &wal->parts[writing->part_count - 1] : NULL;

    if (!data) {
        data = wal->staging + writing->staged;
        writing->staged += len;
        if (last && (uint8_t *)last->iov_base + last->iov_len == data) {
            last->iov_len += len;
            return;
        }
    }
    wal->parts[writing->part_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len};
}

/* Appends one record to the write; fills in chain and durable. The payload is borrowed until the flush. */
static enum kt_code put(struct writing *writing, struct wal_record *record, const void *payload)
{
    struct kt_wal *wal = writing->wal;
    size_t padding = (size_t)(wal_record_size(record->len) - WAL_RECORD_BYTES - record->len);
    size_t copied = record->len <= COPY_MAX ? record->len : 0;
    uint8_t *staged;
    enum kt_code code;

    if (writing->staged + WAL_RECORD_BYTES + copied + padding > wal->staging_bytes ||
        writing->part_count + 3 > WAL_PARTS_MAX) {
        code = flush(writing);
        if (code != KT_OK)
            return code;
    }
    record->chain = wal->chain;
    record->durable = (uint32_t)wal->durable;
    staged = wal->staging + writing->staged;
    wal_record_encode(record, writing->segment->salt, writing->end, payload, staged);
    if (record->len > COPY_MAX) {
        add_part(writing, NULL, WAL_RECORD_BYTES);
        add_part(writing, payload, record->len);
        memset(wal->staging + writing->staged, 0, padding);
        if (padding > 0)
            add_part(writing, NULL, padding);
    } else {
        if (copied > 0)
            memcpy(staged + WAL_RECORD_BYTES, payload, copied);
        memset(staged + WAL_RECORD_BYTES + copied, 0, padding);
        add_part(writing, NULL, WAL_RECORD_BYTES + copied + padding);
    }
    writing->end += wal_record_size(record->len);
    return KT_OK;
}

/* In a segment there is always room left for the seal. */
static bool fits(uint64_t end, uint64_t bytes, uint64_t record_bytes)
{
    return end + record_bytes + WAL_RECORD_BYTES <= bytes;
}

static enum kt_code sync_segment(struct kt_wal *wal, struct wal_segment *segment)
{
    int status;

    if (wal->durable == segment->end)
        return KT_OK;
    status = segment->file->ops->sync(segment->file);
    if (status)
        return fail_segment(wal, status, "syncing", segment);
    wal->durable = segment->end;
    return KT_OK;
}

/* The note that a segment has a successor: without it the loss of the last file would look like an older, shorter log.
 */
static enum kt_code seal(struct kt_wal *wal, struct wal_segment *segment, uint32_t chain)
{
    struct wal_record record = {.kind = WAL_SEAL, .chain = chain, .durable = (uint32_t)segment->end};
    uint8_t bytes[WAL_RECORD_BYTES];
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    int status;

    wal_record_encode(&record, segment->salt, segment->end, NULL, bytes);
    status = segment->file->ops->write(segment->file, segment->end, &part, 1);
    return status ? fail_segment(wal, status, "writing", segment) : KT_OK;
}

/* Ends the last segment and goes on in a new one; takes the spare. */
static enum kt_code roll(struct writing *writing, struct wal_spare *spare)
{
    struct kt_wal *wal = writing->wal;
    struct wal_segment *full = writing->segment;
    const struct kt_entry *entries;
    enum kt_code code = flush(writing);

    if (code == KT_OK)
        code = sync_segment(wal, full);
    if (code != KT_OK) {
        wal_spare_return(wal, spare);
        return code;
    }
    /* A trim on another thread may remove it as soon as it is not the last any more. */
    pthread_mutex_lock(&wal->lock);
    full->refs++;
    pthread_mutex_unlock(&wal->lock);
    code = wal_segment_begin(wal, spare);
    if (code == KT_OK)
        code = seal(wal, full, wal->chain);
    wal_segment_drop(wal, full);
    entries = writing->entries;
    if (code == KT_OK) {
        begin_writing(writing, wal);
        writing->entries = entries;
        writing->entry_offset = writing->end;
    }
    return code;
}

/* The segments that an append needs besides the current one. */
struct plan {
    struct wal_spare *spares;
    size_t count, used;
};

static enum kt_code plan_add(struct kt_wal *wal, struct plan *plan, uint64_t bytes)
{
    enum kt_code code;

    if ((plan->count & (plan->count - 1)) == 0)
        plan->spares = kt_realloc(plan->spares, (plan->count ? plan->count * 2 : 1) * sizeof(*plan->spares));
    code = wal_spare_take(wal, bytes, &plan->spares[plan->count]);
    if (code == KT_OK)
        plan->count++;
    return code;
}

static void plan_release(struct kt_wal *wal, struct plan *plan)
{
    for (size_t i = plan->used; i < plan->count; i++)
        wal_spare_return(wal, &plan->spares[i]);
    kt_free(plan->spares);
}

/* How large the segment must be that begins with such a record. */
static uint64_t segment_size_for(const struct kt_wal *wal, uint64_t record_bytes)
{
    uint64_t needed = (WAL_HEADER_BYTES + record_bytes + WAL_RECORD_BYTES + 4095) & ~(uint64_t)4095;

    return KT_MAX(needed, wal->segment_bytes);
}

/* The same walk that append does, without writing. */
static enum kt_code make_plan(struct kt_wal *wal, bool cut, const struct kt_entry *entries, size_t count,
                              struct plan *plan)
{
    const struct wal_segment *last = wal_segment_last(wal);
    uint64_t end = last->end, bytes = last->bytes;

    for (size_t i = 0; i < count + cut; i++) {
        uint64_t record_bytes = wal_record_size(cut && i == 0 ? 0 : entries[i - cut].data.len);

        if (!fits(end, bytes, record_bytes)) {
            enum kt_code code;

            bytes = segment_size_for(wal, record_bytes);
            end = WAL_HEADER_BYTES;
            code = plan_add(wal, plan, bytes);
            if (code != KT_OK)
                return code;
        }
        end += record_bytes;
    }
    return KT_OK;
}

static void check_entries(struct kt_wal *wal, const struct kt_entry *entries, size_t count)
{
    kt_term term = kt_wal_term(wal, entries[0].index - 1);

    KT_CHECK(entries[0].index >= kt_wal_first(wal) && entries[0].index <= kt_wal_last(wal) + 1);
    for (size_t i = 0; i < count; i++) {
        KT_CHECK(entries[i].index == entries[0].index + i);
        KT_CHECK(entries[i].term >= term);
        KT_CHECK(entries[i].type >= KT_ENTRY_COMMAND && entries[i].type <= KT_ENTRY_CHANGE);
        KT_CHECK(entries[i].data.len <= KT_ENTRY_BYTES_MAX);
        term = entries[i].term;
    }
}

static enum kt_code write_planned(struct writing *writing, struct plan *plan, struct wal_record *record,
                                  const void *payload)
{
    enum kt_code code = KT_OK;

    if (!fits(writing->end, writing->segment->bytes, wal_record_size(record->len))) {
        KT_CHECK(plan->used < plan->count);
        code = roll(writing, &plan->spares[plan->used++]);
    }
    if (code != KT_OK)
        return code;
    code = put(writing, record, payload);
    if (code == KT_OK)
        writing->wal->chain = record->crc;
    return code;
}

static enum kt_code write_entries(struct kt_wal *wal, bool cut, const struct kt_entry *entries, size_t count,
                                  struct plan *plan)
{
    struct writing writing;
    enum kt_code code = KT_OK;

    begin_writing(&writing, wal);
    writing.entries = entries;
    writing.entry_offset = writing.end;
    if (cut) {
        kt_index last = entries[0].index - 1;
        struct wal_record record = {.kind = WAL_TRUNCATE, .index = last, .term = kt_wal_term(wal, last)};

        code = write_planned(&writing, plan, &record, NULL);
        writing.cut = true;
        writing.cut_last = last;
        writing.entry_offset = writing.end;
    }
    for (size_t i = 0; i < count && code == KT_OK; i++) {
        struct wal_record record = {.kind = WAL_ENTRY,
                                    .type = (uint8_t)entries[i].type,
                                    .len = (uint32_t)entries[i].data.len,
                                    .index = entries[i].index,
                                    .term = entries[i].term};

        code = write_planned(&writing, plan, &record, entries[i].data.data);
        if (code == KT_OK)
            writing.entry_count++;
    }
    return code == KT_OK ? flush(&writing) : code;
}

enum kt_code kt_wal_append(struct kt_wal *wal, const struct kt_entry *entries, size_t count)
{
    struct plan plan = {0};
    enum kt_code code = wal_failed(wal);
    bool cut;

    if (code != KT_OK || count == 0)
        return code;
    check_entries(wal, entries, count);
    cut = entries[0].index <= kt_wal_last(wal);
    code = make_plan(wal, cut, entries, count, &plan);
    if (code == KT_OK)
        code = write_entries(wal, cut, entries, count, &plan);
    plan_release(wal, &plan);
    return code;
}

enum kt_code kt_wal_sync(struct kt_wal *wal)
{
    enum kt_code code = wal_failed(wal);

    return code == KT_OK ? sync_segment(wal, wal_segment_last(wal)) : code;
}

enum kt_code kt_wal_mark(struct kt_wal *wal)
{
    struct wal_reach reach = {.serial = wal_segment_last(wal)->serial, .offset = wal->durable};
    enum kt_code code = wal_failed(wal);
    int status;

    if (code != KT_OK || (reach.serial == wal->reach.serial && reach.offset == wal->reach.offset))
        return code;
    status = wal_reach_store(wal->vote_file, &reach);
    if (status)
        return wal_fail(wal, status, "writing", WAL_VOTE_NAME);
    wal->reach = reach;
    return KT_OK;
}

/*
 * Takes the oldest segment out of the list if no entry above index was in the log when it ended; its caller gets the
 * reference. Whether its entries are still live does not count: what cut them may not be synced yet, and a crash would
 * bring them back.
 */
static struct wal_segment *take_oldest(struct kt_wal *wal, kt_index index)
{
    struct wal_segment *oldest = NULL;

    pthread_mutex_lock(&wal->lock);
    if (wal->failed == KT_OK && wal->segment_count > 1 && wal->segments[1]->base <= index)
        oldest = wal->segments[0];
    if (oldest) {
        if (oldest->live > 0)
            wal_index_trim(&wal->index, oldest->first + oldest->live);
        wal->segment_count--;
        memmove(wal->segments, wal->segments + 1, wal->segment_count * sizeof(struct wal_segment *));
    }
    pthread_mutex_unlock(&wal->lock);
    return oldest;
}

enum kt_code kt_wal_trim(struct kt_wal *wal, kt_index index)
{
    struct wal_segment *oldest;

    while ((oldest = take_oldest(wal, index))) {
        char name[WAL_NAME_MAX];
        int status;

        wal_segment_name(oldest->serial, name);
        status = wal->disk->ops->remove(wal->disk, name);
        /* One after the other: a crash must not leave an older segment behind a gap. */
        if (status == 0)
            status = wal->disk->ops->sync_folder(wal->disk);
        wal_segment_drop(wal, oldest);
        if (status)
            return wal_fail(wal, status, "removing", name);
    }
    return wal_failed(wal);
}

kt_term kt_wal_term(struct kt_wal *wal, kt_index index)
{
    kt_term term;

    pthread_mutex_lock(&wal->lock);
    term = wal_index_term(&wal->index, index);
    pthread_mutex_unlock(&wal->lock);
    return term;
}

kt_index kt_wal_first(struct kt_wal *wal)
{
    kt_index first;

    pthread_mutex_lock(&wal->lock);
    first = wal->index.first;
    pthread_mutex_unlock(&wal->lock);
    return first;
}

kt_index kt_wal_last(struct kt_wal *wal)
{
    kt_index last;

    pthread_mutex_lock(&wal->lock);
    last = wal->index.last;
    pthread_mutex_unlock(&wal->lock);
    return last;
}

void kt_wal_usage(struct kt_wal *wal, uint64_t *bytes, unsigned *segments)
{
    pthread_mutex_lock(&wal->lock);
    *bytes = 0;
    *segments = (unsigned)wal->segment_count;
    for (size_t i = 0; i < wal->segment_count; i++)
        *bytes += wal->segments[i]->bytes;
    pthread_mutex_unlock(&wal->lock);
}
