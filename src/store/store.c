#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"

/*
 * One LMDB environment. MDB_NOTLS binds a reader's slot to its transaction instead of its thread, so that ended read
 * transactions can be kept, reset, and renewed by whoever reads next: no slot search and no allocation per read.
 *
 * MDB_NORDAHEAD: the tree is read at random, and reading ahead throws useful pages out once the state is larger than
 * memory. MDB_WRITEMAP is not used: it forbids nested transactions and lets a stray pointer write into the data.
 */

/* Read transactions at once: every io and pool thread has a few, exports and backups hold some for long. */
#define STORE_READERS_MAX 1024u
/* Ended read transactions kept for reuse: as many as threads that read in the same moment. */
#define STORE_IDLE_MAX 64u
/* A map smaller than this is no store: below it opening fails instead of trying less. */
#define STORE_MAP_MIN (UINT64_C(64) << 20)
/* LMDB hands out named databases from this handle on; 0 and 1 are its own. */
#define STORE_FIRST_DBI 2u
/*
 * Blocks kept behind the end of the file: a node that starts on a full disk, whatever filled it, can still commit what
 * little it takes to lead and to answer reads. A commit without growth copies some tens of pages.
 */
#define STORE_RESERVE (UINT64_C(4) << 20)

_Static_assert(sizeof(MDB_dbi) == sizeof(kt_space), "a keyspace's handle is LMDB's");

struct kt_txn {
    struct kt_store *store;
    MDB_txn *root; /* the transaction itself */
    MDB_txn *at;   /* what calls act on: root, or its nested child */
    bool write;
    uint64_t hash;
    uint64_t hash_before; /* of the nested scope */
    struct kt_txn *next;  /* among the idle */
};

struct kt_cursor {
    MDB_cursor *cursor;
};

struct kt_store {
    MDB_env *env;
    int fd_of_data;
    bool said_full;    /* since the last commit */
    uint64_t reserved; /* blocks up to this offset of the file are known to be there */
    bool volatile_data;
    pthread_mutex_t lock; /* of idle, idle_count, open_count */
    struct kt_txn *idle;
    unsigned idle_count;
    unsigned open_count;                                        /* read transactions given out */
    struct kt_txn writer;                                       /* there is only one; in use when root is set */
    uint64_t space_seed[KT_STORE_SPACES_MAX + STORE_FIRST_DBI]; /* hash of the name, by handle; 0: not opened */
};

/* What LMDB says, in our words. The log line names what no code can. */
static enum kt_code code_of(int rc, const char *what)
{
    switch (rc) {
    case 0:
        return KT_OK;
    case MDB_NOTFOUND:
        return KT_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        kt_fail("store", "%s: %s", what, mdb_strerror(rc));
        return KT_DISK_FULL;
    case ENOMEM:
        return KT_NO_MEMORY;
    case MDB_READERS_FULL:
        kt_warn("store", "%s: all %u reader slots are taken", what, STORE_READERS_MAX);
        return KT_BUSY;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
        kt_fail("store", "%s: %s", what, mdb_strerror(rc));
        return KT_CORRUPT;
    default:
        kt_fail("store", "%s: %s", what, mdb_strerror(rc));
        return KT_IO_FAILED;
    }
}

static enum kt_code fail(int rc, const char *what, const char *path, struct kt_error *error)
{
    return kt_error_set(error, code_of(rc, what), "%s %s: %s", what, path, mdb_strerror(rc));
}

static MDB_val val_of(struct kt_slice bytes)
{
    return (MDB_val){.mv_size = bytes.len, .mv_data = (void *)(uintptr_t)bytes.data};
}

static struct kt_slice slice_of(MDB_val value)
{
    return kt_slice(value.mv_data, value.mv_size);
}

