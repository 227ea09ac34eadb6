/* libkontiki against scripted servers: threads that answer each request as their script says. */
#include "client/client_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "wire/json.h"
#include "wire/writer.h"

#define STEPS_MAX 16
#define OK                                                                                                             \
    "{\"type\":\"response\",\"id\":\"$\",\"status\":\"ok\",\"result\":{\"n\":1},\"meta\":{\"leader\":true,\"wal_"      \
    "offset\":42}}"
#define HELLO_OK "{\"type\":\"response\",\"id\":\"$\",\"status\":\"ok\",\"result\":{\"protocol_version\":1}}"
#define REFUSED(code, retryable, details)                                                                              \
    "{\"type\":\"response\",\"id\":\"$\",\"status\":\"error\",\"error\":{\"code\":\"" code                             \
    "\",\"message\":\"no\",\"retryable\":" retryable ",\"details\":" details "}}"
#define NO_LEADER REFUSED("INTERNAL_ERROR", "true", "{\"reason\":\"no_leader\"}")
#define UNKNOWN   REFUSED("INTERNAL_ERROR", "true", "{\"reason\":\"unknown_outcome\"}")
#define HANG      "hang"  /* keep the connection, say nothing, until the client closes it */
#define CLOSE     "close" /* close it without an answer */
#define RAW       "raw:"  /* bytes in hexadecimal instead of a frame */
#define AND_CLOSE "and:"  /* answer what follows, then close */

/* ---- a scripted server ---- */

struct server {
    bool kv;
    int listener;
    char endpoint[32];
    pthread_t thread;
    const char *steps[STEPS_MAX]; /* what each request gets, over all connections; NULL ends the script */
    char *requests[STEPS_MAX];    /* JSON, or hexadecimal of a message without its length */
    size_t count;
};

static bool read_all(int fd, uint8_t *to, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(fd, to, len, 0);
        if (n <= 0)
            return false;
        to += n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_all(int fd, const void *from, size_t len)
{
    return send(fd, from, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static char *read_rcp(int fd)
{
    uint8_t header[RCP_HEADER_BYTES];
    struct rcp_frame frame;
    if (!read_all(fd, header, sizeof(header)))
        return NULL;
    if (rcp_frame_read(header, &frame, NULL) != KT_OK || frame.header_len != 0)
        return NULL;
    char *payload = kt_alloc(frame.payload_len + 1);
    if (!read_all(fd, (uint8_t *)payload, frame.payload_len) || kt_crc32c(0, payload, frame.payload_len) != frame.crc) {
        kt_free(payload);
        return NULL;
    }
    payload[frame.payload_len] = '\0';
    return payload;
}

static char *read_kv(int fd)
{
    uint8_t length[4], bytes[1024];
    if (!read_all(fd, length, 4) || kt_get_be32(length) > sizeof(bytes) || !read_all(fd, bytes, kt_get_be32(length)))
        return NULL;
    char *text = kt_alloc(2 * sizeof(bytes) + 1);
    kt_hex(bytes, kt_get_be32(length), text);
    return text;
}

static void send_hex(int fd, const char *digits)
{
    uint8_t bytes[1024];
    size_t len = strlen(digits) / 2;
    if (len <= sizeof(bytes) && kt_unhex(kt_slice_text(digits), bytes, len))
        send_all(fd, bytes, len);
}

/* The answer with the request's id in the place of "$". */
static void send_rcp(int fd, const char *answer, const char *request)
{
    struct kt_buf payload, frame;
    const char *id = strstr(request, "\"id\":\"");
    const char *place = strchr(answer, '$');
    kt_buf_init(&payload, 1 << 20);
    kt_buf_init(&frame, 1 << 20);
    if (id && place) {
        id += 6;
        kt_buf_append(&payload, answer, (size_t)(place - answer));
        kt_buf_append(&payload, id, strcspn(id, "\""));
        kt_buf_append_text(&payload, place + 1);
    } else {
        kt_buf_append_text(&payload, answer);
    }
    rcp_frame_write(&frame, kt_buf_slice(&payload));
    send_all(fd, frame.data, frame.len);
    kt_buf_release(&payload);
    kt_buf_release(&frame);
}

/* Serves one connection; false: the script is over. */
static bool serve(struct server *server, int fd)
{
    while (server->steps[server->count]) {
        char *request = server->kv ? read_kv(fd) : read_rcp(fd);
        if (!request)
            return true;
        const char *step = server->steps[server->count];
        server->requests[server->count++] = request;
        bool leave = strncmp(step, AND_CLOSE, strlen(AND_CLOSE)) == 0;
        if (leave)
            step += strlen(AND_CLOSE);
        if (strcmp(step, CLOSE) == 0)
            return true;
        if (strcmp(step, HANG) == 0) {
            uint8_t byte;
            while (recv(fd, &byte, 1, 0) > 0)
                continue;
            return true;
        }
        if (strncmp(step, RAW, strlen(RAW)) == 0)
            send_hex(fd, step + strlen(RAW));
        else
            send_rcp(fd, step, request);
        if (leave)
            return true;
    }
    return false;
}

static void *run_server(void *data)
{
    struct server *server = data;
    bool more = true;
    while (more) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            break;
        more = serve(server, fd);
        close(fd);
    }
    return NULL;
}

static void server_listen(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(server->listener, 8), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &len), 0);
    snprintf(server->endpoint, sizeof(server->endpoint), "127.0.0.1:%u", ntohs(address.sin_port));
}

static void server_start(struct server *server)
{
    server_listen(server);
    assert_int_equal(pthread_create(&server->thread, NULL, run_server, server), 0);
}

