/*
 * The change log: one record for every operation that changed something, written by its engine in the transaction that
 * applies the operation, so it is the same on every node. Watches and WAL_READ read it. A reader that knows how far it
 * got (index and number) goes on at any node.
 *
 * Keyspaces:
 *   change       index64 number16 (big-endian) -> varints: sequence, bytes before, time; u8 engine, u8 kind, topic,
 * body change.meta  "trim" -> le64 first index kept, u8 whether records before it still wait to be removed
 *
 * number tells records of one entry apart: 0, 1, ... Sequences are 1, 2, ... over all records ever. "Bytes before" sums
 * the values of all records ever written before this one, so that what any range holds is one subtraction.
 *
 * Cutting off is logical first: the first index kept is one number, whatever is before it is invisible at once. Its
 * records are removed in bounded pieces: a few with every new record, more by kt_changes_trim. The newest record always
 * stays in the store, since it carries the sequence.
 */
#ifndef KT_ENGINES_CHANGES_H
#define KT_ENGINES_CHANGES_H

#include "engines/engine.h"

/* Records that a new one removes: more than one, so that what is cut off goes away under any load. */
#define KT_CHANGES_TRIM_INLINE 2u
#define KT_CHANGE_KEY_BYTES    10
/* Records of one entry; a batch has a hundred operations. */
#define KT_CHANGE_NUMBER_MAX 65535u

struct kt_cursor;

/* Fixed from open on; any thread. */
struct kt_changes {
    kt_space records, meta;
};

/* Slices are borrowed: from the transaction when read. */
struct kt_change {
    kt_index index;
    unsigned number;
    uint64_t sequence;
    uint64_t bytes_before;
    uint64_t bytes; /* of this record */
    kt_time_ms time_ms;
    uint8_t engine, kind;  /* the engine's id, and its own number: stored, appended, never reused */
    struct kt_slice topic; /* what it is about, in the engine's terms; may be empty */
    struct kt_slice body;
};

/* Opens the keyspaces (several may, on one store). */
KT_MUST_USE enum kt_code kt_changes_open(struct kt_store *store, struct kt_changes *changes, struct kt_error *error);

/*
 * Writing, on the applier's thread, in two steps: begin reads and fills record with everything up to the body, which
 * the engine appends; put writes it. Nothing may be begun between the two. record is the caller's, emptied by begin;
 * its failure must be looked for before put.
 */
KT_MUST_USE enum kt_code kt_change_begin(const struct kt_changes *changes, struct kt_txn *txn,
                                         const struct kt_apply *apply, uint8_t engine, uint8_t kind,
                                         struct kt_slice topic, struct kt_buf *record,
                                         uint8_t key[KT_CHANGE_KEY_BYTES]);
KT_MUST_USE enum kt_code kt_change_put(const struct kt_changes *changes, struct kt_txn *txn,
                                       const uint8_t key[KT_CHANGE_KEY_BYTES], const struct kt_buf *record);

/* Reading, in any transaction, on any thread. */

struct kt_changes_summary {
    kt_index oldest;   /* no record before it is visible; 0: nothing was ever cut off */
    kt_index newest;   /* of the last record ever; 0: there was none */
    uint64_t sequence; /* of the last record ever */
    uint64_t count;    /* visible records */
    uint64_t bytes;    /* of their values */
    bool untidy;       /* records that were cut off wait to be removed */
};

KT_MUST_USE enum kt_code kt_changes_summary(const struct kt_changes *changes, struct kt_txn *txn,
                                            struct kt_changes_summary *summary);

struct kt_change_walk {
    struct kt_cursor *cursor;
    uint8_t from[KT_CHANGE_KEY_BYTES];
    bool begun;
    kt_index oldest;       /* as in the summary */
    struct kt_slice value; /* of the last record, as it is stored */
};

/* From (index, number) on, or from the oldest visible record if that is later. Reading only; ends before its txn. */
KT_MUST_USE enum kt_code kt_change_walk_begin(struct kt_change_walk *walk, const struct kt_changes *changes,
                                              struct kt_txn *txn, kt_index index, unsigned number);
/* KT_OK, KT_NOT_FOUND at the end, KT_CORRUPT, or the store's failure. */
KT_MUST_USE enum kt_code kt_change_walk_next(struct kt_change_walk *walk, struct kt_change *change);
void kt_change_walk_end(struct kt_change_walk *walk);

/* The key of a record. */
void kt_change_key(uint8_t key[KT_CHANGE_KEY_BYTES], kt_index index, unsigned number);
/* Reads key and value as they are stored. Total. */
KT_MUST_USE enum kt_code kt_change_decode(struct kt_slice key, struct kt_slice value, struct kt_change *change);

/*
 * The smallest index to cut off before, so that at most bytes_max remain (0: any number) and nothing older than
 * before_ms (0: any age); at least the newest entry's records stay for the sake of bytes. 0: nothing is to be cut off.
 */
KT_MUST_USE enum kt_code kt_changes_cut(const struct kt_changes *changes, struct kt_txn *txn, uint64_t bytes_max,
                                        kt_time_ms before_ms, kt_index *index);
/* Writes: cuts off what is before index, and removes at most max records that are cut off. */
KT_MUST_USE enum kt_code kt_changes_trim(const struct kt_changes *changes, struct kt_txn *txn, kt_index index,
                                         uint64_t max, uint64_t *removed);

#endif
