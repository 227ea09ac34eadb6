/* The key-value protocol, revision A: published frames byte for byte, on a whole node. */
#include "gateway/proto_kv/kv_internal.h"

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
#include "support/one_node.h"
#include "wire/writer.h"

#define OLIVER_VERIFIER "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" /* of "hello" */

static const struct kt_auth_user users[] = {
    {.name = "oliver", .password = OLIVER_VERIFIER, .api_key = OLIVER_VERIFIER, .role = "admin"},
    {.name = "rita", .password = OLIVER_VERIFIER, .role = "read"},
};
static const struct kt_auth_options with_users = {.required = true, .users = users, .user_count = KT_COUNT(users)};
static const struct kt_auth_options without_auth = {.users = users, .user_count = KT_COUNT(users)};

struct fixture {
    struct one_node node;
    struct kt_kv_settings settings;
    struct kt_buf out;
    struct kt_conn *conn;
};

static void fixture_open(struct fixture *f, const struct kt_auth_options *auth, uint16_t success_code)
{
    one_node_open(&f->node, auth, 0, 0);
    f->settings = (struct kt_kv_settings){.success_code = success_code};
    kt_buf_init(&f->out, 64u << 20);
    f->conn = kt_conn_memory_open(f->node.dispatch, &kt_proto_kv, &f->settings, &f->out);
}

static void fixture_close(struct fixture *f)
{
    kt_conn_memory_close(f->conn);
    one_node_close(&f->node);
    kt_buf_release(&f->out);
}

static void feed_hex(struct fixture *f, const char *hex)
{
    uint8_t bytes[512];

    assert_true(strlen(hex) / 2 <= sizeof(bytes));
    assert_true(kt_unhex(kt_slice_text(hex), bytes, strlen(hex) / 2));
    kt_conn_memory_feed(f->conn, kt_slice(bytes, strlen(hex) / 2));
}

static void assert_out(struct fixture *f, const char *what, const char *hex)
{
    char *got = kt_alloc(2 * f->out.len + 1);

    kt_hex(f->out.data, f->out.len, got);
    if (strcmp(got, hex) != 0)
        fail_msg("%s: got %s, expected %s", what, got, hex);
    kt_free(got);
    kt_buf_clear(&f->out);
}

/* Feeds a frame and checks what comes back for it. */
static void converse(struct fixture *f, const char *what, const char *request, const char *response)
{
    feed_hex(f, request);
    one_node_until(&f->node, kt_conn_memory_pending(f->conn) == 0);
    assert_out(f, what, response);
}

struct exchange {
    const char *id, *request, *response;
};

