/* The HTTP port's requests as bytes, and its connections with real sockets in one loop. */
#include "admin/admin_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS   20000 /* far beyond what anything here takes */
#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* ---- requests ---- */

static void parse__requests_of_every_kind__get_their_status(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned status;
        const char *path;
        bool head, keep_alive;
    } rows[] = {
        {GET("/status"), 200, "/status", false, true},
        {"GET / HTTP/1.1\nhost:x\n\n", 200, "/", false, true},
        {"\r\n\r\nHEAD /a?b=c HTTP/1.1\r\nHOST: x\r\nConnection: close\r\n\r\n", 200, "/a", true, false},
        {"GET / HTTP/1.0\r\n\r\n", 200, "/", false, false},
        {"GET / HTTP/1.0\r\nConnection: x , Keep-Alive\r\n\r\n", 200, "/", false, true},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, close\r\n\r\n", 200, "/", false, false},
        {"GET http://host:1/a/b?c HTTP/1.1\r\nHost: x\r\n\r\n", 200, "/a/b", false, true},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-A:\tb\r\n\r\n", 200, "/", false, true},
        {"GET / HTTP/1.1\r\n\r\n", 400, NULL, false, false},
        {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, NULL, false, false},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 400, NULL, false, false},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400, NULL, false, false},
        {"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400, NULL, false, false},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, NULL, false, false},
        {"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, NULL, false, false},
        {"GET / HTTP/1.1\r\nHost: \001\r\n\r\n", 400, NULL, false, false},
        {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400, NULL, false, false},
        {"GET status HTTP/1.1\r\nHost: x\r\n\r\n", 400, NULL, false, false},
        {"GET http://host HTTP/1.1\r\nHost: x\r\n\r\n", 400, NULL, false, false},
        {"GET /\r\n\r\n", 400, NULL, false, false},
        {"GET / HTTP/x.y\r\n\r\n", 400, NULL, false, false},
        {"nonsense\r\n\r\n", 400, NULL, false, false},
        {"{\"a\":1} / HTTP/1.1\r\nHost: x\r\n\r\n", 400, NULL, false, false},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 405, NULL, false, false},
        {"get / HTTP/1.1\r\nHost: x\r\n\r\n", 405, NULL, false, false},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, NULL, false, false},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, NULL, false, false},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct http_request request;
        size_t used;
        unsigned status = http_parse(kt_slice_text(rows[i].text), &request, &used);
        if (status != rows[i].status)
            fail_msg("%s: %u", rows[i].text, status);
        if (status != 200)
            continue;
        assert_true(kt_slice_is(request.path, rows[i].path));
        assert_int_equal(used, strlen(rows[i].text));
        assert_int_equal(request.head, rows[i].head);
        assert_int_equal(request.keep_alive, rows[i].keep_alive);
        /* Cut anywhere it is not complete, and never anything else. */
        for (size_t len = 0; len < used; len++)
            assert_int_equal(http_parse(kt_slice(rows[i].text, len), &request, &used), 0);
    }
}

static void parse__head_at_and_past_the_limit__is_taken_and_refused(void **state)
{
    (void)state;
    static char text[HTTP_HEAD_BYTES_MAX + 2];
    struct http_request request;
    size_t used;
    int begin = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    memset(text + begin, 'y', sizeof(text) - (size_t)begin);
    memcpy(text + HTTP_HEAD_BYTES_MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(http_parse(kt_slice(text, HTTP_HEAD_BYTES_MAX), &request, &used), 200);
    memset(text + begin, 'y', sizeof(text) - (size_t)begin);
    assert_int_equal(http_parse(kt_slice(text, HTTP_HEAD_BYTES_MAX - 1), &request, &used), 0);
    assert_int_equal(http_parse(kt_slice(text, HTTP_HEAD_BYTES_MAX), &request, &used), 431);
    memcpy(text + HTTP_HEAD_BYTES_MAX - 2, "\r\n\r\n", 4);
    assert_int_equal(http_parse(kt_slice(text, HTTP_HEAD_BYTES_MAX + 2), &request, &used), 431);
}

/* ---- connections ---- */

struct scene {
    uv_loop_t loop;
    uv_timer_t watchdog;
    struct http_server *server;
    unsigned handled;
    bool closed;
};

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer; /* the loop comes round */
}

static void on_closed(void *data)
{
    struct scene *scene = data;
    scene->closed = true;
}

static void handle(void *data, struct kt_slice path, struct http_response *response)
{
    struct scene *scene = data;
    scene->handled++;
    if (kt_slice_is(path, "/hello")) {
        response->status = 200;
        kt_buf_append_text(&response->body, "hello\n");
    } else if (kt_slice_is(path, "/large")) {
        response->status = 200;
        for (unsigned i = 0; i < 100000; i++)
            kt_buf_append_text(&response->body, "0123456789");
    } else if (kt_slice_is(path, "/too-large")) {
        response->status = 200;
        for (unsigned i = 0; i < 200000; i++)
            kt_buf_append_text(&response->body, "0123456789");
    }
}

