/*
 * Transports with real sockets on the loopback interface, all in one loop; most tests run twice, plain and under TLS.
 */
#include "cluster/transport/transport_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "support/test_certificates.h"
#include "wire/writer.h"

#define NODES_MAX 3
#define WAIT_MS   20000 /* far beyond what anything here takes, also under a sanitizer on a busy machine */

struct test_node {
    kt_node_id id;
    char address[32];
    struct kt_transport *transport;
    struct kt_tls_context *tls; /* NULL: plain */
    struct kt_peer peers[NODES_MAX];
    size_t peer_count;
    unsigned connected[NODES_MAX + 1], disconnected[NODES_MAX + 1];
    size_t frames, bytes;
    uint64_t next; /* expected in the first bytes of the next frame, when checking order */
    bool out_of_order;
    bool close_on_frame;
    unsigned dead_ms;
    bool closed;
};

struct test_net {
    uv_loop_t loop;
    uv_timer_t watchdog;
    uint64_t started_ms;
    struct test_node nodes[NODES_MAX];
    size_t count;
};

static struct kt_test_certificates certificates;
static bool secure; /* tests run under TLS now */

static int secure_on(void **state)
{
    (void)state;
    kt_test_certificates_init(&certificates);
    secure = true;
    return 0;
}

static int secure_off(void **state)
{
    (void)state;
    kt_test_certificates_release(&certificates);
    secure = false;
    return 0;
}

static char log_lines[64][512];
static unsigned log_count;

static void catch_line(void *data, const char *line)
{
    (void)data;
    if (log_count < KT_COUNT(log_lines))
        snprintf(log_lines[log_count++], sizeof(log_lines[0]), "%s", line);
}

static unsigned lines_with(const char *part)
{
    unsigned count = 0;
    for (unsigned i = 0; i < log_count; i++)
        count += strstr(log_lines[i], part) != NULL;
    return count;
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer; /* the loop comes round */
}

static void on_closed(void *data)
{
    struct test_node *node = data;
    node->closed = true;
    node->transport = NULL;
}

static void on_received(void *data, kt_node_id from, struct kt_slice frame)
{
    struct test_node *node = data;
    (void)from;
    node->frames++;
    node->bytes += frame.len;
    if (frame.len >= 8) {
        node->out_of_order |= kt_get_le64(frame.data) != node->next;
        node->next++;
    }
    if (node->close_on_frame && !node->closed) {
        node->close_on_frame = false;
        kt_transport_close(node->transport, on_closed, node);
    }
}

static void on_connected(void *data, kt_node_id peer)
{
    struct test_node *node = data;
    node->connected[peer]++;
}

static void on_disconnected(void *data, kt_node_id peer)
{
    struct test_node *node = data;
    node->disconnected[peer]++;
}

/* A port that is free now; kept apart from others by the kernel for a while. */
static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void net_init(struct test_net *net, size_t count)
{
    memset(net, 0, sizeof(*net));
    log_count = 0;
    kt_log_sink(catch_line, NULL);
    assert_int_equal(uv_loop_init(&net->loop), 0);
    assert_int_equal(uv_timer_init(&net->loop, &net->watchdog), 0);
    uv_timer_start(&net->watchdog, on_watchdog, 5, 5);
    net->count = count;
    for (size_t i = 0; i < count; i++) {
        net->nodes[i].id = i + 1;
        net->nodes[i].tls = secure ? kt_test_context(&certificates, i + 1, NULL) : NULL;
        snprintf(net->nodes[i].address, sizeof(net->nodes[i].address), "127.0.0.1:%u", free_port());
    }
    for (size_t i = 0; i < count; i++) {
        struct test_node *node = &net->nodes[i];
        for (size_t j = 0; j < count; j++) {
            if (j != i)
                node->peers[node->peer_count++] =
                    (struct kt_peer){.id = net->nodes[j].id, .address = net->nodes[j].address};
        }
    }
}

static enum kt_code node_try_open(struct test_net *net, struct test_node *node, const char *cluster,
                                  struct kt_error *error)
{
    struct kt_transport_options options = {.loop = &net->loop,
                                           .self = node->id,
                                           .listen = node->address,
                                           .cluster = cluster,
                                           .tls = node->tls,
                                           .peers = node->peers,
                                           .peer_count = node->peer_count,
                                           .reconnect_ms = 10,
                                           .dead_ms = node->dead_ms ? node->dead_ms : 60000,
                                           .preface_ms = 300,
                                           .received = on_received,
                                           .connected = on_connected,
                                           .disconnected = on_disconnected,
                                           .data = node};
    node->closed = false;
    return kt_transport_open(&options, &node->transport, error);
}

static void node_open(struct test_net *net, struct test_node *node)
{
    struct kt_error error = {.text = ""};
    if (node_try_open(net, node, "test", &error) != KT_OK)
        fail_msg("%s", error.text);
}

/* Runs the loop until the condition holds. */
#define RUN_UNTIL(net, condition)                                                                                      \
    do {                                                                                                               \
        uint64_t run_end_ = uv_hrtime() / 1000000u + WAIT_MS;                                                          \
        while (!(condition)) {                                                                                         \
            uv_run(&(net)->loop, UV_RUN_ONCE);                                                                         \
            if (uv_hrtime() / 1000000u > run_end_)                                                                     \
                fail_msg("waited in vain for: %s", #condition);                                                        \
        }                                                                                                              \
    } while (0)

static void run_turns(struct test_net *net, unsigned turns)
{
    while (turns-- > 0)
        uv_run(&net->loop, UV_RUN_ONCE);
}

static void node_close(struct test_net *net, struct test_node *node)
{
    if (!node->transport)
        return;
    kt_transport_close(node->transport, on_closed, node);
    RUN_UNTIL(net, node->closed);
}

static void net_release(struct test_net *net)
{
    for (size_t i = 0; i < net->count; i++)
        node_close(net, &net->nodes[i]);
    for (size_t i = 0; i < net->count; i++)
        kt_tls_context_drop(net->nodes[i].tls);
    uv_close((uv_handle_t *)&net->watchdog, NULL);
    uv_run(&net->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&net->loop), 0);
    kt_log_sink(NULL, NULL);
}

