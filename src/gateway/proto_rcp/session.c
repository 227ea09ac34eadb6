/*
 * One RCP session: the order of checks is envelope, operation, HELLO, authentication, parameters, and then the
 * operation itself (rstmdb.md 3.1). PING and BYE need nothing before them. Session operations are answered here; all
 * others are commands of an engine, found by name.
 */
#include "gateway/proto_rcp/rcp_internal.h"

#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/random.h"
#include "dispatch/metrics.h"
#include "engines/rcp_error.h"
#include "kontiki/version.h"

/* A request is answered on the spot or becomes a command; its JSON tree lives no longer than this. */
struct rcp_session {
    const struct kt_principal *principal; /* NULL until AUTH, where that is required */
    enum kt_level level;
    bool greeted;
    bool lines;                         /* negotiated: what is not the answer to a message comes as lines */
    size_t scanned;                     /* rcp_split's */
    uint64_t trace_prefix, trace_count; /* of generated trace ids */
    struct rcp_watches watches;
};

/* What the answer to a command needs; in the request's arena. */
struct pending {
    struct kt_answer *answer;
    struct rcp_head head;
};

struct incoming {
    struct kt_conn *conn;
    struct rcp_session *session;
    struct rcp_head head;
    struct rcp_envelope envelope;
    struct kt_operation_metrics *counted; /* NULL until the operation is known */
    uint64_t began_us;
};

static void session_open(struct kt_conn *conn, const void *settings)
{
    struct rcp_session *session = kt_conn_state(conn);
    const struct kt_auth *auth = kt_dispatch_auth(kt_conn_dispatch(conn));

    (void)settings;
    session->principal = kt_auth_required(auth) ? NULL : kt_auth_local(auth);
    session->level = KT_LINEARIZABLE;
    rcp_watches_init(&session->watches, conn);
}

static void session_close(struct kt_conn *conn)
{
    struct rcp_session *session = kt_conn_state(conn);

    rcp_watches_close(&session->watches);
}

static void session_room(struct kt_conn *conn)
{
    struct rcp_session *session = kt_conn_state(conn);

    rcp_watches_room(&session->watches);
}

static struct rcp_meta meta_now(struct kt_dispatch *dispatch, kt_index wal_offset)
{
    struct rcp_meta meta = {.wall_ms = kt_clock_wall_ms(), .wal_offset = wal_offset};

    kt_dispatch_leader(dispatch, &meta.leads);
    return meta;
}

static struct kt_metrics *metrics_of(const struct incoming *in)
{
    return kt_dispatch_metrics(kt_conn_dispatch(in->conn));
}

/* Answers on the spot. */

static void answer_result(const struct incoming *in, struct kt_slice result)
{
    struct kt_answer *answer = kt_answer_begin(in->conn);
    struct rcp_meta meta = meta_now(kt_conn_dispatch(in->conn), 0);

    rcp_write_result(kt_answer_buf(answer), &in->head, &meta, result);
    kt_metrics_answered(in->counted, false, in->began_us);
    kt_answer_ready(answer);
}

static void answer_failure(const struct incoming *in, enum kt_code code, const char *message, struct kt_slice details)
{
    struct kt_answer *answer = kt_answer_begin(in->conn);
    struct rcp_meta meta = meta_now(kt_conn_dispatch(in->conn), 0);
    struct kt_rcp_error row = kt_rcp_error(code);
    struct rcp_failure failure = {.code = row.code, .message = message, .retryable = row.retryable, .details = details};

    rcp_write_failure(kt_answer_buf(answer), &in->head, &meta, &failure);
    kt_metrics_answered(in->counted, true, in->began_us);
    kt_metrics_error(metrics_of(in), kt_proto_rcp.name, row.code, 1);
    kt_answer_ready(answer);
}

static void answer_error(const struct incoming *in, const struct kt_error *error)
{
    answer_failure(in, error->code, error->text, kt_slice(NULL, 0));
}

