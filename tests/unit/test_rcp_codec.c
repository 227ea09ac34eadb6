/* Bytes of the RCP protocol: the published vectors, and every way in which a frame, a line or an envelope can be wrong.
 */
#include "gateway/proto_rcp/rcp_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "engines/rcp_error.h"
#include "wire/writer.h"

#define V3_HEX                                                                                                         \
    "5243505800010001000000000033c32009c47b2274797065223a2272657175657374222c226964223a2231222c226f70223a2250494e4722" \
    "2c"                                                                                                               \
    "22706172616d73223a7b7d7d"

struct bytes {
    uint8_t data[512];
    size_t len;
};

static struct bytes unhex(const char *hex)
{
    struct bytes bytes = {.len = strlen(hex) / 2};

    assert_true(bytes.len <= sizeof(bytes.data));
    assert_true(kt_unhex(kt_slice_text(hex), bytes.data, bytes.len));
    return bytes;
}

static enum kt_code split(struct kt_slice in, struct rcp_message *message, struct kt_error *error)
{
    size_t scanned = 0;

    return rcp_split(in, RCP_FRAME, &scanned, message, error);
}

static void frame__published_vectors__carry_their_payloads(void **state)
{
    static const struct {
        const char *payload, *hex;
    } vectors[] = {
        {"{\"type\":\"request\",\"id\":\"1\",\"op\":\"HELLO\",\"params\":{\"protocol_version\":1,\"client_name\":"
         "\"rstmdb-py\",\"wire_modes\":[\"binary_json\"],\"features\":[\"idempotency\",\"batch\"]}}",
         "52435058000100010000000000a222a3d7277b2274797065223a2272657175657374222c226964223a2231222c226f70223a2248454c4"
         "c"
         "4f222c22706172616d73223a7b2270726f746f636f6c5f76657273696f6e223a312c22636c69656e745f6e616d65223a227273746d646"
         "2"
         "2d7079222c22776972655f6d6f646573223a5b2262696e6172795f6a736f6e225d2c226665617475726573223a5b226964656d706f746"
         "5"
         "6e6379222c226261746368225d7d7d"},
        {"{\"type\":\"request\",\"id\":\"2\",\"op\":\"AUTH\",\"params\":{\"method\":\"bearer\",\"token\":\"my-secret-"
         "token\"}}",
         "524350580001000100000000005edcc21e2c7b2274797065223a2272657175657374222c226964223a2232222c226f70223a224155544"
         "8"
         "222c22706172616d73223a7b226d6574686f64223a22626561726572222c22746f6b656e223a226d792d7365637265742d746f6b656e2"
         "2"
         "7d7d"},
        {"{\"type\":\"request\",\"id\":\"1\",\"op\":\"PING\",\"params\":{}}", V3_HEX},
        /* without a checksum */
        {"{\"type\":\"request\",\"id\":\"1\",\"op\":\"PING\",\"params\":{}}",
         "5243505800010000000000000033000000007b2274797065223a2272657175657374222c226964223a2231222c226f70223a2250494e4"
         "7"
         "222c22706172616d73223a7b7d7d"},
        /* with an extension */
        {"{\"type\":\"request\",\"id\":\"1\",\"op\":\"PING\",\"params\":{}}",
         "5243505800010001000400000033c32009c4deadbeef7b2274797065223a2272657175657374222c226964223a2231222c226f70223a2"
         "2"
         "50494e47222c22706172616d73223a7b7d7d"},
        {"{\"type\":\"request\",\"id\":\"1\",\"op\":\"PING\"}",
         "524350580001000100000000002715f193b17b2274797065223a2272657175657374222c226964223a2231222c226f70223a2250494e4"
         "7"
         "227d"},
        {"{\"op\":\"PING\"}", "524350580001000100000000000d1ce5bab97b226f70223a2250494e47227d"},
        {"{\"type\":\"request\",\"id\":\"4\",\"op\":\"WATCH_ALL\",\"params\":{\"include_ctx\":true}}",
         "524350580001000100000000004a265aee797b2274797065223a2272657175657374222c226964223a2234222c226f70223a225741544"
         "3"
         "485f414c4c222c22706172616d73223a7b22696e636c7564655f637478223a747275657d7d"},
        {"", "524350580001000100000000000000000000"},
    };

    (void)state;
    for (size_t i = 0; i < KT_COUNT(vectors); i++) {
        struct bytes bytes = unhex(vectors[i].hex);
        struct rcp_message message;
        struct kt_error error;

        assert_int_equal(split(kt_slice(bytes.data, bytes.len), &message, &error), KT_OK);
        assert_int_equal(message.encoding, RCP_FRAME);
        assert_int_equal(message.used, bytes.len);
        assert_true(kt_slice_is(message.payload, vectors[i].payload));
    }
}

