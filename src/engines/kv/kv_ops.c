/* The replicated operations of the key-value engine. They look, decide, then write (engines/engine.h). */
#include "engines/kv/kv_internal.h"
#include "engines/kv/kv_value.h"

/* As the parameters, but an expiry only where the entry has one. */
static const struct kt_field put_fields[] = {
    KT_KV_FIELD(database, KT_FIELD_BYTES, KT_FIELD_REQUIRED, KT_KV_NAME_MAX, "database name"),
    KT_KV_FIELD(collection, KT_FIELD_BYTES, KT_FIELD_REQUIRED, KT_KV_NAME_MAX, "collection name"),
    KT_KV_FIELD(key, KT_FIELD_BYTES, KT_FIELD_REQUIRED, KT_KV_KEY_MAX, "key"),
    KT_KV_FIELD(value, KT_FIELD_BYTES, KT_FIELD_REQUIRED, KT_KV_VALUE_MAX, "canonical encoded value"),
    KT_KV_FIELD(expires_at_ns, KT_FIELD_I64, 0, 0, "expiry, nanoseconds since the Unix epoch"),
};

static const struct kt_field expire_fields[] = {
    {.name = "cutoff_ms",
     .type = KT_FIELD_U64,
     .offset = offsetof(struct kt_kv_expire, cutoff_ms),
     .flags = KT_FIELD_REQUIRED,
     .doc = "entries that expired up to this wall time may go"},
};

const struct kt_struct kt_kv_put_body = KT_STRUCT(struct kt_kv_params, put_fields);
const struct kt_struct kt_kv_delete_body = {
    .fields = put_fields, .count = KT_KV_FIELDS_KEY, .size = sizeof(struct kt_kv_params)};
const struct kt_struct kt_kv_expire_body = KT_STRUCT(struct kt_kv_expire, expire_fields);

/* The engine trusts no log entry: what prepare checked is checked again where a wrong byte would be stored for ever. */
static bool is_possible(const struct kt_kv_params *body)
{
    size_t len;

    return body->key.len <= KT_KV_KEY_MAX && kt_kv_value_scan(body->value, &len, NULL) == KT_OK &&
           len == body->value.len;
}

static enum kt_code apply_put(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *params,
                              struct kt_reply *reply)
{
    const struct kt_kv_params *body = params;
    bool expires = (body->given & KT_KV_EXPIRES_AT) != 0;
    struct kt_kv *kv = state;
    struct kt_kv_entry entry;
    uint32_t collection;
    enum kt_code code;

    if (!is_possible(body))
        return kt_reply_fail(reply, KT_CORRUPT, "the entry carries a key or value that cannot be");
    code = kt_kv_collection_find(body->database, body->collection, &collection);
    if (code)
        return code;
    if (expires && body->expires_at_ns <= kt_kv_ns(apply->time_ms))
        return kt_reply_fail(reply, KT_BAD_REQUEST, "invalid TTL: expiresAt must be a future timestamp in nanoseconds");
    code = kt_kv_find(&kv->table, txn, collection, body->key, &entry);
    if (code == KT_TOO_LARGE)
        return kt_reply_fail(reply, KT_BAD_REQUEST, "the key cannot be stored: %d other keys have its hash",
                             KT_KV_CHAIN_MAX);
    if (code && code != KT_NOT_FOUND)
        return code;
    code =
        kt_kv_write(&kv->table, txn, &entry, code == KT_OK, body->key, body->value, expires ? body->expires_at_ns : 0);
    if (code || !expires)
        return code;
    return kt_kv_remove_expired(&kv->table, txn, kt_kv_ns(apply->time_ms), KT_KV_EXPIRE_WITH_PUT);
}

static enum kt_code apply_delete(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *params,
                                 struct kt_reply *reply)
{
    const struct kt_kv_params *body = params;
    struct kt_kv *kv = state;
    struct kt_kv_entry entry;
    uint32_t collection;
    enum kt_code code;

    (void)apply;
    (void)reply;
    code = kt_kv_collection_find(body->database, body->collection, &collection);
    if (code)
        return code;
    code = kt_kv_find(&kv->table, txn, collection, body->key, &entry);
    if (code == KT_NOT_FOUND || code == KT_TOO_LARGE)
        return KT_OK; /* deleting what is not there is fine */
    return code ? code : kt_kv_remove(&kv->table, txn, &entry.place, entry.expires_at_ns);
}

/* Replicated time decides: a leader whose clock ran ahead of the log removes nothing that any reader could still see.
 */
static enum kt_code apply_expire(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *params,
                                 struct kt_reply *reply)
{
    const struct kt_kv_expire *body = params;
    struct kt_kv *kv = state;

    (void)reply;
    return kt_kv_remove_expired(&kv->table, txn, kt_kv_ns(KT_MIN(body->cutoff_ms, apply->time_ms)), KT_KV_EXPIRE_MAX);
}

static const struct kt_op_kind op_put = {
    .code = KT_KV_OP_PUT,
    .name = "kv.put",
    .body = KT_STRUCT(struct kt_kv_params, put_fields),
    .apply = apply_put,
};

static const struct kt_op_kind op_delete = {
    .code = KT_KV_OP_DELETE,
    .name = "kv.delete",
    .frees = true,
    .body = {.fields = put_fields, .count = KT_KV_FIELDS_KEY, .size = sizeof(struct kt_kv_params)},
    .apply = apply_delete,
};

static const struct kt_op_kind op_expire = {
    .code = KT_KV_OP_EXPIRE,
    .name = "kv.expire",
    .frees = true,
    .body = KT_STRUCT(struct kt_kv_expire, expire_fields),
    .apply = apply_expire,
};

const struct kt_op_kind *const kt_kv_ops[KT_KV_OP_COUNT] = {&op_put, &op_delete, &op_expire};
