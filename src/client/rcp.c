/*
 * The state machine protocol (RCP): frames with CRC-32C around JSON, HELLO and AUTH at the beginning of a connection,
 * one request at a time.
 */
#include "client/client_internal.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/random.h"
#include "kontiki/version.h"
#include "wire/json.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define RCP_MAGIC          0x52435058u /* "RCPX" */
#define RCP_VERSION        1u
#define RCP_CRC_PRESENT    0x0001u
#define RCP_FLAGS_KNOWN    0x000Fu
#define OP_BYTES_MAX       32u /* of an operation's name; the longest has 17 */
#define STRAY_MESSAGES_MAX 64  /* that answer no request while one is waited for: we subscribe to nothing */

/* ---- frames ---- */

void rcp_frame_write(struct kt_buf *out, struct kt_slice payload)
{
    kt_write_be32(out, RCP_MAGIC);
    kt_write_be16(out, RCP_VERSION);
    kt_write_be16(out, RCP_CRC_PRESENT);
    kt_write_be16(out, 0);
    kt_write_be32(out, (uint32_t)payload.len);
    kt_write_be32(out, kt_crc32c(0, payload.data, payload.len));
    kt_buf_append_slice(out, payload);
}

enum kt_code rcp_frame_read(const uint8_t *header, struct rcp_frame *frame, struct kt_error *error)
{
    struct kt_reader reader;
    kt_reader_init(&reader, kt_slice(header, RCP_HEADER_BYTES));
    if (kt_read_be32(&reader) != RCP_MAGIC)
        return kt_error_set(error, KT_BAD_FRAME, "what answers does not speak the state machine protocol");
    unsigned version = kt_read_be16(&reader), flags = kt_read_be16(&reader);
    frame->header_len = kt_read_be16(&reader);
    frame->payload_len = kt_read_be32(&reader);
    frame->crc = kt_read_be32(&reader);
    frame->has_crc = flags & RCP_CRC_PRESENT;
    if (version != RCP_VERSION || (flags & ~RCP_FLAGS_KNOWN))
        return kt_error_set(error, KT_BAD_FRAME, "a frame of version %u with flags 0x%04x", version, flags);
    if (frame->payload_len > KONTIKI_FRAME_BYTES_MAX)
        return kt_error_set(error, KT_BAD_FRAME, "a frame of %zu bytes, the limit is %u", frame->payload_len,
                            KONTIKI_FRAME_BYTES_MAX);
    return KT_OK;
}

enum kt_code rcp_frame_peek(const struct link *link, struct kt_slice *payload, size_t *used, struct kt_error *error)
{
    struct rcp_frame frame;
    if (link->in.len < RCP_HEADER_BYTES)
        return KT_MORE;
    enum kt_code code = rcp_frame_read(link->in.data, &frame, error);
    if (code != KT_OK)
        return code;
    *used = RCP_HEADER_BYTES + frame.header_len + frame.payload_len;
    if (link->in.len < *used)
        return KT_MORE;
    *payload = kt_slice(link->in.data + RCP_HEADER_BYTES + frame.header_len, frame.payload_len);
    if (frame.has_crc && kt_crc32c(0, payload->data, payload->len) != frame.crc)
        return kt_error_set(error, KT_BAD_FRAME, "the answer's checksum is wrong");
    return KT_OK;
}

/* ---- answers ---- */

static enum kt_code code_of_internal(const struct kt_json *details)
{
    static const struct {
        const char *reason;
        enum kt_code code;
    } reasons[] = {
        {"no_leader", KT_UNAVAILABLE},
        {"unavailable", KT_UNAVAILABLE},
        {"not_leader", KT_NOT_LEADER},
        {"unknown_outcome", KT_OUTCOME_UNKNOWN},
        {"busy", KT_BUSY},
        {"shutting_down", KT_SHUTTING_DOWN},
        {"disk_full", KT_DISK_FULL},
        {"stale", KT_STALE},
        {"no_memory", KT_NO_MEMORY},
    };
    const struct kt_json *reason = kt_json_get(details, "reason");
    if (kt_json_is(reason, KT_JSON_STRING)) {
        for (size_t i = 0; i < KT_COUNT(reasons); i++) {
            if (kt_slice_is(kt_json_string(reason), reasons[i].reason))
                return reasons[i].code;
        }
    }
    return KT_INTERNAL;
}