static void frame__cut_at_every_byte__needs_more(void **state)
{
    struct bytes bytes = unhex(V3_HEX);

    (void)state;
    for (size_t len = 0; len < bytes.len; len++) {
        struct rcp_message message;
        struct kt_error error;

        assert_int_equal(split(kt_slice(bytes.data, len), &message, &error), KT_MORE);
    }
}

static void frame__two_in_one_piece__are_taken_one_by_one(void **state)
{
    struct bytes bytes = unhex(V3_HEX);
    struct rcp_message message;
    struct kt_error error;
    uint8_t two[512];

    (void)state;
    memcpy(two, bytes.data, bytes.len);
    memcpy(two + bytes.len, bytes.data, bytes.len);
    assert_int_equal(split(kt_slice(two, 2 * bytes.len), &message, &error), KT_OK);
    assert_int_equal(message.used, bytes.len);
}

static void frame__damaged__is_refused_for_what_is_wrong(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        enum kt_code code;
        const char *text;
    } damages[] = {
        {3, 0x31, KT_BAD_FRAME, "bad magic"},
        {1, 0x44, KT_BAD_FRAME, "bad magic"},
        {5, 0x02, KT_BAD_VERSION, "frame version 2 is not supported, only 1 is"},
        {7, 0x11, KT_BAD_FRAME, "reserved flag bits are set: 0x0011"},
        {6, 0x80, KT_BAD_FRAME, "reserved flag bits are set: 0x8001"},
        {14, 0x00, KT_BAD_FRAME, "checksum of the payload does not match"},
        {30, 0x00, KT_BAD_FRAME, "checksum of the payload does not match"},
    };

    (void)state;
    for (size_t i = 0; i < KT_COUNT(damages); i++) {
        struct bytes bytes = unhex(V3_HEX);
        struct rcp_message message;
        struct kt_error error;

        bytes.data[damages[i].at] = damages[i].value;
        assert_int_equal(split(kt_slice(bytes.data, bytes.len), &message, &error), damages[i].code);
        assert_string_equal(error.text, damages[i].text);
    }
}

static void frame__too_long__is_refused_by_its_header_alone(void **state)
{
    struct bytes bytes = unhex(V3_HEX);
    struct rcp_message message;
    struct kt_error error;

    (void)state;
    kt_put_be32(bytes.data + 10, RCP_PAYLOAD_MAX + 1);
    assert_int_equal(split(kt_slice(bytes.data, RCP_HEADER_BYTES), &message, &error), KT_BAD_FRAME);
    assert_string_equal(error.text, "payload is 16777217 bytes, the limit is 16777216");
    kt_put_be32(bytes.data + 10, RCP_PAYLOAD_MAX);
    assert_int_equal(split(kt_slice(bytes.data, RCP_HEADER_BYTES), &message, &error), KT_MORE);
}

static void frame__wrong_first_bytes__are_refused_before_the_header_is_whole(void **state)
{
    struct rcp_message message;
    struct kt_error error;

    (void)state;
    assert_int_equal(split(kt_slice_text("RCP1"), &message, &error), KT_BAD_FRAME);
    assert_int_equal(split(kt_slice_text("GET / HTTP/1.1\r\n"), &message, &error), KT_BAD_FRAME);
    assert_int_equal(split(kt_slice_text("RCP"), &message, &error), KT_MORE);
}

static void line__with_and_without_its_end__is_found_and_waited_for(void **state)
{
    struct rcp_message message;
    struct kt_error error;
    size_t scanned = 0;

    (void)state;
    assert_int_equal(rcp_split(kt_slice_text("{\"op\":"), RCP_FRAME, &scanned, &message, &error), KT_MORE);
    assert_int_equal(scanned, 6);
    assert_int_equal(rcp_split(kt_slice_text("{\"op\":1}\r\nRCPX"), RCP_FRAME, &scanned, &message, &error), KT_OK);
    assert_int_equal(message.encoding, RCP_LINE);
    assert_int_equal(message.used, 10);
    assert_true(kt_slice_is(message.payload, "{\"op\":1}"));
    assert_int_equal(scanned, 0);
    assert_int_equal(split(kt_slice_text("  \r\n"), &message, &error), KT_OK);
    assert_int_equal(message.payload.len, 0);
    assert_int_equal(message.used, 4);
}