static void scene_open(struct scene *scene, unsigned idle_ms, unsigned connections_max)
{
    memset(scene, 0, sizeof(*scene));
    assert_int_equal(uv_loop_init(&scene->loop), 0);
    assert_int_equal(uv_timer_init(&scene->loop, &scene->watchdog), 0);
    uv_timer_start(&scene->watchdog, on_watchdog, 5, 5);
    struct http_options options = {.loop = &scene->loop,
                                   .address = "127.0.0.1:0",
                                   .idle_ms = idle_ms,
                                   .connections_max = connections_max,
                                   .handle = handle,
                                   .data = scene};
    assert_int_equal(http_open(&options, &scene->server, NULL), KT_OK);
}

#define RUN_UNTIL(scene, condition)                                                                                    \
    do {                                                                                                               \
        uint64_t run_end_ = uv_hrtime() / 1000000u + WAIT_MS;                                                          \
        while (!(condition)) {                                                                                         \
            uv_run(&(scene)->loop, UV_RUN_ONCE);                                                                       \
            if (uv_hrtime() / 1000000u > run_end_)                                                                     \
                fail_msg("waited in vain for: %s", #condition);                                                        \
        }                                                                                                              \
    } while (0)

static void scene_close(struct scene *scene)
{
    http_close(scene->server, on_closed, scene);
    uv_close((uv_handle_t *)&scene->watchdog, NULL);
    RUN_UNTIL(scene, scene->closed);
    uv_run(&scene->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&scene->loop), 0);
}

static int dial(const struct scene *scene)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_port(scene->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

struct input {
    char text[4096];
    size_t len; /* kept; what does not fit is counted only */
    size_t total;
    bool closed;
};

static bool poll_input(int fd, struct input *in)
{
    char bytes[65536];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n > 0) {
        size_t kept = KT_MIN((size_t)n, sizeof(in->text) - 1 - in->len);
        memcpy(in->text + in->len, bytes, kept);
        in->len += kept;
        in->text[in->len] = '\0';
        in->total += (size_t)n;
    } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
        in->closed = true;
    }
    return in->closed;
}

static unsigned count_of(const struct input *in, const char *part)
{
    unsigned count = 0;
    for (const char *at = in->text; (at = strstr(at, part)); at += strlen(part))
        count++;
    return count;
}

static bool poll_count(int fd, struct input *in, const char *part, unsigned count)
{
    poll_input(fd, in);
    return count_of(in, part) >= count;
}

static void http__requests_on_one_connection__are_answered_in_order(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 30000, 4);
    int fd = dial(&scene);
    struct input in = {.len = 0};
    put(fd, GET("/hello"));
    RUN_UNTIL(&scene, poll_count(fd, &in, "\r\n\r\nhello\n", 1));
    assert_non_null(strstr(in.text, "HTTP/1.1 200 OK\r\nDate: "));
    assert_non_null(strstr(in.text, "Content-Length: 6\r\n"));
    assert_non_null(strstr(in.text, "Connection: keep-alive\r\n"));
    /* Several at once, in pieces. */
    in = (struct input){.len = 0};
    put(fd, GET("/none") GET("/hello") "HEAD /hello HTTP/1.1\r\nHo");
    RUN_UNTIL(&scene, poll_count(fd, &in, "hello\n", 1));
    put(fd, "st: x\r\n\r\n" GET("/too-large"));
    RUN_UNTIL(&scene, poll_count(fd, &in, "Internal Server Error\n", 1));
    assert_int_equal(count_of(&in, "HTTP/1.1 404 Not Found\r\n"), 1);
    assert_int_equal(count_of(&in, "HTTP/1.1 200 OK\r\n"), 2);
    assert_int_equal(count_of(&in, "HTTP/1.1 500 "), 1);
    assert_int_equal(count_of(&in, "\r\n\r\nhello\n"), 1);
    assert_true(strstr(in.text, " 404 ") < strstr(in.text, " 200 "));
    assert_int_equal(http_connections(scene.server), 1);
    close(fd);
    RUN_UNTIL(&scene, http_connections(scene.server) == 0);
    scene_close(&scene);
}

static void http__client_that_half_closes__gets_its_answer(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 30000, 4);
    int fd = dial(&scene);
    struct input in = {.len = 0};
    put(fd, GET("/large"));
    shutdown(fd, SHUT_WR);
    RUN_UNTIL(&scene, poll_input(fd, &in));
    assert_true(in.total > 1000000);
    close(fd);
    scene_close(&scene);
}

