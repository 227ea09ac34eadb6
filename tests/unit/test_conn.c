/*
 * Connections with real sockets on the loopback interface, clients and server in one loop and one thread. The protocol
 * is a toy of lines, so that what is tested is the gateway:
 *
 *   e<text>  answers <text> at once          b<n>  answers n bytes of 'x' at once
 *   d        answers when the test says so   p     the same, and the connection pauses until then
 *   q        answers "bye" and finishes      !     cannot be followed any further
 *   o        writes more than an answer may hold
 */
#include "gateway/gateway_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define WAIT_MS     20000 /* far beyond what anything here takes, also under a sanitizer on a busy machine */
#define DELAYED_MAX 2048
#define TOY_MAX     (4u << 20)

struct fixture {
    uv_loop_t loop;
    uv_timer_t turn; /* so that a turn of the loop never sleeps for long */
    struct kt_auth *auth;
    struct kt_dispatch *dispatch;
    struct kt_gateway *gateway;
    unsigned port;
    bool drained, closed;
};

static struct kt_answer *delayed[DELAYED_MAX];
static unsigned delayed_count, opened, closed_count, taken;

static void toy_open(struct kt_conn *conn, const void *settings)
{
    (void)conn;
    (void)settings;
    opened++;
}

static void toy_close(struct kt_conn *conn)
{
    (void)conn;
    closed_count++;
}

static void answer_bytes(struct kt_conn *conn, size_t n)
{
    struct kt_answer *answer = kt_answer_begin(conn);

    for (size_t i = 0; i < n; i++)
        kt_buf_append_u8(kt_answer_buf(answer), 'x');
    kt_answer_ready(answer);
}

static enum kt_code toy_take(struct kt_conn *conn, struct kt_slice in, size_t *used)
{
    const char *line = in.data;
    const char *end = memchr(line, '\n', in.len);

    if (!end)
        return KT_MORE;
    *used = (size_t)(end - line) + 1;
    taken++;
    switch (line[0]) {
    case 'e':
        kt_answer_now(conn, kt_slice(line + 1, *used - 1));
        return KT_OK;
    case 'b':
        answer_bytes(conn, (size_t)strtoul(line + 1, NULL, 10));
        return KT_OK;
    case 'p':
        kt_conn_pause(conn);
        delayed[delayed_count++] = kt_answer_begin(conn);
        return KT_OK;
    case 'd':
        delayed[delayed_count++] = kt_answer_begin(conn);
        return KT_OK;
    case 'o':
        answer_bytes(conn, TOY_MAX + 1);
        return KT_OK;
    case 'q':
        kt_answer_now(conn, kt_slice_text("bye\n"));
        kt_conn_finish(conn);
        return KT_OK;
    default:
        kt_answer_now(conn, kt_slice_text("what?\n"));
        return KT_BAD_FRAME;
    }
}

static enum kt_code toy_check(const void *settings, struct kt_error *error)
{
    return settings ? kt_error_set(error, KT_BAD_REQUEST, "the toy takes no settings") : KT_OK;
}

static const struct kt_protocol toy = {
    .name = "toy",
    .conn_size = 16,
    .frame_bytes_max = TOY_MAX,
    .check = toy_check,
    .open = toy_open,
    .close = toy_close,
    .take = toy_take,
};

static void on_turn(uv_timer_t *timer)
{
    (void)timer;
}

static void on_drained(void *data)
{
    ((struct fixture *)data)->drained = true;
}

static void on_closed(void *data)
{
    ((struct fixture *)data)->closed = true;
}

#define until(f, condition)                                                                                            \
    do {                                                                                                               \
        kt_time_ms limit_ms = kt_clock_ms() + WAIT_MS;                                                                 \
        while (!(condition)) {                                                                                         \
            assert_true(kt_clock_ms() < limit_ms);                                                                     \
            uv_run(&(f)->loop, UV_RUN_ONCE);                                                                           \
        }                                                                                                              \
    } while (0)