/* One attempt; nothing is left behind when it fails. */
static int open_env(const struct kt_store_options *options, uint64_t map_bytes, MDB_env **env)
{
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NOMETASYNC | MDB_NORDAHEAD;
    int rc;

    if (options->volatile_data)
        flags |= MDB_NOSYNC;
    rc = mdb_env_create(env);
    if (rc)
        return rc;
    rc = mdb_env_set_maxdbs(*env, KT_STORE_SPACES_MAX);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(*env, STORE_READERS_MAX);
    if (rc == 0)
        rc = mdb_env_set_mapsize(*env, (size_t)map_bytes);
    if (rc == 0)
        rc = mdb_env_open(*env, options->path, flags, 0600);
    if (rc) {
        mdb_env_close(*env);
        *env = NULL;
    }
    return rc;
}

/* Only tries: without room there is nothing to do, and the reserve made before is still there. */
static void reserve(struct kt_store *store)
{
    MDB_envinfo info;
    MDB_stat stat;
    uint64_t end;

    if (store->volatile_data || mdb_env_info(store->env, &info) || mdb_env_stat(store->env, &stat))
        return;
    end = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    if (end + STORE_RESERVE / 2 <= store->reserved)
        return;
    if (fallocate(store->fd_of_data, FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)STORE_RESERVE) == 0)
        store->reserved = end + STORE_RESERVE;
}

/* LMDB calls a write that was cut short for want of room an input or output error; a disk with room had another reason.
 */
static int reason_of(struct kt_store *store, int rc)
{
    struct stat file;
    uint64_t end;

    if (rc != EIO || fstat(store->fd_of_data, &file) != 0)
        return rc;
    end = KT_MAX((uint64_t)file.st_size, store->reserved);
    if (fallocate(store->fd_of_data, FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)STORE_RESERVE) == 0)
        return rc;
    return errno == ENOSPC || errno == EDQUOT ? ENOSPC : rc;
}

/* Of a write transaction. A full disk is met again and again until it has room: told once. */
static enum kt_code write_code(struct kt_store *store, int rc, const char *what)
{
    rc = reason_of(store, rc);
    if (rc != MDB_MAP_FULL && rc != ENOSPC && rc != EDQUOT)
        return code_of(rc, what);
    if (!store->said_full)
        kt_fail("store", "%s: %s", what, mdb_strerror(rc));
    store->said_full = true;
    return KT_DISK_FULL;
}

enum kt_code kt_store_open(const struct kt_store_options *options, struct kt_store **store, struct kt_error *error)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t map_bytes = KT_MAX(options->bytes_max, STORE_MAP_MIN) / page * page;
    MDB_env *env = NULL;
    int rc, dead;

    *store = NULL;
    /* The whole ceiling is mapped at once: changing the size later needs a moment without any transaction. Where
     * address space is scarce (limits, sanitizers) a smaller map is better than none. */
    while ((rc = open_env(options, map_bytes, &env)) == ENOMEM && map_bytes / 2 >= STORE_MAP_MIN) {
        kt_warn("store", "no address space for a map of %" PRIu64 " bytes, trying half of it", map_bytes);
        map_bytes = map_bytes / 2 / page * page;
    }
    if (rc)
        return fail(rc, "cannot open", options->path, error);
    mdb_reader_check(env, &dead); /* slots of a process that was killed would pin old pages */

    *store = kt_zalloc(sizeof(**store));
    (*store)->env = env;
    (*store)->volatile_data = options->volatile_data;
    mdb_env_get_fd(env, &(*store)->fd_of_data);
    pthread_mutex_init(&(*store)->lock, NULL);
    (*store)->writer.store = *store;
    reserve(*store);
    return KT_OK;
}

void kt_store_close(struct kt_store *store)
{
    struct kt_txn *txn;

    if (!store)
        return;
    KT_CHECK(store->writer.root == NULL);
    KT_CHECK(store->open_count == 0);
    while ((txn = store->idle) != NULL) {
        store->idle = txn->next;
        mdb_txn_abort(txn->root);
        kt_free(txn);
    }
    mdb_env_close(store->env);
    pthread_mutex_destroy(&store->lock);
    kt_free(store);
}