static void line__longer_than_the_limit__is_refused(void **state)
{
    struct rcp_message message;
    struct kt_error error;
    size_t len = RCP_PAYLOAD_MAX + 2;
    char *line = malloc(len);
    size_t scanned = 0;

    (void)state;
    memset(line, ' ', len);
    assert_int_equal(rcp_split(kt_slice(line, RCP_PAYLOAD_MAX), RCP_FRAME, &scanned, &message, &error), KT_MORE);
    assert_int_equal(rcp_split(kt_slice(line, RCP_PAYLOAD_MAX + 1), RCP_FRAME, &scanned, &message, &error),
                     KT_BAD_FRAME);
    line[len - 1] = '\n';
    assert_int_equal(split(kt_slice(line, len), &message, &error), KT_BAD_FRAME);
    free(line);
}

static enum kt_code read_envelope(const char *text, char id[64], struct rcp_envelope *envelope, struct kt_json **json,
                                  struct kt_error *error)
{
    struct kt_buf buf;
    enum kt_code code;

    kt_buf_init(&buf, 2048);
    assert_int_equal(kt_json_parse(kt_slice_text(text), json, error), KT_OK);
    code = rcp_envelope_read(*json, envelope, &buf, error);
    assert_true(buf.len < 64);
    memcpy(id, buf.len ? buf.data : (const uint8_t *)"", buf.len);
    id[buf.len] = 0;
    kt_buf_release(&buf);
    return code;
}

static void envelope__every_accepted_form__is_read(void **state)
{
    static const struct {
        const char *text, *id, *op, *trace;
        bool params;
    } forms[] = {
        {"{\"type\":\"request\",\"id\":\"1\",\"op\":\"PING\",\"params\":{}}", "\"1\"", "PING", "", true},
        {"{\"op\":\"PING\"}", "", "PING", "", false},
        {"{\"id\":7,\"op\":\"PING\",\"params\":null}", "7", "PING", "", false},
        {"{\"id\":18446744073709551615,\"op\":\"A\"}", "18446744073709551615", "A", "", false},
        {"{\"id\":-3,\"op\":\"A\"}", "-3", "A", "", false},
        {"{\"id\":null,\"op\":\"A\"}", "", "A", "", false},
        {"{\"id\":\"\",\"op\":\"A\"}", "\"\"", "A", "", false},
        {"{\"id\":\"a\\\"b\\u00e9\",\"op\":\"A\"}", "\"a\\\"b\xc3\xa9\"", "A", "", false},
        {"{\"type\":5,\"op\":\"A\",\"more\":[1],\"more\":2}", "", "A", "", false},
        {"{\"id\":\"1\",\"id\":\"2\",\"op\":\"A\",\"op\":\"B\"}", "\"2\"", "B", "", false},
        {"{\"op\":\"A\",\"trace_id\":\"t1\"}", "", "A", "t1", false},
        {"{\"op\":\"A\",\"meta\":{\"trace_id\":\"t2\"},\"trace_id\":\"t1\"}", "", "A", "t2", false},
        {"{\"op\":\"A\",\"meta\":5,\"trace_id\":7}", "", "A", "", false},
    };

    (void)state;
    for (size_t i = 0; i < KT_COUNT(forms); i++) {
        struct rcp_envelope envelope;
        struct kt_json *json;
        struct kt_error error;
        char id[64];

        assert_int_equal(read_envelope(forms[i].text, id, &envelope, &json, &error), KT_OK);
        assert_string_equal(id, forms[i].id);
        assert_true(kt_slice_is(envelope.op, forms[i].op));
        assert_true(kt_slice_is(envelope.trace, forms[i].trace));
        assert_int_equal(envelope.params != NULL, forms[i].params);
        kt_json_free(json);
    }
}

static void envelope__wrong_member__is_refused_with_the_id_if_it_is_readable(void **state)
{
    static const struct {
        const char *text, *id, *message;
    } wrongs[] = {
        {"[1]", "", "a request must be an object"},
        {"{\"id\":\"1\"}", "\"1\"", "missing field 'op'"},
        {"{\"id\":\"1\",\"op\":5}", "\"1\"", "field 'op' must be a string"},
        {"{\"id\":1.0,\"op\":\"PING\"}", "", "field 'id' must be a string or an integer"},
        {"{\"id\":[],\"op\":\"PING\"}", "", "field 'id' must be a string or an integer"},
        {"{\"id\":\"1\",\"op\":\"PING\",\"params\":[]}", "\"1\"", "field 'params' must be an object"},
    };

    (void)state;
    for (size_t i = 0; i < KT_COUNT(wrongs); i++) {
        struct rcp_envelope envelope;
        struct kt_json *json;
        struct kt_error error;
        char id[64];

        assert_int_equal(read_envelope(wrongs[i].text, id, &envelope, &json, &error), KT_BAD_REQUEST);
        assert_string_equal(error.text, wrongs[i].message);
        assert_string_equal(id, wrongs[i].id);
        kt_json_free(json);
    }
}

