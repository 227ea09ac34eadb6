/*
 * One key-value session: system commands, and the commands of the key-value engine. The order in which a command is
 * judged is that of kv.md 3.5: its id, the login, the collection, the collection's engine, the payload, and then it is
 * done.
 */
#include "gateway/proto_kv/kv_internal.h"

#include <stdio.h>

#include "dispatch/metrics.h"
#include "engines/kv/kv.h"
#include "engines/kv/kv_value.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define REVISION         'a'
#define EXPIRES_AT_BYTES 8

static const struct kt_kv_settings default_settings = {.revision = "auto", .success_code = 0};

static const struct kt_kv_settings *settings_or_default(const void *settings)
{
    return settings ? settings : &default_settings;
}

static enum kt_code session_check(const void *raw, struct kt_error *error)
{
    const char *revision = settings_or_default(raw)->revision;

    if (!revision || strcmp(revision, "auto") == 0 || strcmp(revision, "a") == 0)
        return KT_OK;
    if (strcmp(revision, "b") == 0)
        return kt_error_set(error, KT_NOT_AVAILABLE, "revision b of the kv protocol is not available in this version");
    return kt_error_set(error, KT_BAD_REQUEST, "'%s' is no revision of the kv protocol: auto, a or b", revision);
}

static void session_open(struct kt_conn *conn, const void *settings)
{
    struct kv_session *session = kt_conn_state(conn);
    const struct kt_auth *auth = kt_dispatch_auth(kt_conn_dispatch(conn));

    session->principal = kt_auth_required(auth) ? NULL : kt_auth_local(auth);
    session->success_code = settings_or_default(settings)->success_code;
}

void kv_answer(struct kt_conn *conn, uint16_t status, struct kt_slice payload)
{
    struct kt_answer *answer = kt_answer_begin(conn);

    kv_write_response(kt_answer_buf(answer), status, payload);
    kt_answer_ready(answer);
}

void kv_answer_text(struct kt_conn *conn, uint16_t status, const char *text)
{
    kv_answer(conn, status, kt_slice_text(text));
}

static void write_failure(struct kt_buf *out, const struct kt_reply *reply)
{
    struct kv_error_row row = kv_error_row(reply->code);
    const char *text = reply->text[0] ? reply->text : kt_code_text(reply->code);
    char payload[KT_ERROR_TEXT_MAX + 32];
    int len = 0;

    if (row.text)
        len = snprintf(payload, sizeof(payload), "%s%s", row.prefix ? row.prefix : "", text);
    kv_write_response(out, row.status, kt_slice(payload, (size_t)len));
}

static void count_error(struct kt_dispatch *dispatch, uint16_t status)
{
    char name[16];

    snprintf(name, sizeof(name), "%u", (unsigned)status);
    kt_metrics_error(kt_dispatch_metrics(dispatch), kt_proto_kv.name, name, 1);
}

static void command_done(struct kt_request *request)
{
    struct kt_answer *answer = request->data;
    struct kt_conn *conn = kt_answer_conn(answer);

    kt_metrics_answered(request->counted, request->reply.code != KT_OK, request->began_us);
    if (request->reply.code != KT_OK)
        count_error(request->dispatch, kv_error_row(request->reply.code).status);
    /* A client that is gone is not written to; its answer still has to come back to the gateway. */
    if (conn) {
        struct kv_session *session = kt_conn_state(conn);

        if (request->reply.code == KT_OK)
            kv_write_response(kt_answer_buf(answer), session->success_code, kt_buf_slice(&request->reply.body));
        else
            write_failure(kt_answer_buf(answer), &request->reply);
    }
    kt_answer_ready(answer);
    kt_request_free(request);
}

/* Payloads. Each returns NULL or the text of a status 1003, which may be written into text. */

static const char *read_key(struct kt_reader *reader, struct kt_kv_params *params)
{
    size_t len = kt_read_be16(reader);

    if (!kt_reader_ok(reader))
        return "invalid payload length";
    params->key = kt_read_bytes(reader, len);
    return kt_reader_ok(reader) ? NULL : "invalid payload length for key";
}

/* The value that bytes begin with; what follows it is ignored. */
static const char *read_value(struct kt_slice bytes, struct kt_kv_params *params, char text[64])
{
    struct kt_error error;
    size_t len;

    if (kt_kv_value_scan(bytes, &len, &error) != KT_OK) {
        snprintf(text, 64, "invalid value encoding: %.36s", error.text);
        return text;
    }
    params->value = kt_slice(bytes.data, len);
    return NULL;
}

static const char *read_set(struct kt_slice payload, struct kt_kv_params *params, char text[64])
{
    struct kt_reader reader;
    const char *problem;

    kt_reader_init(&reader, payload);
    problem = read_key(&reader, params);
    if (problem)
        return problem;
    return read_value(kt_read_bytes(&reader, kt_reader_left(&reader)), params, text);
}

/* The time of expiry is always the last bytes of the payload; between it and the value may be anything (kv.md 3.6). */
static const char *read_set_ttl(struct kt_slice payload, struct kt_kv_params *params, char text[64])
{
    struct kt_reader reader;
    struct kt_slice value;
    const char *problem;

    kt_reader_init(&reader, payload);
    problem = read_key(&reader, params);
    if (problem && payload.len < 2)
        return problem;
    if (problem || kt_reader_left(&reader) < EXPIRES_AT_BYTES)
        return "invalid payload length for key and TTL";
    value = kt_read_bytes(&reader, kt_reader_left(&reader) - EXPIRES_AT_BYTES);
    params->expires_at_ns = (int64_t)kt_read_be64(&reader);
    return read_value(value, params, text);
}