/* With success code 1, as published. A21 and A22 follow the documents. */
static const struct exchange published[] = {
    {"A01", "000000127e0100010000000a00010000000000000000", "000000127e0100020000000a000100000004706f6e67"},
    {"A02", "000000127e0100010000000a00020000000000000000", "000000107e010002000000080001000000020101"},
    {"A03", "000000127e0100010000000a00650000000000000000", "0000000e7e0100020000000603ec00000000"},
    {"A04", "0000002a7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e730000000700056d796b6579",
     "0000000e7e0100020000000603ec00000000"},
    {"A05", "000000217e010001000000190064000000000000000f0100066f6c6976657200046e6f7065",
     "0000000e7e0100020000000603ea00000000"},
    {"A06", "000000227e0100010000001a006400000000000000100100066f6c69766572000568656c6c6f",
     "0000000e7e01000200000006000100000000"},
    {"A07", "0000001a7e010001000000120064000000000000000802000568656c6c6f", "0000000e7e01000200000006000100000000"},
    {"A08", "000000127e0100010000000a00650000000000000000", "0000000e7e01000200000006000100000000"},
    {"A09", "0000002a7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e730000000700056d796b6579",
     "0000000e7e0100020000000603f000000000"},
    {"A10", "0000002f7e0100010000002707d1000673797374656d000b636f6c6c656374696f6e730000000c00056d796b6579070000002a",
     "0000000e7e01000200000006000100000000"},
    {"A11", "0000002a7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e730000000700056d796b6579",
     "000000137e0100020000000b000100000005070000002a"},
    {"A12",
     "000000347e0100010000002c07d2000673797374656d000b636f6c6c656374696f6e730000001100056d796b6579020938eecfcf56a60000",
     "0000000e7e01000200000006000100000000"},
    {"A13",
     "000000347e0100010000002c07d2000673797374656d000b636f6c6c656374696f6e730000001100056d796b657902090000000000000000",
     "0000004e7e0100020000004603eb00000040696e76616c69642054544c3a20657870697265734174206d75737420626520612066757475726"
     "5"
     "2074696d657374616d7020696e206e616e6f7365636f6e6473"},
    {"A14", "0000002a7e0100010000002207d1000673797374656d000b636f6c6c656374696f6e730000000700056d796b6579",
     "000000377e0100020000002f03eb00000029696e76616c69642076616c756520656e636f64696e673a207061796c6f616420746f6f2073686"
     "f"
     "7274"},
    {"A15", "000000127e0100010000000a270f0000000000000000",
     "0000002c7e0100020000002403e90000001e636f6d6d616e6420776974682049442039393939206e6f7420666f756e64"},
    {"A16", "0000001f7e0100010000001707d0000673797374656d00046e6f70650000000300016b",
     "0000000e7e0100020000000603ee00000000"},
    {"A17", "00000000", "000000227e0100020000001a03e800000014696e76616c6964206672616d65206c656e677468"},
    {"A18", "000000127e0200010000000a00010000000000000000",
     "000000267e0100020000001e03e800000018696e76616c69642070726f746f636f6c2076657273696f6e"},
    {"A19", "000000127e0100030000000a00010000000000000000",
     "000000227e0100020000001a03e800000014756e6b6e6f776e206d6573736167652074797065"},
    {"A20", "000000127e0100020000000a00010000000000000000",
     "0000002f7e0100020000002703e8000000214f6e6c7920636f6d6d616e64206d657373616765732061726520616c6c6f776564"},
    {"A21",
     "000000347e0100010000002c07d1000673797374656d000b636f6c6c656374696f6e7300000011000567726565740c0000000548656c6c6f",
     "0000000e7e01000200000006000100000000"},
    {"A22", "0000002a7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e730000000700056772656574",
     "000000187e0100020000001000010000000a0c0000000548656c6c6f"},
};

static void frames__published_conversation__is_answered_byte_for_byte(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &with_users, 1);
    for (size_t i = 0; i < KT_COUNT(published); i++)
        converse(&f, published[i].id, published[i].request, published[i].response);
    assert_false(kt_conn_memory_finished(f.conn));
    fixture_close(&f);
}

/* The same in one piece: the login is verified on the pool, and what comes behind it must see it. */
static void frames__published_conversation_in_one_piece__is_answered_in_order(void **state)
{
    struct fixture f;
    struct kt_buf all, expected;

    (void)state;
    fixture_open(&f, &with_users, 1);
    kt_buf_init(&all, 1u << 16);
    kt_buf_init(&expected, 1u << 16);
    for (size_t i = 0; i < KT_COUNT(published); i++) {
        size_t len = strlen(published[i].request) / 2;
        assert_true(kt_unhex(kt_slice_text(published[i].request), kt_buf_reserve(&all, len), len));
        all.len += len;
        len = strlen(published[i].response) / 2;
        assert_true(kt_unhex(kt_slice_text(published[i].response), kt_buf_reserve(&expected, len), len));
        expected.len += len;
    }
    kt_conn_memory_feed(f.conn, kt_buf_slice(&all));
    one_node_until(&f.node, f.out.len >= expected.len);
    assert_true(kt_slice_equal(kt_buf_slice(&f.out), kt_buf_slice(&expected)));
    kt_buf_release(&all);
    kt_buf_release(&expected);
    fixture_close(&f);
}

static void frames__byte_by_byte__are_answered_when_whole(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &with_users, 1);
    for (size_t i = 0; i < 8; i++) {
        size_t len = strlen(published[i].request) / 2;
        uint8_t bytes[256];

        assert_true(kt_unhex(kt_slice_text(published[i].request), bytes, len));
        for (size_t at = 0; at < len; at++) {
            assert_int_equal(f.out.len, 0);
            kt_conn_memory_feed(f.conn, kt_slice(bytes + at, 1));
        }
        one_node_until(&f.node, kt_conn_memory_pending(f.conn) == 0);
        assert_out(&f, published[i].id, published[i].response);
    }
    fixture_close(&f);
}

static void success_code__zero__is_what_the_documents_say(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &with_users, 0);
    converse(&f, "ping", published[0].request, "000000127e0100020000000a000000000004706f6e67");
    converse(&f, "login", published[6].request, "0000000e7e01000200000006000000000000");
    fixture_close(&f);
}

