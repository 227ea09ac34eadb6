/* RCP sessions on a whole node: order of checks, session operations, commands and what an answer carries. */
#include "gateway/proto_rcp/rcp_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "gateway/conn_memory.h"
#include "kontiki/version.h"
#include "support/one_node.h"
#include "wire/writer.h"

#define TOKEN_HASH "EA5ADD57437CBF20AF59034D7ED17968DCC56767B41965FCC5B376D45DB8B4A3" /* of "my-secret-token" */
#define HELLO      "{\"id\":\"h\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1}}"

static const char *const hashes[] = {TOKEN_HASH};
static const struct kt_auth_options with_token = {.required = true, .token_hashes = hashes, .token_hash_count = 1};

struct fixture {
    struct one_node node;
    struct kt_buf out;
    struct kt_conn *conn;
    kt_index offset; /* of the last answer's meta; 0: it had none */
};

static void fixture_open(struct fixture *f, const struct kt_auth_options *auth)
{
    one_node_open(&f->node, auth, 0, 0);
    kt_buf_init(&f->out, 64u << 20);
    f->conn = kt_conn_memory_open(f->node.dispatch, &kt_proto_rcp, NULL, &f->out);
}

static void fixture_close(struct fixture *f)
{
    kt_conn_memory_close(f->conn);
    one_node_close(&f->node);
    kt_buf_release(&f->out);
}

static void feed(struct fixture *f, const char *line)
{
    kt_conn_memory_feed(f->conn, kt_slice_text(line));
    kt_conn_memory_feed(f->conn, kt_slice_text("\n"));
}

/* Checks the meta that every answer carries, and notes its offset. */
static void check_meta(struct fixture *f, const struct kt_json *response)
{
    const struct kt_json *meta = kt_json_get(response, "meta");
    struct kt_slice time = kt_json_string(kt_json_get(meta, "server_time"));

    assert_int_equal(time.len, 24);
    assert_memory_equal((const char *)time.data + 10, "T", 1);
    assert_true(kt_json_is(kt_json_get(meta, "leader"), KT_JSON_BOOL));
    assert_true(kt_json_bool(kt_json_get(meta, "leader")));
    assert_true(kt_json_string(kt_json_get(meta, "trace_id")).len > 0);
    f->offset = 0;
    if (kt_json_get(meta, "wal_offset"))
        assert_true(kt_json_u64(kt_json_get(meta, "wal_offset"), &f->offset));
}

/*
 * Sends a line and waits for its answer, which must be the expected text up to its meta. An expected text that ends
 * with
 * "..." is a beginning.
 */
static void ask(struct fixture *f, const char *line, const char *expected)
{
    struct kt_json *response;
    struct kt_error error;
    const char *meta;
    size_t len = strlen(expected);
    char *text;

    kt_buf_clear(&f->out);
    feed(f, line);
    one_node_until(&f->node, kt_conn_memory_pending(f->conn) == 0);
    assert_true(f->out.len > 0);
    text = kt_slice_dup_text(kt_buf_slice(&f->out));
    if (kt_json_parse(kt_buf_slice(&f->out), &response, &error) != KT_OK)
        fail_msg("%s: %s", error.text, text);
    check_meta(f, response);
    meta = strstr(text, ",\"meta\":{");
    assert_non_null(meta);
    if (len > 3 && strcmp(expected + len - 3, "...") == 0)
        len -= 3;
    else if ((size_t)(meta - text) != len)
        fail_msg("got %s\nexpected %s", text, expected);
    if (strncmp(text, expected, len) != 0)
        fail_msg("got %s\nexpected %s", text, expected);
    assert_null(strstr(text, "connection "));
    kt_json_free(response);
    kt_free(text);
}

static void assert_has(const struct fixture *f, const char *part)
{
    if (!memmem(f->out.data, f->out.len, part, strlen(part)))
        fail_msg("got %.*s without %s", (int)f->out.len, (const char *)f->out.data, part);
}