static void fixture_open(struct fixture *f, unsigned connections_max, unsigned idle_s)
{
    struct kt_auth_options auth = {.required = false};
    struct kt_error error;

    memset(f, 0, sizeof(*f));
    delayed_count = opened = closed_count = taken = 0;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->turn);
    uv_timer_start(&f->turn, on_turn, 1, 1);
    assert_int_equal(kt_auth_create(&auth, &f->auth, &error), KT_OK);
    struct kt_dispatch_options dispatch = {
        .loop = &f->loop, .auth = f->auth, .timeout_ms = 1000, .requests_max = 10, .bytes_max = 1000};
    assert_int_equal(kt_dispatch_open(&dispatch, &f->dispatch, &error), KT_OK);
    struct kt_gateway_options gateway = {.loop = &f->loop, .dispatch = f->dispatch, .connections_max = connections_max};
    assert_int_equal(kt_gateway_open(&gateway, &f->gateway, &error), KT_OK);
    struct kt_listen_options listen = {.protocol = &toy, .address = "127.0.0.1:0", .idle_s = idle_s};
    assert_int_equal(kt_gateway_listen(f->gateway, &listen, &f->port, &error), KT_OK);
    assert_true(f->port > 0);
}

static void fixture_close(struct fixture *f)
{
    kt_gateway_close(f->gateway, on_closed, f);
    until(f, f->closed);
    kt_dispatch_close(f->dispatch);
    uv_close((uv_handle_t *)&f->turn, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    kt_auth_free(f->auth);
    assert_int_equal(opened, closed_count);
}

/* Clients. */

struct client {
    int fd;
    bool eof, reset;
    size_t len;
    char *got; /* NUL-terminated */
};

static struct client dial(const struct fixture *f)
{
    struct client client = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)f->port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(client.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(fcntl(client.fd, F_SETFL, O_NONBLOCK), 0);
    client.got = kt_zalloc(1);
    return client;
}

static void hang_up(struct client *client)
{
    close(client->fd);
    kt_free(client->got);
}

static void say(struct fixture *f, struct client *client, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = send(client->fd, text, len, MSG_NOSIGNAL);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            uv_run(&f->loop, UV_RUN_ONCE);
            continue;
        }
        text += n;
        len -= (size_t)n;
    }
}

static void hear(struct client *client)
{
    static char piece[256 << 10];
    ssize_t n;

    while ((n = recv(client->fd, piece, sizeof(piece), 0)) > 0) {
        client->got = kt_realloc(client->got, client->len + (size_t)n + 1);
        memcpy(client->got + client->len, piece, (size_t)n);
        client->len += (size_t)n;
        client->got[client->len] = 0;
    }
    if (n == 0)
        client->eof = true;
    else if (errno != EAGAIN)
        client->reset = true;
}

static bool heard(struct client *client, size_t len)
{
    hear(client);
    return client->len >= len;
}

static bool ended(struct client *client)
{
    hear(client);
    return client->eof || client->reset;
}

static void release(unsigned i, const char *text)
{
    struct kt_answer *answer = delayed[i];
    struct kt_conn *conn = kt_answer_conn(answer);

    if (conn && conn->paused > 0)
        kt_conn_resume(conn);
    kt_buf_append_text(kt_answer_buf(answer), text);
    kt_answer_ready(answer);
}

/* Tests. */

static void conn__pipelined_messages__are_answered_in_order(void **state)
{
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "eone\nd\netwo\nd\nethree\n");
    until(&f, taken == 5);
    until(&f, heard(&client, 4));
    assert_string_equal(client.got, "one\n");
    release(1, "second\n");
    uv_run(&f.loop, UV_RUN_ONCE);
    hear(&client);
    assert_string_equal(client.got, "one\n");
    release(0, "first\n");
    until(&f, heard(&client, 4 + 6 + 4 + 7 + 6));
    assert_string_equal(client.got, "one\nfirst\ntwo\nsecond\nthree\n");
    hang_up(&client);
    fixture_close(&f);
}

static void conn__message_in_single_bytes__is_taken_when_whole(void **state)
{
    static const char text[] = "ehello\n";
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    until(&f, opened == 1);
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        char one[2] = {text[i], 0};

        assert_int_equal(taken, 0);
        say(&f, &client, one);
        uv_run(&f.loop, UV_RUN_ONCE);
    }
    until(&f, heard(&client, 6));
    assert_string_equal(client.got, "hello\n");
    hang_up(&client);
    fixture_close(&f);
}

static void conn__idle_after_a_large_message__owns_no_buffer(void **state)
{
    struct fixture f;
    struct client client;
    char *large = kt_alloc(300003);

    (void)state;
    memset(large, 'y', 300000);
    large[0] = 'e';
    large[300000] = '\n';
    large[300001] = 0;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, large);
    until(&f, heard(&client, 300000));
    assert_int_equal(client.len, 300000);

    struct kt_listener *listener = kt_list_first(&f.gateway->listeners, struct kt_listener, link);
    struct kt_conn *conn = kt_list_first(&listener->conns, struct kt_conn, link);
    assert_int_equal(conn->in.cap, 0);
    assert_int_equal(conn->answer_count, 0);
    assert_true(sizeof(*conn) + toy.conn_size < 3 * 1024);
    hang_up(&client);
    kt_free(large);
    fixture_close(&f);
}

