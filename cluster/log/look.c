/* Looking at a log without opening it for writing: recovery, without the repairs that follow it. */
#include "cluster/log/look.h"

#include "cluster/log/wal_internal.h"

static enum kt_code look_at_vote(struct kt_wal *wal, const struct wal_listing *listing, struct kt_wal_look *look)
{
    int stale = -1;
    enum kt_code code;

    if (!listing->vote)
        return kt_error_set(&look->vote, KT_CORRUPT, "the log's folder has segments, but its vote file is missing");
    code = wal_load_vote(wal, &stale, &look->vote);
    if (code == KT_OK && listing->segment_count == 0 && (wal->vote.term > 0 || wal->vote.vote > 0))
        code = kt_error_set(&look->records, KT_CORRUPT,
                            "the log's folder has a vote of term %llu, but its segments are missing",
                            (unsigned long long)wal->vote.term);
    look->vote_stale = code == KT_OK && stale >= 0;
    look->found.term = wal->vote.term;
    look->found.vote = wal->vote.vote;
    return code;
}

static enum kt_code look_at_records(struct kt_wal *wal, const struct wal_listing *listing, struct kt_wal_look *look)
{
    struct wal_recovered recovered = {0};
    enum kt_code code;

    if (listing->segment_count == 0)
        return look->records.code;
    code = wal_recover(wal, listing->segments, listing->segment_count, &recovered, &look->records);
    look->found.first = wal->index.first;
    look->found.last = wal->index.last;
    look->found.base_term = wal->index.base_term;
    look->segments = (unsigned)recovered.read;
    look->segments_left = (unsigned)(listing->segment_count - recovered.read);
    if (code != KT_OK)
        return code;
    look->found.torn_bytes = recovered.torn_end - recovered.end;
    look->torn_segment = listing->segments[listing->segment_count - 1];
    look->torn_offset = recovered.end;
    return KT_OK;
}

static enum kt_code look_at(struct kt_wal *wal, const struct wal_listing *listing, struct kt_wal_look *look)
{
    enum kt_code vote = look_at_vote(wal, listing, look);
    enum kt_code records = look_at_records(wal, listing, look);

    look->spares = (unsigned)listing->spare_count;
    if (vote == KT_IO_FAILED || records == KT_IO_FAILED)
        return KT_IO_FAILED;
    return vote != KT_OK ? vote : records;
}

enum kt_code kt_wal_look(struct kt_disk *disk, struct kt_wal **wal, struct kt_wal_look *look, struct kt_error *error)
{
    struct kt_wal_options options = {.disk = disk};
    struct wal_listing listing = {0};
    struct kt_wal *looked = wal_new(&options);
    enum kt_code code;

    *wal = NULL;
    *look = (struct kt_wal_look){.found = {.first = 1}};
    code = wal_list(looked, &listing, error);
    if (code == KT_OK && !listing.vote && listing.segment_count == 0)
        code = kt_error_set(error, KT_NOT_FOUND, "the folder holds no log");
    else if (code == KT_OK)
        code = look_at(looked, &listing, look);
    wal_listing_release(&listing);
    if (code == KT_IO_FAILED || code == KT_NOT_FOUND) {
        if (look->vote.code == KT_IO_FAILED)
            *error = look->vote;
        else if (look->records.code == KT_IO_FAILED)
            *error = look->records;
        kt_wal_close(looked);
        return code;
    }
    *wal = looked;
    return code;
}

void kt_wal_look_segment(struct kt_wal *wal, unsigned at, struct kt_wal_segment_look *segment)
{
    const struct wal_segment *found = wal->segments[at];

    *segment = (struct kt_wal_segment_look){.serial = found->serial,
                                            .bytes = found->bytes,
                                            .used = found->end,
                                            .first = found->live > 0 ? found->first : 0,
                                            .entries = found->live};
}

bool kt_wal_look_place(struct kt_wal *wal, kt_index index, uint64_t *serial, uint64_t *offset)
{
    const struct wal_slot *slot = wal_index_at(&wal->index, index);

    if (!slot)
        return false;
    for (size_t i = wal->segment_count; i > 0; i--) {
        const struct wal_segment *segment = wal->segments[i - 1];

        if (segment->live > 0 && segment->first <= index) {
            *serial = segment->serial;
            *offset = slot->offset;
            return true;
        }
    }
    return false;
}
