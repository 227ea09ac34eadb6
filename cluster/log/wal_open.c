/* Opening and closing: what is in the folder, the first start, and the repairs that follow a crash. */
#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/log/wal_internal.h"

/* The names in the folder that are ours. */
struct listing {
    uint64_t *segments, *spares;
    size_t segment_count, spare_count;
    bool vote, vote_tmp;
};

static void note(uint64_t **numbers, size_t *count, uint64_t number)
{
    /* Powers of two: the array is full when the count is one. */
    if ((*count & (*count - 1)) == 0)
        *numbers = kt_realloc(*numbers, (*count ? *count * 2 : 1) * sizeof(**numbers));
    (*numbers)[(*count)++] = number;
}

static void list_name(void *data, const char *name)
{
    struct listing *listing = data;
    uint64_t number;

    if (wal_segment_name_parse(name, &number))
        note(&listing->segments, &listing->segment_count, number);
    else if (wal_spare_name_parse(name, &number))
        note(&listing->spares, &listing->spare_count, number);
    else if (strcmp(name, WAL_VOTE_NAME) == 0)
        listing->vote = true;
    else if (strcmp(name, WAL_VOTE_TMP_NAME) == 0)
        listing->vote_tmp = true;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static enum kt_code list_folder(struct kt_wal *wal, struct listing *listing, struct kt_error *error)
{
    int status = wal->disk->ops->list(wal->disk, list_name, listing);

    if (status)
        return kt_error_errno(error, KT_IO_FAILED, -status, "cannot list the log's folder");
    /* The folder's order means nothing, and what happens next must not depend on it. */
    if (listing->segment_count > 0)
        qsort(listing->segments, listing->segment_count, sizeof(uint64_t), compare_numbers);
    if (listing->spare_count > 0)
        qsort(listing->spares, listing->spare_count, sizeof(uint64_t), compare_numbers);
    return KT_OK;
}

static enum kt_code load_vote(struct kt_wal *wal, int *stale, struct kt_error *error)
{
    int status = wal->disk->ops->open(wal->disk, WAL_VOTE_NAME, false, &wal->vote_file);

    if (status)
        return kt_error_errno(error, KT_IO_FAILED, -status, "cannot open the vote file");
    return wal_vote_load(wal->vote_file, &wal->vote, stale, &wal->reach, error);
}

static enum kt_code adopt_spares(struct kt_wal *wal, const struct listing *listing, struct kt_error *error)
{
    enum kt_code code = KT_OK;

    for (size_t i = 0; i < listing->spare_count && code == KT_OK; i++)
        code = wal_spare_adopt(wal, listing->spares[i], error);
    return code;
}

/* The first start, or one that follows a first start that did not come to its end. */
static enum kt_code create(struct kt_wal *wal, const struct listing *listing, struct kt_error *error)
{
    struct wal_spare spare;
    enum kt_code code;
    int stale = -1;

    if (listing->vote) {
        code = load_vote(wal, &stale, error);
        if (code == KT_OK && (wal->vote.term > 0 || wal->vote.vote > 0 || wal->reach.serial > 0))
            code = kt_error_set(error, KT_CORRUPT,
                                "the log's folder has a vote of term %llu, but its segments are missing",
                                (unsigned long long)wal->vote.term);
    } else {
        code = wal_vote_create(wal->disk, &wal->vote_file, error);
        wal->vote = (struct wal_vote){.generation = 1};
    }
    if (code == KT_OK)
        code = adopt_spares(wal, listing, error);
    if (code != KT_OK)
        return code;
    if (stale >= 0 && wal_vote_repair(wal->vote_file, &wal->vote, stale) != 0)
        return kt_error_set(error, KT_IO_FAILED, "cannot write the vote file");
    wal_index_init(&wal->index, 0, 0);
    code = wal_spare_take(wal, wal->segment_bytes, &spare);
    if (code == KT_OK)
        code = wal_segment_begin(wal, &spare);
    return code == KT_OK ? KT_OK : kt_error_set(error, code, "cannot create the first log segment");
}

/* After everything was found valid: only now the disk is written. */
static enum kt_code repair(struct kt_wal *wal, const struct listing *listing, const struct wal_recovered *recovered,
                           int stale, struct kt_error *error)
{
    struct wal_segment *last = wal->segments[wal->segment_count - 1];
    int status = 0;

    if (stale >= 0)
        status = wal_vote_repair(wal->vote_file, &wal->vote, stale);
    if (status)
        return kt_error_errno(error, KT_IO_FAILED, -status, "cannot write the vote file");
    /* Garbage must be gone, durably, before anything is appended: later it could pass for records behind a hole. */
    if (recovered->torn_end > recovered->end)
        status = wal_tail_zero(last, recovered->end, recovered->torn_end);
    /* What was read may be in the machine's memory alone, if only the process died; what is reported must be durable.
     */
    if (status == 0)
        status = last->file->ops->sync(last->file);
    if (status == 0 && listing->vote_tmp)
        status = wal->disk->ops->remove(wal->disk, WAL_VOTE_TMP_NAME);
    if (status == 0)
        status = wal->disk->ops->sync_folder(wal->disk);
    if (status)
        return kt_error_errno(error, KT_IO_FAILED, -status, "cannot write log segment %016llx.seg",
                              (unsigned long long)last->serial);
    wal->durable = last->end;
    return adopt_spares(wal, listing, error);
}

static enum kt_code recover(struct kt_wal *wal, const struct listing *listing, uint64_t *torn_bytes,
                            struct kt_error *error)
{
    struct wal_recovered recovered;
    int stale = -1;
    enum kt_code code;

    if (!listing->vote)
        return kt_error_set(error, KT_CORRUPT, "the log's folder has segments, but its vote file is missing");
    code = load_vote(wal, &stale, error);
    if (code == KT_OK)
        code = wal_recover(wal, listing->segments, listing->segment_count, &recovered, error);
    if (code != KT_OK)
        return code;
    *torn_bytes = recovered.torn_end - recovered.end;
    return repair(wal, listing, &recovered, stale, error);
}

static struct kt_wal *new_wal(const struct kt_wal_options *options)
{
    struct kt_wal *wal = kt_zalloc(sizeof(*wal));

    wal->disk = options->disk;
    /* Whole pages, so that every write but the last of a file is aligned. */
    wal->segment_bytes = options->segment_bytes & ~(uint64_t)4095;
    kt_random_seed(&wal->random, options->seed ? options->seed : kt_random_system());
    wal->staging_bytes = (size_t)KT_MIN(WAL_STAGING_BYTES, wal->segment_bytes);
    wal->staging = kt_alloc(wal->staging_bytes);
    wal->parts = kt_alloc(WAL_PARTS_MAX * sizeof(*wal->parts));
    pthread_mutex_init(&wal->lock, NULL);
    pthread_cond_init(&wal->prepared, NULL);
    wal_index_init(&wal->index, 0, 0);
    return wal;
}

enum kt_code kt_wal_open(const struct kt_wal_options *options, struct kt_wal **wal, struct kt_wal_found *found,
                         struct kt_error *error)
{
    struct listing listing = {0};
    struct kt_wal *opened;
    enum kt_code code;

    *wal = NULL;
    memset(found, 0, sizeof(*found));
    if (options->segment_bytes < WAL_SEGMENT_MIN || options->segment_bytes > WAL_SEGMENT_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "log segments of %llu bytes: the size must be %u to %u",
                            (unsigned long long)options->segment_bytes, WAL_SEGMENT_MIN, WAL_SEGMENT_MAX);
    opened = new_wal(options);
    code = list_folder(opened, &listing, error);
    if (code == KT_OK)
        code = listing.segment_count > 0 ? recover(opened, &listing, &found->torn_bytes, error)
                                         : create(opened, &listing, error);
    kt_free(listing.segments);
    kt_free(listing.spares);
    if (code != KT_OK) {
        kt_wal_close(opened);
        return code;
    }
    found->term = opened->vote.term;
    found->vote = opened->vote.vote;
    found->first = opened->index.first;
    found->last = opened->index.last;
    found->base_term = opened->index.base_term;
    *wal = opened;
    return KT_OK;
}

void kt_wal_close(struct kt_wal *wal)
{
    if (!wal)
        return;
    for (size_t i = 0; i < wal->segment_count; i++) {
        wal->segments[i]->file->ops->close(wal->segments[i]->file);
        kt_free(wal->segments[i]);
    }
    for (unsigned i = 0; i < wal->spare_count; i++)
        wal->spares[i].file->ops->close(wal->spares[i].file);
    if (wal->vote_file)
        wal->vote_file->ops->close(wal->vote_file);
    wal_index_release(&wal->index);
    kt_free(wal->segments);
    kt_free(wal->staging);
    kt_free(wal->parts);
    pthread_cond_destroy(&wal->prepared);
    pthread_mutex_destroy(&wal->lock);
    kt_free(wal);
}
