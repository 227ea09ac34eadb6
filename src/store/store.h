/*
 * The store: ordered byte-string keyspaces in one LMDB environment, the only includer of lmdb.h.
 *
 * One write transaction at a time, on the applier's thread. Read transactions on any thread, many at once; each sees
 * the state of the last commit before it began and never blocks the writer. Slices that a transaction returns die with
 * it (and, in a write transaction, with the next write).
 *
 * Durability: MDB_NOMETASYNC. After a power loss the store is consistent and perhaps some commits behind; the log
 * brings it up again. kt_store_sync makes everything committed durable. Sources: DESIGN section 6; LMDB's
 * mdb_env_set_flags.
 *
 * Some blocks are kept reserved behind the end of the file, so that small commits are possible on a disk that is full.
 *
 * The map grows by itself: a write that meets a full map is told KT_DISK_FULL only at the configured ceiling.
 */
#ifndef KT_STORE_STORE_H
#define KT_STORE_STORE_H

#include "base/error.h"
#include "base/types.h"

#define KT_STORE_KEY_MAX    511 /* bytes: LMDB's limit; engines hash longer keys (store/key.h) */
#define KT_STORE_SPACES_MAX 64  /* keyspaces in one store */

struct kt_store;
struct kt_txn;
struct kt_cursor;

/* A keyspace's handle: small, stable while the store is open. */
typedef unsigned kt_space;

struct kt_store_options {
    const char *path;   /* the data file; "<path>-lock" is beside it */
    uint64_t bytes_max; /* ceiling of the map; address space, not memory or disk */
    bool volatile_data; /* never sync: for tests and the simulator only */
};

KT_MUST_USE enum kt_code kt_store_open(const struct kt_store_options *options, struct kt_store **store,
                                       struct kt_error *error);
/* No transaction may be open. */
void kt_store_close(struct kt_store *store);
/* Creates or finds a keyspace. Before any transaction is open; one thread. */
KT_MUST_USE enum kt_code kt_store_space(struct kt_store *store, const char *name, kt_space *space,
                                        struct kt_error *error);
/* Everything committed so far is on the disk. Any thread. */
KT_MUST_USE enum kt_code kt_store_sync(struct kt_store *store);
/*
 * Writes a compacted copy of everything committed into fd, which may be a pipe; opened with kt_store_open it is the
 * same store. Any thread; the writer goes on meanwhile.
 */
KT_MUST_USE enum kt_code kt_store_copy(struct kt_store *store, int fd);
/* Bytes in use by data, and the size of the file. Any thread. */
void kt_store_usage(struct kt_store *store, uint64_t *used_bytes, uint64_t *file_bytes);

/* The only write transaction; the applier's thread. */
KT_MUST_USE enum kt_code kt_txn_begin_write(struct kt_store *store, struct kt_txn **txn);
/*
 * A read transaction; belongs to the calling thread until ended. Transactions are recycled, so this is cheap. KT_BUSY
 * when more are open than the store has room for (store.c), KT_IO_FAILED, KT_NO_MEMORY.
 */
KT_MUST_USE enum kt_code kt_txn_begin_read(struct kt_store *store, struct kt_txn **txn);
/* Ends a write transaction and keeps its writes. A failure is KT_IO_FAILED or KT_DISK_FULL: nothing was kept. */
KT_MUST_USE enum kt_code kt_txn_commit(struct kt_txn *txn);
/* Ends a transaction of either kind; writes are forgotten. */
void kt_txn_abort(struct kt_txn *txn);

/*
 * A nested scope in a write transaction: what was written since begin can be undone alone. At most one level deep.
 * Used for operations that must happen whole or not at all; the common operation reads and decides before it writes.
 */
KT_MUST_USE enum kt_code kt_txn_nest(struct kt_txn *txn);
KT_MUST_USE enum kt_code kt_txn_nest_keep(struct kt_txn *txn);
void kt_txn_nest_undo(struct kt_txn *txn);

/* KT_OK or KT_NOT_FOUND; failures of the environment are KT_IO_FAILED and KT_CORRUPT. */
KT_MUST_USE enum kt_code kt_txn_get(struct kt_txn *txn, kt_space space, struct kt_slice key, struct kt_slice *value);
/*
 * Keys are 1..KT_STORE_KEY_MAX bytes, checked. Neither key nor value may be borrowed from this transaction: the write
 * may move them. After a failure of a write only kt_txn_abort makes sense.
 */
KT_MUST_USE enum kt_code kt_txn_put(struct kt_txn *txn, kt_space space, struct kt_slice key, struct kt_slice value);
/* KT_OK also when there is no such key. */
KT_MUST_USE enum kt_code kt_txn_delete(struct kt_txn *txn, kt_space space, struct kt_slice key);
/* Entries in a keyspace, as the transaction sees it. */
KT_MUST_USE enum kt_code kt_txn_count(struct kt_txn *txn, kt_space space, uint64_t *count);

/*
 * The fold of every put and delete of this write transaction and all before it since kt_txn_hash_set: the state hash
 * that nodes compare. Depends on the sequence of writes alone. kept by the caller beside the state.
 */
uint64_t kt_txn_hash(const struct kt_txn *txn);
void kt_txn_hash_set(struct kt_txn *txn, uint64_t hash);

/*
 * Cursors walk a keyspace in bytewise key order. They are closed before their transaction ends. After a write to the
 * keyspace a cursor must seek again before it goes on.
 */
KT_MUST_USE enum kt_code kt_cursor_open(struct kt_txn *txn, kt_space space, struct kt_cursor **cursor);
void kt_cursor_close(struct kt_cursor *cursor);
/* The first entry with key >= from (an empty from: the very first). KT_NOT_FOUND at the end. */
KT_MUST_USE enum kt_code kt_cursor_seek(struct kt_cursor *cursor, struct kt_slice from, struct kt_slice *key,
                                        struct kt_slice *value);
KT_MUST_USE enum kt_code kt_cursor_next(struct kt_cursor *cursor, struct kt_slice *key, struct kt_slice *value);
/* The last entry with key < before (an empty before: the very last). */
KT_MUST_USE enum kt_code kt_cursor_seek_before(struct kt_cursor *cursor, struct kt_slice before, struct kt_slice *key,
                                               struct kt_slice *value);

#endif