#define OK(id, result)     "{\"type\":\"response\",\"id\":" id ",\"status\":\"ok\",\"result\":" result
#define ERROR(id, members) "{\"type\":\"response\",\"id\":" id ",\"status\":\"error\",\"error\":{" members "}"
#define BAD(id, message)   ERROR(id, "\"code\":\"BAD_REQUEST\",\"message\":\"" message "\",\"retryable\":false")
#define BAD_FIELD(id, message, field)                                                                                  \
    ERROR(id, "\"code\":\"BAD_REQUEST\",\"message\":\"" message                                                        \
              "\",\"retryable\":false,\"details\":{\"field\":\"" field "\"}")
#define ERROR_BEGINS(id, code)                                                                                         \
    "{\"type\":\"response\",\"id\":" id ",\"status\":\"error\",\"error\":{\"code\":\"" code "\"..."
#define AUTH_FAILED(id)                                                                                                \
    ERROR(id, "\"code\":\"AUTH_FAILED\",\"message\":\"authentication failed: invalid token\",\"retryable\":false")
#define DENIED(id) ERROR(id, "\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\",\"retryable\":false")

static void session__before_hello__allows_ping_and_refuses_the_rest(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, "{\"op\":\"PING\"}", OK("\"\"", "{\"pong\":true}"));
    ask(&f, "{\"id\":\"1\",\"op\":\"INFO\"}", BAD("\"1\"", "HELLO must be the first operation"));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\",\"params\":{\"token\":\"x\"}}",
        BAD("\"1\"", "HELLO must be the first operation"));
    ask(&f, "{\"id\":\"1\",\"op\":\"WATCH_ALL\"}", BAD("\"1\"", "HELLO must be the first operation"));
    ask(&f, "{\"id\":\"1\",\"op\":\"LIST_MACHINES\"}", BAD("\"1\"", "HELLO must be the first operation"));
    ask(&f, "{\"id\":\"1\",\"op\":\"NOPE\"}", BAD("\"1\"", "unknown operation 'NOPE'"));
    ask(&f, "{\"id\":2,\"op\":\"PING\",\"params\":null}", OK("2", "{\"pong\":true}"));
    assert_false(kt_conn_memory_finished(f.conn));
    fixture_close(&f);
}

static void hello__every_form__is_answered_with_the_union(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f,
        "{\"type\":\"request\",\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"client_name\":null,"
        "\"wire_modes\":[\"binary_json\"],\"features\":[\"idempotency\",\"batch\"]}}",
        OK("\"1\"", "{\"protocol_version\":1,\"wire_mode\":\"binary_json\",\"server_name\":\"kontiki\","
                    "\"server_version\":\"" KT_VERSION "\",\"auth_required\":false,\"features\":[..."));
    assert_has(&f, "\"limits\":{\"max_frame_size\":16777216,\"max_instances_per_list\":"
                   "1000,\"max_subscriptions\":100}}");
    ask(&f, "{\"id\":\"2\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"wire_modes\":[\"jsonl\"]}}",
        OK("\"2\"", "{\"protocol_version\":1,\"wire_mode\":\"jsonl\"..."));
    ask(&f,
        "{\"id\":\"3\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"wire_modes\":[\"jsonl\",\"binary_json\"]}"
        "}",
        OK("\"3\"", "{\"protocol_version\":1,\"wire_mode\":\"binary_json\"..."));
    ask(&f, "{\"id\":\"4\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"wire_mode\":\"jsonl\"}}",
        OK("\"4\"", "{\"protocol_version\":1,\"wire_mode\":\"binary_json\"..."));
    fixture_close(&f);
}