static bool all_connected(struct test_net *net)
{
    for (size_t i = 0; i < net->count; i++) {
        for (size_t j = 0; j < net->count; j++) {
            if (i != j && !kt_transport_connected(net->nodes[i].transport, net->nodes[j].id))
                return false;
        }
    }
    return true;
}

/* A frame of len bytes that begins with a number if it has room for one. */
static bool send_frame(struct test_node *from, kt_node_id to, uint64_t number, size_t len)
{
    struct kt_buf frame;
    kt_buf_init(&frame, KT_PEER_FRAME_MAX + 1024);
    uint8_t *room = kt_buf_reserve(&frame, len ? len : 1);
    assert_non_null(room);
    memset(room, (int)(len & 0xFF), len);
    if (len >= 8)
        kt_put_le64(room, number);
    frame.len = len;
    bool sent = kt_transport_send(from->transport, to, &frame);
    assert_null(frame.data);
    return sent;
}

static size_t live_connections(struct kt_transport *transport)
{
    size_t count = 0;
    const struct kt_list *link;
    kt_list_each (link, &transport->connections)
        count += KT_CONTAINER(link, struct connection, link)->state != CONNECTION_CLOSED;
    return count;
}

/* ---- a hand-made other side ---- */

struct raw {
    int fd;
    struct kt_tls *tls;
};

/* What it got; closed once the other side has closed. */
struct raw_input {
    uint8_t bytes[256];
    size_t len;
    bool closed;
};