static enum kt_code code_of(struct kt_slice name, const struct kt_json *details)
{
    static const struct {
        const char *name;
        enum kt_code code;
    } codes[] = {
        {"UNSUPPORTED_PROTOCOL", KT_BAD_VERSION},
        {"BAD_REQUEST", KT_BAD_REQUEST},
        {"UNAUTHORIZED", KT_UNAUTHENTICATED},
        {"AUTH_FAILED", KT_BAD_CREDENTIALS},
        {"NOT_FOUND", KT_NOT_FOUND},
        {"MACHINE_NOT_FOUND", KT_MACHINE_NOT_FOUND},
        {"MACHINE_VERSION_EXISTS", KT_MACHINE_EXISTS},
        {"MACHINE_VERSION_LIMIT_EXCEEDED", KT_MACHINE_LIMIT},
        {"INSTANCE_NOT_FOUND", KT_INSTANCE_NOT_FOUND},
        {"INSTANCE_EXISTS", KT_INSTANCE_EXISTS},
        {"INVALID_TRANSITION", KT_INVALID_TRANSITION},
        {"GUARD_FAILED", KT_GUARD_FAILED},
        {"CONFLICT", KT_CONFLICT},
        {"WAL_IO_ERROR", KT_IO_FAILED},
        {"RATE_LIMITED", KT_BUSY},
    };
    for (size_t i = 0; i < KT_COUNT(codes); i++) {
        if (kt_slice_is(name, codes[i].name))
            return codes[i].code;
    }
    return code_of_internal(details);
}

static char *print_json(const struct kt_json *json, size_t *len)
{
    struct kt_buf text;
    kt_buf_init(&text, 2 * KONTIKI_FRAME_BYTES_MAX); /* escapes of control characters may grow when written anew */
    kt_json_print(json, false, &text);
    char *copy = kt_buf_code(&text) == KT_OK ? kt_slice_dup_text(kt_buf_slice(&text)) : NULL;
    if (len)
        *len = copy ? text.len : 0;
    kt_buf_release(&text);
    return copy;
}

static void take_meta(const struct kt_json *meta, struct kontiki_result *result)
{
    const struct kt_json *leader = kt_json_get(meta, "leader");
    if (kt_json_is(leader, KT_JSON_BOOL))
        result->leader = kt_json_bool(leader);
    if (!kt_json_u64(kt_json_get(meta, "wal_offset"), &result->offset))
        result->offset = 0;
}

static enum kt_code take_error(const struct kt_json *error_json, struct kontiki_result *result, struct kt_error *error)
{
    const struct kt_json *details = kt_json_get(error_json, "details");
    const struct kt_json *name = kt_json_get(error_json, "code"), *message = kt_json_get(error_json, "message");
    if (!kt_json_is(name, KT_JSON_STRING))
        return kt_error_set(error, KT_BAD_FRAME, "an error without a code");
    struct kt_slice code_text = kt_json_string(name);
    struct kt_slice text = kt_json_is(message, KT_JSON_STRING) ? kt_json_string(message) : code_text;
    result_fail(result, code_of(code_text, details), "%.*s", (int)KT_MIN(text.len, sizeof(result->text)),
                (const char *)text.data);
    snprintf(result->server_code, sizeof(result->server_code), "%.*s",
             (int)KT_MIN(code_text.len, sizeof(result->server_code)), (const char *)code_text.data);
    result->server_retryable = kt_json_bool(kt_json_get(error_json, "retryable"));
    if (kt_json_is(details, KT_JSON_OBJECT))
        result->details = print_json(details, NULL);
    return KT_OK;
}

/* Also the empty id: the server could not read the id of what we sent, and we wait for one answer only. */
static bool is_our_id(const struct kt_json *id, uint64_t wanted)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)wanted);
    return kt_json_is(id, KT_JSON_STRING) && (kt_slice_is(kt_json_string(id), text) || kt_json_string(id).len == 0);
}