static void answer_bad_field(const struct incoming *in, const char *field, const char *what)
{
    char message[160], details[80];

    if (what)
        snprintf(message, sizeof(message), "field '%s' %s", field, what);
    else
        snprintf(message, sizeof(message), "missing field '%s'", field);
    snprintf(details, sizeof(details), "{\"field\":\"%s\"}", field);
    answer_failure(in, KT_BAD_REQUEST, message, kt_slice_text(details));
}

/* Parameters of session operations; null is absent (rstmdb.md 2.5). */

static const struct kt_json *param(const struct incoming *in, const char *name)
{
    const struct kt_json *value = in->envelope.params ? kt_json_get(in->envelope.params, name) : NULL;

    return kt_json_is(value, KT_JSON_NULL) ? NULL : value;
}

/* Absent, or of the kind; otherwise it is answered and false. */
static bool param_is(const struct incoming *in, const char *name, enum kt_json_kind kind, const char *what)
{
    const struct kt_json *value = param(in, name);

    if (!value || kt_json_is(value, kind))
        return true;
    answer_bad_field(in, name, what);
    return false;
}

static bool param_is_texts(const struct incoming *in, const char *name)
{
    const struct kt_json *value = param(in, name);

    if (!param_is(in, name, KT_JSON_ARRAY, "must be an array of strings"))
        return false;
    for (const struct kt_json *item = value ? kt_json_first(value) : NULL; item; item = kt_json_next(item)) {
        if (!kt_json_is(item, KT_JSON_STRING)) {
            answer_bad_field(in, name, "must be an array of strings");
            return false;
        }
    }
    return true;
}

static bool texts_have(const struct kt_json *array, const char *text)
{
    for (const struct kt_json *item = array ? kt_json_first(array) : NULL; item; item = kt_json_next(item)) {
        if (kt_slice_is(kt_json_string(item), text))
            return true;
    }
    return false;
}

/* Our extension: how fresh a read must be, per session (HELLO) or per request. */
static bool read_level(const struct incoming *in, enum kt_level *level)
{
    const struct kt_json *value = param(in, "consistency");

    if (!value)
        return true;
    if (kt_json_is(value, KT_JSON_STRING) && kt_slice_is(kt_json_string(value), "linearizable")) {
        *level = KT_LINEARIZABLE;
        return true;
    }
    if (kt_json_is(value, KT_JSON_STRING) && kt_slice_is(kt_json_string(value), "stale")) {
        *level = KT_STALE_READ;
        return true;
    }
    answer_bad_field(in, "consistency", "must be \"linearizable\" or \"stale\"");
    return false;
}

/* Session operations. */

static void put_limits(struct kt_json_writer *writer)
{
    kt_json_put_key(writer, "limits");
    kt_json_begin_object(writer);
    kt_json_put_u64_member(writer, "max_frame_size", RCP_PAYLOAD_MAX);
    kt_json_put_u64_member(writer, "max_instances_per_list", RCP_LIST_MAX);
    kt_json_put_u64_member(writer, "max_subscriptions", RCP_SUBSCRIPTIONS);
    kt_json_end_object(writer);
}

static void hello_result(const struct incoming *in)
{
    const struct kt_rcp_settings *settings = kt_conn_settings(in->conn);
    struct kt_json_writer writer;
    struct kt_buf result;

    kt_buf_init(&result, 4096);
    kt_json_writer_init(&writer, &result);
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "protocol_version", 1);
    kt_json_put_text_member(&writer, "wire_mode", in->session->lines ? "jsonl" : "binary_json");
    kt_json_put_text_member(&writer, "server_name", "kontiki");
    kt_json_put_text_member(&writer, "server_version", KT_VERSION);
    kt_json_put_bool_member(&writer, "auth_required", kt_auth_required(kt_dispatch_auth(kt_conn_dispatch(in->conn))));
    rcp_put_features(&writer, settings && settings->tls);
    put_limits(&writer);
    kt_json_end_object(&writer);
    answer_result(in, kt_buf_slice(&result));
    kt_buf_release(&result);
}