static int raw_socket(const char *address)
{
    struct kt_address parsed;
    assert_int_equal(kt_address_parse(address, &parsed, NULL), KT_OK);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)parsed.port)};
    assert_int_equal(inet_pton(AF_INET, parsed.host, &to.sin_addr), 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void raw_output(struct raw *raw)
{
    struct kt_buf *output = kt_tls_output(raw->tls);
    if (output->len > 0)
        assert_int_equal(send(raw->fd, output->data, output->len, MSG_NOSIGNAL), (ssize_t)output->len);
    kt_buf_clear(output);
}

/* One step of the handshake; true when it is done. */
static bool raw_shake(struct raw *raw)
{
    uint8_t bytes[16384];
    ssize_t n = recv(raw->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n > 0)
        kt_tls_feed(raw->tls, kt_slice(bytes, (size_t)n));
    enum kt_code code = kt_tls_shake(raw->tls);
    assert_true(code == KT_OK || code == KT_MORE);
    raw_output(raw);
    return code == KT_OK;
}

/* Connects to a node; under TLS with the certificate of the node named, and after the handshake. */
static struct raw raw_connect(struct test_net *net, const struct test_node *node, kt_node_id as)
{
    struct raw raw = {.fd = raw_socket(node->address)};
    if (!secure)
        return raw;
    struct kt_tls_context *context = kt_test_context(&certificates, as, NULL);
    raw.tls = kt_tls_create(context, KT_TLS_CLIENT, node->id);
    kt_tls_context_drop(context);
    RUN_UNTIL(net, raw_shake(&raw));
    return raw;
}

static void raw_close(struct raw *raw)
{
    kt_tls_free(raw->tls);
    close(raw->fd);
}

static void raw_send(struct raw *raw, const void *data, size_t len)
{
    struct kt_slice piece = kt_slice(data, len);
    if (!raw->tls) {
        assert_int_equal(send(raw->fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
        return;
    }
    assert_int_equal(kt_tls_write(raw->tls, &piece, 1), KT_OK);
    raw_output(raw);
}

static struct preface raw_preface(const char *cluster, uint64_t from, uint64_t to)
{
    return (struct preface){.version = PREFACE_VERSION,
                            .cluster = kt_hash64(0, cluster, strlen(cluster)),
                            .from = from,
                            .to = to,
                            .incarnation = 77,
                            .sequence = 1};
}

static void raw_greet(struct raw *raw, const struct preface *preface)
{
    uint8_t bytes[PREFACE_BYTES];
    preface_write(preface, bytes);
    raw_send(raw, bytes, sizeof(bytes));
}

static void raw_take(struct raw *raw, struct raw_input *in, const uint8_t *bytes, size_t len)
{
    if (!raw->tls) {
        memcpy(in->bytes + in->len, bytes, len);
        in->len += len;
        return;
    }
    size_t got;
    kt_tls_feed(raw->tls, kt_slice(bytes, len));
    while (kt_tls_read(raw->tls, in->bytes + in->len, sizeof(in->bytes) - in->len, &got) == KT_OK)
        in->len += got;
}

static bool raw_poll(struct raw *raw, struct raw_input *in)
{
    uint8_t bytes[256];
    ssize_t n = recv(raw->fd, bytes, sizeof(bytes) - in->len, MSG_DONTWAIT);
    if (n > 0)
        raw_take(raw, in, bytes, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
        in->closed = true;
    return in->closed;
}

static unsigned raw_verdict(const struct raw_input *in)
{
    struct preface answer;
    assert_int_equal(preface_read(kt_slice(in->bytes, in->len), &answer), KT_OK);
    return answer.verdict;
}

/* ---- connecting ---- */

static void transport__two_and_three_nodes__connect_with_one_connection_per_pair(void **state)
{
    (void)state;
    for (size_t count = 2; count <= 3; count++) {
        struct test_net net;
        net_init(&net, count);
        for (size_t i = 0; i < count; i++)
            node_open(&net, &net.nodes[i]);
        RUN_UNTIL(&net, all_connected(&net));
        run_turns(&net, 20);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(live_connections(net.nodes[i].transport), count - 1);
            for (size_t j = 0; j < count; j++) {
                if (i != j)
                    assert_int_equal(net.nodes[i].connected[j + 1], net.nodes[i].disconnected[j + 1] + 1);
            }
        }
        net_release(&net);
    }
}

static void transport__simultaneous_connects__leave_the_connection_of_the_smaller_id(void **state)
{
    (void)state;
    /* Both attempts begin in the same turn of the loop, so that they meet; many times, for all orders of events. */
    for (unsigned round = 0; round < 30; round++) {
        struct test_net net;
        net_init(&net, 2);
        node_open(&net, &net.nodes[round % 2]);
        node_open(&net, &net.nodes[1 - round % 2]);
        RUN_UNTIL(&net, all_connected(&net));
        RUN_UNTIL(&net, live_connections(net.nodes[0].transport) == 1 && live_connections(net.nodes[1].transport) == 1);
        assert_true(net.nodes[0].transport->peers[0].ready->dialled != net.nodes[1].transport->peers[0].ready->dialled);
        assert_true(send_frame(&net.nodes[0], 2, 0, 100));
        assert_true(send_frame(&net.nodes[1], 1, 0, 100));
        RUN_UNTIL(&net, net.nodes[0].frames == 1 && net.nodes[1].frames == 1);
        assert_int_equal(net.nodes[0].disconnected[2] + net.nodes[1].disconnected[1], 0);
        net_release(&net);
    }
}

static void transport__own_preface_under_way__refuses_the_larger_id_and_yields_to_the_smaller(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 3);
    struct test_node *node = &net.nodes[1];
    /* Peers 1 and 3 accept by the kernel's backlog alone: the preface of node 2 is under way and gets no answer. */
    int silent[2];
    for (size_t i = 0; i < 2; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(address);
        silent[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(silent[i], (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(silent[i], 8), 0);
        assert_int_equal(getsockname(silent[i], (struct sockaddr *)&address, &len), 0);
        snprintf(net.nodes[2 * i].address, sizeof(net.nodes[0].address), "127.0.0.1:%u", ntohs(address.sin_port));
    }
    node_open(&net, node);
    struct peer *one = &node->transport->peers[0], *three = &node->transport->peers[1];
    RUN_UNTIL(&net, one->dialling && one->dialling->preface_sent && three->dialling && three->dialling->preface_sent);
    struct preface preface = raw_preface("test", 3, 2);
    struct raw_input in = {.len = 0};
    struct raw raw = raw_connect(&net, node, preface.from);
    raw_greet(&raw, &preface);
    RUN_UNTIL(&net, raw_poll(&raw, &in));
    assert_int_equal(raw_verdict(&in), VERDICT_DUPLICATE);
    assert_int_equal(node->connected[3], 0);
    raw_close(&raw);
    preface = raw_preface("test", 1, 2);
    raw = raw_connect(&net, node, preface.from);
    raw_greet(&raw, &preface);
    RUN_UNTIL(&net, kt_transport_connected(node->transport, 1));
    assert_null(one->dialling);
    raw_close(&raw);
    RUN_UNTIL(&net, node->disconnected[1] == 1);
    net_release(&net);
    close(silent[0]);
    close(silent[1]);
}

static void transport__second_connection_of_a_peer__replaces_the_first_unless_it_is_older(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    struct test_node *node = &net.nodes[0];
    node_open(&net, node);
    struct preface preface = raw_preface("test", 2, 1);
    preface.sequence = 5;
    struct raw first = raw_connect(&net, node, 2);
    raw_greet(&first, &preface);
    RUN_UNTIL(&net, node->connected[2] == 1);
    /* Older, of the same process: late bytes of an attempt that was given up. */
    preface.sequence = 4;
    struct raw_input in = {.len = 0};
    struct raw second = raw_connect(&net, node, 2);
    raw_greet(&second, &preface);
    RUN_UNTIL(&net, raw_poll(&second, &in));
    assert_int_equal(raw_verdict(&in), VERDICT_DUPLICATE);
    assert_int_equal(node->disconnected[2], 0);
    raw_close(&second);
    /* Newer, of the same process: it has lost the first. */
    preface.sequence = 6;
    second = raw_connect(&net, node, 2);
    raw_greet(&second, &preface);
    RUN_UNTIL(&net, node->connected[2] == 2);
    assert_int_equal(node->disconnected[2], 1);
    in = (struct raw_input){.len = 0};
    RUN_UNTIL(&net, raw_poll(&first, &in));
    raw_close(&first);
    /* A restarted process counts from the beginning. */
    preface.incarnation++;
    preface.sequence = 1;
    first = raw_connect(&net, node, 2);
    raw_greet(&first, &preface);
    RUN_UNTIL(&net, node->connected[2] == 3);
    assert_int_equal(node->disconnected[2], 2);
    assert_int_equal(live_connections(node->transport), 1);
    raw_close(&first);
    raw_close(&second);
    net_release(&net);
}

static void transport__restarted_peer__is_connected_again(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    node_open(&net, &net.nodes[0]);
    node_open(&net, &net.nodes[1]);
    RUN_UNTIL(&net, all_connected(&net));
    for (unsigned round = 1; round <= 3; round++) {
        struct test_node *restarted = &net.nodes[round % 2], *other = &net.nodes[1 - round % 2];
        unsigned lost = other->disconnected[restarted->id];
        node_close(&net, restarted);
        RUN_UNTIL(&net, other->disconnected[restarted->id] == lost + 1);
        assert_false(kt_transport_connected(other->transport, restarted->id));
        assert_false(send_frame(other, restarted->id, 0, 10));
        node_open(&net, restarted);
        RUN_UNTIL(&net, all_connected(&net));
        size_t before = restarted->frames;
        assert_true(send_frame(other, restarted->id, 0, 10));
        RUN_UNTIL(&net, restarted->frames == before + 1);
    }
    net_release(&net);
}

static void transport__peer_named_by_host__is_looked_up_and_connected(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    char by_name[2][48];
    for (size_t i = 0; i < 2; i++) {
        snprintf(by_name[i], sizeof(by_name[i]), "localhost%s", strchr(net.nodes[1 - i].address, ':'));
        net.nodes[i].peers[0].address = by_name[i];
        node_open(&net, &net.nodes[i]);
    }
    RUN_UNTIL(&net, all_connected(&net));
    net_release(&net);
}

/* ---- frames ---- */

static void transport__frames_of_all_sizes_both_ways__arrive_whole_and_in_order(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        0, 1, 8,        100, 4096, (64u << 10) - 8, (64u << 10) - 7, 65536, 100000, 3u << 20, KT_PEER_FRAME_MAX,
        8, 0, 20u << 20};
    struct test_net net;
    net_init(&net, 2);
    node_open(&net, &net.nodes[0]);
    node_open(&net, &net.nodes[1]);
    RUN_UNTIL(&net, all_connected(&net));
    size_t bytes = 0;
    uint64_t number = 0;
    for (size_t i = 0; i < KT_COUNT(sizes); i++) {
        assert_true(send_frame(&net.nodes[0], 2, number, sizes[i]));
        assert_true(send_frame(&net.nodes[1], 1, number, sizes[i]));
        number += sizes[i] >= 8;
        bytes += sizes[i];
    }
    assert_int_equal(kt_transport_queued(net.nodes[0].transport, 2), bytes + 8 * KT_COUNT(sizes));
    RUN_UNTIL(&net, net.nodes[0].frames == KT_COUNT(sizes) && net.nodes[1].frames == KT_COUNT(sizes));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(net.nodes[i].bytes, bytes);
        assert_false(net.nodes[i].out_of_order);
        RUN_UNTIL(&net, kt_transport_queued(net.nodes[i].transport, 2 - i) == 0);
        /* The buffer that the large frames needed is given back. */
        struct connection *connection = net.nodes[i].transport->peers[0].ready;
        RUN_UNTIL(&net, connection->input_cap == INPUT_BYTES);
    }
    /* And nothing of the stream was lost by that. */
    assert_true(send_frame(&net.nodes[0], 2, number, 5000));
    RUN_UNTIL(&net, net.nodes[1].frames == KT_COUNT(sizes) + 1);
    assert_false(net.nodes[1].out_of_order);
    net_release(&net);
}

static void transport__many_small_frames__arrive_in_order(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 3);
    for (size_t i = 0; i < 3; i++)
        node_open(&net, &net.nodes[i]);
    RUN_UNTIL(&net, all_connected(&net));
    uint64_t number = 0;
    while (number < 20000) {
        for (unsigned i = 0; i < 1000; i++, number++) {
            assert_true(send_frame(&net.nodes[0], 2, number, 8 + number % 90));
            assert_true(send_frame(&net.nodes[0], 3, number, 8 + number % 70));
        }
        uv_run(&net.loop, UV_RUN_NOWAIT);
    }
    RUN_UNTIL(&net, net.nodes[1].frames == number && net.nodes[2].frames == number);
    assert_false(net.nodes[1].out_of_order);
    assert_false(net.nodes[2].out_of_order);
    net_release(&net);
}

static void transport__frame_too_large_or_failed__is_dropped_and_told(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    node_open(&net, &net.nodes[0]);
    node_open(&net, &net.nodes[1]);
    RUN_UNTIL(&net, all_connected(&net));
    assert_false(send_frame(&net.nodes[0], 2, 0, KT_PEER_FRAME_MAX + 1));
    assert_int_equal(lines_with("is dropped: it is too large"), 1);
    struct kt_buf failed;
    kt_buf_init(&failed, 4);
    kt_buf_append(&failed, "too long", 8);
    assert_false(kt_transport_send(net.nodes[0].transport, 2, &failed));
    assert_false(send_frame(&net.nodes[0], 9, 0, 10));
    assert_true(kt_transport_connected(net.nodes[0].transport, 2));
    assert_int_equal(kt_transport_queued(net.nodes[0].transport, 2), 0);
    net_release(&net);
}

static void transport__peer_that_does_not_read__bounds_the_queue(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    struct test_node *node = &net.nodes[0];
    node_open(&net, node);
    struct preface preface = raw_preface("test", 2, 1);
    struct raw raw = raw_connect(&net, node, preface.from);
    raw_greet(&raw, &preface);
    RUN_UNTIL(&net, node->connected[2] == 1);
    unsigned taken = 0;
    bool dropped = false;
    for (unsigned i = 0; i < 1000 && !dropped; i++) {
        dropped = !send_frame(node, 2, i, 1u << 20);
        taken += !dropped;
        uv_run(&net.loop, UV_RUN_NOWAIT);
        /* Encrypted and waiting for the socket: a batch at most. */
        assert_true(node->transport->peers[0].ready->sealed.cap <= 2 * OUTPUT_BATCH_BYTES);
        assert_true(kt_transport_queued(node->transport, 2) <= KT_PEER_QUEUE_BYTES_MAX + 2 * OUTPUT_BATCH_BYTES);
    }
    assert_true(dropped);
    assert_true(taken >= 60);
    /* It reads again: what was taken arrives, and there is room. */
    size_t got = 0;
    uint8_t bytes[65536];
    while (kt_transport_queued(node->transport, 2) > 0) {
        ssize_t n = recv(raw.fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        got += n > 0 ? (size_t)n : 0;
        uv_run(&net.loop, UV_RUN_NOWAIT);
    }
    assert_true(send_frame(node, 2, 0, 100));
    /* Tiny frames are bounded by their number. */
    unsigned tiny = 0;
    while (send_frame(node, 2, 0, 0) && tiny <= OUTPUT_FRAMES_MAX)
        tiny++;
    assert_int_equal(tiny, OUTPUT_FRAMES_MAX - 1);
    raw_close(&raw);
    RUN_UNTIL(&net, node->disconnected[2] == 1);
    assert_int_equal(kt_transport_queued(node->transport, 2), 0);
    assert_true(got > 0);
    net_release(&net);
}

static void transport__peer_that_takes_nothing_for_long__is_given_up(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    struct test_node *node = &net.nodes[0];
    node->dead_ms = 250;
    node_open(&net, node);
    struct preface preface = raw_preface("test", 2, 1);
    struct raw raw = raw_connect(&net, node, 2);
    raw_greet(&raw, &preface);
    RUN_UNTIL(&net, node->connected[2] == 1);
    for (unsigned i = 0; i < 32; i++)
        assert_true(send_frame(node, 2, i, 1u << 20));
    RUN_UNTIL(&net, node->disconnected[2] == 1);
    assert_int_equal(lines_with("connection to node 2 lost: connection timed out"), 1);
    raw_close(&raw);
    net_release(&net);
}

/* ---- what must be refused ---- */

/* Sends the bytes as an accepted peer's frames; the connection must be closed for the reason, and no other. */
static void expect_broken(const void *bytes, size_t len, size_t frames_before, const char *reason)
{
    struct test_net net;
    net_init(&net, 3);
    struct test_node *node = &net.nodes[0];
    node_open(&net, node);
    node_open(&net, &net.nodes[2]);
    RUN_UNTIL(&net, kt_transport_connected(node->transport, 3));
    struct preface preface = raw_preface("test", 2, 1);
    struct raw raw = raw_connect(&net, node, preface.from);
    raw_greet(&raw, &preface);
    raw_send(&raw, bytes, len);
    struct raw_input in = {.len = 0};
    RUN_UNTIL(&net, raw_poll(&raw, &in) && node->disconnected[2] == 1);
    assert_int_equal(raw_verdict(&in), VERDICT_WELCOME);
    assert_int_equal(node->frames, frames_before);
    assert_true(kt_transport_connected(node->transport, 3));
    assert_int_equal(node->disconnected[3], 0);
    if (lines_with(reason) != 1)
        fail_msg("no line with: %s", reason);
    raw_close(&raw);
    net_release(&net);
}

static size_t put_frame(uint8_t *to, const void *payload, size_t len)
{
    kt_put_le32(to, (uint32_t)len);
    kt_put_le32(to + 4, kt_crc32c(0, payload, len));
    memcpy(to + 8, payload, len);
    return 8 + len;
}

static void transport__wrong_checksum__closes_this_connection_alone(void **state)
{
    (void)state;
    uint8_t bytes[64];
    size_t len = put_frame(bytes, "good", 4);
    len += put_frame(bytes + len, "bad!", 4);
    bytes[len - 1] ^= 1;
    expect_broken(bytes, len, 1, "checksum of a frame of 4 bytes is wrong");
}

static void transport__length_past_the_limit__closes_this_connection_alone(void **state)
{
    (void)state;
    uint8_t bytes[8];
    kt_put_le32(bytes, KT_PEER_FRAME_MAX + 1);
    kt_put_le32(bytes + 4, 0);
    expect_broken(bytes, sizeof(bytes), 0, "frame is 33554433 bytes, the limit is 33554432");
}

static void transport__frame_with_failing_memory__closes_this_connection_alone(void **state)
{
    (void)state;
    uint8_t bytes[8];
    kt_put_le32(bytes, 1u << 20);
    kt_put_le32(bytes + 4, 0);
    kt_alloc_fail_at(1);
    expect_broken(bytes, sizeof(bytes), 0, "no memory for a frame of 1048576 bytes");
    kt_alloc_fail_at(0);
}

static void transport__stranger_in_every_respect__is_refused_with_a_verdict_and_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *cluster;
        uint64_t from, to;
        uint16_t version;
        unsigned verdict;
        const char *line;
    } rows[] = {
        {"other", 2, 1, PREFACE_VERSION, VERDICT_CLUSTER, "it belongs to another cluster"},
        {"test", 9, 1, PREFACE_VERSION, VERDICT_STRANGER, "it is not a member of this cluster"},
        {"test", 1, 1, PREFACE_VERSION, VERDICT_STRANGER, "connection of node 1"},
        {"test", 2, 3, PREFACE_VERSION, VERDICT_ADDRESS, "it looks for another node at this address"},
        {"test", 2, 1, PREFACE_VERSION + 1, VERDICT_VERSION,
         "speaks version 2 of the peer protocol, this node version 1"},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        struct test_net net;
        net_init(&net, 2);
        struct test_node *node = &net.nodes[0];
        node_open(&net, node);
        for (unsigned repeat = 0; repeat < 3; repeat++) {
            struct preface preface = raw_preface(rows[i].cluster, rows[i].from, rows[i].to);
            struct raw_input in = {.len = 0};
            preface.version = rows[i].version;
            struct raw raw = raw_connect(&net, node, preface.from);
            raw_greet(&raw, &preface);
            RUN_UNTIL(&net, raw_poll(&raw, &in));
            assert_int_equal(raw_verdict(&in), rows[i].verdict);
            raw_close(&raw);
        }
        assert_int_equal(node->connected[2], 0);
        assert_int_equal(lines_with(" refused: "), 1);
        assert_int_equal(lines_with(rows[i].line), 1);
        net_release(&net);
    }
}