/* Ends the script where it is; what was recorded may be looked at. */
static void server_stop(struct server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
}

static void server_release(struct server *server)
{
    for (size_t i = 0; i < server->count; i++)
        kt_free(server->requests[i]);
}

/* One call against one or two servers. */
struct scene {
    struct server servers[2];
    size_t count;
    struct kontiki_options options;
    struct kontiki_client *client;
    struct kontiki_result result;
    const char *endpoints[2];
};

static void scene_open(struct scene *scene)
{
    for (size_t i = 0; i < 2 && scene->servers[i].steps[0]; i++) {
        server_start(&scene->servers[i]);
        scene->endpoints[scene->count++] = scene->servers[i].endpoint;
    }
    if (scene->servers[0].kv) {
        scene->options.kv = scene->endpoints;
        scene->options.kv_count = scene->count;
    } else {
        scene->options.machine = scene->endpoints;
        scene->options.machine_count = scene->count;
    }
    assert_int_equal(kontiki_open(&scene->options, &scene->client, NULL, 0), KT_OK);
}

/* The servers' recordings may be looked at afterwards. */
static void scene_stop(struct scene *scene)
{
    kontiki_close(scene->client);
    for (size_t i = 0; i < scene->count; i++)
        server_stop(&scene->servers[i]);
}

static void scene_release(struct scene *scene)
{
    for (size_t i = 0; i < scene->count; i++)
        server_release(&scene->servers[i]);
    kontiki_result_release(&scene->result);
}

/* The member of a request's params as text; "" if there is none. Static memory. */
static const char *param_of(const char *request, const char *name)
{
    static char text[128];
    struct kt_json *json;
    assert_int_equal(kt_json_parse(kt_slice_text(request), &json, NULL), KT_OK);
    const struct kt_json *member = kt_json_get(kt_json_get(json, "params"), name);
    text[0] = '\0';
    if (kt_json_is(member, KT_JSON_STRING))
        snprintf(text, sizeof(text), "%.*s", (int)kt_json_string(member).len,
                 (const char *)kt_json_string(member).data);
    kt_json_free(json);
    return text;
}

/* ---- machine calls ---- */

static void machine_call__answered__has_body_and_meta_and_greets_once(void **state)
{
    (void)state;
    struct scene scene = {.servers = {{.steps = {HELLO_OK, OK, OK}}}};
    scene_open(&scene);
    assert_int_equal(
        kontiki_machine_call(scene.client, "GET_MACHINE", "{\"machine\" : \"door\",\"version\":1}", &scene.result),
        KT_OK);
    assert_string_equal(scene.result.body, "{\"n\":1}");
    assert_int_equal(scene.result.body_len, 7);
    assert_int_equal(scene.result.leader, 1);
    assert_int_equal(scene.result.offset, 42);
    assert_int_equal(scene.result.attempts, 1);
    assert_string_equal(scene.result.endpoint, scene.servers[0].endpoint);
    kontiki_result_release(&scene.result);
    assert_int_equal(kontiki_machine_call(scene.client, "PING", NULL, &scene.result), KT_OK);
    scene_stop(&scene);
    assert_int_equal(scene.servers[0].count, 3);
    assert_non_null(strstr(scene.servers[0].requests[0], "\"op\":\"HELLO\",\"params\":{\"protocol_version\":1"));
    assert_non_null(strstr(scene.servers[0].requests[1],
                           "\"op\":\"GET_MACHINE\",\"params\":{\"machine\":\"door\",\"version\":1}}"));
    assert_non_null(strstr(scene.servers[0].requests[2], "\"op\":\"PING\",\"params\":{}}"));
    scene_release(&scene);
}

static void machine_call__keyed_operation__gets_a_key_unless_it_has_one(void **state)
{
    (void)state;
    static const struct {
        const char *op, *params, *key; /* key: expected; "*": a new one; "": none */
    } rows[] = {
        {"CREATE_INSTANCE", NULL, "*"},
        {"APPLY_EVENT", "{\"instance_id\":\"a\"}", "*"},
        {"DELETE_INSTANCE", "{\"idempotency_key\":\"\"}", "*"},
        {"APPLY_EVENT", "{\"idempotency_key\":null,\"event\":\"e\"}", "*"},
        {"APPLY_EVENT", "{\"idempotency_key\":\"mine\"}", "mine"},
        {"PUT_MACHINE", "{}", ""},
        {"GET_INSTANCE", "{\"instance_id\":\"a\"}", ""},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct scene scene = {.servers = {{.steps = {HELLO_OK, OK}}}};
        scene_open(&scene);
        assert_int_equal(kontiki_machine_call(scene.client, rows[i].op, rows[i].params, &scene.result), KT_OK);
        scene_stop(&scene);
        const char *key = param_of(scene.servers[0].requests[1], "idempotency_key");
        if (strcmp(rows[i].key, "*") == 0)
            assert_int_equal(strlen(key), 36);
        else
            assert_string_equal(key, rows[i].key);
        scene_release(&scene);
    }
}

