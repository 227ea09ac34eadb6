/* The commands of the key-value engine: parameters, preparation of writes, reads. */
#include "base/check.h"
#include "engines/kv/kv_internal.h"
#include "engines/kv/kv_value.h"
#include "wire/writer.h"

/* type, item type, u16 count, u32 payload length */
#define LIST_HEAD_BYTES 8
#define ITEM_HEAD_BYTES 5 /* of a string: type, u32 length */

static const struct kt_field fields[] = {
    KT_KV_FIELD(database, KT_FIELD_BYTES, KT_FIELD_REQUIRED, KT_KV_NAME_MAX, "name of the database"),
    KT_KV_FIELD(collection, KT_FIELD_BYTES, KT_FIELD_REQUIRED, KT_KV_NAME_MAX, "name of the collection"),
    KT_KV_FIELD(key, KT_FIELD_BYTES, KT_FIELD_REQUIRED, KT_KV_KEY_MAX, "key; the empty one is a key too"),
    KT_KV_FIELD(value, KT_FIELD_BYTES, KT_FIELD_REQUIRED, KT_KV_VALUE_MAX, "one encoded value"),
    KT_KV_FIELD(expires_at_ns, KT_FIELD_I64, KT_FIELD_REQUIRED, 0, "when it expires, nanoseconds since the Unix epoch"),
};

/* The parameters of a command are the first so many. */
#define PARAMS(rows)                                                                                                   \
    {                                                                                                                  \
        .fields = fields, .count = (rows), .size = sizeof(struct kt_kv_params)                                         \
    }

static const struct kt_struct params_keys = PARAMS(KT_KV_FIELDS_KEYS);
static const struct kt_struct params_key = PARAMS(KT_KV_FIELDS_KEY);
static const struct kt_struct params_set = PARAMS(KT_KV_FIELDS_SET);
static const struct kt_struct params_set_ttl = PARAMS(KT_KV_FIELDS_SET_TTL);

static const enum kt_code read_errors[] = {KT_COLLECTION_NOT_FOUND, KT_WRONG_ENGINE, KT_NOT_FOUND, KT_OK};
static const enum kt_code write_errors[] = {KT_COLLECTION_NOT_FOUND, KT_WRONG_ENGINE, KT_OK};
static const enum kt_code keys_errors[] = {KT_COLLECTION_NOT_FOUND, KT_WRONG_ENGINE, KT_TOO_LARGE, KT_OK};

/* What every command asks first, in the order in which the protocol answers: the collection, then the parameters. */
static enum kt_code check(const struct kt_struct *type, const struct kt_kv_params *params, uint32_t *collection,
                          struct kt_reply *reply)
{
    struct kt_error error;
    enum kt_code code;

    code = kt_kv_collection_find(params->database, params->collection, collection);
    if (code)
        return kt_reply_fail(reply, code, "%s", kt_code_text(code));
    code = kt_struct_check(type, params, &error);
    return code ? kt_reply_fail_error(reply, &error) : KT_OK;
}

static enum kt_code finish(const struct kt_buf *op, struct kt_reply *reply)
{
    enum kt_code code = kt_buf_code(op);

    return code ? kt_reply_fail(reply, code, "%s", kt_code_text(code)) : KT_OK;
}

/* The value in its canonical form, in the request's memory unless it is that already. */
static enum kt_code canonical(const struct kt_call *call, struct kt_slice value, struct kt_slice *out,
                              struct kt_reply *reply)
{
    struct kt_error error;
    struct kt_buf buf;
    enum kt_code code;
    size_t len;

    code = kt_kv_value_scan(value, &len, &error);
    if (code)
        return kt_reply_fail(reply, code, "invalid value encoding: %s", error.text);
    if (len != value.len)
        return kt_reply_fail(reply, KT_BAD_REQUEST, "invalid value encoding: %zu bytes behind the value",
                             value.len - len);
    uint8_t type = *(const uint8_t *)value.data;