static void http__errors__are_answered_and_closed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *answer;
    } rows[] = {
        {"garbage\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
        {"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 405 Method Not Allowed\r\n"},
        {"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "Allow: GET, HEAD\r\n"},
        {"GET / HTTP/3.0\r\n\r\n", "HTTP/1.1 505 "},
        {"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET("/hello"), "Connection: close\r\n"},
    };
    struct scene scene;
    scene_open(&scene, 30000, 4);
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct input in = {.len = 0};
        int fd = dial(&scene);
        put(fd, rows[i].text);
        RUN_UNTIL(&scene, poll_input(fd, &in));
        if (!strstr(in.text, rows[i].answer))
            fail_msg("%s", in.text);
        assert_int_equal(count_of(&in, "HTTP/1.1 "), 1);
        assert_int_equal(count_of(&in, "Connection: close\r\n"), 1);
        close(fd);
    }
    assert_int_equal(scene.handled, 1);
    /* A head without end. */
    struct input in = {.len = 0};
    char line[101] = {0};
    int fd = dial(&scene);
    memset(line, 'a', 100);
    put(fd, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    for (unsigned i = 0; i < 100; i++)
        put(fd, line);
    RUN_UNTIL(&scene, poll_input(fd, &in));
    assert_non_null(strstr(in.text, "HTTP/1.1 431 "));
    close(fd);
    scene_close(&scene);
}

static void http__silent_and_slow_clients__are_closed(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 60, 4);
    int silent = dial(&scene), slow = dial(&scene);
    struct input in[2] = {{.len = 0}, {.len = 0}};
    put(slow, "GET / HTTP/1.1\r\nHo");
    RUN_UNTIL(&scene, http_connections(scene.server) == 2);
    RUN_UNTIL(&scene, poll_input(silent, &in[0]) && poll_input(slow, &in[1]));
    assert_int_equal(in[0].total + in[1].total, 0);
    assert_int_equal(http_connections(scene.server), 0);
    close(silent);
    close(slow);
    scene_close(&scene);
}

static void http__one_connection_too_many__is_closed_and_the_others_serve(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 30000, 2);
    int first = dial(&scene), second = dial(&scene), third = dial(&scene);
    struct input in = {.len = 0};
    RUN_UNTIL(&scene, poll_input(third, &in));
    assert_int_equal(in.total, 0);
    put(second, GET("/hello"));
    in = (struct input){.len = 0};
    RUN_UNTIL(&scene, poll_count(second, &in, "hello\n", 1));
    assert_int_equal(http_connections(scene.server), 2);
    close(first);
    close(second);
    close(third);
    scene_close(&scene);
}

static void http__client_that_leaves_before_its_answer__harms_nobody(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 30000, 4);
    for (unsigned i = 0; i < 8; i++) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        int fd = dial(&scene);
        put(fd, GET("/large"));
        if (i % 2)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        RUN_UNTIL(&scene, scene.handled == i + 1);
        close(fd);
        RUN_UNTIL(&scene, http_connections(scene.server) == 0);
    }
    scene_close(&scene);
}

static void http__closed_in_every_state__leaves_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "GET /", GET("/large"), "garbage\r\n\r\n"};
    for (size_t i = 0; i < KT_COUNT(texts); i++) {
        struct scene scene;
        scene_open(&scene, 30000, 4);
        int fd = dial(&scene);
        put(fd, texts[i]);
        RUN_UNTIL(&scene, http_connections(scene.server) == 1);
        for (unsigned turns = 0; turns < 3 * i; turns++)
            uv_run(&scene.loop, UV_RUN_ONCE);
        scene_close(&scene);
        close(fd);
    }
}

static void http__address_in_use_or_senseless__is_refused(void **state)
{
    (void)state;
    struct scene scene;
    struct kt_error error;
    struct http_server *server;
    char address[32];
    scene_open(&scene, 30000, 2);
    snprintf(address, sizeof(address), "127.0.0.1:%u", http_port(scene.server));
    struct http_options options = {.loop = &scene.loop, .address = address};
    assert_int_equal(http_open(&options, &server, &error), KT_IO_FAILED);
    assert_non_null(strstr(error.text, address));
    options.address = "nowhere";
    assert_int_equal(http_open(&options, &server, &error), KT_BAD_REQUEST);
    assert_null(server);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__requests_of_every_kind__get_their_status),
        cmocka_unit_test(parse__head_at_and_past_the_limit__is_taken_and_refused),
        cmocka_unit_test(http__requests_on_one_connection__are_answered_in_order),
        cmocka_unit_test(http__client_that_half_closes__gets_its_answer),
        cmocka_unit_test(http__errors__are_answered_and_closed),
        cmocka_unit_test(http__silent_and_slow_clients__are_closed),
        cmocka_unit_test(http__one_connection_too_many__is_closed_and_the_others_serve),
        cmocka_unit_test(http__client_that_leaves_before_its_answer__harms_nobody),
        cmocka_unit_test(http__closed_in_every_state__leaves_nothing),
        cmocka_unit_test(http__address_in_use_or_senseless__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
