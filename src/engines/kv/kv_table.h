/*
 * The entries of all collections in the store. Internal to engines/kv.
 *
 * Keyspace "kv": place -> le64 expiry (ns, 0 never), of a long key le16 length and the key, then the value. A place is
 *
 *   be32 collection, 0, key                      keys up to KT_KV_SHORT_MAX bytes
 *   be32 collection, 1, 16 bytes of hash, u8 n   longer keys; n counts keys with the same hash
 *
 * Keyspace "kv_expiry": be64 expiry, place -> nothing, for every entry that expires.
 *
 * Invariants: 1. The places of one hash are 0, 1, ... without a gap, so that a search ends at the first empty one.
 * 2. kv_expiry has exactly one row for each entry with an expiry. 3. Writing functions read, decide and then write;
 * what they return after the first write is fatal unless it is KT_OK.
 *
 * Whether an entry has expired is the caller's question, here it is only stored. Writes: the applier's thread; reads:
 * any.
 */
#ifndef KT_ENGINES_KV_KV_TABLE_H
#define KT_ENGINES_KV_KV_TABLE_H

#include "base/buf.h"
#include "store/store.h"

#define KT_KV_HASH_BYTES 16
#define KT_KV_PLACE_HEAD 5 /* collection and form */
/* Longest key that is its own place: the place must also fit behind an expiry in a key of kv_expiry. */
#define KT_KV_SHORT_MAX (KT_STORE_KEY_MAX - 8 - KT_KV_PLACE_HEAD)
#define KT_KV_CHAIN_MAX 256 /* keys with one hash: the counter is a byte; by accident there is never a second */

struct kt_kv_table {
    kt_space entries;
    kt_space expiry;
    void (*hash)(struct kt_slice key, uint8_t out[KT_KV_HASH_BYTES]); /* replaced only by tests */
    struct kt_buf scratch;                                            /* an entry being built; the applier's */
};

struct kt_kv_place {
    uint8_t bytes[KT_STORE_KEY_MAX];
    size_t len;
};

struct kt_kv_entry {
    struct kt_kv_place place; /* where it is; if it is not there, where it would go */
    int64_t expires_at_ns;    /* 0: never */
    struct kt_slice key;      /* as far as the place tells: of long keys */
    struct kt_slice value;    /* borrowed from the transaction */
};

KT_MUST_USE enum kt_code kt_kv_table_open(struct kt_kv_table *table, struct kt_store *store, struct kt_error *error);
void kt_kv_table_close(struct kt_kv_table *table);

/* KT_OK, KT_NOT_FOUND, KT_TOO_LARGE when all places of the key's hash are taken by others; else fatal. */
KT_MUST_USE enum kt_code kt_kv_find(const struct kt_kv_table *table, struct kt_txn *txn, uint32_t collection,
                                    struct kt_slice key, struct kt_kv_entry *entry);
/* Writes an entry where kt_kv_find said, over the one that is there (found) or as a new one. key as given to find. */
KT_MUST_USE enum kt_code kt_kv_write(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_entry *entry,
                                     bool found, struct kt_slice key, struct kt_slice value, int64_t expires_at_ns);
/* Removes the entry at a place, which is there and has this expiry. */
KT_MUST_USE enum kt_code kt_kv_remove(struct kt_kv_table *table, struct kt_txn *txn, const struct kt_kv_place *place,
                                      int64_t expires_at_ns);
/* Removes entries with an expiry up to until_ns, the earliest first, at most max of them. */
KT_MUST_USE enum kt_code kt_kv_remove_expired(struct kt_kv_table *table, struct kt_txn *txn, int64_t until_ns,
                                              unsigned max);
/* The earliest expiry there is, or KT_NOT_FOUND. */
KT_MUST_USE enum kt_code kt_kv_next_expiry(const struct kt_kv_table *table, struct kt_txn *txn, int64_t *expires_at_ns);

/*
 * Walks the entries of a collection in the order of their places: short keys bytewise, then long ones in no useful
 * order. cursor is on table->entries; begins when *begun is false. entry->place is not filled, entry->key always is.
 * KT_NOT_FOUND at the end.
 */
KT_MUST_USE enum kt_code kt_kv_walk(struct kt_cursor *cursor, uint32_t collection, bool *begun,
                                    struct kt_kv_entry *entry);

#endif
