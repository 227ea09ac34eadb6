/*
 * Prepared segments: zero-filled, synced files that wait to be taken, so that an append needs neither space nor
 * metadata.
 *
 * kt_wal_prepare may run on a thread of its own beside the writer. A file is in the list, or exactly one of the two
 * threads has it: it is taken out before it is touched and put in when it is ready, so no file is prepared twice and
 * none is prepared that is in use already. Numbers of names are never used twice.
 */
#include <errno.h>

#include "base/log.h"
#include "cluster/log/wal_internal.h"

bool wal_is_full(int error_number)
{
    int number = error_number < 0 ? -error_number : error_number;

    return number == ENOSPC || number == EDQUOT;
}

static void discard(struct kt_wal *wal, struct wal_spare *spare)
{
    char name[WAL_NAME_MAX];

    wal_spare_name(spare->number, name);
    spare->file->ops->close(spare->file);
    spare->file = NULL;
    /* A file that cannot be removed now is found, and reused or removed, at the next start. */
    (void)wal->disk->ops->remove(wal->disk, name);
}

/* Fills with zeros, also what a crash left half filled: its blocks are reserved or this finds out. */
static int fill(const struct wal_spare *spare)
{
    int status = spare->file->ops->allocate(spare->file, spare->bytes);

    return status ? status : spare->file->ops->sync(spare->file);
}

static enum kt_code answer(struct kt_wal *wal, int status, const struct wal_spare *spare)
{
    char name[WAL_NAME_MAX];

    if (wal_is_full(status))
        return KT_DISK_FULL;
    wal_spare_name(spare->number, name);
    return wal_fail(wal, status, "preparing", name);
}

/* A new file; the number is this caller's alone. */
static enum kt_code make(struct kt_wal *wal, uint64_t number, uint64_t bytes, struct wal_spare *spare)
{
    char name[WAL_NAME_MAX];
    int status;

    *spare = (struct wal_spare){.number = number, .bytes = bytes, .clean = true};
    wal_spare_name(number, name);
    status = wal->disk->ops->open(wal->disk, name, true, &spare->file);
    if (status)
        return answer(wal, status, spare);
    status = fill(spare);
    if (status == 0)
        return KT_OK;
    discard(wal, spare);
    return answer(wal, status, spare);
}

static enum kt_code clean(struct kt_wal *wal, struct wal_spare *spare)
{
    int status;

    if (spare->clean)
        return KT_OK;
    status = fill(spare);
    if (status)
        return answer(wal, status, spare);
    spare->clean = true;
    return KT_OK;
}

/* Under the lock. A clean one if there is one. */
static bool pop(struct kt_wal *wal, struct wal_spare *spare)
{
    unsigned at = 0;

    if (wal->spare_count == 0)
        return false;
    for (unsigned i = 0; i < wal->spare_count; i++)
        if (wal->spares[i].clean)
            at = i;
    *spare = wal->spares[at];
    wal->spares[at] = wal->spares[--wal->spare_count];
    return true;
}

enum kt_code wal_spare_take(struct kt_wal *wal, uint64_t bytes, struct wal_spare *spare)
{
    bool found = false;
    uint64_t number;
    enum kt_code code;

    pthread_mutex_lock(&wal->lock);
    if (bytes == wal->segment_bytes) {
        found = pop(wal, spare);
        /* Half a preparation done by the other thread is ahead of a new one begun here. */
        while (!found && wal->preparing) {
            pthread_cond_wait(&wal->prepared, &wal->lock);
            found = pop(wal, spare);
        }
    }
    number = wal->spare_number++;
    pthread_mutex_unlock(&wal->lock);
    if (!found)
        return make(wal, number, bytes, spare);
    code = clean(wal, spare);
    if (code != KT_OK)
        wal_spare_return(wal, spare);
    return code;
}

void wal_spare_return(struct kt_wal *wal, struct wal_spare *spare)
{
    bool kept = false;

    pthread_mutex_lock(&wal->lock);
    if (spare->bytes == wal->segment_bytes && wal->spare_count < WAL_SPARES_MAX) {
        wal->spares[wal->spare_count++] = *spare;
        kept = true;
    }
    pthread_mutex_unlock(&wal->lock);
    if (!kept)
        discard(wal, spare);
    spare->file = NULL;
}

enum kt_code wal_spare_adopt(struct kt_wal *wal, uint64_t number, struct kt_error *error)
{
    struct wal_spare spare = {.number = number};
    char name[WAL_NAME_MAX];
    int status;
    int64_t size;

    wal_spare_name(number, name);
    status = wal->disk->ops->open(wal->disk, name, false, &spare.file);
    if (status)
        return kt_error_errno(error, KT_IO_FAILED, -status, "cannot open %s", name);
    if (number >= wal->spare_number)
        wal->spare_number = number + 1;
    size = spare.file->ops->size(spare.file);
    /* One whose size differs is no use; one that is too many is thrown away by the return. */
    spare.bytes = size == (int64_t)wal->segment_bytes ? wal->segment_bytes : 0;
    wal_spare_return(wal, &spare);
    return KT_OK;
}

bool kt_wal_wants_prepare(struct kt_wal *wal)
{
    bool wants;

    pthread_mutex_lock(&wal->lock);
    wants = wal->failed == KT_OK && !wal->preparing;
    if (wants) {
        const struct wal_segment *last = wal->segments[wal->segment_count - 1];

        for (unsigned i = 0; i < wal->spare_count; i++)
            wants = wants && !wal->spares[i].clean;
        wants = wants && last->end > last->bytes / 2;
    }
    pthread_mutex_unlock(&wal->lock);
    return wants;
}

enum kt_code kt_wal_prepare(struct kt_wal *wal)
{
    struct wal_spare spare = {0};
    bool found = false;
    uint64_t number;
    enum kt_code code;

    pthread_mutex_lock(&wal->lock);
    code = wal->failed;
    for (unsigned i = 0; i < wal->spare_count; i++)
        found = found || wal->spares[i].clean;
    if (code != KT_OK || wal->preparing || found) {
        pthread_mutex_unlock(&wal->lock);
        return code;
    }
    wal->preparing = true;
    found = pop(wal, &spare);
    number = wal->spare_number++;
    pthread_mutex_unlock(&wal->lock);

    code = found ? clean(wal, &spare) : make(wal, number, wal->segment_bytes, &spare);
    if (found || code == KT_OK)
        wal_spare_return(wal, &spare);

    pthread_mutex_lock(&wal->lock);
    wal->preparing = false;
    pthread_cond_broadcast(&wal->prepared);
    pthread_mutex_unlock(&wal->lock);
    return code;
}