enum kt_code kt_store_space(struct kt_store *store, const char *name, kt_space *space, struct kt_error *error)
{
    MDB_txn *txn;
    MDB_dbi dbi;
    int rc;

    KT_CHECK(store->writer.root == NULL);
    rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc)
        return fail(rc, "cannot open keyspace", name, error);
    rc = mdb_dbi_open(txn, name, MDB_CREATE, &dbi);
    if (rc)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn);
    if (rc)
        return fail(rc, "cannot open keyspace", name, error);
    KT_CHECK(dbi < KT_COUNT(store->space_seed));
    store->space_seed[dbi] = kt_hash64(0, name, strlen(name)) | 1u;
    *space = dbi;
    return KT_OK;
}

enum kt_code kt_store_sync(struct kt_store *store)
{
    if (store->volatile_data)
        return KT_OK;
    return code_of(mdb_env_sync(store->env, 1), "cannot sync");
}

enum kt_code kt_store_copy(struct kt_store *store, int fd)
{
    return code_of(mdb_env_copyfd2(store->env, fd, MDB_CP_COMPACT), "cannot copy");
}

static uint64_t pages_of(const MDB_stat *stat)
{
    return stat->ms_branch_pages + stat->ms_leaf_pages + stat->ms_overflow_pages;
}

void kt_store_usage(struct kt_store *store, uint64_t *used_bytes, uint64_t *file_bytes)
{
    struct kt_txn *txn;
    struct stat file;
    uint64_t pages = 0;
    MDB_stat stat;

    *file_bytes = fstat(store->fd_of_data, &file) == 0 ? (uint64_t)file.st_size : 0;
    *used_bytes = *file_bytes; /* the honest answer when the trees cannot be asked */
    if (kt_txn_begin_read(store, &txn))
        return;
    for (MDB_dbi dbi = 0; dbi < KT_COUNT(store->space_seed); dbi++) {
        if (dbi >= STORE_FIRST_DBI && store->space_seed[dbi] == 0)
            continue;
        if (mdb_stat(txn->at, dbi, &stat) == 0)
            pages += pages_of(&stat);
    }
    if (mdb_env_stat(store->env, &stat) == 0)
        *used_bytes = pages * stat.ms_psize;
    kt_txn_abort(txn);
}

enum kt_code kt_txn_begin_write(struct kt_store *store, struct kt_txn **txn)
{
    struct kt_txn *writer = &store->writer;
    int rc;

    KT_CHECK(writer->root == NULL);
    rc = mdb_txn_begin(store->env, NULL, 0, &writer->root);
    if (rc) {
        writer->root = NULL;
        return code_of(rc, "cannot begin to write");
    }
    writer->at = writer->root;
    writer->write = true;
    writer->hash = 0;
    *txn = writer;
    return KT_OK;
}

static struct kt_txn *take_idle(struct kt_store *store)
{
    struct kt_txn *txn;

    pthread_mutex_lock(&store->lock);
    store->open_count++;
    txn = store->idle;
    if (txn) {
        store->idle = txn->next;
        store->idle_count--;
    }
    pthread_mutex_unlock(&store->lock);
    return txn;
}

/* Keeps a reset transaction for the next reader; false if there are enough. */
static bool give_back(struct kt_store *store, struct kt_txn *txn)
{
    bool kept;

    pthread_mutex_lock(&store->lock);
    store->open_count--;
    kept = txn && store->idle_count < STORE_IDLE_MAX;
    if (kept) {
        txn->next = store->idle;
        store->idle = txn;
        store->idle_count++;
    }
    pthread_mutex_unlock(&store->lock);
    return kept;
}

enum kt_code kt_txn_begin_read(struct kt_store *store, struct kt_txn **txn)
{
    struct kt_txn *reader = take_idle(store);
    int rc;