static void conn__client_shuts_its_sending_side__still_gets_its_answers(void **state)
{
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "d\neafter\nehalf a mess");
    shutdown(client.fd, SHUT_WR);
    until(&f, taken == 2);
    assert_int_equal(kt_gateway_connections(f.gateway), 1);
    release(0, "before\n");
    until(&f, ended(&client));
    assert_string_equal(client.got, "before\nafter\n");
    assert_true(client.eof);
    until(&f, kt_gateway_connections(f.gateway) == 0);
    hang_up(&client);
    fixture_close(&f);
}

static void conn__finished_by_its_protocol__sends_all_and_takes_nothing_more(void **state)
{
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "d\nq\neignored\n");
    until(&f, taken == 2);
    release(0, "first\n");
    until(&f, ended(&client));
    assert_string_equal(client.got, "first\nbye\n");
    assert_true(client.eof);
    assert_int_equal(taken, 2);
    hang_up(&client);
    until(&f, kt_gateway_connections(f.gateway) == 0);
    fixture_close(&f);
}

static void conn__fatal_message_with_more_behind__the_error_arrives_before_the_end(void **state)
{
    struct fixture f;
    struct client client;
    char *rest = kt_zalloc((1 << 20) + 1);

    (void)state;
    memset(rest, 'z', 1 << 20);
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "eone\n!\n");
    say(&f, &client, rest);
    until(&f, ended(&client));
    assert_string_equal(client.got, "one\nwhat?\n");
    assert_false(client.reset);
    hang_up(&client);
    until(&f, kt_gateway_connections(f.gateway) == 0);
    kt_free(rest);
    fixture_close(&f);
}

static void conn__client_that_never_closes__is_closed_after_the_linger_time(void **state)
{
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "q\n");
    until(&f, ended(&client));
    until(&f, kt_gateway_connections(f.gateway) == 0);
    hang_up(&client);
    fixture_close(&f);
}

static void conn__paused__takes_nothing_until_resumed(void **state)
{
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "p\ne1\n");
    until(&f, taken == 1);
    say(&f, &client, "e2\n");
    for (int i = 0; i < 5; i++)
        uv_run(&f.loop, UV_RUN_ONCE);
    assert_int_equal(taken, 1);
    release(0, "login\n");
    until(&f, heard(&client, 10));
    assert_string_equal(client.got, "login\n1\n2\n");
    hang_up(&client);
    fixture_close(&f);
}

static void conn__too_many_answers_under_way__is_not_read_until_some_are_sent(void **state)
{
    struct fixture f;
    struct client client;
    const unsigned extra = 100;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    for (unsigned i = 0; i < KT_CONN_ANSWERS_MAX + extra; i++)
        say(&f, &client, "d\n");
    until(&f, taken == KT_CONN_ANSWERS_MAX);
    for (int i = 0; i < 10; i++)
        uv_run(&f.loop, UV_RUN_ONCE);
    assert_int_equal(taken, KT_CONN_ANSWERS_MAX);
    for (unsigned i = 0; i < KT_CONN_ANSWERS_MAX; i++)
        release(i, ".");
    until(&f, taken == KT_CONN_ANSWERS_MAX + extra);
    for (unsigned i = 0; i < extra; i++)
        release(KT_CONN_ANSWERS_MAX + i, ".");
    until(&f, heard(&client, KT_CONN_ANSWERS_MAX + extra));
    hang_up(&client);
    fixture_close(&f);
}

static void conn__client_that_does_not_read__stops_being_read_and_loses_nothing(void **state)
{
    const unsigned messages = 150; /* more than the kernel takes, which is a few MiB */
    const size_t each = 100000;
    struct fixture f;
    struct client client;
    struct kt_conn *conn;
    struct kt_listener *listener;
    int small = 64 << 10;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    for (unsigned i = 0; i < messages; i++)
        say(&f, &client, "b100000\n");
    until(&f, taken > 0);
    listener = kt_list_first(&f.gateway->listeners, struct kt_listener, link);
    conn = kt_list_first(&listener->conns, struct kt_conn, link);
    until(&f, conn->out_bytes >= KT_CONN_OUT_BYTES_MAX);
    for (int i = 0; i < 10; i++)
        uv_run(&f.loop, UV_RUN_ONCE);
    assert_true(taken < messages);
    assert_true(conn->out_bytes < KT_CONN_OUT_BYTES_MAX + each);
    assert_int_equal(conn->lane.hold, KT_HOLD_HELD);
    until(&f, heard(&client, messages * each));
    assert_int_equal(client.len, messages * each);
    assert_int_equal(conn->lane.hold, KT_HOLD_OPEN);
    assert_int_equal(f.gateway->out_bytes, 0);
    hang_up(&client);
    fixture_close(&f);
}