static void auth__not_required__commands_work_and_status_waits_for_a_login(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &without_auth, 1);
    converse(&f, "status", published[2].request, "0000000e7e0100020000000603ec00000000");
    converse(&f, "set", published[9].request, "0000000e7e01000200000006000100000000");
    converse(&f, "wrong login", published[4].request, "0000000e7e0100020000000603ea00000000");
    converse(&f, "get", published[10].request, published[10].response);
    converse(&f, "login", published[5].request, "0000000e7e01000200000006000100000000");
    converse(&f, "status", published[2].request, "0000000e7e01000200000006000100000000");
    fixture_close(&f);
}

static void auth__failed_login__leaves_the_last_one_in_place(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &with_users, 1);
    converse(&f, "login", published[5].request, published[5].response);
    converse(&f, "wrong login", published[4].request, published[4].response);
    converse(&f, "status", published[7].request, published[7].response);
    converse(&f, "set", published[9].request, published[9].response);
    fixture_close(&f);
}

/* A command frame of system/collections. */
static struct kt_slice frame(struct kt_buf *out, uint16_t id, const char *database, const char *collection,
                             struct kt_slice payload)
{
    size_t body = 2 + 2 + strlen(database) + 2 + strlen(collection) + 4 + payload.len;

    kt_buf_clear(out);
    kt_write_be32(out, (uint32_t)(8 + body));
    kt_buf_append(out, "\x7e\x01\x00\x01", 4);
    kt_write_be32(out, (uint32_t)body);
    kt_write_be16(out, id);
    kt_write_be16(out, (uint16_t)strlen(database));
    kt_buf_append_text(out, database);
    kt_write_be16(out, (uint16_t)strlen(collection));
    kt_buf_append_text(out, collection);
    kt_write_be32(out, (uint32_t)payload.len);
    kt_buf_append_slice(out, payload);
    return kt_buf_slice(out);
}

struct response {
    unsigned status;
    struct kt_slice payload; /* in the fixture's out */
};

static struct response ask(struct fixture *f, uint16_t id, const char *database, const char *collection,
                           struct kt_slice payload)
{
    struct response response;
    struct kt_buf request;

    kt_buf_clear(&f->out);
    kt_buf_init(&request, 17u << 20);
    kt_conn_memory_feed(f->conn, frame(&request, id, database, collection, payload));
    one_node_until(&f->node, kt_conn_memory_pending(f->conn) == 0);
    kt_buf_release(&request);
    assert_true(f->out.len >= 18);
    assert_int_equal(kt_get_be32(f->out.data), f->out.len - 4);
    assert_int_equal(kt_get_be32(f->out.data + 8), f->out.len - 12);
    response.status = (unsigned)(f->out.data[12] << 8 | f->out.data[13]);
    response.payload = kt_slice(f->out.data + 18, f->out.len - 18);
    assert_int_equal(kt_get_be32(f->out.data + 14), response.payload.len);
    return response;
}

static void assert_text(struct response response, unsigned status, const char *text)
{
    assert_int_equal(response.status, status);
    if (!kt_slice_is(response.payload, text))
        fail_msg("got '%.*s', expected '%s'", (int)response.payload.len, (const char *)response.payload.data, text);
}

#define BYTES(text) kt_slice(text, sizeof(text) - 1)
#define KV          "system", "collections"