static enum kt_code read_response(const struct kt_json *response, uint64_t id, struct kontiki_result *result,
                                  struct kt_error *error)
{
    const struct kt_json *type = kt_json_get(response, "type"), *status = kt_json_get(response, "status");
    if (!kt_json_is(response, KT_JSON_OBJECT))
        return kt_error_set(error, KT_BAD_FRAME, "the answer is no object");
    if (kt_json_is(type, KT_JSON_STRING) && !kt_slice_is(kt_json_string(type), "response"))
        return KT_MORE;
    if (!is_our_id(kt_json_get(response, "id"), id))
        return kt_error_set(error, KT_BAD_FRAME, "the answer has another id than the request");
    take_meta(kt_json_get(response, "meta"), result);
    if (!kt_json_is(status, KT_JSON_STRING))
        return kt_error_set(error, KT_BAD_FRAME, "the answer has no status");
    if (!kt_slice_is(kt_json_string(status), "ok"))
        return take_error(kt_json_get(response, "error"), result, error);
    const struct kt_json *body = kt_json_get(response, "result");
    if (!kt_json_is(body, KT_JSON_OBJECT))
        return kt_error_set(error, KT_BAD_FRAME, "the answer has no result");
    result->code = KT_OK;
    result->body = print_json(body, &result->body_len);
    return result->body ? KT_OK : kt_error_set(error, KT_NO_MEMORY, "no memory for the answer");
}

enum kt_code rcp_answer_read(struct kt_slice payload, uint64_t id, struct kontiki_result *result,
                             struct kt_error *error)
{
    struct kt_json *response;
    enum kt_code code = kt_json_parse(payload, &response, error);
    if (code != KT_OK)
        return code == KT_NO_MEMORY ? code : KT_BAD_FRAME;
    code = read_response(response, id, result, error);
    kt_json_free(response);
    return code;
}

/* ---- a conversation ---- */

/* Waits for the answer to a request. Not KT_OK: the connection is closed and the error says why. */
static enum kt_code receive(struct link *link, uint64_t id, kt_time_ms deadline_ms, struct kontiki_result *result,
                            struct kt_error *error)
{
    for (unsigned stray = 0; stray < STRAY_MESSAGES_MAX;) {
        struct kt_slice payload;
        size_t used;
        enum kt_code code = rcp_frame_peek(link, &payload, &used, error);
        if (code == KT_MORE) {
            code = link_fill(link, link->in.len + 1, deadline_ms, error);
            if (code != KT_OK)
                return code;
            continue;
        }
        if (code == KT_OK)
            code = rcp_answer_read(payload, id, result, error);
        if (code != KT_OK && code != KT_MORE) {
            link_close(link);
            return code;
        }
        kt_buf_consume(&link->in, used);
        if (code == KT_OK)
            return KT_OK;
        stray++;
    }
    link_close(link);
    return kt_error_set(error, KT_BAD_FRAME, "the server sends what was not asked for");
}

/* The request's JSON and its frame. One that does not fit fails the frame's buffer. */
void rcp_request_write(uint64_t id, const char *op, struct kt_slice params, struct kt_buf *frame)
{
    struct kt_buf payload;
    kt_buf_init(&payload, KONTIKI_FRAME_BYTES_MAX);
    kt_buf_printf(&payload, "{\"type\":\"request\",\"id\":\"%llu\",\"op\":\"%s\",\"params\":", (unsigned long long)id,
                  op);
    kt_buf_append_slice(&payload, params);
    kt_buf_append_u8(&payload, '}');
    rcp_frame_write(frame, kt_buf_slice(&payload));
    if (kt_buf_code(&payload) != KT_OK)
        frame->code = kt_buf_code(&payload);
    kt_buf_release(&payload);
}

/* One request of the greeting. Not KT_OK: no answer, the connection is closed. */
static enum kt_code exchange(struct kontiki_client *client, const char *op, struct kt_slice params,
                             kt_time_ms deadline_ms, struct kontiki_result *result, struct kt_error *error)
{
    struct kt_buf frame;
    uint64_t id = ++client->next_id;
    kt_buf_init(&frame, KONTIKI_FRAME_BYTES_MAX + RCP_HEADER_BYTES);
    rcp_request_write(id, op, params, &frame);
    enum kt_code code = kt_buf_code(&frame);
    if (code != KT_OK)
        kt_error_set(error, code, "the %s request does not fit a frame", op);
    if (code == KT_OK)
        code = link_send(&client->machine, kt_buf_slice(&frame), deadline_ms, error);
    if (code == KT_OK)
        code = receive(&client->machine, id, deadline_ms, result, error);
    kt_buf_release(&frame);
    return code;
}