static const struct rcp_head head = {.encoding = RCP_FRAME, .id = {"\"1\"", 3}, .trace = {"t-1", 3}};
static const struct rcp_meta meta = {.wall_ms = 1740816000123, .leads = true, .wal_offset = 42};

static void assert_frame(const struct kt_buf *out, const char *payload)
{
    struct rcp_message message;
    struct kt_error error;

    assert_int_equal(kt_buf_code(out), KT_OK);
    assert_memory_equal(out->data, "RCPX\x00\x01\x00\x01\x00\x00", 10);
    assert_int_equal(split(kt_buf_slice(out), &message, &error), KT_OK);
    assert_int_equal(message.used, out->len);
    assert_int_equal(message.payload.len, strlen(payload));
    assert_memory_equal(message.payload.data, payload, message.payload.len);
}

static void response__result__has_every_member_in_place(void **state)
{
    struct kt_buf out;
    struct rcp_head line = head;
    struct rcp_meta bare = {.wall_ms = 1740816000000};

    (void)state;
    kt_buf_init(&out, RCP_PAYLOAD_MAX + RCP_HEADER_BYTES);
    rcp_write_result(&out, &head, &meta, kt_slice_text("{\"pong\":true}"));
    assert_frame(&out, "{\"type\":\"response\",\"id\":\"1\",\"status\":\"ok\",\"result\":{\"pong\":true},\"meta\":{"
                       "\"server_time\":\"2025-03-01T08:00:00.123Z\",\"leader\":true,\"wal_offset\":42,\"trace_id\":"
                       "\"t-1\"}}");
    line.encoding = RCP_LINE;
    line.id = kt_slice(NULL, 0);
    line.trace = kt_slice(NULL, 0);
    rcp_write_result(&out, &line, &bare, kt_slice_text("{}"));
    kt_buf_append_u8(&out, 0);
    assert_string_equal((char *)out.data,
                        "{\"type\":\"response\",\"id\":\"\",\"status\":\"ok\",\"result\":{},\"meta\":{\"server_time\":"
                        "\"2025-03-01T08:00:00.000Z\",\"leader\":false}}\n");
    kt_buf_release(&out);
}

/* The published answers, V8 and V9, are ours without meta: the same bytes up to it, and only meta behind. */
static void response__published_answers__are_ours_up_to_the_meta(void **state)
{
    static const char *const v8 =
        "52435058000100010000000000414b7b432f7b2274797065223a22726573706f6e7365222c226964223a2231222c22737461747573223a"
        "226f6b222c22726573756c74223a7b22706f6e67223a747275657d7d";
    static const char *const v9 =
        "52435058000100010000000000834249807c7b2274797065223a22726573706f6e7365222c226964223a2233222c22737461747573223a"
        "226572726f72222c226572726f72223a7b22636f6465223a22554e415554484f52495a4544222c226d657373616765223a226175746865"
        "6e7469636174696f6e207265717569726564222c22726574727961626c65223a66616c73657d7d";
    struct rcp_failure failure = {.code = "UNAUTHORIZED", .message = "authentication required"};
    struct rcp_head three = head;
    struct bytes expected;
    struct kt_buf out;

    (void)state;
    kt_buf_init(&out, 4096);
    expected = unhex(v8);
    rcp_write_result(&out, &head, &meta, kt_slice_text("{\"pong\":true}"));
    assert_memory_equal(out.data, expected.data, 10);
    assert_memory_equal(out.data + 18, expected.data + 18, expected.len - 18 - 1);
    assert_memory_equal(out.data + expected.len - 1, ",\"meta\":{", 9);

    three.id = kt_slice_text("\"3\"");
    expected = unhex(v9);
    rcp_write_failure(&out, &three, &meta, &failure);
    assert_memory_equal(out.data + 18, expected.data + 18, expected.len - 18 - 1);
    assert_memory_equal(out.data + expected.len - 1, ",\"meta\":{", 9);
    kt_buf_release(&out);
}