static bool hello_version(const struct incoming *in)
{
    const struct kt_json *value = param(in, "protocol_version");
    char message[96], details[96], number[24];
    int64_t i64 = 0;
    uint64_t u64 = 0;

    if (!value) {
        answer_bad_field(in, "protocol_version", NULL);
        return false;
    }
    if (kt_json_i64(value, &i64))
        snprintf(number, sizeof(number), "%lld", (long long)i64);
    else if (kt_json_u64(value, &u64))
        snprintf(number, sizeof(number), "%llu", (unsigned long long)u64);
    else {
        answer_bad_field(in, "protocol_version", "must be an integer");
        return false;
    }
    if (i64 == 1)
        return true;
    snprintf(message, sizeof(message), "protocol version %s is not supported, only 1 is", number);
    snprintf(details, sizeof(details), "{\"requested\":%s,\"supported\":[1]}", number);
    answer_failure(in, KT_BAD_VERSION, message, kt_slice_text(details));
    return false;
}

static void hello(struct incoming *in)
{
    enum kt_level level = KT_LINEARIZABLE;
    const struct kt_json *modes;

    if (!hello_version(in))
        return;
    if (!param_is(in, "client_name", KT_JSON_STRING, "must be a string") ||
        !param_is(in, "client_version", KT_JSON_STRING, "must be a string") || !param_is_texts(in, "wire_modes") ||
        !param_is_texts(in, "features") || !read_level(in, &level))
        return;
    /* Frames wherever they are offered: clients that offer both expect them (rstmdb.md 1.6, C31). */
    modes = param(in, "wire_modes");
    in->session->lines = texts_have(modes, "jsonl") && !texts_have(modes, "binary_json");
    in->session->watches.lines = in->session->lines;
    in->session->level = level;
    in->session->greeted = true;
    hello_result(in);
}

static void put_permission(struct kt_json_writer *writer, unsigned permissions, unsigned one, const char *name)
{
    if (permissions & one)
        kt_json_put_text(writer, name);
}

static void auth_result(const struct incoming *in, const struct kt_principal *principal)
{
    struct kt_json_writer writer;
    struct kt_buf result;

    kt_buf_init(&result, 256);
    kt_json_writer_init(&writer, &result);
    kt_json_begin_object(&writer);
    kt_json_put_bool_member(&writer, "authenticated", true);
    kt_json_put_key(&writer, "permissions");
    kt_json_begin_array(&writer);
    put_permission(&writer, principal->permissions, KT_PERMISSION_READ, "read");
    put_permission(&writer, principal->permissions, KT_PERMISSION_WRITE, "write");
    put_permission(&writer, principal->permissions, KT_PERMISSION_ADMIN, "admin");
    kt_json_end_array(&writer);
    kt_json_end_object(&writer);
    answer_result(in, kt_buf_slice(&result));
    kt_buf_release(&result);
}

static void auth(struct incoming *in)
{
    const struct kt_json *method = param(in, "method");
    const struct kt_json *token = param(in, "token");
    const struct kt_principal *principal;

    if (!param_is(in, "method", KT_JSON_STRING, "must be a string") ||
        !param_is(in, "token", KT_JSON_STRING, "must be a string"))
        return;
    if (method && !kt_slice_is(kt_json_string(method), "bearer")) {
        answer_failure(in, KT_BAD_CREDENTIALS, "authentication failed: only method 'bearer' is supported",
                       kt_slice(NULL, 0));
        return;
    }
    if (!token) {
        answer_bad_field(in, "token", NULL);
        return;
    }
    principal = kt_auth_bearer(kt_dispatch_auth(kt_conn_dispatch(in->conn)), kt_json_string(token));
    if (!principal) {
        /* An earlier successful AUTH stays (rstmdb.md 3.1). */
        answer_failure(in, KT_BAD_CREDENTIALS, "authentication failed: invalid token", kt_slice(NULL, 0));
        return;
    }
    in->session->principal = principal;
    auth_result(in, principal);
}