    if (reader) {
        rc = mdb_txn_renew(reader->root);
        if (rc)
            mdb_txn_abort(reader->root);
    } else {
        reader = kt_zalloc(sizeof(*reader));
        reader->store = store;
        rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &reader->root);
    }
    if (rc) {
        kt_free(reader);
        give_back(store, NULL);
        return code_of(rc, "cannot begin to read");
    }
    reader->at = reader->root;
    *txn = reader;
    return KT_OK;
}

enum kt_code kt_txn_commit(struct kt_txn *txn)
{
    int rc;

    KT_CHECK(txn->write);
    KT_CHECK(txn->at == txn->root);
    rc = mdb_txn_commit(txn->root);
    txn->root = txn->at = NULL;
    if (rc == 0) {
        txn->store->said_full = false;
        reserve(txn->store);
    }
    return write_code(txn->store, rc, "cannot commit");
}

void kt_txn_abort(struct kt_txn *txn)
{
    struct kt_store *store = txn->store;
    MDB_txn *root = txn->root;

    if (txn->write) {
        mdb_txn_abort(root); /* and its child */
        txn->root = txn->at = NULL;
        return;
    }
    mdb_txn_reset(root);
    if (!give_back(store, txn)) {
        mdb_txn_abort(root);
        kt_free(txn);
    }
}

enum kt_code kt_txn_nest(struct kt_txn *txn)
{
    MDB_txn *child;
    int rc;

    KT_CHECK(txn->write);
    KT_CHECK(txn->at == txn->root);
    rc = mdb_txn_begin(txn->store->env, txn->root, 0, &child);
    if (rc)
        return code_of(rc, "cannot begin a nested transaction");
    txn->at = child;
    txn->hash_before = txn->hash;
    return KT_OK;
}

enum kt_code kt_txn_nest_keep(struct kt_txn *txn)
{
    int rc;

    KT_CHECK(txn->at != txn->root);
    rc = mdb_txn_commit(txn->at);
    txn->at = txn->root;
    if (rc)
        txn->hash = txn->hash_before;
    return write_code(txn->store, rc, "cannot keep a nested transaction");
}

void kt_txn_nest_undo(struct kt_txn *txn)
{
    KT_CHECK(txn->at != txn->root);
    mdb_txn_abort(txn->at);
    txn->at = txn->root;
    txn->hash = txn->hash_before;
}

static void check_key(struct kt_slice key)
{
    KT_CHECK(key.len > 0);
    KT_CHECK(key.len <= KT_STORE_KEY_MAX);
}

enum kt_code kt_txn_get(struct kt_txn *txn, kt_space space, struct kt_slice key, struct kt_slice *value)
{
    MDB_val k = val_of(key), v;
    int rc;

    check_key(key);
    rc = mdb_get(txn->at, space, &k, &v);
    if (rc)
        return code_of(rc, "cannot read");
    *value = slice_of(v);
    return KT_OK;
}

/* The state hash: each write is chained to all before it. The low bit of a space's seed is set; a delete clears it. */
static void fold(struct kt_txn *txn, uint64_t seed, struct kt_slice key, struct kt_slice value)
{
    uint64_t hash = kt_hash64(txn->hash ^ seed, key.data, key.len);

    txn->hash = kt_hash64(hash, value.data, value.len);
}

enum kt_code kt_txn_put(struct kt_txn *txn, kt_space space, struct kt_slice key, struct kt_slice value)
{
    MDB_val k = val_of(key), v = val_of(value);
    int rc;

    check_key(key);
    KT_CHECK(txn->write);
    rc = mdb_put(txn->at, space, &k, &v, 0);
    if (rc)
        return write_code(txn->store, rc, "cannot write");
    fold(txn, txn->store->space_seed[space], key, value);
    return KT_OK;
}

