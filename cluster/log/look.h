/*
 * Looking at a log offline: reads all of it, checks every byte that recovery checks, and changes nothing. What it finds
 * can be read with kt_wal_read, kt_wal_term and the other questions of wal.h, also when the log is damaged: then as far
 * as the damage. One thread.
 */
#ifndef KT_CLUSTER_LOG_LOOK_H
#define KT_CLUSTER_LOG_LOOK_H

#include "cluster/log/wal.h"

struct kt_wal_look {
    struct kt_wal_found found; /* as far as the log could be read; torn_bytes would be cut off by a start */
    uint64_t torn_segment;     /* where those bytes begin: serial and offset */
    uint64_t torn_offset;
    struct kt_error vote;    /* what is wrong with the vote file; code KT_OK: nothing */
    struct kt_error records; /* what is wrong with the segments, with file and offset */
    bool vote_stale;         /* one of the two slots is damaged or behind: the other counts, a start repairs it */
    unsigned segments;       /* that were read, the last of them perhaps only as far as the damage */
    unsigned segments_left;  /* behind the damage: they could not be checked */
    unsigned spares;         /* prepared files, without contents */
};

/*
 * KT_OK: a start would accept the log (and cut what look says is torn). KT_CORRUPT, KT_BAD_VERSION: it would not; look
 * says why, and *wal holds what is before the damage. KT_NOT_FOUND: the folder holds no log; KT_IO_FAILED: it cannot be
 * read; then *wal is NULL and error says why. Close *wal with kt_wal_close; the disk is borrowed until then, and should
 * be of kt_disk_open_read_only.
 */
KT_MUST_USE enum kt_code kt_wal_look(struct kt_disk *disk, struct kt_wal **wal, struct kt_wal_look *look,
                                     struct kt_error *error);

struct kt_wal_segment_look {
    uint64_t serial; /* its file is <serial as 16 hex digits>.seg */
    uint64_t bytes;  /* of the file */
    uint64_t used;   /* of them with valid records, header included */
    kt_index first;  /* of its entries that are still part of the log, if entries > 0 */
    uint64_t entries;
};

/* The at-th segment, 0..segments - 1 in their order. */
void kt_wal_look_segment(struct kt_wal *wal, unsigned at, struct kt_wal_segment_look *segment);
/* Where the record of an entry is; false if there is no such entry. */
bool kt_wal_look_place(struct kt_wal *wal, kt_index index, uint64_t *serial, uint64_t *offset);

#endif