static void transport__another_cluster__is_told_on_both_sides(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    node_open(&net, &net.nodes[0]);
    assert_int_equal(node_try_open(&net, &net.nodes[1], "other", NULL), KT_OK);
    RUN_UNTIL(&net, lines_with("refuses this node: it belongs to another cluster") > 0 && lines_with(" refused: ") > 0);
    run_turns(&net, 30);
    assert_int_equal(net.nodes[0].connected[2] + net.nodes[1].connected[1], 0);
    net_release(&net);
}

static void transport__answer_of_an_unexpected_node__is_not_taken(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    /* Node 1 knows node 2 at the address of somebody who welcomes as node 3. */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    snprintf(net.nodes[1].address, sizeof(net.nodes[1].address), "127.0.0.1:%u", ntohs(address.sin_port));
    node_open(&net, &net.nodes[0]);
    RUN_UNTIL(&net,
              net.nodes[0].transport->peers[0].dialling && net.nodes[0].transport->peers[0].dialling->preface_sent);
    struct raw raw = {.fd = accept(listener, NULL, NULL)};
    struct preface preface = raw_preface("test", 3, 1);
    raw_greet(&raw, &preface);
    struct raw_input in = {.len = 0};
    RUN_UNTIL(&net, raw_poll(&raw, &in));
    assert_int_equal(net.nodes[0].connected[2], 0);
    assert_int_equal(lines_with("node 3 answers there, of this cluster"), 1);
    raw_close(&raw);
    close(listener);
    net_release(&net);
}