static void hello__wrong__is_refused_and_does_not_greet(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, "{\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":2}}",
        ERROR("\"1\"", "\"code\":\"UNSUPPORTED_PROTOCOL\",\"message\":\"protocol version 2 is not supported, only 1 "
                       "is\",\"retryable\":false,\"details\":{\"requested\":2,\"supported\":[1]}"));
    ask(&f, "{\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":18446744073709551615}}",
        ERROR("\"1\"", "\"code\":\"UNSUPPORTED_PROTOCOL\",\"message\":\"protocol version 18446744073709551615 is not "
                       "supported, only 1 is\",\"retryable\":false,\"details\":{\"requested\":18446744073709551615,"
                       "\"supported\":[1]}"));
    ask(&f, "{\"id\":\"1\",\"op\":\"HELLO\"}",
        BAD_FIELD("\"1\"", "missing field 'protocol_version'", "protocol_version"));
    ask(&f, "{\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1.0}}",
        BAD_FIELD("\"1\"", "field 'protocol_version' must be an integer", "protocol_version"));
    ask(&f, "{\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"wire_modes\":\"jsonl\"}}",
        BAD_FIELD("\"1\"", "field 'wire_modes' must be an array of strings", "wire_modes"));
    ask(&f, "{\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"features\":[1]}}",
        BAD_FIELD("\"1\"", "field 'features' must be an array of strings", "features"));
    ask(&f, "{\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"client_name\":7}}",
        BAD_FIELD("\"1\"", "field 'client_name' must be a string", "client_name"));
    ask(&f, "{\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"consistency\":\"eventual\"}}",
        BAD_FIELD("\"1\"", "field 'consistency' must be \\\"linearizable\\\" or \\\"stale\\\"", "consistency"));
    ask(&f, "{\"id\":\"1\",\"op\":\"INFO\"}", BAD("\"1\"", "HELLO must be the first operation"));
    fixture_close(&f);
}

static void auth__required__guards_every_operation_but_three(void **state)
{
    static const char *const guarded[] = {
        "INFO",      "PUT_MACHINE", "LIST_INSTANCES",    "APPLY_EVENT", "BATCH",   "WATCH_INSTANCE",
        "WATCH_ALL", "UNWATCH",     "SNAPSHOT_INSTANCE", "WAL_READ",    "COMPACT", "FLUSH_ALL",
    };
    struct fixture f;

    (void)state;
    fixture_open(&f, &with_token);
    ask(&f, HELLO, OK("\"h\"", "{..."));
    assert_has(&f, "\"auth_required\":true");
    for (size_t i = 0; i < KT_COUNT(guarded); i++) {
        char line[96];

        snprintf(line, sizeof(line), "{\"id\":\"1\",\"op\":\"%s\"}", guarded[i]);
        ask(&f, line, DENIED("\"1\""));
    }
    ask(&f, "{\"id\":\"1\",\"op\":\"PING\"}", OK("\"1\"", "{\"pong\":true}"));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\",\"params\":{\"token\":\"wrong\"}}",
        ERROR("\"1\"",
              "\"code\":\"AUTH_FAILED\",\"message\":\"authentication failed: invalid token\",\"retryable\":false"));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\",\"params\":{\"method\":\"basic\",\"token\":\"my-secret-token\"}}",
        ERROR("\"1\"", "\"code\":\"AUTH_FAILED\",\"message\":\"authentication failed: only method 'bearer' is "
                       "supported\",\"retryable\":false"));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\"}", BAD_FIELD("\"1\"", "missing field 'token'", "token"));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\",\"params\":{\"token\":5}}",
        BAD_FIELD("\"1\"", "field 'token' must be a string", "token"));
    ask(&f, "{\"id\":\"1\",\"op\":\"INFO\"}", DENIED("\"1\""));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\",\"params\":{\"token\":\"my-secret-token\"}}",
        OK("\"1\"", "{\"authenticated\":true,\"permissions\":[\"read\",\"write\",\"admin\"]}"));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\",\"params\":{\"token\":\"wrong\"}}", AUTH_FAILED("\"1\"")
        /* and the earlier one stays */);
    ask(&f, "{\"id\":\"1\",\"op\":\"INFO\"}", OK("\"1\"", "{..."));
    fixture_close(&f);
}

