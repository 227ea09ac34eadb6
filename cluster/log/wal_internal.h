/*
 * The inside of the log: what is on the disk, and the pieces that wal.c, wal_open.c and wal_read.c share.
 *
 * Folder
 *   vote             two slots, both of the last term and vote, and one that tells how far the log was synced
 *   <16 hex>.seg     segments, named by serial, without gaps
 *   prepared-N.tmp   zero-filled spares that wait to become the next segment
 *
 * Segment: one header, then records back to back, each at a multiple of 8, then zeros to the end of the file. Integers
 * are little-endian.
 */
#ifndef KT_CLUSTER_LOG_WAL_INTERNAL_H
#define KT_CLUSTER_LOG_WAL_INTERNAL_H

#include <pthread.h>

#include "base/random.h"
#include "cluster/log/wal.h"

#define WAL_FORMAT 1u

#define WAL_VOTE_NAME       "vote"
#define WAL_VOTE_TMP_NAME   "vote.tmp"
#define WAL_NAME_MAX        40  /* the longest of the names above, and a NUL */
#define WAL_VOTE_SLOT_BYTES 512 /* written at once: the unit that every disk writes whole */
#define WAL_VOTE_STRIDE                                                                                                \
    4096 /* from slot to slot: a disk with sectors of 4 KiB may lose a whole one when one write fails */
#define WAL_VOTE_BYTES    (3 * WAL_VOTE_STRIDE)
#define WAL_HEADER_BYTES  64
#define WAL_RECORD_BYTES  48
#define WAL_SEGMENT_MIN   (64u << 10)
#define WAL_SEGMENT_MAX   (1u << 30)
#define WAL_STAGING_BYTES (1u << 20) /* headers and small payloads of one write, at most */
#define WAL_PARTS_MAX     1024       /* parts of one write: IOV_MAX of Linux */
#define WAL_SPARES_MAX    2u         /* one to take, and one given back by an append that met a full disk */

_Static_assert(WAL_SEGMENT_MAX + KT_ENTRY_BYTES_MAX < UINT32_MAX, "an offset in a segment fits 32 bits");
_Static_assert(WAL_HEADER_BYTES % 8 == 0 && WAL_RECORD_BYTES % 8 == 0, "records start at multiples of 8");

/* Stored: never renumbered. */
enum wal_kind {
    WAL_ENTRY = 1,
    WAL_TRUNCATE = 2, /* the log ends at index (whose term is term); entries behind it are void */
    WAL_SEAL = 3      /* behind the last record: the log goes on in the next segment, which is durable already */
};

/*
 * The header of a segment. It is synced before the file gets its name, and the file gets its name only when everything
 * in the segment before is synced: so only the last segment can end torn, and no segment can have a torn header.
 */
struct wal_header {
    uint64_t serial;
    uint64_t salt;  /* random: checksums of records begin with it, so no payload can look like a record */
    uint64_t bytes; /* size of the file */
    kt_index base;  /* the log's last index when the segment began */
    kt_term base_term;
    uint32_t chain;        /* checksum of the last record before */
    uint32_t previous_end; /* where the records of the segment before end; 0 in the first one ever */
};

struct wal_record {
    uint8_t kind;
    uint8_t type; /* of an entry, else 0 */
    uint32_t len; /* of the payload */
    kt_index index;
    kt_term term;
    uint32_t chain;   /* crc of the record before, also across segments */
    uint32_t durable; /* everything before this offset of the segment was synced when the record was written */
    uint32_t payload_crc;
    uint32_t crc; /* over all of the above; begins with salt and offset, so a record is valid in one place alone */
};

enum wal_decoded {
    WAL_RECORD_OK,
    WAL_RECORD_BAD, /* no record: magic or checksum are wrong */
    WAL_RECORD_ODD  /* a checksum that fits contents that make no sense: never the work of a torn write */
};

