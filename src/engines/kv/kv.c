/* The key-value engine: what it is made of, its collections, its time. */
#include "engines/kv/kv.h"

#include "base/alloc.h"
#include "engines/kv/kv_internal.h"
#include "wire/json.h"

#define NS_PER_MS 1000000

/*
 * The collections that exist at start, of both revisions of the protocol. Numbers are stored in keys: appended, never
 * reused. Those of other engines are known by name so that they are refused for the right reason.
 */
static const struct {
    const char *database, *collection;
    uint32_t id; /* 0: another engine's */
} collections[] = {
    {"system", "databases", 1}, {"system", "collections", 2}, {"system", "kv_test", 3},
    {"system", "obj_test", 0},  {"system", "broker_test", 0},
};

enum kt_code kt_kv_collection_find(struct kt_slice database, struct kt_slice collection, uint32_t *id)
{
    for (size_t i = 0; i < KT_COUNT(collections); i++) {
        if (kt_slice_is(collection, collections[i].collection) && kt_slice_is(database, collections[i].database)) {
            *id = collections[i].id;
            return *id ? KT_OK : KT_WRONG_ENGINE;
        }
    }
    *id = 0;
    return KT_COLLECTION_NOT_FOUND;
}

enum kt_code kt_kv_collection_check(struct kt_slice database, struct kt_slice collection)
{
    uint32_t id;

    return kt_kv_collection_find(database, collection, &id);
}

int64_t kt_kv_ns(kt_time_ms wall_ms)
{
    return wall_ms > INT64_MAX / NS_PER_MS ? INT64_MAX : (int64_t)wall_ms * NS_PER_MS;
}

bool kt_kv_expired(int64_t expires_at_ns, kt_time_ms now_ms)
{
    return expires_at_ns != 0 && expires_at_ns <= kt_kv_ns(now_ms);
}

static enum kt_code kv_open(struct kt_store *store, const struct kt_engine_options *options, void **state,
                            struct kt_error *error)
{
    struct kt_kv *kv = kt_zalloc(sizeof(*kv));
    enum kt_code code = kt_kv_table_open(&kv->table, store, error);

    (void)options; /* none of them is ours */
    if (code) {
        kt_kv_table_close(&kv->table);
        kt_free(kv);
        return code;
    }
    *state = kv;
    return KT_OK;
}

static void kv_close(void *state)
{
    struct kt_kv *kv = state;

    kt_kv_table_close(&kv->table);
    kt_free(kv);
}

static enum kt_code kv_tick(void *state, struct kt_txn *txn, kt_time_ms now_ms, struct kt_buf *op, kt_time_ms *next_ms)
{
    struct kt_kv *kv = state;
    struct kt_kv_expire body = {.given = 1, .cutoff_ms = now_ms};
    int64_t expires_at_ns;
    enum kt_code code;

    (void)next_ms;
    code = kt_kv_next_expiry(&kv->table, txn, &expires_at_ns);
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code || !kt_kv_expired(expires_at_ns, now_ms))
        return code;
    kt_op_begin(op, KT_KV_OP_EXPIRE);
    kt_struct_encode(&kt_kv_expire_body, &body, op);
    return kt_buf_code(op);
}

static enum kt_code kv_stats(void *state, struct kt_txn *txn, struct kt_reply *out)
{
    struct kt_kv *kv = state;
    struct kt_json_writer writer;
    uint64_t entries, expiring;
    enum kt_code code;

    code = kt_txn_count(txn, kv->table.entries, &entries);
    if (code == KT_OK)
        code = kt_txn_count(txn, kv->table.expiry, &expiring);
    if (code)
        return code;
    kt_json_writer_init(&writer, &out->body);
    /* The object is open already; whether something is in it shows at its end. */
    writer.comma = out->body.len > 0 && out->body.data[out->body.len - 1] != '{';
    kt_json_put_u64_member(&writer, "kv_entries", entries);
    kt_json_put_u64_member(&writer, "kv_expiring", expiring);
    return kt_buf_code(&out->body);
}

const struct kt_engine kt_kv_engine = {
    .id = KT_ENGINE_KV,
    .name = "kv",
    .commands = kt_kv_commands,
    .command_count = KT_KV_COMMAND_COUNT,
    .ops = kt_kv_ops,
    .op_count = KT_KV_OP_COUNT,
    .open = kv_open,
    .close = kv_close,
    .tick = kv_tick,
    .stats = kv_stats,
};