static void auth__not_required__takes_any_token_but_an_empty_one(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, HELLO, OK("\"h\"", "{..."));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\",\"params\":{\"token\":\"anything\"}}",
        OK("\"1\"", "{\"authenticated\":true,\"permissions\":[\"read\",\"write\",\"admin\"]}"));
    ask(&f, "{\"id\":\"1\",\"op\":\"AUTH\",\"params\":{\"token\":\"\"}}", AUTH_FAILED("\"1\""));
    fixture_close(&f);
}

static void info__on_a_fresh_node__has_the_union_of_members(void **state)
{
    struct kt_json *response;
    const struct kt_json *result, *stats, *config;
    struct kt_error error;
    struct fixture f;
    uint64_t number;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, HELLO, OK("\"h\"", "{..."));
    ask(&f, "{\"id\":\"1\",\"op\":\"INFO\",\"params\":{\"ignored\":1}}",
        OK("\"1\"", "{\"version\":\"" KT_VERSION "\"..."));
    assert_true(f.offset > 0);
    assert_int_equal(kt_json_parse(kt_buf_slice(&f.out), &response, &error), KT_OK);
    result = kt_json_get(response, "result");
    assert_true(kt_json_u64(kt_json_get(result, "protocol_version"), &number) && number == 1);
    assert_true(kt_json_u64(kt_json_get(result, "uptime_secs"), &number));
    assert_true(kt_json_is(kt_json_get(result, "features"), KT_JSON_ARRAY));
    assert_true(kt_slice_is(kt_json_string(kt_json_get(result, "server_version")), KT_VERSION));
    assert_true(kt_json_u64(kt_json_get(result, "max_frame_bytes"), &number) && number == 16777216);
    assert_true(kt_json_u64(kt_json_get(result, "max_batch_ops"), &number) && number == 100);
    stats = kt_json_get(result, "stats");
    assert_true(kt_json_u64(kt_json_get(stats, "connections"), &number) && number == 1);
    assert_true(kt_json_u64(kt_json_get(stats, "machines"), &number) && number == 0);
    assert_true(kt_json_u64(kt_json_get(stats, "instances"), &number) && number == 0);
    assert_true(kt_json_u64(kt_json_get(stats, "wal_offset"), &number) && number == f.offset);
    assert_true(kt_json_u64(kt_json_get(stats, "wal_size_bytes"), &number) && number > 0);
    config = kt_json_get(result, "config");
    assert_true(kt_json_is(kt_json_get(config, "auth_required"), KT_JSON_BOOL));
    assert_true(kt_json_u64(kt_json_get(config, "max_connections"), &number));
    assert_true(kt_slice_is(kt_json_string(kt_json_get(config, "fsync_policy")), "every_write"));
    kt_json_free(response);
    fixture_close(&f);
}

static void operation__unknown__is_refused_by_name_and_the_session_goes_on(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, HELLO, OK("\"h\"", "{..."));
    ask(&f, "{\"id\":\"1\",\"op\":\"put_machine\"}", BAD("\"1\"", "unknown operation 'put_machine'"));
    ask(&f, "{\"id\":\"1\",\"op\":\"\"}", BAD("\"1\"", "unknown operation ''"));
    assert_false(kt_conn_memory_finished(f.conn));
    fixture_close(&f);
}

static void bye__answered__ends_the_session_and_what_was_behind(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    feed(&f, "{\"id\":\"1\",\"op\":\"BYE\"}\n{\"id\":\"2\",\"op\":\"PING\"}");
    assert_true(kt_conn_memory_finished(f.conn));
    assert_has(&f, "\"goodbye\":true");
    assert_null(memmem(f.out.data, f.out.len, "pong", 4));
    fixture_close(&f);
}