enum kt_code kt_txn_delete(struct kt_txn *txn, kt_space space, struct kt_slice key)
{
    MDB_val k = val_of(key);
    int rc;

    check_key(key);
    KT_CHECK(txn->write);
    rc = mdb_del(txn->at, space, &k, NULL);
    if (rc && rc != MDB_NOTFOUND)
        return write_code(txn->store, rc, "cannot delete");
    fold(txn, txn->store->space_seed[space] & ~UINT64_C(1), key, kt_slice(NULL, 0));
    return KT_OK;
}

enum kt_code kt_txn_clear(struct kt_txn *txn, kt_space space)
{
    int rc;

    KT_CHECK(txn->write);
    rc = mdb_drop(txn->at, space, 0);
    if (rc)
        return code_of(rc, "cannot clear");
    /* No put or delete has an empty key. */
    fold(txn, txn->store->space_seed[space] & ~UINT64_C(1), kt_slice(NULL, 0), kt_slice(NULL, 0));
    return KT_OK;
}

enum kt_code kt_txn_count(struct kt_txn *txn, kt_space space, uint64_t *count)
{
    MDB_stat stat;
    int rc = mdb_stat(txn->at, space, &stat);

    *count = rc ? 0 : stat.ms_entries;
    return code_of(rc, "cannot count");
}

uint64_t kt_txn_hash(const struct kt_txn *txn)
{
    return txn->hash;
}

void kt_txn_hash_set(struct kt_txn *txn, uint64_t hash)
{
    txn->hash = hash;
}

enum kt_code kt_cursor_open(struct kt_txn *txn, kt_space space, struct kt_cursor **cursor)
{
    MDB_cursor *opened;
    int rc = mdb_cursor_open(txn->at, space, &opened);

    *cursor = NULL;
    if (rc)
        return code_of(rc, "cannot open a cursor");
    *cursor = kt_alloc(sizeof(**cursor));
    (*cursor)->cursor = opened;
    return KT_OK;
}

void kt_cursor_close(struct kt_cursor *cursor)
{
    if (!cursor)
        return;
    mdb_cursor_close(cursor->cursor);
    kt_free(cursor);
}

static enum kt_code cursor_get(struct kt_cursor *cursor, MDB_val k, MDB_cursor_op op, struct kt_slice *key,
                               struct kt_slice *value)
{
    MDB_val v = {0, NULL};
    int rc = mdb_cursor_get(cursor->cursor, &k, &v, op);

    if (rc)
        return code_of(rc, "cannot walk");
    *key = slice_of(k);
    *value = slice_of(v);
    return KT_OK;
}

enum kt_code kt_cursor_seek(struct kt_cursor *cursor, struct kt_slice from, struct kt_slice *key,
                            struct kt_slice *value)
{
    KT_CHECK(from.len <= KT_STORE_KEY_MAX);
    return cursor_get(cursor, val_of(from), from.len ? MDB_SET_RANGE : MDB_FIRST, key, value);
}

enum kt_code kt_cursor_next(struct kt_cursor *cursor, struct kt_slice *key, struct kt_slice *value)
{
    return cursor_get(cursor, (MDB_val){0, NULL}, MDB_NEXT, key, value);
}

enum kt_code kt_cursor_seek_before(struct kt_cursor *cursor, struct kt_slice before, struct kt_slice *key,
                                   struct kt_slice *value)
{
    enum kt_code code = KT_NOT_FOUND;

    KT_CHECK(before.len <= KT_STORE_KEY_MAX);
    if (before.len > 0)
        code = cursor_get(cursor, val_of(before), MDB_SET_RANGE, key, value);
    if (code == KT_NOT_FOUND)
        return cursor_get(cursor, (MDB_val){0, NULL}, MDB_LAST, key, value);
    if (code)
        return code;
    return cursor_get(cursor, (MDB_val){0, NULL}, MDB_PREV, key, value);
}