static void transport__garbage_and_silence_instead_of_a_preface__are_closed(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    struct test_node *node = &net.nodes[0];
    node_open(&net, node);
    struct raw_input in = {.len = 0};
    struct raw raw = raw_connect(&net, node, 2);
    raw_send(&raw, "GET / HTTP/1.1\r\n\r\n", 18);
    RUN_UNTIL(&net, raw_poll(&raw, &in));
    assert_int_equal(in.len, 0);
    assert_int_equal(lines_with("no preface of a Kontiki node"), 1);
    raw_close(&raw);
    /* Half a preface and then nothing. */
    uint8_t bytes[PREFACE_BYTES];
    struct preface preface = raw_preface("test", 2, 1);
    preface_write(&preface, bytes);
    in = (struct raw_input){.len = 0};
    raw = raw_connect(&net, node, 2);
    raw_send(&raw, bytes, 30);
    RUN_UNTIL(&net, raw_poll(&raw, &in));
    assert_int_equal(in.len, 0);
    assert_int_equal(lines_with("no preface came within 300 ms"), 1);
    raw_close(&raw);
    /* In pieces it is as good as whole. */
    raw = raw_connect(&net, node, 2);
    for (size_t i = 0; i < sizeof(bytes); i += 13) {
        raw_send(&raw, bytes + i, 13);
        uv_run(&net.loop, UV_RUN_NOWAIT);
    }
    RUN_UNTIL(&net, node->connected[2] == 1);
    raw_close(&raw);
    net_release(&net);
}

