/* The key-value protocol, revision A: length-prefixed messages, a login at the beginning of a connection. */
#include "client/client_internal.h"

#include <stdio.h>

#include "base/alloc.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define KV_MAGIC         0x7Eu
#define KV_VERSION       1u
#define KV_TYPE_COMMAND  1u
#define KV_TYPE_RESPONSE 2u
#define KV_LENGTH_BYTES  4u
#define KV_HEADER_BYTES  8u
#define KV_SUCCESS_BELOW 1000u /* servers answer 0 or 1 for success, by their configuration */

enum {
    KV_PING = 1,
    KV_LOGIN = 100,
    KV_GET = 2000,
    KV_SET = 2001,
    KV_SET_TTL = 2002,
    KV_DELETE = 2003,
    KV_EXISTS = 2004,
    KV_KEYS = 2005
};
enum { LOGIN_PASSWORD = 1, LOGIN_API_KEY = 2 };

/* ---- answers ---- */

static bool begins_with(struct kt_slice text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

static enum kt_code code_of(unsigned status, struct kt_slice text)
{
    switch (status) {
    case 1000:
        return KT_BAD_FRAME;
    case 1001:
        return KT_UNKNOWN_COMMAND;
    case 1002:
        return KT_BAD_CREDENTIALS;
    case 1003:
        return KT_BAD_REQUEST;
    case 1004:
        return KT_UNAUTHENTICATED;
    case 1005:
    case 1006:
        return KT_COLLECTION_NOT_FOUND;
    case 1007:
        return KT_WRONG_ENGINE;
    case 1008:
        return KT_NOT_FOUND;
    case 1009:
        return KT_FORBIDDEN;
    default:
        if (begins_with(text, "NOT_LEADER:"))
            return KT_NOT_LEADER;
        if (begins_with(text, "UNAVAILABLE:"))
            return KT_UNAVAILABLE;
        if (begins_with(text, "UNKNOWN:"))
            return KT_OUTCOME_UNKNOWN;
        return KT_INTERNAL;
    }
}

enum kt_code kv_answer_read(struct kt_slice message, struct kontiki_result *result, struct kt_error *error)
{
    struct kt_reader reader;
    kt_reader_init(&reader, message);
    unsigned magic = kt_read_u8(&reader), version = kt_read_u8(&reader);
    kt_read_u8(&reader);
    unsigned type = kt_read_u8(&reader);
    uint32_t body_len = kt_read_be32(&reader);
    struct kt_slice body = kt_read_bytes(&reader, body_len);
    if (!kt_reader_ok(&reader) || magic != KV_MAGIC || version != KV_VERSION || type != KV_TYPE_RESPONSE)
        return kt_error_set(error, KT_BAD_FRAME, "what answers does not speak the key-value protocol");
    kt_reader_init(&reader, body);
    unsigned status = kt_read_be16(&reader);
    struct kt_slice payload = kt_read_bytes(&reader, kt_read_be32(&reader));
    if (!kt_reader_ok(&reader))
        return kt_error_set(error, KT_BAD_FRAME, "an answer that is shorter than it says");
    if (status < KV_SUCCESS_BELOW) {
        result->code = KT_OK;
        result->body = payload.len ? kt_slice_dup_text(payload) : NULL;
        result->body_len = payload.len;
        return KT_OK;
    }
    enum kt_code code = code_of(status, payload);
    struct kt_slice text = payload.len ? payload : kt_slice_text(kt_code_text(code));
    result_fail(result, code, "%.*s", (int)KT_MIN(text.len, sizeof(result->text)), (const char *)text.data);
    snprintf(result->server_code, sizeof(result->server_code), "%u", status);
    result->server_retryable = kt_code_class(code) == KT_RETRY;
    return KT_OK;
}

/* ---- a conversation ---- */

static enum kt_code receive(struct link *link, kt_time_ms deadline_ms, struct kontiki_result *result,
                            struct kt_error *error)
{
    enum kt_code code = link_fill(link, KV_LENGTH_BYTES, deadline_ms, error);
    if (code != KT_OK)
        return code;
    size_t len = kt_get_be32(link->in.data);
    if (len == 0 || len > KONTIKI_FRAME_BYTES_MAX) {
        link_close(link);
        return kt_error_set(error, KT_BAD_FRAME, "an answer of %zu bytes, the limit is %u", len,
                            KONTIKI_FRAME_BYTES_MAX);
    }
    code = link_fill(link, KV_LENGTH_BYTES + len, deadline_ms, error);
    if (code != KT_OK)
        return code;
    code = kv_answer_read(kt_slice(link->in.data + KV_LENGTH_BYTES, len), result, error);
    if (code != KT_OK)
        link_close(link);
    else
        kt_buf_consume(&link->in, KV_LENGTH_BYTES + len);
    return code;
}

/* A whole message around a command's payload. */
static void write_command(struct kt_buf *out, unsigned id, const char *database, const char *collection,
                          struct kt_slice payload)
{
    size_t database_len = strlen(database), collection_len = strlen(collection);
    size_t body = 10 + database_len + collection_len + payload.len;
    kt_write_be32(out, (uint32_t)(KV_HEADER_BYTES + body));
    kt_buf_append_u8(out, KV_MAGIC);
    kt_buf_append_u8(out, KV_VERSION);
    kt_buf_append_u8(out, 0);
    kt_buf_append_u8(out, KV_TYPE_COMMAND);
    kt_write_be32(out, (uint32_t)body);
    kt_write_be16(out, (uint16_t)id);
    kt_write_be16(out, (uint16_t)database_len);
    kt_buf_append(out, database, database_len);
    kt_write_be16(out, (uint16_t)collection_len);
    kt_buf_append(out, collection, collection_len);
    kt_write_be32(out, (uint32_t)payload.len);
    kt_buf_append_slice(out, payload);
}

static void write_short(struct kt_buf *out, const char *text)
{
    kt_write_be16(out, (uint16_t)strlen(text));
    kt_buf_append_text(out, text);
}

/* KT_OK with an error in the result: the server refuses us. */
static enum kt_code login(struct kontiki_client *client, kt_time_ms deadline_ms, struct kontiki_result *result,
                          struct kt_error *error)
{
    struct kt_buf payload, message;
    if (!client->api_key && !client->user)
        return KT_OK;
    kt_buf_init(&payload, KONTIKI_FRAME_BYTES_MAX / 2);
    kt_buf_init(&message, KONTIKI_FRAME_BYTES_MAX);
    if (client->api_key) {
        kt_buf_append_u8(&payload, LOGIN_API_KEY);
        write_short(&payload, client->api_key);
    } else {
        kt_buf_append_u8(&payload, LOGIN_PASSWORD);
        write_short(&payload, client->user);
        write_short(&payload, client->password);
    }
    write_command(&message, KV_LOGIN, "", "", kt_buf_slice(&payload));
    enum kt_code code = kt_buf_code(&message);
    if (code == KT_OK)
        code = link_send(&client->kv, kt_buf_slice(&message), deadline_ms, error);
    if (code == KT_OK)
        code = receive(&client->kv, deadline_ms, result, error);
    kt_buf_release(&payload);
    kt_buf_release(&message);
    return code;
}

static enum fate attempt(struct kontiki_client *client, const struct call *call, kt_time_ms deadline_ms,
                         struct kontiki_result *result)
{
    struct kt_error error = {.text = ""};
    enum kt_code code = link_open(call->link, deadline_ms, &error);
    if (code == KT_OK && !call->link->greeted) {
        code = login(client, deadline_ms, result, &error);
        if (code == KT_OK && result->code != KT_OK) {
            link_close(call->link);
            return kt_code_class(result->code) == KT_CLIENT ? FATE_ANSWERED : FATE_NOT_SENT;
        }
        call->link->greeted = code == KT_OK;
        kontiki_result_release(result);
    }
    if (code == KT_OK)
        code = link_send(call->link, call->request, deadline_ms, &error);
    if (code != KT_OK) {
        result_fail(result, KT_UNAVAILABLE, "%s", error.text);
        return FATE_NOT_SENT;
    }
    code = receive(call->link, deadline_ms, result, &error);
    if (code == KT_OK)
        return FATE_ANSWERED;
    result_fail(result, KT_UNAVAILABLE, "%s", error.text);
    return FATE_LOST;
}

/* ---- calls ---- */

static enum kt_code run(struct kontiki_client *client, unsigned id, const struct kontiki_key *key,
                        const struct kt_buf *payload, struct kontiki_result *result)
{
    struct kt_buf message;
    enum kt_code code;
    if (kt_buf_code(payload) != KT_OK)
        return result_fail(result, kt_buf_code(payload), "the request does not fit a message of %u bytes",
                           KONTIKI_FRAME_BYTES_MAX);
    kt_buf_init(&message, KV_LENGTH_BYTES + KONTIKI_FRAME_BYTES_MAX);
    write_command(&message, id, key ? key->database : "", key ? key->collection : "", kt_buf_slice(payload));
    if (kt_buf_code(&message) == KT_OK) {
        bool changes = id == KV_SET || id == KV_SET_TTL || id == KV_DELETE;
        struct call call = {.link = &client->kv,
                            .request = kt_buf_slice(&message),
                            .changes = changes,
                            .repeatable = !changes,
                            .attempt = attempt};
        code = call_run(client, &call, result);
    } else {
        code = result_fail(result, KT_TOO_LARGE, "the request does not fit a message of %u bytes",
                           KONTIKI_FRAME_BYTES_MAX);
    }
    kt_buf_release(&message);
    return code;
}

/* Whatever must hold before a payload is made: the limits of the protocol's 16-bit lengths. */
static enum kt_code check_key(struct kontiki_client *client, const struct kontiki_key *key,
                              struct kontiki_result *result)
{
    memset(result, 0, sizeof(*result));
    result->leader = -1;
    if (client->kv.count == 0)
        return result_fail(result, KT_BAD_REQUEST, "the client has no endpoint for key-value calls");
    if ((client->user && (strlen(client->user) > UINT16_MAX || strlen(client->password) > UINT16_MAX)) ||
        (client->api_key && strlen(client->api_key) > UINT16_MAX))
        return result_fail(result, KT_BAD_REQUEST, "user, password or API key is longer than %u bytes", UINT16_MAX);
    if (key && (strlen(key->database) > UINT16_MAX || strlen(key->collection) > UINT16_MAX))
        return result_fail(result, KT_BAD_REQUEST, "the name of a database or collection is longer than %u bytes",
                           UINT16_MAX);
    if (key && key->key_len > UINT16_MAX)
        return result_fail(result, KT_BAD_REQUEST, "the key has %zu bytes, the limit is %u", key->key_len, UINT16_MAX);
    return KT_OK;
}

/* A command whose payload is the key, then perhaps a value, then perhaps when it expires. */
static enum kt_code run_keyed(struct kontiki_client *client, unsigned id, const struct kontiki_key *key,
                              struct kt_slice value, uint64_t expires_ns, struct kontiki_result *result)
{
    struct kt_buf payload;
    enum kt_code code = check_key(client, key, result);
    if (code != KT_OK)
        return code;
    kt_buf_init(&payload, KONTIKI_FRAME_BYTES_MAX);
    if (key && id != KV_KEYS) {
        kt_write_be16(&payload, (uint16_t)key->key_len);
        kt_buf_append(&payload, key->key, key->key_len);
    }
    kt_buf_append_slice(&payload, value);
    if (id == KV_SET_TTL)
        kt_write_be64(&payload, expires_ns);
    code = run(client, id, key, &payload, result);
    kt_buf_release(&payload);
    return code;
}

enum kt_code kontiki_kv_ping(struct kontiki_client *client, struct kontiki_result *result)
{
    return run_keyed(client, KV_PING, NULL, kt_slice(NULL, 0), 0, result);
}

enum kt_code kontiki_kv_get(struct kontiki_client *client, const struct kontiki_key *key, struct kontiki_result *result)
{
    return run_keyed(client, KV_GET, key, kt_slice(NULL, 0), 0, result);
}

enum kt_code kontiki_kv_set(struct kontiki_client *client, const struct kontiki_key *key, const void *value,
                            size_t value_len, struct kontiki_result *result)
{
    return run_keyed(client, KV_SET, key, kt_slice(value, value_len), 0, result);
}

enum kt_code kontiki_kv_set_ttl(struct kontiki_client *client, const struct kontiki_key *key, const void *value,
                                size_t value_len, uint64_t ttl_ms, struct kontiki_result *result)
{
    uint64_t now_ms = kt_clock_wall_ms(), limit_ms = (uint64_t)INT64_MAX / 1000000u;
    enum kt_code code = check_key(client, key, result);
    if (code != KT_OK)
        return code;
    if (ttl_ms == 0 || ttl_ms > limit_ms - now_ms)
        return result_fail(result, KT_BAD_REQUEST, "a lifetime of %llu ms is not from 1 to %llu",
                           (unsigned long long)ttl_ms, (unsigned long long)(limit_ms - now_ms));
    return run_keyed(client, KV_SET_TTL, key, kt_slice(value, value_len), (now_ms + ttl_ms) * 1000000u, result);
}

enum kt_code kontiki_kv_delete(struct kontiki_client *client, const struct kontiki_key *key,
                               struct kontiki_result *result)
{
    return run_keyed(client, KV_DELETE, key, kt_slice(NULL, 0), 0, result);
}

enum kt_code kontiki_kv_exists(struct kontiki_client *client, const struct kontiki_key *key,
                               struct kontiki_result *result)
{
    return run_keyed(client, KV_EXISTS, key, kt_slice(NULL, 0), 0, result);
}

enum kt_code kontiki_kv_keys(struct kontiki_client *client, const struct kontiki_key *key,
                             struct kontiki_result *result)
{
    return run_keyed(client, KV_KEYS, key, kt_slice(NULL, 0), 0, result);
}