static void response__larger_than_a_frame__becomes_an_error(void **state)
{
    size_t len = RCP_PAYLOAD_MAX;
    char *large = malloc(len);
    struct kt_buf out;

    (void)state;
    memset(large, 'x', len);
    large[0] = large[len - 1] = '"';
    kt_buf_init(&out, RCP_HEADER_BYTES + RCP_EXTENSION_MAX + RCP_PAYLOAD_MAX);
    rcp_write_result(&out, &head, &meta, kt_slice(large, len));
    assert_frame(&out,
                 "{\"type\":\"response\",\"id\":\"1\",\"status\":\"error\",\"error\":{\"code\":\"INTERNAL_ERROR\","
                 "\"message\":\"the result does not fit one message; ask for less\",\"retryable\":false,"
                 "\"details\":{\"reason\":\"too_large\"}},\"meta\":{\"server_time\":\"2025-03-01T08:00:00.123Z\","
                 "\"leader\":true,\"wal_offset\":42,\"trace_id\":\"t-1\"}}");
    kt_buf_release(&out);
    free(large);
}

static void errors__every_code__has_one_of_the_sixteen_and_no_forbidden_words(void **state)
{
    static const char *const sixteen[] = {
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
    };

    (void)state;
    for (unsigned number = 0; number < 100; number++) {
        struct kt_rcp_error row;
        bool found = false;

        if (!kt_code_known(number))
            continue;
        row = kt_rcp_error((enum kt_code)number);
        for (size_t i = 0; i < KT_COUNT(sixteen); i++)
            found = found || strcmp(sixteen[i], row.code) == 0;
        assert_true(found);
        assert_int_equal(row.retryable,
                         strcmp(row.code, "WAL_IO_ERROR") == 0 || strcmp(row.code, "INTERNAL_ERROR") == 0);
        assert_null(strstr(kt_code_text((enum kt_code)number), "connection"));
        assert_null(strstr(kt_code_text((enum kt_code)number), "channel closed"));
    }
}

static void errors__cluster_codes__tell_reason_and_leader(void **state)
{
    struct rcp_failure failure;
    struct kt_reply reply;
    struct kt_arena arena;

    (void)state;
    kt_arena_init(&arena);
    kt_reply_init(&reply);
    kt_reply_fail(&reply, KT_UNAVAILABLE, "no leader");
    rcp_failure_of(&reply, 0, &arena, &failure);
    assert_string_equal(failure.code, "INTERNAL_ERROR");
    assert_true(failure.retryable);
    assert_true(kt_slice_is(failure.details, "{\"reason\":\"no_leader\"}"));
    kt_reply_fail(&reply, KT_OUTCOME_UNKNOWN, "unknown");
    rcp_failure_of(&reply, 3, &arena, &failure);
    assert_true(kt_slice_is(failure.details, "{\"reason\":\"unknown_outcome\",\"leader\":3}"));
    kt_reply_fail(&reply, KT_CONFLICT, "state conflict");
    kt_buf_append_text(&reply.details, "{\"expected_state\":\"a\"}");
    rcp_failure_of(&reply, 3, &arena, &failure);
    assert_string_equal(failure.code, "CONFLICT");
    assert_string_equal(failure.message, "state conflict");
    assert_true(kt_slice_is(failure.details, "{\"expected_state\":\"a\"}"));
    kt_reply_release(&reply);
    kt_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame__published_vectors__carry_their_payloads),
        cmocka_unit_test(frame__cut_at_every_byte__needs_more),
        cmocka_unit_test(frame__two_in_one_piece__are_taken_one_by_one),
        cmocka_unit_test(frame__damaged__is_refused_for_what_is_wrong),
        cmocka_unit_test(frame__too_long__is_refused_by_its_header_alone),
        cmocka_unit_test(frame__wrong_first_bytes__are_refused_before_the_header_is_whole),
        cmocka_unit_test(line__with_and_without_its_end__is_found_and_waited_for),
        cmocka_unit_test(line__longer_than_the_limit__is_refused),
        cmocka_unit_test(envelope__every_accepted_form__is_read),
        cmocka_unit_test(envelope__wrong_member__is_refused_with_the_id_if_it_is_readable),
        cmocka_unit_test(response__result__has_every_member_in_place),
        cmocka_unit_test(response__published_answers__are_ours_up_to_the_meta),
        cmocka_unit_test(response__larger_than_a_frame__becomes_an_error),
        cmocka_unit_test(errors__every_code__has_one_of_the_sixteen_and_no_forbidden_words),
        cmocka_unit_test(errors__cluster_codes__tell_reason_and_leader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