static void transport__crowd_of_silent_guests__is_bounded(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    struct test_node *node = &net.nodes[0];
    node_open(&net, node);
    int fds[STRANGERS_MAX + 4];
    for (size_t i = 0; i < KT_COUNT(fds); i++)
        fds[i] = raw_socket(node->address);
    RUN_UNTIL(&net, lines_with("others have not said yet who they are") == 1);
    assert_true(live_connections(node->transport) <= STRANGERS_MAX + 1);
    for (size_t i = 0; i < KT_COUNT(fds); i++)
        close(fds[i]);
    net_release(&net);
}

static void transport__unreachable_peer__is_told_once(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    node_open(&net, &net.nodes[0]);
    run_turns(&net, 60);
    assert_int_equal(lines_with("cannot be reached: connection refused"), 1);
    node_open(&net, &net.nodes[1]);
    RUN_UNTIL(&net, all_connected(&net));
    net_release(&net);
}

static void transport__senseless_options__are_refused_with_a_sentence(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 3);
    struct test_node *node = &net.nodes[0];
    struct kt_error error;
    node->id = 0;
    assert_int_equal(node_try_open(&net, node, "test", &error), KT_BAD_REQUEST);
    node->id = 2;
    assert_int_equal(node_try_open(&net, node, "test", &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "its own peer"));
    node->id = 1;
    node->peers[1].id = 2;
    assert_int_equal(node_try_open(&net, node, "test", &error), KT_BAD_REQUEST);
    assert_non_null(strstr(error.text, "named twice"));
    node->peers[1].id = 3;
    node->peers[1].address = "nowhere";
    assert_int_equal(node_try_open(&net, node, "test", &error), KT_BAD_REQUEST);
    node->peers[1].address = net.nodes[2].address;
    node_open(&net, node);
    struct test_node twin = *node;
    assert_int_equal(node_try_open(&net, &twin, "test", &error), KT_IO_FAILED);
    assert_non_null(strstr(error.text, node->address));
    net_release(&net);
}

/* ---- closing ---- */

static void transport__closed_in_every_state__leaves_nothing(void **state)
{
    (void)state;
    /* After so many turns of the loop: looking up, connecting, prefaces half way, connected, frames under way. */
    for (unsigned turns = 0; turns < 24; turns++) {
        struct test_net net;
        net_init(&net, 3);
        char by_name[48];
        snprintf(by_name, sizeof(by_name), "localhost%s", strchr(net.nodes[2].address, ':'));
        net.nodes[0].peers[1].address = by_name;
        for (size_t i = 0; i < 3; i++)
            node_open(&net, &net.nodes[i]);
        for (unsigned i = 0; i < turns; i++) {
            uv_run(&net.loop, UV_RUN_NOWAIT);
            send_frame(&net.nodes[0], 2, 0, 3u << 20);
        }
        for (size_t i = 0; i < 3; i++)
            kt_transport_close(net.nodes[i].transport, on_closed, &net.nodes[i]);
        RUN_UNTIL(&net, net.nodes[0].closed && net.nodes[1].closed && net.nodes[2].closed);
        net_release(&net);
    }
}

static void transport__closed_from_an_event__delivers_nothing_more(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    node_open(&net, &net.nodes[0]);
    node_open(&net, &net.nodes[1]);
    RUN_UNTIL(&net, all_connected(&net));
    net.nodes[1].close_on_frame = true;
    for (uint64_t i = 0; i < 10; i++)
        assert_true(send_frame(&net.nodes[0], 2, i, 100));
    RUN_UNTIL(&net, net.nodes[1].closed && net.nodes[0].disconnected[2] == 1);
    assert_int_equal(net.nodes[1].frames, 1);
    assert_int_equal(net.nodes[1].disconnected[1], 0);
    net_release(&net);
}

static void transport__closed_behind_a_last_frame__still_sends_it(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    node_open(&net, &net.nodes[0]);
    node_open(&net, &net.nodes[1]);
    RUN_UNTIL(&net, all_connected(&net));
    assert_true(send_frame(&net.nodes[0], 2, 0, 1000));
    kt_transport_close(net.nodes[0].transport, on_closed, &net.nodes[0]);
    RUN_UNTIL(&net, net.nodes[1].disconnected[1] == 1);
    assert_int_equal(net.nodes[1].frames, 1);
    RUN_UNTIL(&net, net.nodes[0].closed);
    net_release(&net);
}

/* ---- TLS ---- */

/* Nodes 1 and 3 are good and must stay connected, whatever node 2 is: seen by them, told to it. */
static void expect_refused(struct kt_tls_context *faulty, const char *const *lines, size_t count)
{
    struct test_net net;
    net_init(&net, 3);
    kt_tls_context_drop(net.nodes[1].tls);
    net.nodes[1].tls = faulty;
    node_open(&net, &net.nodes[0]);
    node_open(&net, &net.nodes[2]);
    RUN_UNTIL(&net, net.nodes[0].connected[3] == 1 && net.nodes[2].connected[1] == 1);
    node_open(&net, &net.nodes[1]);
    for (size_t i = 0; i < count; i++)
        RUN_UNTIL(&net, lines_with(lines[i]) > 0);
    run_turns(&net, 100);
    assert_true(send_frame(&net.nodes[0], 3, 0, 100));
    RUN_UNTIL(&net, net.nodes[2].frames == 1);
    assert_int_equal(net.nodes[0].connected[2] + net.nodes[2].connected[2], 0);
    assert_int_equal(net.nodes[1].connected[1] + net.nodes[1].connected[3], 0);
    assert_int_equal(net.nodes[0].disconnected[3] + net.nodes[2].disconnected[1], 0);
    /* Once per peer and for all strangers together, of each of the two nodes that see it. */
    for (size_t i = 0; i < count; i++)
        assert_true(lines_with(lines[i]) <= 4);
    net_release(&net);
}

