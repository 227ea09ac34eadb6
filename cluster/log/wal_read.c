/*
 * Reading entries back, on any thread. Under the lock only their places are copied; the files are read outside, kept
 * open by a reference. Records are never overwritten, so a reader that is overtaken by a truncation still reads what
 * was there; it then forgets what is not in the log any more.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "cluster/log/wal_internal.h"

#define GAP_MAX 512u /* between two entries: truncations and what they cut, read along if it is little */

struct place {
    struct wal_slot slot;
    struct wal_segment *segment; /* a reference */
};

struct reading {
    struct kt_wal *wal;
    kt_index first;
    size_t count;
    uint64_t cuts;
    struct place places[KT_WAL_READ_MAX];
};

static bool find_places(struct reading *reading, kt_index index, kt_index last, size_t bytes, size_t entries_max)
{
    struct kt_wal *wal = reading->wal;
    size_t total = 0;

    reading->first = index;
    reading->count = 0;
    pthread_mutex_lock(&wal->lock);
    reading->cuts = wal->cuts;
    last = KT_MIN(last, wal->index.last);
    for (; index <= last && reading->count < KT_MIN(entries_max, KT_WAL_READ_MAX); index++) {
        const struct wal_slot *slot = wal_index_at(&wal->index, index);

        if (!slot || (reading->count > 0 && total + slot->len > bytes))
            break;
        total += slot->len;
        reading->places[reading->count].slot = *slot;
        reading->places[reading->count].segment = wal_segment_acquire(wal, index);
        reading->count++;
    }
    pthread_mutex_unlock(&wal->lock);
    return reading->count > 0;
}

static uint64_t end_of(const struct wal_slot *slot)
{
    return slot->offset + wal_record_size(slot->len);
}

/* How many entries from at on lie so close together that one read fetches them. */
static size_t run_length(const struct reading *reading, size_t at)
{
    const struct place *first = &reading->places[at];
    size_t n = 1;

    while (at + n < reading->count) {
        const struct place *before = first + n - 1, *next = first + n;

        if (next->segment != first->segment || next->slot.offset - end_of(&before->slot) > GAP_MAX ||
            end_of(&next->slot) - first->slot.offset > KT_WAL_READ_CHUNK)
            break;
        n++;
    }
    return n;
}

static bool is_whole(const uint8_t *bytes, const struct wal_segment *segment, const struct wal_slot *slot,
                     kt_index index, struct wal_record *record)
{
    return wal_record_decode(bytes, segment->salt, slot->offset, record) == WAL_RECORD_OK &&
           record->kind == WAL_ENTRY && record->index == index && record->term == slot->term &&
           record->len == slot->len &&
           (record->len == 0 || kt_crc32c(0, bytes + WAL_RECORD_BYTES, record->len) == record->payload_crc);
}

/* Reads and checks the run; fills entries, each with a reference of its own to the chunk. */
static enum kt_code read_run(const struct reading *reading, size_t at, size_t n, struct kt_entry *entries)
{
    const struct place *places = &reading->places[at];
    const struct wal_segment *segment = places->segment;
    uint64_t offset = places->slot.offset;
    size_t len = (size_t)(end_of(&places[n - 1].slot) - offset);
    struct kt_chunk *chunk = kt_chunk_create(len);
    int64_t got = segment->file->ops->read(segment->file, offset, chunk->data, len);

    for (size_t i = 0; i < n; i++) {
        const struct wal_slot *slot = &places[i].slot;
        const uint8_t *bytes = chunk->data + (slot->offset - offset);
        struct wal_record record;

        if (got < (int64_t)len || !is_whole(bytes, segment, slot, reading->first + at + i, &record)) {
            for (size_t k = 0; k < i; k++)
                kt_chunk_drop(entries[k].chunk);
            kt_chunk_drop(chunk);
            if (got >= 0)
                kt_fail("log", "entry is damaged file=%016llx.seg offset=%u index=%llu",
                        (unsigned long long)segment->serial, (unsigned)slot->offset,
                        (unsigned long long)(reading->first + at + i));
            else
                kt_fail("log", "read failed file=%016llx.seg offset=%u error=\"%s\"",
                        (unsigned long long)segment->serial, (unsigned)slot->offset, strerror(abs((int)got)));
            return got < 0 ? KT_IO_FAILED : KT_CORRUPT;
        }
        entries[i] =
            (struct kt_entry){.index = record.index, .term = record.term, .type = (enum kt_entry_type)record.type};
        if (record.len > 0) {
            entries[i].data = kt_slice(bytes + WAL_RECORD_BYTES, record.len);
            entries[i].chunk = chunk;
            kt_chunk_acquire(chunk);
        }
    }
    kt_chunk_drop(chunk);
    return KT_OK;
}

static enum kt_code read_places(const struct reading *reading, struct kt_entry *entries)
{
    for (size_t at = 0; at < reading->count;) {
        size_t n = run_length(reading, at);
        enum kt_code code = read_run(reading, at, n, entries + at);

        if (code != KT_OK) {
            for (size_t k = 0; k < at; k++)
                kt_chunk_drop(entries[k].chunk);
            return code;
        }
        at += n;
    }
    return KT_OK;
}

/* How many of the entries are still in the log, the same as when their places were copied. */
static size_t still_there(struct reading *reading)
{
    struct kt_wal *wal = reading->wal;
    size_t n = reading->count;

    pthread_mutex_lock(&wal->lock);
    if (wal->cuts != reading->cuts) {
        n = 0;
        while (n < reading->count) {
            const struct wal_slot *slot = wal_index_at(&wal->index, reading->first + n);
            const struct wal_slot *read = &reading->places[n].slot;

            /* A replacement is of a later term; the same term is the same entry. */
            if (!slot || slot->term != read->term)
                break;
            n++;
        }
    }
    pthread_mutex_unlock(&wal->lock);
    return n;
}

enum kt_code kt_wal_read(struct kt_wal *wal, kt_index index, kt_index last, size_t bytes, struct kt_entry *entries,
                         size_t entries_max, size_t *count)
{
    struct reading reading = {.wal = wal};
    enum kt_code code;

    *count = 0;
    if (!find_places(&reading, index, last, bytes, entries_max))
        return KT_NOT_FOUND;
    code = read_places(&reading, entries);
    if (code == KT_OK) {
        *count = still_there(&reading);
        for (size_t i = *count; i < reading.count; i++)
            kt_chunk_drop(entries[i].chunk);
        if (*count == 0)
            code = KT_NOT_FOUND;
    }
    for (size_t i = 0; i < reading.count; i++)
        wal_segment_drop(wal, reading.places[i].segment);
    return code;
}