    if (type != KT_KV_TYPE_BOOL && type < KT_KV_TYPE_LIST) {
        *out = value;
        return KT_OK;
    }
    kt_buf_init(&buf, value.len);
    code = kt_kv_value_canonical(value, &buf, &error);
    if (code == KT_OK)
        *out = kt_arena_dup(call->arena, kt_buf_slice(&buf));
    else
        kt_reply_fail_error(reply, &error);
    kt_buf_release(&buf);
    return code;
}

static enum kt_code prepare_put(const struct kt_call *call, const struct kt_struct *type, uint64_t given,
                                const struct kt_kv_params *params, struct kt_buf *op, struct kt_reply *reply)
{
    struct kt_kv_params body = *params;
    uint32_t collection;
    enum kt_code code;

    code = check(type, params, &collection, reply);
    if (code)
        return code;
    code = canonical(call, params->value, &body.value, reply);
    if (code)
        return code;
    body.given = given;
    kt_op_begin(op, KT_KV_OP_PUT);
    kt_struct_encode(&kt_kv_put_body, &body, op);
    return finish(op, reply);
}

static enum kt_code prepare_set(const struct kt_call *call, const void *params, struct kt_buf *op,
                                struct kt_reply *reply)
{
    return prepare_put(call, &params_set, KT_KV_GIVEN_SET, params, op, reply);
}

static enum kt_code prepare_set_ttl(const struct kt_call *call, const void *params, struct kt_buf *op,
                                    struct kt_reply *reply)
{
    return prepare_put(call, &params_set_ttl, KT_KV_GIVEN_SET_TTL, params, op, reply);
}

static enum kt_code prepare_delete(const struct kt_call *call, const void *params, struct kt_buf *op,
                                   struct kt_reply *reply)
{
    struct kt_kv_params body = *(const struct kt_kv_params *)params;
    uint32_t collection;
    enum kt_code code;

    (void)call;
    code = check(&params_key, params, &collection, reply);
    if (code)
        return code;
    body.given = KT_KV_GIVEN_KEY;
    kt_op_begin(op, KT_KV_OP_DELETE);
    kt_struct_encode(&kt_kv_delete_body, &body, op);
    return finish(op, reply);
}

/* The entry that a read sees. */
static enum kt_code look(const struct kt_call *call, const struct kt_kv_params *params, struct kt_kv_entry *entry,
                         struct kt_reply *reply)
{
    const struct kt_kv *kv = call->state;
    uint32_t collection;
    enum kt_code code;

    code = check(&params_key, params, &collection, reply);
    if (code)
        return code;
    code = kt_kv_find(&kv->table, call->txn, collection, params->key, entry);
    if (code == KT_TOO_LARGE || (code == KT_OK && kt_kv_expired(entry->expires_at_ns, call->now_ms)))
        code = KT_NOT_FOUND;
    return code ? kt_reply_fail(reply, code, "%s", kt_code_text(code)) : KT_OK;
}

static enum kt_code query_get(const struct kt_call *call, const void *params, struct kt_reply *reply)
{
    struct kt_kv_entry entry;
    enum kt_code code = look(call, params, &entry, reply);

    if (code)
        return code;
    kt_buf_append_slice(&reply->body, entry.value);
    return finish(&reply->body, reply);
}

static enum kt_code query_exists(const struct kt_call *call, const void *params, struct kt_reply *reply)
{
    struct kt_kv_entry entry;

    return look(call, params, &entry, reply);
}

static enum kt_code too_large(struct kt_reply *reply)
{
    return kt_reply_fail(reply, KT_TOO_LARGE, "response too large");
}

/* Appends a list of strings with every living key. */
static enum kt_code list_keys(const struct kt_call *call, struct kt_cursor *cursor, uint32_t collection,
                              struct kt_reply *reply)
{
    struct kt_buf *out = &reply->body;
    struct kt_kv_entry entry;
    bool begun = false;
    unsigned count = 0;
    enum kt_code code;