static void tls__faulty_certificate__is_refused_with_a_line_on_both_sides(void **state)
{
    (void)state;
    static const struct {
        struct kt_test_fault fault;
        const char *lines[4];
    } rows[] = {
        {{.other_authority = true},
         {"before it was ready: its certificate is signed by an unknown authority",
          " closed: it refuses this node's certificate: signed by an authority unknown there"}},
        /* It takes theirs, so that they are the only ones who can refuse. */
        {{.other_authority = true, .takes_both = true},
         {"before it was ready: its certificate is signed by an unknown authority",
          " closed: its certificate is signed by an unknown authority",
          "before it was ready: it refuses this node's certificate: signed by an authority unknown there",
          " closed: it refuses this node's certificate: signed by an authority unknown there"}},
        {{.expired = true},
         {"before it was ready: its certificate has expired", " closed: its certificate has expired",
          "before it was ready: it refuses this node's certificate: expired",
          " closed: it refuses this node's certificate: expired"}},
        {{.not_yet = true},
         {"before it was ready: its certificate is not valid yet", " closed: its certificate is not valid yet",
          "before it was ready: it refuses this node's certificate: not valid yet"}},
        {{.names = 3},
         {"before it was ready: its certificate does not name node 2 but node 3",
          "refused: it says it is node 2, and its certificate does not name node 2",
          "refuses this node: its certificate does not name it",
          "it refuses this node's certificate: it does not name the node it looks for"}},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        size_t count = 0;
        while (count < KT_COUNT(rows[i].lines) && rows[i].lines[count])
            count++;
        expect_refused(kt_test_context(&certificates, 2, &rows[i].fault), rows[i].lines, count);
    }
}

static void tls__node_without_it__is_refused_with_a_line_on_both_sides(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "connections between the nodes are neither encrypted nor authenticated",
        "before it was ready: the other side does not speak TLS",
        " closed: the other side does not speak TLS",
        "before it was ready: it speaks TLS, and this node does not",
        " closed: it speaks TLS, and this node does not",
    };
    expect_refused(NULL, lines, KT_COUNT(lines));
}

static void tls__garbage_and_silence_instead_of_a_handshake__are_closed(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    struct test_node *node = &net.nodes[0];
    node_open(&net, node);
    struct raw_input in = {.len = 0};
    struct raw raw = {.fd = raw_socket(node->address)};
    raw_send(&raw, "GET / HTTP/1.1\r\n\r\n", 18);
    RUN_UNTIL(&net, raw_poll(&raw, &in));
    assert_int_equal(in.len, 7); /* an alert */
    assert_int_equal(in.bytes[0], 21);
    assert_int_equal(lines_with("the other side does not speak TLS"), 1);
    raw_close(&raw);
    raw.fd = raw_socket(node->address);
    raw_send(&raw, "\x16\x03\x01", 3);
    in = (struct raw_input){.len = 0};
    RUN_UNTIL(&net, raw_poll(&raw, &in));
    assert_int_equal(lines_with("no TLS handshake within 300 ms"), 1);
    raw_close(&raw);
    /* A handshake, and then silence. */
    raw = raw_connect(&net, node, 2);
    in = (struct raw_input){.len = 0};
    RUN_UNTIL(&net, raw_poll(&raw, &in));
    assert_int_equal(lines_with("no preface came within 300 ms"), 1);
    raw_close(&raw);
    net_release(&net);
}

static void tls__refused_guest_that_does_not_close__is_not_waited_for(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 2);
    struct test_node *node = &net.nodes[0];
    node_open(&net, node);
    int fd = raw_socket(node->address);
    assert_int_equal(send(fd, "garbage", 7, MSG_NOSIGNAL), 7);
    RUN_UNTIL(&net, lines_with("does not speak TLS") == 1);
    const struct kt_list *link;
    bool lingers = false;
    kt_list_each (link, &node->transport->connections)
        lingers |= KT_CONTAINER(link, struct connection, link)->state == CONNECTION_LINGER;
    assert_true(lingers);
    node->transport->reconnect_ms = 60000; /* so that none of its own comes in between */
    RUN_UNTIL(&net, live_connections(node->transport) == 0);
    close(fd);
    net_release(&net);
}

static void tls__damaged_record__closes_this_connection_alone(void **state)
{
    (void)state;
    struct test_net net;
    net_init(&net, 3);
    struct test_node *node = &net.nodes[0];
    node_open(&net, node);
    node_open(&net, &net.nodes[2]);
    RUN_UNTIL(&net, kt_transport_connected(node->transport, 3));
    struct preface preface = raw_preface("test", 2, 1);
    struct raw raw = raw_connect(&net, node, 2);
    raw_greet(&raw, &preface);
    RUN_UNTIL(&net, node->connected[2] == 1);
    struct kt_slice piece = kt_slice("12345678", 8);
    assert_int_equal(kt_tls_write(raw.tls, &piece, 1), KT_OK);
    kt_tls_output(raw.tls)->data[9] ^= 1;
    raw_output(&raw);
    RUN_UNTIL(&net, node->disconnected[2] == 1);
    assert_int_equal(lines_with("connection to node 2 lost: TLS failed: "), 1);
    assert_int_equal(node->disconnected[3], 0);
    raw_close(&raw);
    net_release(&net);
}

static void tls__new_certificates__serve_new_connections_and_leave_the_others(void **state)
{
    (void)state;
    struct kt_test_fault other = {.other_authority = true};
    struct test_net net;
    net_init(&net, 2);
    struct test_node *one = &net.nodes[0], *two = &net.nodes[1];
    node_open(&net, one);
    node_open(&net, two);
    RUN_UNTIL(&net, all_connected(&net));
    for (size_t i = 0; i < 2; i++) {
        struct kt_tls_context *fresh = kt_test_context(&certificates, net.nodes[i].id, &other);
        kt_transport_set_tls(net.nodes[i].transport, fresh);
        kt_tls_context_drop(net.nodes[i].tls);
        net.nodes[i].tls = fresh;
    }
    assert_true(send_frame(one, 2, 0, 100000));
    RUN_UNTIL(&net, two->frames == 1);
    assert_int_equal(one->disconnected[2], 0);
    /* Made anew, the connection needs what is new on both sides. */
    node_close(&net, two);
    node_open(&net, two);
    RUN_UNTIL(&net, all_connected(&net));
    /* And what was good is not any more. */
    node_close(&net, two);
    kt_tls_context_drop(two->tls);
    two->tls = kt_test_context(&certificates, 2, NULL);
    node_open(&net, two);
    RUN_UNTIL(&net, lines_with("signed by an unknown authority") > 0);
    assert_false(kt_transport_connected(one->transport, 2));
    net_release(&net);
}