/* Puts the checksum that fits the rest of the header. */
void wal_header_sign(uint8_t header[WAL_HEADER_BYTES]);
void wal_header_encode(const struct wal_header *header, uint8_t out[WAL_HEADER_BYTES]);
/* KT_OK, KT_CORRUPT or KT_BAD_VERSION; *what then says why, a constant. */
enum kt_code wal_header_decode(const uint8_t in[WAL_HEADER_BYTES], struct wal_header *header, const char **what);
/* Puts the checksum that fits the rest of the record and its place, and returns it. */
uint32_t wal_record_sign(uint8_t record[WAL_RECORD_BYTES], uint64_t salt, uint64_t offset);
/* Sets payload_crc and crc of the record. */
void wal_record_encode(struct wal_record *record, uint64_t salt, uint64_t offset, const void *payload,
                       uint8_t out[WAL_RECORD_BYTES]);
enum wal_decoded wal_record_decode(const uint8_t in[WAL_RECORD_BYTES], uint64_t salt, uint64_t offset,
                                   struct wal_record *record);
/* The first four bytes are those of a record. */
bool wal_record_begins(const uint8_t *in);
/* Bytes that a record with such a payload takes. */
uint64_t wal_record_size(uint64_t len);

void wal_segment_name(uint64_t serial, char out[WAL_NAME_MAX]);
void wal_spare_name(uint64_t number, char out[WAL_NAME_MAX]);
bool wal_segment_name_parse(const char *name, uint64_t *serial);
bool wal_spare_name_parse(const char *name, uint64_t *number);

/* Where an entry is. The segment is found by its first index. */
struct wal_slot {
    kt_term term;
    uint32_t offset; /* of the record */
    uint32_t len;    /* of the payload */
};

/* first..last, in blocks, so that growing and trimming move no slots. */
struct wal_index {
    kt_index first, last;
    kt_term base_term; /* of entry first - 1 */
    struct wal_slot **blocks;
    size_t block_count, block_cap;
    uint64_t block_first; /* the number of blocks[0]: its first index / slots per block */
};

void wal_index_init(struct wal_index *index, kt_index base, kt_term base_term);
void wal_index_release(struct wal_index *index);
/* NULL if there is no such entry. Borrowed until the index changes. */
const struct wal_slot *wal_index_at(const struct wal_index *index, kt_index at);
void wal_index_push(struct wal_index *index, struct wal_slot slot);
/* Forgets what is behind last. term: of the entry last, needed if it is below first - 1. */
void wal_index_cut(struct wal_index *index, kt_index last, kt_term term);
/* Forgets what is before first (first <= last + 1). */
void wal_index_trim(struct wal_index *index, kt_index first);
/* Term of an entry or of first - 1; 0 if not known. */
kt_term wal_index_term(const struct wal_index *index, kt_index at);

struct wal_segment {
    uint64_t serial;
    uint64_t salt;
    uint64_t bytes;
    uint64_t end;  /* where the next record goes */
    kt_index base; /* as its header says */
    struct kt_file *file;
    kt_index first; /* of the live entries in it, those that are neither truncated nor trimmed; if live > 0 */
    uint64_t live;
    unsigned refs; /* the log's own, and one per read under way */
};

struct wal_spare {
    struct kt_file *file;
    uint64_t number;
    uint64_t bytes;
    bool clean; /* known to be all zeros and synced */
};

struct wal_vote {
    uint64_t generation;
    kt_term term;
    kt_node_id vote;
};

/*
 * How far the log was synced, as told from outside of the log: the last records themselves cannot tell it of
 * themselves, and damage to them would look like a torn tail. Not synced, because it is only for later damage; never
 * ahead of the truth. serial 0: not known.
 */
struct wal_reach {
    uint64_t serial;
    uint64_t offset; /* everything before it in that segment, and all segments before */
};

/* Fresh slots in a new file, under its final name and durable. */
enum kt_code wal_vote_create(struct kt_disk *disk, struct kt_file **file, struct kt_error *error);
/* Reads the slots, changes nothing. stale: the slot that does not hold the vote, -1 if both do. */
enum kt_code wal_vote_load(struct kt_file *file, struct wal_vote *vote, int *stale, struct wal_reach *reach,
                           struct kt_error *error);
/* Makes both slots durable, one after the other; both must hold the vote before. 0 or a negative errno. */
int wal_vote_store(struct kt_file *file, const struct wal_vote *vote);
/* Makes the stale slot hold the vote. The other one is not touched: it may be the only copy. 0 or a negative errno. */
int wal_vote_repair(struct kt_file *file, const struct wal_vote *vote, int stale);
/* Not synced. 0 or a negative errno. */
int wal_reach_store(struct kt_file *file, const struct wal_reach *reach);