static const char *read_payload(uint16_t id, struct kt_slice payload, struct kt_kv_params *params, char text[64])
{
    struct kt_reader reader;

    switch (id) {
    case KV_COMMAND_KEYS:
        params->given = KT_KV_GIVEN_KEYS;
        return NULL;
    case KV_COMMAND_GET:
    case KV_COMMAND_DELETE:
    case KV_COMMAND_EXISTS:
        params->given = KT_KV_GIVEN_KEY;
        kt_reader_init(&reader, payload);
        return read_key(&reader, params);
    case KV_COMMAND_SET:
        params->given = KT_KV_GIVEN_SET;
        return read_set(payload, params, text);
    case KV_COMMAND_SET_TTL:
        params->given = KT_KV_GIVEN_SET_TTL;
        return read_set_ttl(payload, params, text);
    default:
        return "this command's payload is not known to this revision";
    }
}

/* What arrived is gone when the command runs. */
static void keep(struct kt_kv_params *params, struct kt_arena *arena)
{
    params->database = kt_arena_dup(arena, params->database);
    params->collection = kt_arena_dup(arena, params->collection);
    params->key = kt_arena_dup(arena, params->key);
    params->value = kt_arena_dup(arena, params->value);
}

static void run(struct kt_conn *conn, const struct kv_message *message, const struct kt_command *command, size_t engine)
{
    struct kv_session *session = kt_conn_state(conn);
    struct kt_kv_params params = {.database = message->database, .collection = message->collection};
    struct kt_request *request;
    const char *problem;
    char text[64];
    enum kt_code code;

    if (!session->principal) {
        kv_answer(conn, KV_STATUS_UNAUTHORIZED, kt_slice(NULL, 0));
        return;
    }
    code = kt_kv_collection_check(message->database, message->collection);
    if (code != KT_OK) {
        kv_answer(conn, kv_error_row(code).status, kt_slice(NULL, 0));
        return;
    }
    problem = read_payload(message->id, message->payload, &params, text);
    if (problem) {
        kv_answer_text(conn, KV_STATUS_BAD_REQUEST, problem);
        return;
    }
    request = kt_request_create(kt_conn_dispatch(conn));
    request->command = command;
    request->engine = engine;
    request->principal = session->principal;
    request->lane = kt_conn_lane(conn);
    request->done = command_done;
    request->counted =
        kt_metrics_find(kt_dispatch_metrics(request->dispatch), kt_proto_kv.name, kt_slice_text(command->name));
    keep(&params, &request->arena);
    request->params = kt_arena_alloc(&request->arena, sizeof(params));
    memcpy(request->params, &params, sizeof(params));
    request->data = kt_answer_begin(conn);
    kt_dispatch_submit(request->dispatch, request);
}

static void receive(struct kt_conn *conn, const struct kv_message *message)
{
    static const uint8_t versions[] = {1, 1}; /* how many, and which */
    const struct kv_session *session = kt_conn_state(conn);
    const struct kt_command *command;
    char text[48];
    size_t engine;

    switch (message->id) {
    case KV_COMMAND_PING:
        kv_answer_text(conn, session->success_code, "pong");
        return;
    case KV_COMMAND_VERSIONS:
        kv_answer(conn, session->success_code, kt_slice(versions, sizeof(versions)));
        return;
    case KV_COMMAND_LOGIN:
        kv_login(conn, message->payload);
        return;
    case KV_COMMAND_AUTH_STATUS:
        kv_answer(conn, session->login ? session->success_code : (uint16_t)KV_STATUS_UNAUTHORIZED, kt_slice(NULL, 0));
        return;
    default:
        break;
    }
    command = kt_command_by_kv(REVISION, message->id, &engine);
    if (command) {
        run(conn, message, command, engine);
        return;
    }
    snprintf(text, sizeof(text), "command with ID %u not found", (unsigned)message->id);
    kv_answer_text(conn, KV_STATUS_UNKNOWN_COMMAND, text);
}

static enum kt_code session_take(struct kt_conn *conn, struct kt_slice bytes, size_t *used)
{
    struct kv_message message;
    const char *problem = NULL;
    enum kt_code code = kv_split(bytes, &message, &problem);

    *used = message.used;
    if (code == KT_MORE)
        return code;
    if (code == KT_OK) {
        receive(conn, &message);
        return code;
    }
    kv_answer_text(conn, KV_STATUS_MALFORMED, problem);
    return code == KT_BAD_REQUEST ? KT_OK : code;
}

static const char *command_name(const struct kt_command *command)
{
    return command->wire.kv_a ? command->name : NULL;
}

const struct kt_protocol kt_proto_kv = {
    .name = "kv",
    .command_name = command_name,
    .conn_size = sizeof(struct kv_session),
    .frame_bytes_max = KV_LENGTH_BYTES + KV_FRAME_MAX,
    .check = session_check,
    .open = session_open,
    .take = session_take,
};