static void machine_call__node_lost_or_without_leader__goes_on_elsewhere_with_the_same_key(void **state)
{
    (void)state;
    static const char *const troubles[] = {CLOSE,
                                           NO_LEADER,
                                           UNKNOWN,
                                           REFUSED("RATE_LIMITED", "true", "{}"),
                                           RAW "00",
                                           RAW "525043580001",
                                           AND_CLOSE RAW "524350580001",
                                           REFUSED("INTERNAL_ERROR", "true", "{\"reason\":\"shutting_down\"}")};
    for (size_t i = 0; i < KT_COUNT(troubles); i++) {
        struct scene scene = {
            .servers = {{.steps = {HELLO_OK, troubles[i], OK}}, {.steps = {HELLO_OK, OK, OK}}},
            .options = {.attempt_ms = 1000},
        };
        scene_open(&scene);
        assert_int_equal(kontiki_machine_call(scene.client, "APPLY_EVENT", "{\"instance_id\":\"a\"}", &scene.result),
                         KT_OK);
        assert_int_equal(scene.result.attempts, 2);
        assert_string_equal(scene.result.endpoint, scene.servers[1].endpoint);
        kontiki_result_release(&scene.result);
        /* It stays with the node that answered. */
        assert_int_equal(kontiki_machine_call(scene.client, "PING", NULL, &scene.result), KT_OK);
        assert_int_equal(scene.result.attempts, 1);
        scene_stop(&scene);
        char key[64];
        snprintf(key, sizeof(key), "%s", param_of(scene.servers[0].requests[1], "idempotency_key"));
        assert_int_equal(strlen(key), 36);
        assert_string_equal(param_of(scene.servers[1].requests[1], "idempotency_key"), key);
        scene_release(&scene);
    }
}

static void machine_call__node_hangs__goes_on_elsewhere_within_the_attempt(void **state)
{
    (void)state;
    /* Time enough for a node that answers, on a machine that has much else to do. */
    struct scene scene = {.servers = {{.steps = {HANG}}, {.steps = {HELLO_OK, OK}}}, .options = {.attempt_ms = 1000}};
    scene_open(&scene);
    assert_int_equal(kontiki_machine_call(scene.client, "APPLY_EVENT", NULL, &scene.result), KT_OK);
    assert_true(scene.result.attempts >= 2);
    scene_stop(&scene);
    scene_release(&scene);
}

static void machine_call__no_answer_until_the_deadline__is_unknown_for_writes_and_unavailable_else(void **state)
{
    (void)state;
    static const struct {
        const char *op, *hello, *step;
        enum kt_code code;
    } rows[] = {
        {"APPLY_EVENT", HELLO_OK, HANG, KT_OUTCOME_UNKNOWN},
        {"PUT_MACHINE", HELLO_OK, HANG, KT_OUTCOME_UNKNOWN},
        {"GET_INSTANCE", HELLO_OK, HANG, KT_UNAVAILABLE},
        {"APPLY_EVENT", HANG, OK, KT_UNAVAILABLE}, /* greeted in vain: the write never left */
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct scene scene = {.servers = {{.steps = {rows[i].hello, rows[i].step}}},
                              .options = {.attempt_ms = 5000, .timeout_ms = 100}};
        scene_open(&scene);
        kt_time_ms started = kt_clock_ms();
        assert_int_equal(kontiki_machine_call(scene.client, rows[i].op, NULL, &scene.result), rows[i].code);
        assert_true(kt_clock_ms() - started >= 100);
        assert_true(kt_clock_ms() - started < 5000);
        assert_non_null(strstr(scene.result.text, "does not answer in time"));
        scene_stop(&scene);
        scene_release(&scene);
    }
}

static void machine_call__nobody_listens__is_unavailable(void **state)
{
    (void)state;
    struct server gone = {.listener = -1};
    server_listen(&gone);
    close(gone.listener);
    const char *endpoints[] = {gone.endpoint};
    struct kontiki_options options = {.machine = endpoints, .machine_count = 1, .timeout_ms = 60};
    struct kontiki_client *client;
    struct kontiki_result result;
    assert_int_equal(kontiki_open(&options, &client, NULL, 0), KT_OK);
    assert_int_equal(kontiki_machine_call(client, "APPLY_EVENT", NULL, &result), KT_UNAVAILABLE);
    assert_int_equal(kt_code_outcome(result.code), KT_NOT_DONE);
    assert_non_null(strstr(result.text, "cannot connect: "));
    assert_string_equal(result.server_code, "");
    assert_true(result.attempts > 1);
    kontiki_result_release(&result);
    kontiki_close(client);
}

static void machine_call__unkeyed_write_lost__is_unknown_and_not_repeated(void **state)
{
    (void)state;
    static const char *const steps[] = {CLOSE, UNKNOWN};
    for (size_t i = 0; i < KT_COUNT(steps); i++) {
        struct scene scene = {.servers = {{.steps = {HELLO_OK, steps[i], HELLO_OK, OK}}}};
        scene_open(&scene);
        assert_int_equal(kontiki_machine_call(scene.client, "FLUSH_ALL", NULL, &scene.result), KT_OUTCOME_UNKNOWN);
        assert_int_equal(scene.result.attempts, 1);
        scene_stop(&scene);
        scene_release(&scene);
        scene = (struct scene){.servers = {{.steps = {HELLO_OK, steps[i], i ? OK : HELLO_OK, OK}}},
                               .options = {.retry_unknown = true}};
        scene_open(&scene);
        assert_int_equal(kontiki_machine_call(scene.client, "FLUSH_ALL", NULL, &scene.result), KT_OK);
        assert_int_equal(scene.result.attempts, 2);
        scene_stop(&scene);
        scene_release(&scene);
    }
}