/* Commands. */

/* A watch's answer gets the id of what it begins; NULL for any other answer. */
static struct subscription *begin_subscription(struct kt_request *request)
{
    struct pending *pending = request->data;
    struct kt_conn *conn = kt_answer_conn(pending->answer);
    struct rcp_session *session;

    if (!request->command->watches || !conn)
        return NULL;
    session = kt_conn_state(conn);
    if (request->reply.code == KT_OK)
        return rcp_watches_answer(&session->watches, &request->reply.body);
    rcp_watches_fail(&session->watches);
    return NULL;
}

static void command_done(struct kt_request *request)
{
    struct pending *pending = request->data;
    struct kt_buf *out = kt_answer_buf(pending->answer);
    struct subscription *subscription = begin_subscription(request);

    kt_metrics_answered(request->counted, request->reply.code != KT_OK, request->began_us);
    if (request->reply.code != KT_OK)
        kt_metrics_error(kt_dispatch_metrics(request->dispatch), kt_proto_rcp.name,
                         kt_rcp_error(request->reply.code).code, 1);
    /* A client that is gone is not written to; its answer still has to come back to the gateway. */
    if (kt_answer_conn(pending->answer)) {
        struct rcp_meta meta = meta_now(request->dispatch, request->reply.offset);

        if (request->reply.code == KT_OK) {
            rcp_write_result(out, &pending->head, &meta, kt_buf_slice(&request->reply.body));
        } else {
            struct rcp_failure failure;

            rcp_failure_of(&request->reply, kt_dispatch_leader(request->dispatch, NULL), &request->arena, &failure);
            rcp_write_failure(out, &pending->head, &meta, &failure);
        }
    }
    kt_answer_ready(pending->answer);
    if (subscription)
        rcp_watches_open(subscription, request);
    kt_request_free(request);
}

static struct kt_request *request_create(const struct incoming *in, const struct kt_command *command, size_t engine)
{
    struct kt_request *request = kt_request_create(kt_conn_dispatch(in->conn));

    request->command = command;
    request->engine = engine;
    request->principal = in->session->principal;
    request->level = in->session->level;
    request->counted = in->counted;
    request->began_us = in->began_us;
    request->lane = kt_conn_lane(in->conn);
    request->done = command_done;
    return request;
}

static void submit(const struct incoming *in, struct kt_request *request)
{
    struct pending *pending = kt_arena_alloc(&request->arena, sizeof(*pending));

    pending->head.encoding = in->head.encoding;
    pending->head.id = kt_arena_dup(&request->arena, in->head.id);
    pending->head.trace = kt_arena_dup(&request->arena, in->head.trace);
    pending->answer = kt_answer_begin(in->conn);
    request->data = pending;
    kt_dispatch_submit(request->dispatch, request);
}

static void info(struct incoming *in)
{
    struct kt_request *request = request_create(in, &rcp_info, 0);

    if (!read_level(in, &request->level)) {
        kt_request_free(request);
        return;
    }
    request->params = rcp_info_params(in->conn, &request->arena);
    submit(in, request);
}

static void wal_stats(struct incoming *in)
{
    struct kt_request *request = request_create(in, &rcp_wal_stats, 0);

    if (!read_level(in, &request->level)) {
        kt_request_free(request);
        return;
    }
    request->params = rcp_wal_stats_params(in->conn, &request->arena);
    submit(in, request);
}