static void message__that_cannot_be_read__is_answered_and_ends_the_session(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *code;
    } wrongs[] = {
        {"{\"op\":PING}\n", 12, "BAD_REQUEST"},
        {"{\"op\":\"\xff\"}\n", 11, "BAD_REQUEST"},
        {"{}}\n", 4, "BAD_REQUEST"},
        {"\x00", 1, "BAD_REQUEST"},
        {"RCP1", 4, "BAD_REQUEST"},
        {"RCPX\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 18, "BAD_REQUEST"},
        {"RCPX\x00\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 18, "UNSUPPORTED_PROTOCOL"},
        {"RCPX\x00\x01\x00\x11\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 18, "BAD_REQUEST"},
        {"RCPX\x00\x01\x00\x01\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00", 18, "BAD_REQUEST"},
        {"RCPX\x00\x01\x00\x01\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00{}", 20, "BAD_REQUEST"},
    };
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    for (size_t i = 0; i < KT_COUNT(wrongs); i++) {
        char expected[96];

        kt_conn_memory_close(f.conn);
        f.conn = kt_conn_memory_open(f.node.dispatch, &kt_proto_rcp, NULL, &f.out);
        kt_buf_clear(&f.out);
        kt_conn_memory_feed(f.conn, kt_slice_text("{\"id\":\"p\",\"op\":\"PING\"}\n"));
        kt_conn_memory_feed(f.conn, kt_slice(wrongs[i].bytes, wrongs[i].len));
        assert_true(kt_conn_memory_finished(f.conn));
        assert_has(&f, "pong");
        snprintf(expected, sizeof(expected), "\"id\":\"\",\"status\":\"error\",\"error\":{\"code\":\"%s\"",
                 wrongs[i].code);
        assert_non_null(memmem(f.out.data, f.out.len, expected, strlen(expected)));
    }
    fixture_close(&f);
}

static void message__with_a_wrong_member__is_refused_and_the_session_goes_on(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, " {\"id\":[],\"op\":\"PING\"}", BAD("\"\"", "field 'id' must be a string or an integer"));
    ask(&f, "{\"id\":\"7\"}", BAD("\"7\"", "missing field 'op'"));
    ask(&f, "{\"id\":\"7\",\"op\":\"PING\",\"params\":5}", BAD("\"7\"", "field 'params' must be an object"));
    kt_buf_clear(&f.out);
    feed(&f, "\r\n\n  ");
    assert_int_equal(f.out.len, 0);
    ask(&f, "{\"id\":\"7\",\"op\":\"PING\"}", OK("\"7\"", "{\"pong\":true}"));
    fixture_close(&f);
}

static void encoding__of_each_message__is_that_of_its_answer(void **state)
{
    static const char frame[] = "RCPX\x00\x01\x00\x00\x00\x00\x00\x00\x00\x0d\x00\x00\x00\x00{\"op\":\"PING\"}";
    struct rcp_message message;
    struct kt_error error;
    struct fixture f;
    size_t scanned = 0;

    (void)state;
    fixture_open(&f, NULL);
    kt_conn_memory_feed(f.conn, kt_slice(frame, sizeof(frame) - 1));
    kt_conn_memory_feed(f.conn, kt_slice_text("{\"op\":\"PING\"}\n"));
    kt_conn_memory_feed(f.conn, kt_slice(frame, sizeof(frame) - 1));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rcp_split(kt_buf_slice(&f.out), RCP_FRAME, &scanned, &message, &error), KT_OK);
        assert_int_equal(message.encoding, i == 1 ? RCP_LINE : RCP_FRAME);
        kt_buf_consume(&f.out, message.used);
    }
    assert_int_equal(f.out.len, 0);
    fixture_close(&f);
}

static void trace_id__given__comes_back(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, "{\"op\":\"PING\",\"meta\":{\"trace_id\":\"abc-123\"}}", OK("\"\"", "{\"pong\":true}"));
    assert_has(&f, "\"trace_id\":\"abc-123\"}");
    ask(&f, "{\"op\":\"PING\",\"trace_id\":\"x\\\"y\"}", OK("\"\"", "{\"pong\":true}"));
    assert_has(&f, "\"trace_id\":\"x\\\"y\"}");
    fixture_close(&f);
}