static void machine_call__refused_after_a_lost_attempt__is_unknown(void **state)
{
    (void)state;
    struct scene scene = {.servers = {{.steps = {HELLO_OK, CLOSE, HELLO_OK, REFUSED("GUARD_FAILED", "false", "{}")}}}};
    scene_open(&scene);
    assert_int_equal(kontiki_machine_call(scene.client, "APPLY_EVENT", NULL, &scene.result), KT_OUTCOME_UNKNOWN);
    assert_string_equal(scene.result.server_code, "GUARD_FAILED");
    kontiki_result_release(&scene.result);
    scene_stop(&scene);
    scene_release(&scene);
    /* Refused at once it is a refusal. */
    scene =
        (struct scene){.servers = {{.steps = {HELLO_OK, REFUSED("GUARD_FAILED", "false", "{\"guard\":\"a > 1\"}")}}}};
    scene_open(&scene);
    assert_int_equal(kontiki_machine_call(scene.client, "APPLY_EVENT", NULL, &scene.result), KT_GUARD_FAILED);
    assert_string_equal(scene.result.details, "{\"guard\":\"a > 1\"}");
    assert_string_equal(scene.result.text, "no");
    assert_false(scene.result.server_retryable);
    assert_int_equal(scene.result.attempts, 1);
    scene_stop(&scene);
    scene_release(&scene);
}

static void machine_call__token__is_sent_before_and_a_wrong_one_is_final(void **state)
{
    (void)state;
    struct scene scene = {.servers = {{.steps = {HELLO_OK, OK, OK}}}, .options = {.token = "sec\"ret"}};
    scene_open(&scene);
    assert_int_equal(kontiki_machine_call(scene.client, "INFO", NULL, &scene.result), KT_OK);
    scene_stop(&scene);
    assert_non_null(strstr(scene.servers[0].requests[1], "\"op\":\"AUTH\""));
    assert_string_equal(param_of(scene.servers[0].requests[1], "token"), "sec\"ret");
    assert_string_equal(param_of(scene.servers[0].requests[1], "method"), "bearer");
    scene_release(&scene);
    scene = (struct scene){.servers = {{.steps = {HELLO_OK, REFUSED("AUTH_FAILED", "false", "{}"), HELLO_OK}}},
                           .options = {.token = "wrong"}};
    scene_open(&scene);
    assert_int_equal(kontiki_machine_call(scene.client, "INFO", NULL, &scene.result), KT_BAD_CREDENTIALS);
    assert_int_equal(scene.result.attempts, 1);
    scene_stop(&scene);
    scene_release(&scene);
}

static void machine_call__bad_arguments__send_nothing(void **state)
{
    (void)state;
    struct scene scene = {.servers = {{.steps = {HELLO_OK}}}};
    scene_open(&scene);
    static const char *const params[] = {"", "{", "[]", "null", "{} {}", "{\"a\":1e999}"};
    for (size_t i = 0; i < KT_COUNT(params); i++) {
        assert_int_equal(kontiki_machine_call(scene.client, "INFO", params[i], &scene.result), KT_BAD_REQUEST);
        assert_true(strlen(scene.result.text) > 0);
        assert_string_equal(scene.result.server_code, "");
    }
    static const char *const ops[] = {"", "info", "INFO\"", "A B", "THIS_NAME_HAS_MORE_THAN_32_LETTERS"};
    for (size_t i = 0; i < KT_COUNT(ops); i++)
        assert_int_equal(kontiki_machine_call(scene.client, ops[i], NULL, &scene.result), KT_BAD_REQUEST);
    assert_int_equal(kontiki_kv_ping(scene.client, &scene.result), KT_BAD_REQUEST);
    size_t len = KONTIKI_FRAME_BYTES_MAX;
    char *large = malloc(len + 1);
    assert_non_null(large);
    memset(large, 'x', len);
    memcpy(large, "{\"a\":\"", 6);
    memcpy(large + len - 2, "\"}", 3);
    assert_int_equal(kontiki_machine_call(scene.client, "INFO", large, &scene.result), KT_TOO_LARGE);
    free(large);
    scene_stop(&scene);
    assert_int_equal(scene.servers[0].count, 0);
    scene_release(&scene);
}

static void rcp_answer__of_every_error_code__is_mapped(void **state)
{
    (void)state;
    static const struct {
        const char *name, *details;
        enum kt_code code;
    } rows[] = {
        {"UNSUPPORTED_PROTOCOL", "{}", KT_BAD_VERSION},
        {"BAD_REQUEST", "{}", KT_BAD_REQUEST},
        {"UNAUTHORIZED", "{}", KT_UNAUTHENTICATED},
        {"AUTH_FAILED", "{}", KT_BAD_CREDENTIALS},
        {"NOT_FOUND", "{}", KT_NOT_FOUND},
        {"MACHINE_NOT_FOUND", "{}", KT_MACHINE_NOT_FOUND},
        {"MACHINE_VERSION_EXISTS", "{}", KT_MACHINE_EXISTS},
        {"MACHINE_VERSION_LIMIT_EXCEEDED", "{}", KT_MACHINE_LIMIT},
        {"INSTANCE_NOT_FOUND", "{}", KT_INSTANCE_NOT_FOUND},
        {"INSTANCE_EXISTS", "{}", KT_INSTANCE_EXISTS},
        {"INVALID_TRANSITION", "{}", KT_INVALID_TRANSITION},
        {"GUARD_FAILED", "{}", KT_GUARD_FAILED},
        {"CONFLICT", "{}", KT_CONFLICT},
        {"WAL_IO_ERROR", "{}", KT_IO_FAILED},
        {"RATE_LIMITED", "{}", KT_BUSY},
        {"INTERNAL_ERROR", "{}", KT_INTERNAL},
        {"INTERNAL_ERROR", "{\"reason\":\"no_leader\"}", KT_UNAVAILABLE},
        {"INTERNAL_ERROR", "{\"reason\":\"unknown_outcome\"}", KT_OUTCOME_UNKNOWN},
        {"INTERNAL_ERROR", "{\"reason\":\"busy\"}", KT_BUSY},
        {"INTERNAL_ERROR", "{\"reason\":\"shutting_down\"}", KT_SHUTTING_DOWN},
        {"INTERNAL_ERROR", "{\"reason\":7}", KT_INTERNAL},
        {"A_NEW_ONE", "{}", KT_INTERNAL},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        char text[256];
        struct kontiki_result result = {.code = KT_OK};
        snprintf(text, sizeof(text),
                 "{\"id\":\"7\",\"status\":\"error\",\"error\":{\"code\":\"%s\",\"message\":\"m\",\"details\":%s}}",
                 rows[i].name, rows[i].details);
        assert_int_equal(rcp_answer_read(kt_slice_text(text), 7, &result, NULL), KT_OK);
        assert_int_equal(result.code, rows[i].code);
        assert_string_equal(result.server_code, rows[i].name);
        assert_string_equal(result.details, rows[i].details);
        kontiki_result_release(&result);
    }
}

