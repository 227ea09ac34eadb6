/*
 * Term and vote, in two slots of one file. Both are written and synced, one after the other, before a vote counts: so
 * at any moment at most one of them is being written, and a slot that is damaged at rest, whichever it is, leaves the
 * last vote in the other. (With a single write of alternating slots a damaged newer slot would look like a torn write,
 * and a forgotten vote elects two leaders in one term.)
 *
 * A third slot tells how far the log was synced, see struct wal_reach. It has sectors of its own.
 */
#include <errno.h>

#include "base/hash.h"
#include "base/plant.h"
#include "cluster/log/wal_internal.h"
#include "wire/writer.h"

#define VOTE_MAGIC  0x4f56544bu /* "KTVO" */
#define REACH_MAGIC 0x4552544bu /* "KTRE" */
#define REACH_SLOT  2

enum { V_MAGIC = 0, V_CRC = 4, V_FORMAT = 8, V_GENERATION = 16, V_TERM = 24, V_VOTE = 32, V_BYTES = 40 };
enum { E_MAGIC = 0, E_CRC = 4, E_SERIAL = 8, E_OFFSET = 16, E_BYTES = 24 };

static void encode(const struct wal_vote *vote, uint8_t out[WAL_VOTE_SLOT_BYTES])
{
    memset(out, 0, WAL_VOTE_SLOT_BYTES);
    kt_put_le32(out + V_MAGIC, VOTE_MAGIC);
    kt_put_le32(out + V_FORMAT, WAL_FORMAT);
    kt_put_le64(out + V_GENERATION, vote->generation);
    kt_put_le64(out + V_TERM, vote->term);
    kt_put_le64(out + V_VOTE, vote->vote);
    kt_put_le32(out + V_CRC, kt_crc32c(0, out + V_FORMAT, V_BYTES - V_FORMAT));
}

static bool decode(const uint8_t in[WAL_VOTE_SLOT_BYTES], struct wal_vote *vote, uint32_t *format)
{
    if (kt_get_le32(in + V_MAGIC) != VOTE_MAGIC ||
        kt_get_le32(in + V_CRC) != kt_crc32c(0, in + V_FORMAT, V_BYTES - V_FORMAT))
        return false;
    *format = kt_get_le32(in + V_FORMAT);
    vote->generation = kt_get_le64(in + V_GENERATION);
    vote->term = kt_get_le64(in + V_TERM);
    vote->vote = kt_get_le64(in + V_VOTE);
    return true;
}

static int store_slot(struct kt_file *file, unsigned slot, const struct wal_vote *vote)
{
    uint8_t bytes[WAL_VOTE_SLOT_BYTES];
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    int status;

    encode(vote, bytes);
    status = file->ops->write(file, (uint64_t)slot * WAL_VOTE_STRIDE, &part, 1);
    return status ? status : file->ops->sync(file);
}

int wal_vote_store(struct kt_file *file, const struct wal_vote *vote)
{
    /* Which one is first does not matter, as both hold the same before. */
    int status;

    if (KT_PLANTED("vote-lost") && vote->term > 1)
        return 0;
    status = store_slot(file, 0, vote);
    return status ? status : store_slot(file, 1, vote);
}

int wal_vote_repair(struct kt_file *file, const struct wal_vote *vote, int stale)
{
    return store_slot(file, (unsigned)stale, vote);
}

int wal_reach_store(struct kt_file *file, const struct wal_reach *reach)
{
    uint8_t bytes[WAL_VOTE_SLOT_BYTES] = {0};
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};

    kt_put_le32(bytes + E_MAGIC, REACH_MAGIC);
    kt_put_le64(bytes + E_SERIAL, reach->serial);
    kt_put_le64(bytes + E_OFFSET, reach->offset);
    kt_put_le32(bytes + E_CRC, kt_crc32c(0, bytes + E_SERIAL, E_BYTES - E_SERIAL));
    return file->ops->write(file, REACH_SLOT * WAL_VOTE_STRIDE, &part, 1);
}

/* A torn or damaged one tells nothing, and costs nothing but what it would have protected. */
static void decode_reach(const uint8_t in[WAL_VOTE_SLOT_BYTES], struct wal_reach *reach)
{
    *reach = (struct wal_reach){0};
    if (kt_get_le32(in + E_MAGIC) != REACH_MAGIC ||
        kt_get_le32(in + E_CRC) != kt_crc32c(0, in + E_SERIAL, E_BYTES - E_SERIAL))
        return;
    reach->serial = kt_get_le64(in + E_SERIAL);
    reach->offset = kt_get_le64(in + E_OFFSET);
}

enum kt_code wal_vote_create(struct kt_disk *disk, struct kt_file **file, struct kt_error *error)
{
    const struct wal_vote none = {.generation = 1};
    int status;

    /* Left by a start that was interrupted. */
    status = disk->ops->remove(disk, WAL_VOTE_TMP_NAME);
    if (status == 0 || status == -ENOENT)
        status = disk->ops->open(disk, WAL_VOTE_TMP_NAME, true, file);
    if (status)
        return kt_error_errno(error, wal_is_full(status) ? KT_DISK_FULL : KT_IO_FAILED, -status,
                              "cannot create the vote file");
    status = (*file)->ops->allocate(*file, WAL_VOTE_BYTES);
    if (status == 0)
        status = wal_vote_store(*file, &none);
    if (status == 0)
        status = disk->ops->rename(disk, WAL_VOTE_TMP_NAME, WAL_VOTE_NAME);
    if (status == 0)
        status = disk->ops->sync_folder(disk);
    if (status == 0)
        return KT_OK;
    (*file)->ops->close(*file);
    *file = NULL;
    return kt_error_errno(error, wal_is_full(status) ? KT_DISK_FULL : KT_IO_FAILED, -status,
                          "cannot write the vote file");
}

enum kt_code wal_vote_load(struct kt_file *file, struct wal_vote *vote, int *stale, struct wal_reach *reach,
                           struct kt_error *error)
{
    uint8_t bytes[WAL_VOTE_BYTES] = {0};
    struct wal_vote slots[2];
    uint32_t formats[2] = {WAL_FORMAT, WAL_FORMAT};
    bool good[2];
    int64_t got = file->ops->read(file, 0, bytes, sizeof(bytes));
    unsigned newest;

    if (got < 0)
        return kt_error_errno(error, KT_IO_FAILED, (int)-got, "cannot read the vote file");
    for (unsigned i = 0; i < 2; i++)
        good[i] = decode(bytes + (size_t)i * WAL_VOTE_STRIDE, &slots[i], &formats[i]);
    if (!good[0] && !good[1])
        return kt_error_set(error, KT_CORRUPT, "the vote file is damaged: neither slot (offsets 0 and %d) is valid",
                            WAL_VOTE_STRIDE);
    newest = !good[0] || (good[1] && slots[1].generation > slots[0].generation);
    if (formats[newest] != WAL_FORMAT)
        return kt_error_set(error, KT_BAD_VERSION, "the vote file has format %u, this version reads %u",
                            (unsigned)formats[newest], WAL_FORMAT);
    if (good[0] && good[1] && slots[0].generation == slots[1].generation &&
        (slots[0].term != slots[1].term || slots[0].vote != slots[1].vote))
        return kt_error_set(error, KT_CORRUPT, "the vote file is damaged: its slots contradict each other");
    *vote = slots[newest];
    decode_reach(bytes + (size_t)REACH_SLOT * WAL_VOTE_STRIDE, reach);
    *stale = !good[1 - newest] || slots[1 - newest].generation != slots[newest].generation ? (int)(1 - newest) : -1;
    return KT_OK;
}