static void conn__answer_beyond_its_ceiling__is_not_sent_and_closes(void **state)
{
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "eone\no\netwo\n");
    until(&f, ended(&client));
    assert_string_equal(client.got, "one\n");
    hang_up(&client);
    fixture_close(&f);
}

static void conn__client_vanishes_with_answers_under_way__memory_goes_with_the_last_one(void **state)
{
    struct linger abort_at_close = {.l_onoff = 1, .l_linger = 0};
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "d\nd\nb10\n");
    until(&f, taken == 3);
    setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &abort_at_close, sizeof(abort_at_close));
    hang_up(&client);
    until(&f, kt_gateway_connections(f.gateway) == 0);
    assert_int_equal(closed_count, 1);
    assert_null(kt_answer_conn(delayed[0]));
    assert_int_equal(f.gateway->conns, 1);
    release(1, "nobody hears this");
    release(0, "nor this");
    until(&f, f.gateway->conns == 0);
    fixture_close(&f);
}

static void conn__silent_for_too_long__is_closed_but_not_while_an_answer_is_under_way(void **state)
{
    struct fixture f;
    struct client silent, waiting;

    (void)state;
    fixture_open(&f, 10, 1);
    silent = dial(&f);
    waiting = dial(&f);
    say(&f, &waiting, "d\n");
    until(&f, taken == 1);
    until(&f, ended(&silent));
    assert_int_equal(silent.len, 0);
    assert_int_equal(kt_gateway_connections(f.gateway), 1);
    release(0, "late\n");
    until(&f, ended(&waiting));
    assert_string_equal(waiting.got, "late\n");
    hang_up(&silent);
    hang_up(&waiting);
    fixture_close(&f);
}

static void gateway__one_client_too_many__is_closed_and_the_others_stay(void **state)
{
    struct fixture f;
    struct client clients[3];

    (void)state;
    fixture_open(&f, 2, 0);
    clients[0] = dial(&f);
    clients[1] = dial(&f);
    until(&f, opened == 2);
    clients[2] = dial(&f);
    until(&f, ended(&clients[2]));
    assert_int_equal(clients[2].len, 0);
    assert_int_equal(opened, 2);
    hang_up(&clients[0]);
    until(&f, kt_gateway_connections(f.gateway) == 1);
    hang_up(&clients[2]);
    clients[2] = dial(&f);
    say(&f, &clients[2], "ein\n");
    until(&f, heard(&clients[2], 3));
    hang_up(&clients[1]);
    hang_up(&clients[2]);
    fixture_close(&f);
}

static void gateway__drained__finishes_answers_and_accepts_nobody(void **state)
{
    struct fixture f;
    struct client busy, quiet, late;

    (void)state;
    fixture_open(&f, 10, 0);
    busy = dial(&f);
    quiet = dial(&f);
    say(&f, &busy, "d\n");
    until(&f, taken == 1 && opened == 2);
    kt_gateway_drain(f.gateway, on_drained, &f);
    until(&f, ended(&quiet));
    say(&f, &busy, "etoo late\n");
    assert_true(quiet.eof);
    assert_false(f.drained);
    late.fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)f.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_not_equal(connect(late.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(late.fd);
    release(0, "done\n");
    until(&f, ended(&busy));
    assert_string_equal(busy.got, "done\n");
    assert_true(busy.eof);
    assert_int_equal(taken, 1);
    hang_up(&busy);
    hang_up(&quiet);
    until(&f, f.drained);
    fixture_close(&f);
}

static void gateway__drained__still_takes_what_was_sent_before(void **state)
{
    struct fixture f;
    struct client known, waiting;

    (void)state;
    fixture_open(&f, 10, 0);
    known = dial(&f);
    until(&f, opened == 1);
    waiting = dial(&f); /* in the kernel's queue: nobody has accepted it yet */
    say(&f, &known, "eone\n");
    say(&f, &waiting, "etwo\n");
    kt_gateway_drain(f.gateway, on_drained, &f);
    until(&f, ended(&known) && ended(&waiting));
    assert_string_equal(known.got, "one\n");
    assert_string_equal(waiting.got, "two\n");
    assert_true(known.eof && waiting.eof);
    hang_up(&known);
    hang_up(&waiting);
    until(&f, f.drained);
    fixture_close(&f);
}

static void gateway__drained_without_clients__says_so_at_once(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, 10, 0);
    kt_gateway_drain(f.gateway, on_drained, &f);
    until(&f, f.drained);
    fixture_close(&f);
}