/* HELLO and AUTH. KT_OK with an error in the result: the server refuses us. */
static enum kt_code greet(struct kontiki_client *client, kt_time_ms deadline_ms, struct kontiki_result *result,
                          struct kt_error *error)
{
    static const char hello[] =
        "{\"protocol_version\":1,\"client_name\":\"libkontiki\",\"client_version\":\"" KT_VERSION
        "\",\"wire_modes\":[\"binary_json\"],\"features\":[\"idempotency\"]}";
    enum kt_code code = exchange(client, "HELLO", kt_slice_text(hello), deadline_ms, result, error);
    if (code != KT_OK || result->code != KT_OK || !client->token)
        return code;
    struct kt_buf params;
    struct kt_json_writer writer;
    kontiki_result_release(result);
    kt_buf_init(&params, KONTIKI_FRAME_BYTES_MAX / 2);
    kt_json_writer_init(&writer, &params);
    kt_json_begin_object(&writer);
    kt_json_put_text_member(&writer, "method", "bearer");
    kt_json_put_text_member(&writer, "token", client->token);
    kt_json_end_object(&writer);
    code = kt_buf_code(&params);
    if (code == KT_OK)
        code = exchange(client, "AUTH", kt_buf_slice(&params), deadline_ms, result, error);
    kt_buf_release(&params);
    return code;
}

static enum fate attempt(struct kontiki_client *client, const struct call *call, kt_time_ms deadline_ms,
                         struct kontiki_result *result)
{
    struct kt_error error = {.text = ""};
    enum kt_code code = link_open(call->link, deadline_ms, &error);
    if (code == KT_OK && !call->link->greeted) {
        code = greet(client, deadline_ms, result, &error);
        if (code == KT_OK && result->code != KT_OK) {
            link_close(call->link);
            /* Refused for good, or only now. */
            return kt_code_class(result->code) == KT_CLIENT ? FATE_ANSWERED : FATE_NOT_SENT;
        }
        call->link->greeted = code == KT_OK;
        kontiki_result_release(result);
    }
    if (code == KT_OK)
        code = link_send(call->link, call->request, deadline_ms, &error);
    if (code != KT_OK) {
        link_close(call->link);
        result_fail(result, KT_UNAVAILABLE, "%s", error.text);
        return FATE_NOT_SENT;
    }
    code = receive(call->link, call->id, deadline_ms, result, &error);
    if (code == KT_OK)
        return FATE_ANSWERED;
    kontiki_result_release(result);
    result_fail(result, KT_UNAVAILABLE, "%s", error.text);
    return FATE_LOST;
}

/* ---- calls ---- */

struct operation {
    const char *name;
    bool changes, keyed, repeatable;
};

/* keyed: the server recognises a repetition by its key. An operation that is not listed may change anything. */
static const struct operation operations[] = {
    {"PING", false, false, true},
    {"INFO", false, false, true},
    {"GET_MACHINE", false, false, true},
    {"LIST_MACHINES", false, false, true},
    {"GET_INSTANCE", false, false, true},
    {"LIST_INSTANCES", false, false, true},
    {"WAL_READ", false, false, true},
    {"WAL_STATS", false, false, true},
    {"WATCH_INSTANCE", false, false, true},
    {"WATCH_ALL", false, false, true},
    {"UNWATCH", false, false, true},
    {"SNAPSHOT_INSTANCE", false, false, true},
    {"EXPLAIN_EVENT", false, false, true},
    {"GET_MIGRATION", false, false, true},
    {"LIST_MIGRATIONS", false, false, true},
    {"MIGRATE_INSTANCES", true, true, true},
    {"UNDO_MIGRATION", true, false, true},
    {"CONFIRM_MIGRATION", true, false, true},
    {"COMPACT", true, false, true},
    {"FLUSH_ALL", true, false, false},
    {"BATCH", true, true, true},
    {"EXPLAIN_EVENT", false, false, true},
    {"GET_MIGRATION", false, false, true},
    {"LIST_MIGRATIONS", false, false, true},
    {"MIGRATE_INSTANCES", true, true, true},
    {"PUT_MACHINE", true, false, true},
    {"CREATE_INSTANCE", true, true, true},
    {"DELETE_INSTANCE", true, true, true},
    {"APPLY_EVENT", true, true, true},
};