    kt_buf_append_u8(out, KT_KV_TYPE_LIST);
    kt_buf_append_u8(out, KT_KV_TYPE_STRING);
    kt_write_be16(out, 0);
    kt_write_be32(out, 0);
    while ((code = kt_kv_walk(cursor, collection, &begun, &entry)) == KT_OK) {
        if (kt_kv_expired(entry.expires_at_ns, call->now_ms))
            continue;
        if (++count > KT_KV_KEYS_MAX || out->len + ITEM_HEAD_BYTES + entry.key.len > KT_KV_VALUE_MAX)
            return too_large(reply);
        kt_buf_append_u8(out, KT_KV_TYPE_STRING);
        kt_write_be32(out, (uint32_t)entry.key.len);
        kt_buf_append_slice(out, entry.key);
    }
    if (code != KT_NOT_FOUND)
        return kt_reply_fail(reply, code, "%s", kt_code_text(code));
    code = finish(out, reply);
    if (code)
        return code;
    out->data[1] = count ? KT_KV_TYPE_STRING : KT_KV_TYPE_EMPTY;
    out->data[2] = (uint8_t)(count >> 8);
    out->data[3] = (uint8_t)count;
    kt_put_be32(out->data + 4, (uint32_t)(out->len - LIST_HEAD_BYTES));
    return KT_OK;
}

static enum kt_code query_keys(const struct kt_call *call, const void *params, struct kt_reply *reply)
{
    const struct kt_kv *kv = call->state;
    struct kt_cursor *cursor;
    uint32_t collection;
    enum kt_code code;

    code = check(&params_keys, params, &collection, reply);
    if (code)
        return code;
    KT_CHECK(reply->body.len == 0);
    code = kt_cursor_open(call->txn, kv->table.entries, &cursor);
    if (code)
        return kt_reply_fail(reply, code, "%s", kt_code_text(code));
    code = list_keys(call, cursor, collection, reply);
    kt_cursor_close(cursor);
    return code;
}

static const struct kt_command command_get = {
    .name = "kv.get",
    .wire = {.kv_a = 2000},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = PARAMS(KT_KV_FIELDS_KEY),
    .query = query_get,
    .errors = read_errors,
    .doc = "The value of a key.",
};

static const struct kt_command command_set = {
    .name = "kv.set",
    .wire = {.kv_a = 2001},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_WRITE,
    .params = PARAMS(KT_KV_FIELDS_SET),
    .prepare = prepare_set,
    .errors = write_errors,
    .doc = "Gives a key a value that never expires.",
};

static const struct kt_command command_set_ttl = {
    .name = "kv.set_ttl",
    .wire = {.kv_a = 2002},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_WRITE,
    .params = PARAMS(KT_KV_FIELDS_SET_TTL),
    .prepare = prepare_set_ttl,
    .errors = write_errors,
    .doc = "Gives a key a value that is gone at a given time, which must be in the future when the write takes effect.",
};

static const struct kt_command command_delete = {
    .name = "kv.delete",
    .wire = {.kv_a = 2003},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_WRITE,
    .params = PARAMS(KT_KV_FIELDS_KEY),
    .prepare = prepare_delete,
    .errors = write_errors,
    .doc = "Removes a key; fine also if there is none.",
};

static const struct kt_command command_exists = {
    .name = "kv.exists",
    .wire = {.kv_a = 2004},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = PARAMS(KT_KV_FIELDS_KEY),
    .query = query_exists,
    .errors = read_errors,
    .doc = "Whether a key has a value.",
};

static const struct kt_command command_keys = {
    .name = "kv.keys",
    .wire = {.kv_a = 2005},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = PARAMS(KT_KV_FIELDS_KEYS),
    .query = query_keys,
    .scans = true,
    .errors = keys_errors,
    .doc = "All keys of a collection, as a list of strings.",
};

const struct kt_command *const kt_kv_commands[KT_KV_COMMAND_COUNT] = {
    &command_get, &command_set, &command_set_ttl, &command_delete, &command_exists, &command_keys,
};
