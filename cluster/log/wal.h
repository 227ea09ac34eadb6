/*
 * The durable log: entries in preallocated, pre-zeroed segments, term and vote in a checksummed double slot.
 *
 * Writing is for one thread at a time (the log writer); kt_wal_read, kt_wal_term and the other questions may be asked
 * from other threads meanwhile, and kt_wal_prepare and kt_wal_trim may each run on one other thread. Recovery
 * (kt_wal_open) tells a torn tail from damage: bytes that were never acknowledged as durable may be cut off, anything
 * else is KT_CORRUPT with file and offset in the error, and nothing is changed on disk.
 *
 * Invariants (tests: tests/unit/test_wal*.c)
 *  1. After kt_wal_sync returned KT_OK, every entry appended before it survives a power loss.
 *  2. After kt_wal_vote returned KT_OK, term and vote survive a power loss.
 *  3. Appending at an index at or below the last one replaces everything from there on, crash-atomically: after a crash
 *     either the old tail is there or a prefix of the new one, never old entries behind new ones.
 *  4. A failed write or sync is final: every later call answers the same code.
 *  5. A record carries its index and term, a CRC-32C over header and payload, and the checksum of the record before it.
 *  6. Space for the next segment is reserved ahead, so that an append never meets a full disk half way; when no
 *     reserve can be made, kt_wal_append refuses with KT_DISK_FULL before writing anything. Entries that are no
 * commands (barriers, configurations) still find room then: a node that starts on a full disk can lead and answer
 * reads.
 */
#ifndef KT_CLUSTER_LOG_WAL_H
#define KT_CLUSTER_LOG_WAL_H

#include "base/error.h"
#include "cluster/log/disk.h"
#include "cluster/log/entry.h"

struct kt_wal;

struct kt_wal_options {
    struct kt_disk *disk;   /* borrowed until kt_wal_close */
    uint64_t segment_bytes; /* 64 KiB..1 GiB; an entry larger than a segment gets a segment of its own size */
    uint64_t seed;          /* of the segments' salts; 0: from the kernel. For a simulation that repeats bit for bit */
};

/* What recovery found. */
struct kt_wal_found {
    kt_term term;        /* 0: never voted */
    kt_node_id vote;     /* 0: none in this term */
    kt_index first;      /* first entry kept; 1 unless trimmed */
    kt_index last;       /* first - 1 if there are none */
    kt_term base_term;   /* term of entry first - 1; 0 if first is 1 */
    uint64_t torn_bytes; /* cut off the end */
};

/*
 * Opens the log of a folder, and creates it in an empty one; a start that was interrupted at any point is taken up
 * again. KT_CORRUPT and KT_BAD_VERSION change nothing on the disk. Everything that is found is durable on return.
 */
KT_MUST_USE enum kt_code kt_wal_open(const struct kt_wal_options *options, struct kt_wal **wal,
                                     struct kt_wal_found *found, struct kt_error *error);
/* Closes the files and frees; writes nothing. No call may be under way; NULL is fine. */
void kt_wal_close(struct kt_wal *wal);

/* Durable on return. */
KT_MUST_USE enum kt_code kt_wal_vote(struct kt_wal *wal, kt_term term, kt_node_id vote);
/*
 * Writes entries with consecutive indices, the first at most last + 1. Not durable before kt_wal_sync. KT_DISK_FULL:
 * nothing happened and it may be tried again; other failures are final.
 */
KT_MUST_USE enum kt_code kt_wal_append(struct kt_wal *wal, const struct kt_entry *entries, size_t count);
KT_MUST_USE enum kt_code kt_wal_sync(struct kt_wal *wal);
/*
 * Notes beside the log how far it is synced, so that damage to the last entries is not taken for a torn tail. Every
 * append notes that of the syncs before it; this is for idle moments after the last one. Not synced itself: it protects
 * against what happens later. Does nothing if nothing is new.
 */
KT_MUST_USE enum kt_code kt_wal_mark(struct kt_wal *wal);
/* Reserves the next segment if it is missing; for idle moments. KT_DISK_FULL: not now. */
KT_MUST_USE enum kt_code kt_wal_prepare(struct kt_wal *wal);
/*
 * The whole log is replaced by nothing behind (index, term), index > 0: the state was adopted from another node and
 * stands there. Term and vote stay. Durable on return, and crash-atomic: before that either the old log is whole or the
 * new one is there. On the writing thread, while nobody trims. KT_DISK_FULL: nothing happened, and it may be tried
 * again.
 */
KT_MUST_USE enum kt_code kt_wal_reset(struct kt_wal *wal, kt_index index, kt_term term);
/* The highest index up to which trimming would free whole segments and leave at least keep bytes; 0 if there is none.
 */
kt_index kt_wal_trim_point(struct kt_wal *wal, uint64_t keep_bytes);
/* The current segment is more than half full and there is no reserve: kt_wal_prepare is worth calling. */
bool kt_wal_wants_prepare(struct kt_wal *wal);
/*
 * Forgets entries up to and including index, as far as whole segments allow. The caller has the state durable. Safe at
 * any point of a crash: the oldest segment goes first, durably. Does nothing while a truncation is not synced.
 */
KT_MUST_USE enum kt_code kt_wal_trim(struct kt_wal *wal, kt_index index);

/*
 * Reads entries from index on, until `bytes` of payload are exceeded (at least one entry) or `last` is passed. Each
 * entry's chunk reference is the caller's. KT_NOT_FOUND: index is not in the log (trimmed, or beyond its end, or
 * replaced while being read: the caller asks again if it still wants it). KT_CORRUPT: damage at rest. At most
 * KT_WAL_READ_MAX entries per call. Chunks are shared by neighbours: one entry may keep up to KT_WAL_READ_CHUNK bytes
 * alive.
 */
#define KT_WAL_READ_MAX   256
#define KT_WAL_READ_CHUNK (256u << 10) /* one disk read; small enough for one entry to hold on to */

KT_MUST_USE enum kt_code kt_wal_read(struct kt_wal *wal, kt_index index, kt_index last, size_t bytes,
                                     struct kt_entry *entries, size_t entries_max, size_t *count);
/* The term of an entry, or of first - 1; 0 if it is not known. */
kt_term kt_wal_term(struct kt_wal *wal, kt_index index);
kt_index kt_wal_first(struct kt_wal *wal);
kt_index kt_wal_last(struct kt_wal *wal);
/* Bytes of all segments, and how many there are. */
void kt_wal_usage(struct kt_wal *wal, uint64_t *bytes, unsigned *segments);

#endif