static struct operation operation_of(const char *name)
{
    for (size_t i = 0; i < KT_COUNT(operations); i++) {
        if (strcmp(operations[i].name, name) == 0)
            return operations[i];
    }
    return (struct operation){.name = name, .changes = true};
}

static bool is_operation_name(const char *op)
{
    size_t len = 0;
    for (; op[len]; len++) {
        if (len == OP_BYTES_MAX || !((op[len] >= 'A' && op[len] <= 'Z') || op[len] == '_'))
            return false;
    }
    return len > 0;
}

static bool is_absent(const struct kt_json *key)
{
    return !key || kt_json_is(key, KT_JSON_NULL) || (kt_json_is(key, KT_JSON_STRING) && kt_json_string(key).len == 0);
}

/* The parameters as canonical text, with an idempotency key if they need one and have none (empty counts as none). */
static enum kt_code write_params(const char *params, bool keyed, struct kt_buf *out, struct kt_error *error)
{
    struct kt_json *json;
    enum kt_code code = kt_json_parse(kt_slice_text(params ? params : "{}"), &json, error);
    if (code != KT_OK)
        return code;
    if (!kt_json_is(json, KT_JSON_OBJECT)) {
        kt_json_free(json);
        return kt_error_set(error, KT_BAD_REQUEST, "the parameters are no JSON object");
    }
    kt_json_print(json, false, out);
    if (keyed && is_absent(kt_json_get(json, "idempotency_key")) && kt_buf_code(out) == KT_OK) {
        char uuid[37];
        kt_uuid(uuid);
        out->len--;
        /* Last, because of two members with one name the last counts: an explicit null is overruled. */
        kt_buf_printf(out, "%s\"idempotency_key\":\"%s\"}", kt_json_count(json) ? "," : "", uuid);
    }
    kt_json_free(json);
    code = kt_buf_code(out);
    return code == KT_OK ? KT_OK : kt_error_set(error, code, "the parameters do not fit a request");
}

enum kt_code kontiki_machine_call(struct kontiki_client *client, const char *op, const char *params,
                                  struct kontiki_result *result)
{
    struct operation operation = operation_of(op);
    struct kt_error error = {.text = ""};
    struct kt_buf text, frame;
    memset(result, 0, sizeof(*result));
    result->leader = -1;
    if (client->machine.count == 0)
        return result_fail(result, KT_BAD_REQUEST, "the client has no endpoint for machine calls");
    if (!is_operation_name(op))
        return result_fail(result, KT_BAD_REQUEST, "\"%.40s\" is no operation's name", op);
    kt_buf_init(&text, KONTIKI_FRAME_BYTES_MAX);
    kt_buf_init(&frame, KONTIKI_FRAME_BYTES_MAX + RCP_HEADER_BYTES);
    uint64_t id = ++client->next_id;
    enum kt_code code = write_params(params, operation.keyed, &text, &error);
    if (code == KT_OK) {
        rcp_request_write(id, op, kt_buf_slice(&text), &frame);
        code = kt_buf_code(&frame);
        if (code != KT_OK)
            kt_error_set(&error, code, "the request does not fit a frame of %u bytes", KONTIKI_FRAME_BYTES_MAX);
    }
    kt_buf_release(&text);
    if (code == KT_OK) {
        struct call call = {.link = &client->machine,
                            .request = kt_buf_slice(&frame),
                            .changes = operation.changes,
                            .repeatable = operation.repeatable,
                            .attempt = attempt,
                            .id = id};
        code = call_run(client, &call, result);
    } else {
        result_fail(result, code, "%s", error.text);
    }
    kt_buf_release(&frame);
    return code;
}