static void rcp_answer__malformed__is_told_apart_from_events(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum kt_code code;
    } rows[] = {
        {"{\"type\":\"event\",\"subscription_id\":\"s\"}", KT_MORE},
        {"{\"type\":\"response\",\"id\":\"8\",\"status\":\"ok\",\"result\":{}}", KT_BAD_FRAME},
        {"{\"type\":\"response\",\"id\":7,\"status\":\"ok\",\"result\":{}}", KT_BAD_FRAME},
        {"{\"type\":\"response\",\"id\":\"7\",\"status\":\"ok\"}", KT_BAD_FRAME},
        {"{\"type\":\"response\",\"id\":\"7\",\"status\":\"ok\",\"result\":[]}", KT_BAD_FRAME},
        {"{\"type\":\"response\",\"id\":\"7\"}", KT_BAD_FRAME},
        {"{\"type\":\"response\",\"id\":\"7\",\"status\":\"error\"}", KT_BAD_FRAME},
        {"{\"type\":\"response\",\"id\":\"7\",\"status\":\"error\",\"error\":{\"code\":1}}", KT_BAD_FRAME},
        {"[]", KT_BAD_FRAME},
        {"", KT_BAD_FRAME},
        {"{\"id\":", KT_BAD_FRAME},
        {"{\"id\":\"\",\"status\":\"error\",\"error\":{\"code\":\"BAD_REQUEST\"}}", KT_OK},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct kontiki_result result = {.code = KT_OK};
        assert_int_equal(rcp_answer_read(kt_slice_text(rows[i].text), 7, &result, NULL), rows[i].code);
        kontiki_result_release(&result);
    }
}

static void rcp_frame__written_and_read__is_the_documented_one(void **state)
{
    (void)state;
    struct kt_buf out;
    char digits[256];
    struct rcp_frame frame;
    kt_buf_init(&out, 256);
    rcp_frame_write(&out, kt_slice_text("{\"type\":\"request\",\"id\":\"1\",\"op\":\"PING\",\"params\":{}}"));
    assert_int_equal(kt_buf_code(&out), KT_OK);
    kt_hex(out.data, out.len, digits);
    assert_string_equal(digits, "5243505800010001000000000033c32009c4"
                                "7b2274797065223a2272657175657374222c226964223a2231222c226f70223a2250494e47222c"
                                "22706172616d73223a7b7d7d");
    assert_int_equal(rcp_frame_read(out.data, &frame, NULL), KT_OK);
    assert_int_equal(frame.payload_len, 51);
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{3, 0x31}, {5, 2}, {7, 0x11}, {10, 1}};
    for (size_t i = 0; i < KT_COUNT(wrong); i++) {
        uint8_t header[RCP_HEADER_BYTES];
        memcpy(header, out.data, sizeof(header));
        header[wrong[i].at] = wrong[i].value;
        assert_int_equal(rcp_frame_read(header, &frame, NULL), KT_BAD_FRAME);
    }
    kt_buf_release(&out);
}

/* ---- key-value calls ---- */

#define KV_OK        RAW "0000000e7e01000200000006000000000000"
#define KV_OK_1      RAW "0000000e7e01000200000006000100000000"
#define KV_NOT_FOUND RAW "0000000e7e0100020000000603f000000000"

static const struct kontiki_key greet_key = {"system", "collections", "greet", 5};

/* An answer of status 2000 with this text, as a step. Static memory. */
static const char *kv_failure(const char *text)
{
    static char step[512];
    char digits[256];
    unsigned len = (unsigned)strlen(text);
    kt_hex(text, len, digits);
    snprintf(step, sizeof(step), RAW "%08x7e010002%08x07d0%08x%s", 14 + len, 6 + len, len, digits);
    return step;
}