static void payload__wrong__is_told_exactly(void **state)
{
    static const struct {
        uint16_t id;
        const char *payload;
        size_t len;
        const char *text;
    } wrongs[] = {
        {2000, "", 0, "invalid payload length"},
        {2000, "\x00", 1, "invalid payload length"},
        {2000, "\x00\x02k", 3, "invalid payload length for key"},
        {2001, "", 0, "invalid payload length"},
        {2001, "\xff\xffk", 3, "invalid payload length for key"},
        {2001, "\x00\x01k", 3, "invalid value encoding: payload too short"},
        {2001, "\x00\x01k\x02", 4, "invalid value encoding: payload too short"},
        {2001, "\x00\x01k\x0c\x00\x00\x00\x05\xab", 9, "invalid value encoding: payload too short"},
        {2001, "\x00\x01k\x0f", 4, "invalid value encoding: invalid type"},
        {2001, "\x00\x01k\xff\x00", 5, "invalid value encoding: invalid type"},
        {2001, "\x00\x01k\x0d\x02\x00\x02\x00\x00\x00\x05\x02\x01\x03\x00\x02", 16,
         "invalid value encoding: invalid type"},
        {2001, "\x00\x01k\x0d\x02\x00\x09\x00\x00\x00\x04\x02\x01\x02\x02", 15,
         "invalid value encoding: payload too short"},
        {2002, "\x00", 1, "invalid payload length"},
        {2002, "\x00\x01k\x02\x01", 5, "invalid payload length for key and TTL"},
        {2002, "\x00\x09k\x02\x01", 5, "invalid payload length for key and TTL"},
        {2002, "\x00\x01k\x00\x00\x00\x00\x00\x00\x00\x00", 11, "invalid value encoding: payload too short"},
        {2002, "\x00\x01k\x02\x01\x00\x00\x00\x00\x00\x00\x00\x01", 13,
         "invalid TTL: expiresAt must be a future timestamp in nanoseconds"},
        {2002, "\x00\x01k\x02\x01\xff\xff\xff\xff\xff\xff\xff\xff", 13,
         "invalid TTL: expiresAt must be a future timestamp in nanoseconds"},
        {2003, "\x00", 1, "invalid payload length"},
        {2004, "\x00\x05k", 3, "invalid payload length for key"},
        {100, "", 0, "authentication type is required"},
        {100, "\x03", 1, "unsupported authentication type"},
        {100, "\x00\x00\x01", 3, "unsupported authentication type"},
        {100, "\x01\x00\x06oliv", 7, "invalid payload for basic authentication"},
        {100, "\x01\xff\xff", 3, "invalid payload for basic authentication"},
        {100, "\x01\x00\x01o\x00\x05h", 7, "invalid payload for basic authentication"},
        {100, "\x02\x00\x09h", 4, "invalid payload for API key authentication"},
        {100, "\x02", 1, "invalid payload for API key authentication"},
    };
    struct fixture f;

    (void)state;
    fixture_open(&f, &without_auth, 1);
    for (size_t i = 0; i < KT_COUNT(wrongs); i++)
        assert_text(ask(&f, wrongs[i].id, KV, kt_slice(wrongs[i].payload, wrongs[i].len)), 1003, wrongs[i].text);
    fixture_close(&f);
}

static void order__of_checks__is_id_login_collection_engine_payload(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &with_users, 1);
    assert_text(ask(&f, 2999, "no", "no", BYTES("")), 1001, "command with ID 2999 not found");
    assert_text(ask(&f, 2000, "no", "no", BYTES("")), 1004, "");
    assert_text(ask(&f, 100, "", "", BYTES("\x02\x00\x05hello")), 1, "");
    assert_text(ask(&f, 2000, "no", "no", BYTES("")), 1006, "");
    assert_text(ask(&f, 2000, "system", "no", BYTES("")), 1006, "");
    assert_text(ask(&f, 2000, "system_kv", "test", BYTES("")), 1006, "");
    assert_text(ask(&f, 2000, "system", "obj_test", BYTES("")), 1007, "");
    assert_text(ask(&f, 2000, KV, BYTES("")), 1003, "invalid payload length");
    assert_text(ask(&f, 2000, KV, BYTES("\x00\x01k")), 1008, "");
    fixture_close(&f);
}

static void user__who_may_only_read__is_refused_writes(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &with_users, 1);
    assert_text(ask(&f, 100, "", "", BYTES("\x01\x00\x04rita\x00\x05hello")), 1, "");
    assert_text(ask(&f, 2000, KV, BYTES("\x00\x01k")), 1008, "");
    assert_text(ask(&f, 2001, KV, BYTES("\x00\x01k\x02\x07")), 1004, "");
    fixture_close(&f);
}

static void commands__our_extensions__delete_exists_and_list(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &without_auth, 1);
    assert_text(ask(&f, 2004, KV, BYTES("\x00\x01k")), 1008, "");
    assert_text(ask(&f, 2003, KV, BYTES("\x00\x01k")), 1, "");
    assert_text(ask(&f, 2001, KV, BYTES("\x00\x01k\x02\x07 and what follows the value")), 1, "");
    assert_int_equal(ask(&f, 2000, KV, BYTES("\x00\x01k")).payload.len, 2);
    assert_text(ask(&f, 2004, KV, BYTES("\x00\x01k")), 1, "");
    struct response keys = ask(&f, 2005, KV, BYTES(""));
    assert_int_equal(keys.status, 1);
    assert_true(kt_slice_equal(keys.payload, BYTES("\x0d\x0c\x00\x01\x00\x00\x00\x06\x0c\x00\x00\x00\x01k")));
    assert_text(ask(&f, 2003, KV, BYTES("\x00\x01k")), 1, "");
    assert_text(ask(&f, 2004, KV, BYTES("\x00\x01k")), 1008, "");
    /* the empty key is a key, and a stored Empty is found */
    assert_text(ask(&f, 2001, KV, BYTES("\x00\x00\x00")), 1, "");
    assert_true(kt_slice_equal(ask(&f, 2000, KV, BYTES("\x00\x00")).payload, BYTES("\x00")));
    fixture_close(&f);
}