/* ---- prefaces ---- */

static void preface__written_and_read__is_the_same_and_any_flipped_bit_is_found(void **state)
{
    (void)state;
    struct preface out, in = {.version = PREFACE_VERSION,
                              .verdict = VERDICT_ADDRESS,
                              .cluster = 0x1122334455667788u,
                              .from = 3,
                              .to = 65535,
                              .incarnation = UINT64_MAX,
                              .sequence = 7};
    uint8_t bytes[PREFACE_BYTES];
    preface_write(&in, bytes);
    assert_int_equal(preface_read(kt_slice(bytes, sizeof(bytes)), &out), KT_OK);
    assert_int_equal(out.version, in.version);
    assert_int_equal(out.verdict, in.verdict);
    assert_int_equal(out.cluster, in.cluster);
    assert_int_equal(out.from, in.from);
    assert_int_equal(out.to, in.to);
    assert_int_equal(out.incarnation, in.incarnation);
    assert_int_equal(out.sequence, in.sequence);
    for (size_t len = 0; len < sizeof(bytes); len++)
        assert_int_equal(preface_read(kt_slice(bytes, len), &out), KT_MORE);
    for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(preface_read(kt_slice(bytes, sizeof(bytes)), &out), KT_OK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

#define SECURE(test)                                                                                                   \
    {                                                                                                                  \
        "tls: " #test, test, secure_on, secure_off, NULL                                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(preface__written_and_read__is_the_same_and_any_flipped_bit_is_found),
        cmocka_unit_test(transport__two_and_three_nodes__connect_with_one_connection_per_pair),
        cmocka_unit_test(transport__simultaneous_connects__leave_the_connection_of_the_smaller_id),
        cmocka_unit_test(transport__own_preface_under_way__refuses_the_larger_id_and_yields_to_the_smaller),
        cmocka_unit_test(transport__second_connection_of_a_peer__replaces_the_first_unless_it_is_older),
        cmocka_unit_test(transport__restarted_peer__is_connected_again),
        cmocka_unit_test(transport__peer_named_by_host__is_looked_up_and_connected),
        cmocka_unit_test(transport__frames_of_all_sizes_both_ways__arrive_whole_and_in_order),
        cmocka_unit_test(transport__many_small_frames__arrive_in_order),
        cmocka_unit_test(transport__frame_too_large_or_failed__is_dropped_and_told),
        cmocka_unit_test(transport__peer_that_does_not_read__bounds_the_queue),
        cmocka_unit_test(transport__peer_that_takes_nothing_for_long__is_given_up),
        cmocka_unit_test(transport__wrong_checksum__closes_this_connection_alone),
        cmocka_unit_test(transport__length_past_the_limit__closes_this_connection_alone),
        cmocka_unit_test(transport__frame_with_failing_memory__closes_this_connection_alone),
        cmocka_unit_test(transport__stranger_in_every_respect__is_refused_with_a_verdict_and_one_line),
        cmocka_unit_test(transport__another_cluster__is_told_on_both_sides),
        cmocka_unit_test(transport__answer_of_an_unexpected_node__is_not_taken),
        cmocka_unit_test(transport__garbage_and_silence_instead_of_a_preface__are_closed),
        cmocka_unit_test(transport__crowd_of_silent_guests__is_bounded),
        cmocka_unit_test(transport__unreachable_peer__is_told_once),
        cmocka_unit_test(transport__senseless_options__are_refused_with_a_sentence),
        cmocka_unit_test(transport__closed_in_every_state__leaves_nothing),
        cmocka_unit_test(transport__closed_behind_a_last_frame__still_sends_it),
        cmocka_unit_test(transport__closed_from_an_event__delivers_nothing_more),
        SECURE(transport__two_and_three_nodes__connect_with_one_connection_per_pair),
        SECURE(transport__simultaneous_connects__leave_the_connection_of_the_smaller_id),
        SECURE(transport__second_connection_of_a_peer__replaces_the_first_unless_it_is_older),
        SECURE(transport__restarted_peer__is_connected_again),
        SECURE(transport__peer_named_by_host__is_looked_up_and_connected),
        SECURE(transport__frames_of_all_sizes_both_ways__arrive_whole_and_in_order),
        SECURE(transport__many_small_frames__arrive_in_order),
        SECURE(transport__frame_too_large_or_failed__is_dropped_and_told),
        SECURE(transport__peer_that_does_not_read__bounds_the_queue),
        SECURE(transport__wrong_checksum__closes_this_connection_alone),
        SECURE(transport__length_past_the_limit__closes_this_connection_alone),
        SECURE(transport__stranger_in_every_respect__is_refused_with_a_verdict_and_one_line),
        SECURE(transport__another_cluster__is_told_on_both_sides),
        SECURE(transport__crowd_of_silent_guests__is_bounded),
        SECURE(transport__closed_in_every_state__leaves_nothing),
        SECURE(transport__peer_that_takes_nothing_for_long__is_given_up),
        SECURE(transport__closed_behind_a_last_frame__still_sends_it),
        SECURE(transport__closed_from_an_event__delivers_nothing_more),
        SECURE(tls__faulty_certificate__is_refused_with_a_line_on_both_sides),
        SECURE(tls__node_without_it__is_refused_with_a_line_on_both_sides),
        SECURE(tls__garbage_and_silence_instead_of_a_handshake__are_closed),
        SECURE(tls__refused_guest_that_does_not_close__is_not_waited_for),
        SECURE(tls__damaged_record__closes_this_connection_alone),
        SECURE(tls__new_certificates__serve_new_connections_and_leave_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