static void kv__commands__are_the_documented_bytes(void **state)
{
    (void)state;
    struct scene scene = {.servers = {{.kv = true,
                                       .steps = {RAW "000000127e0100020000000a000100000004706f6e67", KV_OK, KV_OK_1,
                                                 RAW "000000187e0100020000001000010000000a0c0000000548656c6c6f",
                                                 KV_NOT_FOUND, KV_NOT_FOUND, KV_OK, KV_OK}}}};
    scene_open(&scene);
    void *value;
    size_t len;
    assert_int_equal(kontiki_value_string("Hello", 5, &value, &len), KT_OK);
    assert_int_equal(kontiki_kv_ping(scene.client, &scene.result), KT_OK);
    assert_string_equal(scene.result.body, "pong");
    kontiki_result_release(&scene.result);
    assert_int_equal(kontiki_kv_set(scene.client, &greet_key, value, len, &scene.result), KT_OK);
    kontiki_result_release(&scene.result);
    uint64_t before_ns = kt_clock_wall_ms() * UINT64_C(1000000);
    assert_int_equal(kontiki_kv_set_ttl(scene.client, &greet_key, value, len, 60000, &scene.result), KT_OK);
    uint64_t after_ns = kt_clock_wall_ms() * UINT64_C(1000000);
    kontiki_result_release(&scene.result);
    assert_int_equal(kontiki_kv_get(scene.client, &greet_key, &scene.result), KT_OK);
    assert_int_equal(scene.result.body_len, len);
    assert_memory_equal(scene.result.body, value, len);
    kontiki_result_release(&scene.result);
    assert_int_equal(kontiki_kv_get(scene.client, &greet_key, &scene.result), KT_NOT_FOUND);
    assert_string_equal(scene.result.server_code, "1008");
    kontiki_result_release(&scene.result);
    assert_int_equal(kontiki_kv_exists(scene.client, &greet_key, &scene.result), KT_NOT_FOUND);
    kontiki_result_release(&scene.result);
    assert_int_equal(kontiki_kv_delete(scene.client, &greet_key, &scene.result), KT_OK);
    kontiki_result_release(&scene.result);
    assert_int_equal(kontiki_kv_keys(scene.client, &greet_key, &scene.result), KT_OK);
    scene_stop(&scene);
    char *const *requests = scene.servers[0].requests;
    assert_string_equal(requests[0], "7e0100010000000a00010000000000000000");
    assert_string_equal(requests[1], "7e0100010000002c07d1000673797374656d000b636f6c6c656374696f6e7300000011"
                                     "000567726565740c0000000548656c6c6f");
    static const char ttl[] = "7e0100010000003407d2000673797374656d000b636f6c6c656374696f6e7300000019"
                              "000567726565740c0000000548656c6c6f";
    assert_memory_equal(requests[2], ttl, sizeof(ttl) - 1);
    uint8_t expires[8];
    assert_true(kt_unhex(kt_slice_text(requests[2] + sizeof(ttl) - 1), expires, 8));
    assert_true(kt_get_be64(expires) >= before_ns + 60000 * UINT64_C(1000000));
    assert_true(kt_get_be64(expires) <= after_ns + 60000 * UINT64_C(1000000));
    assert_string_equal(requests[3], "7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e7300000007"
                                     "00056772656574");
    assert_memory_equal(requests[5], "7e0100010000002207d4", 20);
    assert_memory_equal(requests[6], "7e0100010000002207d3", 20);
    assert_string_equal(requests[7], "7e0100010000001b07d5000673797374656d000b636f6c6c656374696f6e7300000000");
    scene_release(&scene);
    kontiki_free(value);
}

static void kv__login__comes_first_and_a_refusal_is_final(void **state)
{
    (void)state;
    struct scene scene = {.servers = {{.kv = true, .steps = {KV_OK, KV_NOT_FOUND}}},
                          .options = {.user = "oliver", .password = "hello"}};
    scene_open(&scene);
    assert_int_equal(kontiki_kv_get(scene.client, &greet_key, &scene.result), KT_NOT_FOUND);
    scene_stop(&scene);
    assert_string_equal(scene.servers[0].requests[0],
                        "7e0100010000001a006400000000000000100100066f6c69766572000568656c6c6f");
    scene_release(&scene);
    scene = (struct scene){.servers = {{.kv = true, .steps = {RAW "0000000e7e0100020000000603ea00000000", KV_OK}}},
                           .options = {.user = "oliver", .password = "nope", .api_key = "hello"}};
    scene_open(&scene);
    assert_int_equal(kontiki_kv_get(scene.client, &greet_key, &scene.result), KT_BAD_CREDENTIALS);
    assert_int_equal(scene.result.attempts, 1);
    scene_stop(&scene);
    assert_string_equal(scene.servers[0].requests[0], "7e01000100000012006400000000000000080200"
                                                      "0568656c6c6f");
    scene_release(&scene);
}

static void kv__write_lost__is_unknown_unless_repeating_is_allowed(void **state)
{
    (void)state;
    const char *unknown = kv_failure("UNKNOWN: leadership was lost");
    const char *steps[] = {CLOSE, unknown, RAW "00000004deadbeef"};
    for (size_t i = 0; i < KT_COUNT(steps); i++) {
        struct scene scene = {.servers = {{.kv = true, .steps = {steps[i], KV_OK}}}};
        scene_open(&scene);
        assert_int_equal(kontiki_kv_set(scene.client, &greet_key, "", 1, &scene.result), KT_OUTCOME_UNKNOWN);
        assert_int_equal(scene.result.attempts, 1);
        scene_stop(&scene);
        scene_release(&scene);
        scene =
            (struct scene){.servers = {{.kv = true, .steps = {steps[i], KV_OK}}}, .options = {.retry_unknown = true}};
        scene_open(&scene);
        assert_int_equal(kontiki_kv_set(scene.client, &greet_key, "", 1, &scene.result), KT_OK);
        assert_int_equal(scene.result.attempts, 2);
        scene_stop(&scene);
        scene_release(&scene);
        scene = (struct scene){.servers = {{.kv = true, .steps = {steps[i], KV_NOT_FOUND}}}};
        scene_open(&scene);
        assert_int_equal(kontiki_kv_get(scene.client, &greet_key, &scene.result), KT_NOT_FOUND);
        assert_int_equal(scene.result.attempts, 2);
        scene_stop(&scene);
        scene_release(&scene);
    }
}