static void unwatch(struct incoming *in)
{
    const struct kt_json *id = param(in, "subscription_id");
    struct kt_json_writer writer;
    struct kt_buf result;

    if (!id) {
        answer_bad_field(in, "subscription_id", NULL);
        return;
    }
    if (!param_is(in, "subscription_id", KT_JSON_STRING, "must be a string"))
        return;
    kt_buf_init(&result, RCP_PAYLOAD_MAX);
    kt_json_writer_init(&writer, &result);
    kt_json_begin_object(&writer);
    kt_json_put_bool_member(&writer, "removed", rcp_watches_remove(&in->session->watches, kt_json_string(id)));
    kt_json_put_string_member(&writer, "subscription_id", kt_json_string(id));
    kt_json_end_object(&writer);
    answer_result(in, kt_buf_slice(&result));
    kt_buf_release(&result);
}

static void command(struct incoming *in, const struct kt_command *declared, size_t engine)
{
    struct kt_request *request = request_create(in, declared, engine);
    struct kt_error error;

    if (!read_level(in, &request->level)) {
        kt_request_free(request);
        return;
    }
    request->params = kt_arena_zalloc(&request->arena, KT_MAX(declared->params.size, sizeof(uint64_t)));
    if (kt_struct_from_json(&declared->params, in->envelope.params, &request->arena, request->params, &error) !=
        KT_OK) {
        kt_request_free(request);
        answer_error(in, &error);
        return;
    }
    if (declared->watches && !rcp_watches_begin(&in->session->watches)) {
        kt_request_free(request);
        answer_failure(in, KT_BAD_REQUEST, "this session has too many subscriptions",
                       kt_slice_text("{\"max_subscriptions\":100}"));
        return;
    }
    submit(in, request);
}

/* Operations of the session itself, and what must have happened before each. */
enum needs { NEEDS_NOTHING, NEEDS_HELLO, NEEDS_AUTH };

static void ping(struct incoming *in)
{
    answer_result(in, kt_slice_text("{\"pong\":true}"));
}

static void bye(struct incoming *in)
{
    rcp_watches_close(&in->session->watches);
    answer_result(in, kt_slice_text("{\"goodbye\":true}"));
    kt_conn_finish(in->conn);
}

static const struct {
    const char *op;
    enum needs needs;
    void (*run)(struct incoming *in);
} session_ops[] = {
    {"PING", NEEDS_NOTHING, ping},        {"HELLO", NEEDS_NOTHING, hello}, {"BYE", NEEDS_NOTHING, bye},
    {"AUTH", NEEDS_HELLO, auth},          {"INFO", NEEDS_AUTH, info},      {"UNWATCH", NEEDS_AUTH, unwatch},
    {"WAL_STATS", NEEDS_AUTH, wal_stats},
};

/* false: it is answered already. */
static bool may_run(const struct incoming *in, enum needs needs)
{
    if (needs >= NEEDS_HELLO && !in->session->greeted) {
        answer_failure(in, KT_BAD_REQUEST, "HELLO must be the first operation", kt_slice(NULL, 0));
        return false;
    }
    if (needs >= NEEDS_AUTH && !in->session->principal) {
        answer_failure(in, KT_UNAUTHENTICATED, "authentication required", kt_slice(NULL, 0));
        return false;
    }
    return true;
}

static void run(struct incoming *in)
{
    struct kt_slice op = in->envelope.op;
    const struct kt_command *declared;
    struct kt_error error;
    size_t engine = 0;

    in->counted = kt_metrics_find(metrics_of(in), kt_proto_rcp.name, op);
    for (size_t i = 0; i < KT_COUNT(session_ops); i++) {
        if (kt_slice_is(op, session_ops[i].op)) {
            if (may_run(in, session_ops[i].needs))
                session_ops[i].run(in);
            return;
        }
    }
    declared = kt_command_by_rcp(op, &engine);
    if (!declared) {
        kt_error_set(&error, KT_UNKNOWN_COMMAND, "unknown operation '%.*s'", (int)KT_MIN(op.len, (size_t)64),
                     (const char *)op.data);
        answer_error(in, &error);
        return;
    }
    if (may_run(in, NEEDS_AUTH))
        command(in, declared, engine);
}