struct kt_wal {
    struct kt_disk *disk;
    uint64_t segment_bytes;

    /* Of the writing thread. */
    struct kt_random random;
    struct kt_file *vote_file;
    struct wal_vote vote;
    uint32_t chain;         /* crc of the last record */
    uint64_t durable;       /* everything before this offset of the last segment is synced */
    struct wal_reach reach; /* as told last */
    uint8_t *staging;       /* headers and small payloads, laid out as on the disk */
    size_t staging_bytes;
    struct iovec *parts;

    /* Under the lock, which is never held across a disk call. */
    pthread_mutex_t lock;
    pthread_cond_t prepared; /* preparing became false */
    enum kt_code failed;     /* KT_OK, or what every later call answers */
    struct wal_segment **segments;
    size_t segment_count, segment_cap;
    struct wal_index index;
    uint64_t cuts; /* truncations so far: a reader that sees it changed looks again */
    struct wal_spare spares[WAL_SPARES_MAX];
    unsigned spare_count;
    uint64_t spare_number; /* of the next one: names are never used twice while the log is open */
    bool preparing;        /* kt_wal_prepare works on a spare that is in no list */
};

/* Remembers the failure of a disk call for ever and returns its code. */
enum kt_code wal_fail(struct kt_wal *wal, int error_number, const char *what, const char *name);
enum kt_code wal_failed(struct kt_wal *wal);
/* No room is a refusal, not a failure. */
bool wal_is_full(int error_number);

/* spare.c. A spare of that size, zero-filled and durable but for its name. KT_DISK_FULL: nothing changed. */
enum kt_code wal_spare_take(struct kt_wal *wal, uint64_t bytes, struct wal_spare *spare);
/* Keeps it for the next take, or removes the file. */
void wal_spare_return(struct kt_wal *wal, struct wal_spare *spare);
/* Takes over a file found at start; its contents are unknown. */
enum kt_code wal_spare_adopt(struct kt_wal *wal, uint64_t number, struct kt_error *error);

/* segment.c. Turns a spare into the next segment, durably, and appends it to the list. Takes the spare. */
enum kt_code wal_segment_begin(struct kt_wal *wal, struct wal_spare *spare);
/* Appends to the list; takes the segment. */
void wal_segment_add(struct kt_wal *wal, struct wal_segment *segment);
/* The last one; it exists from kt_wal_open on, and only the writing thread changes which it is. */
struct wal_segment *wal_segment_last(struct kt_wal *wal);
/* Under the lock: the segment of a live entry, with a reference for the caller. */
struct wal_segment *wal_segment_acquire(struct kt_wal *wal, kt_index index);
/* Takes the lock itself; closes the file with the last reference. */
void wal_segment_drop(struct kt_wal *wal, struct wal_segment *segment);
/* Under the lock: the segments' counts of live entries after the log was cut to last. */
void wal_segments_cut(struct kt_wal *wal, kt_index last);
/* Under the lock: one more entry in the last segment. */
void wal_segment_push(struct kt_wal *wal, struct wal_slot slot);

/* tail.c. What is in a file from offset on, where no valid record begins any more. */
struct wal_tail {
    uint64_t end;    /* behind the last byte that is not zero; offset if there is none */
    uint64_t claim;  /* the highest offset before which everything was synced, as a record in the tail tells; 0: none */
    uint64_t teller; /* where that record is */
};

/* Reads in pieces; 0 or a negative errno. */
int wal_tail_scan(const struct wal_segment *segment, uint64_t offset, struct wal_tail *tail);
/* Fills a part of the file with zeros; not synced. 0 or a negative errno. */
int wal_tail_zero(const struct wal_segment *segment, uint64_t offset, uint64_t end);

/* recover.c. Reads every segment, fills index and segments; changes nothing on the disk. */
struct wal_recovered {
    uint64_t end;      /* of the valid records of the last segment */
    uint64_t torn_end; /* behind what is to be filled with zeros; end if nothing is */
};

enum kt_code wal_recover(struct kt_wal *wal, const uint64_t *serials, size_t count, struct wal_recovered *recovered,
                         struct kt_error *error);

#endif