static void kv__write_refused_for_want_of_a_leader__is_sent_again(void **state)
{
    (void)state;
    static const char *const texts[] = {"NOT_LEADER: node 2 leads", "UNAVAILABLE: no leader"};
    for (size_t i = 0; i < KT_COUNT(texts); i++) {
        struct scene scene = {
            .servers = {{.kv = true, .steps = {kv_failure(texts[i])}}, {.kv = true, .steps = {KV_OK}}}};
        scene_open(&scene);
        assert_int_equal(kontiki_kv_set(scene.client, &greet_key, "", 1, &scene.result), KT_OK);
        assert_int_equal(scene.result.attempts, 2);
        scene_stop(&scene);
        assert_int_equal(scene.servers[1].count, 1);
        scene_release(&scene);
    }
    /* Any other failure of the server is its answer. */
    struct scene scene = {.servers = {{.kv = true, .steps = {kv_failure("disk on fire"), KV_OK}}}};
    scene_open(&scene);
    assert_int_equal(kontiki_kv_set(scene.client, &greet_key, "", 1, &scene.result), KT_INTERNAL);
    assert_string_equal(scene.result.text, "disk on fire");
    assert_int_equal(kt_code_outcome(scene.result.code), KT_UNKNOWN);
    scene_stop(&scene);
    scene_release(&scene);
}

static void kv__connection_closed_while_idle__is_noticed_before_a_write_is_entrusted_to_it(void **state)
{
    (void)state;
    struct scene scene = {.servers = {{.kv = true, .steps = {AND_CLOSE KV_OK, KV_OK}}}};
    scene_open(&scene);
    assert_int_equal(kontiki_kv_ping(scene.client, &scene.result), KT_OK);
    kontiki_result_release(&scene.result);
    /* The close has arrived when the socket has something to read. */
    uint8_t byte;
    while (recv(scene.client->kv.fd, &byte, 1, MSG_PEEK) != 0)
        continue;
    assert_int_equal(kontiki_kv_set(scene.client, &greet_key, "", 1, &scene.result), KT_OK);
    assert_int_equal(scene.result.attempts, 1);
    scene_stop(&scene);
    scene_release(&scene);
}

static void kv__arguments_past_the_protocols_limits__are_refused(void **state)
{
    (void)state;
    struct scene scene = {.servers = {{.kv = true, .steps = {KV_OK}}}};
    scene_open(&scene);
    struct kontiki_key key = greet_key;
    key.key_len = 65536;
    assert_int_equal(kontiki_kv_get(scene.client, &key, &scene.result), KT_BAD_REQUEST);
    char *name = calloc(1, 65537);
    assert_non_null(name);
    memset(name, 'n', 65536);
    key = (struct kontiki_key){name, "c", "k", 1};
    assert_int_equal(kontiki_kv_get(scene.client, &key, &scene.result), KT_BAD_REQUEST);
    free(name);
    assert_int_equal(kontiki_kv_set_ttl(scene.client, &greet_key, "", 1, 0, &scene.result), KT_BAD_REQUEST);
    assert_int_equal(kontiki_kv_set_ttl(scene.client, &greet_key, "", 1, UINT64_MAX, &scene.result), KT_BAD_REQUEST);
    char *large = calloc(1, KONTIKI_FRAME_BYTES_MAX);
    assert_non_null(large);
    assert_int_equal(kontiki_kv_set(scene.client, &greet_key, large, KONTIKI_FRAME_BYTES_MAX, &scene.result),
                     KT_TOO_LARGE);
    assert_int_equal(kontiki_kv_set(scene.client, &greet_key, large, KONTIKI_FRAME_BYTES_MAX - 7, &scene.result),
                     KT_TOO_LARGE);
    free(large);
    scene_stop(&scene);
    assert_int_equal(scene.servers[0].count, 0);
    scene_release(&scene);
}

static void kv_answer__of_every_status__is_mapped_and_short_ones_are_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned status;
        enum kt_code code;
    } rows[] = {{0, KT_OK},
                {1, KT_OK},
                {1000, KT_BAD_FRAME},
                {1001, KT_UNKNOWN_COMMAND},
                {1002, KT_BAD_CREDENTIALS},
                {1003, KT_BAD_REQUEST},
                {1004, KT_UNAUTHENTICATED},
                {1005, KT_COLLECTION_NOT_FOUND},
                {1006, KT_COLLECTION_NOT_FOUND},
                {1007, KT_WRONG_ENGINE},
                {1008, KT_NOT_FOUND},
                {1009, KT_FORBIDDEN},
                {2000, KT_INTERNAL},
                {4711, KT_INTERNAL}};
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        uint8_t message[] = {0x7e, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 3, 'a', 'b', 'c'};
        struct kontiki_result result = {.code = KT_OK};
        kt_put_be16(message + 8, (uint16_t)rows[i].status);
        assert_int_equal(kv_answer_read(kt_slice(message, sizeof(message)), &result, NULL), KT_OK);
        assert_int_equal(result.code, rows[i].code);
        if (rows[i].code == KT_OK)
            assert_string_equal(result.body, "abc");
        else
            assert_string_equal(result.text, "abc");
        kontiki_result_release(&result);
        for (size_t len = 0; len < sizeof(message); len++)
            assert_int_equal(kv_answer_read(kt_slice(message, len), &result, NULL), KT_BAD_FRAME);
        for (size_t at = 0; at < 4; at++) {
            if (at == 2)
                continue; /* flags: ignored by everybody */
            message[at] ^= 1;
            assert_int_equal(kv_answer_read(kt_slice(message, sizeof(message)), &result, NULL), KT_BAD_FRAME);
            message[at] ^= 1;
        }
    }
}

/* ---- values ---- */