/* The published minimal conversation, as far as this version carries it out. */
static void conversation__published__is_answered_as_published(void **state)
{
    struct fixture f;
    kt_index created, applied;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, HELLO, OK("\"h\"", "{..."));
    ask(&f,
        "{\"type\":\"request\",\"id\":\"2\",\"op\":\"PUT_MACHINE\",\"params\":{\"machine\":\"door\",\"version\":1,"
        "\"definition\":{\"states\":[\"shut\",\"open\"],\"initial\":\"shut\",\"transitions\":[{\"from\":\"shut\","
        "\"event\":\"OPEN\",\"to\":\"open\",\"guard\":\"ctx.key\"},{\"from\":\"open\",\"event\":\"CLOSE\",\"to\":"
        "\"shut\"}]}}}",
        OK("\"2\"", "{\"created\":true,\"machine\":\"door\",\"stored_checksum\":\"d6840009\",\"version\":1}"));
    assert_true(f.offset > 0);
    ask(&f,
        "{\"id\":\"3\",\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"door\",\"version\":1,\"instance_id\":"
        "\"d1\"}}",
        OK("\"3\"", "{\"instance_id\":\"d1\",\"state\":\"shut\",\"wal_offset\":..."));
    created = f.offset;
    ask(&f,
        "{\"id\":\"5\",\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"d1\",\"event\":\"OPEN\",\"payload\":{"
        "\"key\":true}}}",
        ERROR("\"5\"", "\"code\":\"GUARD_FAILED\",\"message\":\"guard failed for transition 'shut' -> 'open' on event "
                       "'OPEN'\",\"retryable\":false,\"details\":{\"guard\":\"ctx.key\"}"));
    ask(&f, "{\"id\":\"6\",\"op\":\"DELETE_INSTANCE\",\"params\":{\"instance_id\":\"d1\"}}",
        OK("\"6\"", "{\"deleted\":true,\"instance_id\":\"d1\",\"wal_offset\":..."));
    assert_true(f.offset > created);
    ask(&f,
        "{\"id\":\"7\",\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"door\",\"version\":1,\"instance_id\":"
        "\"d1\",\"initial_ctx\":{\"key\":true},\"idempotency_key\":\"k1\"}}",
        OK("\"7\"", "{\"instance_id\":\"d1\",\"state\":\"shut\",\"wal_offset\":..."));
    ask(&f,
        "{\"id\":\"8\",\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"d1\",\"event\":\"OPEN\",\"event_id\":"
        "\"e-9\"}}",
        OK("\"8\"",
           "{\"applied\":true,\"ctx\":{\"key\":true},\"event_id\":\"e-9\",\"from_state\":\"shut\",\"to_state\":"
           "\"open\",\"wal_offset\":..."));
    applied = f.offset;
    ask(&f, "{\"id\":\"9\",\"op\":\"GET_INSTANCE\",\"params\":{\"instance_id\":\"d1\"}}", OK("\"9\"", "{..."));
    assert_has(&f, "\"state\":\"open\"");
    assert_true(f.offset >= applied);
    ask(&f, "{\"id\":\"9\",\"op\":\"GET_INSTANCE\",\"params\":{\"instance_id\":\"d1\",\"consistency\":\"stale\"}}",
        OK("\"9\"", "{..."));
    ask(&f, "{\"id\":\"9\",\"op\":\"LIST_INSTANCES\"}", OK("\"9\"", "{..."));
    assert_has(&f, "\"total\":1");
    ask(&f, "{\"id\":\"10\",\"op\":\"GET_INSTANCE\",\"params\":{\"instance_id\":\"none\"}}",
        ERROR_BEGINS("\"10\"", "INSTANCE_NOT_FOUND"));
    assert_has(&f, "not found");
    ask(&f, "{\"id\":\"11\",\"op\":\"GET_INSTANCE\",\"params\":{\"instance_id\":5}}",
        ERROR_BEGINS("\"11\"", "BAD_REQUEST"));
    ask(&f, "{\"id\":\"12\",\"op\":\"BYE\"}", OK("\"12\"", "{\"goodbye\":true}"));
    assert_true(kt_conn_memory_finished(f.conn));
    fixture_close(&f);
}