static void set_ttl__bytes_between_value_and_time__are_ignored(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &without_auth, 1);
    assert_text(ask(&f, 2002, KV, BYTES("\x00\x01k\x02\x07whatever\x38\xee\xcf\xcf\x56\xa6\x00\x00")), 1, "");
    assert_true(kt_slice_equal(ask(&f, 2000, KV, BYTES("\x00\x01k")).payload, BYTES("\x02\x07")));
    fixture_close(&f);
}

static void frame__malformed__is_answered_and_the_stream_goes_on(void **state)
{
    static const struct {
        const char *hex, *text;
    } wrongs[] = {
        {"000000017f", "invalid magic number"},
        {"000000017e", "payload too short"},
        {"000000077e010001000000", "payload too short"},
        {"000000087e02000100000001", "invalid protocol version"},
        {"000000087e01000300000001", "unknown message type"},
        {"000000087e0100ff00000001", "unknown message type"},
        {"000000087e01000000000000", "empty payload"},
        {"000000087e01000200000000", "empty payload"},
        {"000000087e01000100000001", "payload too short"},
        {"000000087e010001ffffffff", "payload too short"},
        {"000000097e0100000000000100", "Only command messages are allowed"},
        {"000000097e0100010000000100", "payload too short"},
        {"000000117e0100010000000900010000000000", "payload too short"},
        {"000000127e0100010000000a0001ffff000000000000", "payload too short"},
        {"000000127e0100010000000a00010000000000000001", "payload too short"},
        {"00000000", "invalid frame length"},
    };
    struct fixture f;

    (void)state;
    fixture_open(&f, &without_auth, 1);
    for (size_t i = 0; i < KT_COUNT(wrongs); i++) {
        /* The last but three says that more bytes follow than do; here they do not matter. */
        size_t length =
            (size_t)strtoul((char[]){wrongs[i].hex[0], wrongs[i].hex[1], wrongs[i].hex[2], wrongs[i].hex[3],
                                     wrongs[i].hex[4], wrongs[i].hex[5], wrongs[i].hex[6], wrongs[i].hex[7], 0},
                            NULL, 16);

        kt_buf_clear(&f.out);
        feed_hex(&f, wrongs[i].hex);
        for (size_t missing = strlen(wrongs[i].hex) / 2; missing < length + 4; missing++)
            kt_conn_memory_feed(f.conn, kt_slice("", 1));
        assert_true(f.out.len >= 18);
        assert_int_equal(f.out.data[12] << 8 | f.out.data[13], 1000);
        assert_int_equal(f.out.len - 18, strlen(wrongs[i].text));
        assert_memory_equal(f.out.data + 18, wrongs[i].text, strlen(wrongs[i].text));
    }
    kt_buf_clear(&f.out);
    converse(&f, "ping", published[0].request, published[0].response);
    /* flags are ignored, and bytes behind the payload */
    converse(&f, "ping with flags", "000000147e01ff010000000a00010000000000000000aabb", published[0].response);
    fixture_close(&f);
}

static void frame__too_long__is_answered_and_ends_the_stream(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &without_auth, 1);
    converse(&f, "ping", published[0].request, published[0].response);
    converse(&f, "too long", "01000001", published[16].response);
    assert_true(kt_conn_memory_finished(f.conn));
    fixture_close(&f);
}