static void value_text__of_every_type__reads_well(void **state)
{
    (void)state;
    static const struct {
        const char *digits, *text; /* text NULL: no value */
    } rows[] = {
        {"00", "null"},
        {"0101", "true"},
        {"0100", "false"},
        {"02ab", "171"},
        {"031234", "4660"},
        {"04deadbeef", "3735928559"},
        {"05ffffffffffffffff", "18446744073709551615"},
        {"06fffe", "-2"},
        {"070000002a", "42"},
        {"088000000000000000", "-9223372036854775808"},
        {"093fc00000", "1.5"},
        {"0ac05edd2f1a9fbe77", "-123.456"},
        {"0a7ff8000000000000", "\"NaN\""},
        {"0afff0000000000000", "\"-Infinity\""},
        {"0b00000003010203", "010203"},
        {"0b00000000", ""},
        {"0c0000000548656c6c6f", "Hello"},
        {"0c00000003e282ac", "\xe2\x82\xac"},
        {"0d0c00030000001f0c0000000548656c6c6f0c00000005576f726c640c00000006466f6f426172",
         "[\"Hello\",\"World\",\"FooBar\"]"},
        {"0d0700020000000a07000000010700000002", "[1,2]"},
        {"0d00000000000000", "[]"},
        {"0e0700020000001b0c00000003616765070000001e0c000000046e616d650700000004", "{\"age\":30,\"name\":4}"},
        {"0e00000000000000", "{}"},
        {"0d0b0001000000060b00000001ff", "[\"ff\"]"},
        {"", NULL},
        {"0f", NULL},
        {"05ff", NULL},
        {"0000", NULL},
        {"0cffffffff41", NULL},
        {"0c000000014142", NULL},
        {"0d07000200000005070000000107", NULL},
        {"0e070001000000060b00000001610700000001", NULL},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        uint8_t bytes[64];
        char *text;
        size_t len = strlen(rows[i].digits) / 2, text_len;
        assert_true(kt_unhex(kt_slice_text(rows[i].digits), bytes, len));
        enum kt_code code = kontiki_value_text(bytes, len, &text, &text_len);
        assert_int_equal(code, rows[i].text ? KT_OK : KT_BAD_REQUEST);
        if (rows[i].text) {
            assert_string_equal(text, rows[i].text);
            assert_int_equal(text_len, strlen(rows[i].text));
        }
        kontiki_free(text);
    }
}

static void value_text__nested_without_end__is_refused(void **state)
{
    (void)state;
    static uint8_t bytes[8 * 100000];
    char *text;
    size_t len;
    for (size_t i = 0; i < sizeof(bytes); i += 8) {
        static const uint8_t list_of_one_list[8] = {13, 13, 0, 1, 0, 0, 0, 0};
        memcpy(bytes + i, list_of_one_list, 8);
    }
    assert_int_equal(kontiki_value_text(bytes, sizeof(bytes), &text, &len), KT_BAD_REQUEST);
}

/* ---- opening ---- */

static void open__senseless_options__are_refused_with_a_sentence(void **state)
{
    (void)state;
    static const char *const bad[] = {"nowhere"}, *const good[] = {"127.0.0.1:1"};
    static const char *const many[KONTIKI_ENDPOINTS_MAX + 1];
    const struct kontiki_options rows[] = {
        {.machine = bad, .machine_count = 1},
        {.kv = bad, .kv_count = 1},
        {.machine = good, .machine_count = 1, .kv = bad, .kv_count = 1},
        {.machine = many, .machine_count = KT_COUNT(many)},
        {.machine_count = 0},
        {.kv = good, .kv_count = 1, .user = "oliver"},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct kontiki_client *client;
        char text[200] = "";
        assert_int_equal(kontiki_open(&rows[i], &client, text, sizeof(text)), KT_BAD_REQUEST);
        assert_null(client);
        assert_true(strlen(text) > 0);
    }
    kontiki_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machine_call__answered__has_body_and_meta_and_greets_once),
        cmocka_unit_test(machine_call__keyed_operation__gets_a_key_unless_it_has_one),
        cmocka_unit_test(machine_call__node_lost_or_without_leader__goes_on_elsewhere_with_the_same_key),
        cmocka_unit_test(machine_call__node_hangs__goes_on_elsewhere_within_the_attempt),
        cmocka_unit_test(machine_call__no_answer_until_the_deadline__is_unknown_for_writes_and_unavailable_else),
        cmocka_unit_test(machine_call__nobody_listens__is_unavailable),
        cmocka_unit_test(machine_call__unkeyed_write_lost__is_unknown_and_not_repeated),
        cmocka_unit_test(machine_call__refused_after_a_lost_attempt__is_unknown),
        cmocka_unit_test(machine_call__token__is_sent_before_and_a_wrong_one_is_final),
        cmocka_unit_test(machine_call__bad_arguments__send_nothing),
        cmocka_unit_test(rcp_answer__of_every_error_code__is_mapped),
        cmocka_unit_test(rcp_answer__malformed__is_told_apart_from_events),
        cmocka_unit_test(rcp_frame__written_and_read__is_the_documented_one),
        cmocka_unit_test(kv__commands__are_the_documented_bytes),
        cmocka_unit_test(kv__login__comes_first_and_a_refusal_is_final),
        cmocka_unit_test(kv__write_lost__is_unknown_unless_repeating_is_allowed),
        cmocka_unit_test(kv__write_refused_for_want_of_a_leader__is_sent_again),
        cmocka_unit_test(kv__connection_closed_while_idle__is_noticed_before_a_write_is_entrusted_to_it),
        cmocka_unit_test(kv__arguments_past_the_protocols_limits__are_refused),
        cmocka_unit_test(kv_answer__of_every_status__is_mapped_and_short_ones_are_refused),
        cmocka_unit_test(value_text__of_every_type__reads_well),
        cmocka_unit_test(value_text__nested_without_end__is_refused),
        cmocka_unit_test(open__senseless_options__are_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