static void commands__pipelined__are_answered_in_order_and_see_each_other(void **state)
{
    struct fixture f;
    struct kt_buf all;
    const int events = 200;
    unsigned found = 0;
    const char *at;

    (void)state;
    fixture_open(&f, NULL);
    kt_buf_init(&all, 1u << 20);
    kt_buf_append_text(
        &all,
        HELLO "\n{\"op\":\"PUT_MACHINE\",\"params\":{\"machine\":\"m\",\"version\":1,\"definition\":{\"states\":["
              "\"a\",\"b\"],\"initial\":\"a\",\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\"},{"
              "\"from\":\"b\",\"event\":\"E\",\"to\":\"a\"}]}}}\n"
              "{\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"m\",\"version\":1,\"instance_id\":\"i\"}}\n");
    for (int i = 0; i < events; i++) {
        kt_buf_printf(
            &all, "{\"id\":\"%d\",\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"i\",\"event\":\"E\"}}\n", 2 * i);
        kt_buf_printf(&all, "{\"id\":\"%d\",\"op\":\"GET_INSTANCE\",\"params\":{\"instance_id\":\"i\"}}\n", 2 * i + 1);
    }
    kt_conn_memory_feed(f.conn, kt_buf_slice(&all));
    one_node_until(&f.node, kt_conn_memory_pending(f.conn) == 0);
    kt_buf_append_u8(&f.out, 0);
    at = (const char *)f.out.data;
    for (int i = 0; i < 2 * events; i++) {
        char id[64];
        const char *end;

        snprintf(id, sizeof(id), "\"id\":\"%d\",\"status\":\"ok\"", i);
        at = strstr(at, id);
        assert_non_null(at);
        end = strchr(at, '\n');
        if (i % 2 == 1) {
            const char *state_member = strstr(at, i / 2 % 2 == 0 ? "\"state\":\"b\"" : "\"state\":\"a\"");

            assert_true(state_member && state_member < end);
            found++;
        }
    }
    assert_int_equal(found, events);
    kt_buf_release(&all);
    fixture_close(&f);
}

static void node__shutting_down__is_told_as_retryable(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, HELLO, OK("\"h\"", "{..."));
    kt_dispatch_drain(f.node.dispatch);
    kt_buf_clear(&f.out);
    feed(&f, "{\"id\":\"1\",\"op\":\"LIST_MACHINES\"}");
    assert_has(&f, "{\"code\":\"INTERNAL_ERROR\",\"message\":\"this node is shutting down\",\"retryable\":true,"
                   "\"details\":{\"reason\":\"shutting_down\",\"leader\":1}}");
    kt_buf_clear(&f.out);
    feed(&f, "{\"id\":\"1\",\"op\":\"INFO\"}");
    assert_has(&f, "\"reason\":\"shutting_down\"");
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session__before_hello__allows_ping_and_refuses_the_rest),
        cmocka_unit_test(hello__every_form__is_answered_with_the_union),
        cmocka_unit_test(hello__wrong__is_refused_and_does_not_greet),
        cmocka_unit_test(auth__required__guards_every_operation_but_three),
        cmocka_unit_test(auth__not_required__takes_any_token_but_an_empty_one),
        cmocka_unit_test(info__on_a_fresh_node__has_the_union_of_members),
        cmocka_unit_test(operation__unknown__is_refused_by_name_and_the_session_goes_on),
        cmocka_unit_test(bye__answered__ends_the_session_and_what_was_behind),
        cmocka_unit_test(message__that_cannot_be_read__is_answered_and_ends_the_session),
        cmocka_unit_test(message__with_a_wrong_member__is_refused_and_the_session_goes_on),
        cmocka_unit_test(encoding__of_each_message__is_that_of_its_answer),
        cmocka_unit_test(trace_id__given__comes_back),
        cmocka_unit_test(conversation__published__is_answered_as_published),
        cmocka_unit_test(commands__pipelined__are_answered_in_order_and_see_each_other),
        cmocka_unit_test(node__shutting_down__is_told_as_retryable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