static void value__of_the_largest_size__comes_back(void **state)
{
    const size_t len = (16u << 20) - 200;
    struct fixture f;
    struct kt_buf payload;
    struct response response;

    (void)state;
    fixture_open(&f, &without_auth, 1);
    kt_buf_init(&payload, 17u << 20);
    kt_buf_append(&payload, "\x00\x01k\x0b", 4);
    kt_write_be32(&payload, (uint32_t)len);
    assert_non_null(kt_buf_reserve(&payload, len));
    memset(payload.data + payload.len, 0x5a, len);
    payload.len += len;
    assert_text(ask(&f, 2001, KV, kt_buf_slice(&payload)), 1, "");
    response = ask(&f, 2000, KV, BYTES("\x00\x01k"));
    assert_int_equal(response.status, 1);
    assert_int_equal(response.payload.len, len + 5);
    assert_memory_equal(response.payload.data, payload.data + 3, len + 5);
    kt_buf_release(&payload);
    fixture_close(&f);
}

static void node__shutting_down__says_that_nothing_was_done(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &without_auth, 1);
    kt_dispatch_drain(f.node.dispatch);
    assert_text(ask(&f, 2001, KV, BYTES("\x00\x01k\x02\x07")), 2000, "UNAVAILABLE: this node is shutting down");
    fixture_close(&f);
}

static void login__client_gone_while_it_is_verified__is_forgotten(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &with_users, 1);
    feed_hex(&f, published[5].request);
    assert_int_equal(kt_conn_memory_pending(f.conn), 1);
    kt_conn_memory_close(f.conn);
    one_node_turn(&f.node);
    f.conn = kt_conn_memory_open(f.node.dispatch, &kt_proto_kv, &f.settings, &f.out);
    converse(&f, "ping", published[0].request, published[0].response);
    fixture_close(&f);
}

static void errors__cluster_codes__carry_their_prefix(void **state)
{
    (void)state;
    assert_string_equal(kv_error_row(KT_NOT_LEADER).prefix, "NOT_LEADER: ");
    assert_string_equal(kv_error_row(KT_UNAVAILABLE).prefix, "UNAVAILABLE: ");
    assert_string_equal(kv_error_row(KT_OUTCOME_UNKNOWN).prefix, "UNKNOWN: ");
    assert_int_equal(kv_error_row(KT_OUTCOME_UNKNOWN).status, 2000);
    for (unsigned number = 0; number < 100; number++) {
        /* Whatever a write may have done without being acknowledged is not told as if it had not been done. */
        if (kt_code_known(number) && kt_code_outcome((enum kt_code)number) == KT_UNKNOWN)
            assert_int_equal(kv_error_row((enum kt_code)number).status, 2000);
    }
}

static void settings__revision_b__is_refused(void **state)
{
    struct kt_kv_settings settings = {.revision = "b"};
    struct kt_error error;

    (void)state;
    assert_int_equal(kt_proto_kv.check(&settings, &error), KT_NOT_AVAILABLE);
    assert_string_equal(error.text, "revision b of the kv protocol is not available in this version");
    settings.revision = "c";
    assert_int_equal(kt_proto_kv.check(&settings, &error), KT_BAD_REQUEST);
    settings.revision = "auto";
    assert_int_equal(kt_proto_kv.check(&settings, &error), KT_OK);
    settings.revision = "a";
    assert_int_equal(kt_proto_kv.check(&settings, &error), KT_OK);
    assert_int_equal(kt_proto_kv.check(NULL, &error), KT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames__published_conversation__is_answered_byte_for_byte),
        cmocka_unit_test(frames__published_conversation_in_one_piece__is_answered_in_order),
        cmocka_unit_test(frames__byte_by_byte__are_answered_when_whole),
        cmocka_unit_test(success_code__zero__is_what_the_documents_say),
        cmocka_unit_test(auth__not_required__commands_work_and_status_waits_for_a_login),
        cmocka_unit_test(auth__failed_login__leaves_the_last_one_in_place),
        cmocka_unit_test(payload__wrong__is_told_exactly),
        cmocka_unit_test(order__of_checks__is_id_login_collection_engine_payload),
        cmocka_unit_test(user__who_may_only_read__is_refused_writes),
        cmocka_unit_test(commands__our_extensions__delete_exists_and_list),
        cmocka_unit_test(set_ttl__bytes_between_value_and_time__are_ignored),
        cmocka_unit_test(frame__malformed__is_answered_and_the_stream_goes_on),
        cmocka_unit_test(frame__too_long__is_answered_and_ends_the_stream),
        cmocka_unit_test(value__of_the_largest_size__comes_back),
        cmocka_unit_test(node__shutting_down__says_that_nothing_was_done),
        cmocka_unit_test(login__client_gone_while_it_is_verified__is_forgotten),
        cmocka_unit_test(errors__cluster_codes__carry_their_prefix),
        cmocka_unit_test(settings__revision_b__is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