/* Generated ids: a random number per session and a counter are unique enough to find a request by, and cost nothing. */
static struct kt_slice next_trace(struct rcp_session *session, char text[40])
{
    int len;

    if (session->trace_prefix == 0)
        session->trace_prefix = kt_random_system() | 1;
    len = snprintf(text, 40, "%016llx-%llu", (unsigned long long)session->trace_prefix,
                   (unsigned long long)++session->trace_count);
    return kt_slice(text, (size_t)len);
}

/* KT_OK, or a code after which nothing more can be read. */
static enum kt_code receive(struct incoming *in, struct kt_slice payload)
{
    struct kt_json *json = NULL;
    struct kt_error error;
    struct kt_buf id;
    char trace[40];
    enum kt_code code;

    in->head.trace = next_trace(in->session, trace);
    code = kt_json_parse(payload, &json, &error);
    if (code != KT_OK) {
        error.code = KT_BAD_REQUEST;
        answer_error(in, &error);
        return KT_BAD_FRAME;
    }
    kt_buf_init(&id, 6 * RCP_ID_BYTES_MAX + 2); /* every byte of it escaped */
    code = rcp_envelope_read(json, &in->envelope, &id, &error);
    in->head.id = kt_buf_slice(&id);
    if (in->envelope.trace.len > 0)
        in->head.trace = in->envelope.trace;
    if (code == KT_OK)
        run(in);
    else
        answer_error(in, &error);
    kt_buf_release(&id);
    kt_json_free(json);
    return KT_OK;
}

static enum kt_code session_take(struct kt_conn *conn, struct kt_slice bytes, size_t *used)
{
    struct rcp_session *session = kt_conn_state(conn);
    struct incoming in = {.conn = conn, .session = session, .began_us = kt_clock_us()};
    struct rcp_message message;
    struct kt_error error;
    enum kt_code code;
    char trace[40];

    code = rcp_split(bytes, session->lines ? RCP_LINE : RCP_FRAME, &session->scanned, &message, &error);
    if (code == KT_MORE)
        return code;
    in.head.encoding = message.encoding;
    if (code != KT_OK) {
        in.head.trace = next_trace(session, trace);
        answer_error(&in, &error);
        return code;
    }
    *used = message.used;
    if (message.encoding == RCP_LINE && message.payload.len == 0)
        return KT_OK;
    return receive(&in, message.payload);
}

static const char *command_name(const struct kt_command *command)
{
    return command->wire.rcp;
}

/* Those of session_ops. */
static const char *const operations[] = {"HELLO", "AUTH", "PING", "BYE", "INFO", "UNWATCH", "WAL_STATS", NULL};
_Static_assert(KT_COUNT(operations) == KT_COUNT(session_ops) + 1, "every session operation is counted");

/* All that an answer may have (rstmdb.md 2.4). */
static const char *const errors[] = {
    "UNSUPPORTED_PROTOCOL",
    "BAD_REQUEST",
    "UNAUTHORIZED",
    "AUTH_FAILED",
    "NOT_FOUND",
    "MACHINE_NOT_FOUND",
    "MACHINE_VERSION_EXISTS",
    "MACHINE_VERSION_LIMIT_EXCEEDED",
    "INSTANCE_NOT_FOUND",
    "INSTANCE_EXISTS",
    "INVALID_TRANSITION",
    "GUARD_FAILED",
    "CONFLICT",
    "WAL_IO_ERROR",
    "INTERNAL_ERROR",
    "RATE_LIMITED",
    NULL,
};

const struct kt_protocol kt_proto_rcp = {
    .name = "rcp",
    .operations = operations,
    .errors = errors,
    .command_name = command_name,
    .conn_size = sizeof(struct rcp_session),
    .frame_bytes_max = RCP_HEADER_BYTES + RCP_EXTENSION_MAX + RCP_PAYLOAD_MAX,
    .open = session_open,
    .close = session_close,
    .take = session_take,
    .room = session_room,
};