static void gateway__closed_with_answers_under_way__waits_for_them(void **state)
{
    struct fixture f;
    struct client client;

    (void)state;
    fixture_open(&f, 10, 0);
    client = dial(&f);
    say(&f, &client, "d\n");
    until(&f, taken == 1);
    kt_gateway_close(f.gateway, on_closed, &f);
    until(&f, ended(&client));
    for (int i = 0; i < 5; i++)
        uv_run(&f.loop, UV_RUN_ONCE);
    assert_false(f.closed);
    release(0, "");
    until(&f, f.closed);
    hang_up(&client);
    kt_dispatch_close(f.dispatch);
    uv_close((uv_handle_t *)&f.turn, NULL);
    uv_run(&f.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f.loop), 0);
    kt_auth_free(f.auth);
}

static void gateway__address_it_cannot_use__is_refused_with_a_sentence(void **state)
{
    static const char *const bad[] = {"127.0.0.1", "[::1", "127.0.0.1:99999", ""};
    struct fixture f;
    struct kt_error error;
    char taken_address[32];
    struct kt_listen_options listen = {.protocol = &toy};

    (void)state;
    fixture_open(&f, 10, 0);
    for (size_t i = 0; i < KT_COUNT(bad); i++) {
        listen.address = bad[i];
        assert_int_equal(kt_gateway_listen(f.gateway, &listen, NULL, &error), KT_BAD_REQUEST);
        assert_true(error.text[0] != 0);
    }
    snprintf(taken_address, sizeof(taken_address), "127.0.0.1:%u", f.port);
    listen.address = taken_address;
    assert_int_equal(kt_gateway_listen(f.gateway, &listen, NULL, &error), KT_IO_FAILED);
    assert_non_null(strstr(error.text, taken_address));
    listen.address = "127.0.0.1:0";
    listen.settings = &f;
    assert_int_equal(kt_gateway_listen(f.gateway, &listen, NULL, &error), KT_BAD_REQUEST);
    assert_string_equal(error.text, "the toy takes no settings");
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conn__pipelined_messages__are_answered_in_order),
        cmocka_unit_test(conn__message_in_single_bytes__is_taken_when_whole),
        cmocka_unit_test(conn__idle_after_a_large_message__owns_no_buffer),
        cmocka_unit_test(conn__client_shuts_its_sending_side__still_gets_its_answers),
        cmocka_unit_test(conn__finished_by_its_protocol__sends_all_and_takes_nothing_more),
        cmocka_unit_test(conn__fatal_message_with_more_behind__the_error_arrives_before_the_end),
        cmocka_unit_test(conn__client_that_never_closes__is_closed_after_the_linger_time),
        cmocka_unit_test(conn__paused__takes_nothing_until_resumed),
        cmocka_unit_test(conn__too_many_answers_under_way__is_not_read_until_some_are_sent),
        cmocka_unit_test(conn__client_that_does_not_read__stops_being_read_and_loses_nothing),
        cmocka_unit_test(conn__answer_beyond_its_ceiling__is_not_sent_and_closes),
        cmocka_unit_test(conn__client_vanishes_with_answers_under_way__memory_goes_with_the_last_one),
        cmocka_unit_test(conn__silent_for_too_long__is_closed_but_not_while_an_answer_is_under_way),
        cmocka_unit_test(gateway__one_client_too_many__is_closed_and_the_others_stay),
        cmocka_unit_test(gateway__drained__finishes_answers_and_accepts_nobody),
        cmocka_unit_test(gateway__drained__still_takes_what_was_sent_before),
        cmocka_unit_test(gateway__drained_without_clients__says_so_at_once),
        cmocka_unit_test(gateway__closed_with_answers_under_way__waits_for_them),
        cmocka_unit_test(gateway__address_it_cannot_use__is_refused_with_a_sentence),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
