/*
 * Listeners, and the turn of the loop: whatever happened to connections in one turn is carried out in one step of each,
 * right before the loop sleeps and right after it was woken, so that answers that became ready together leave together.
 */
#include "gateway/gateway_internal.h"

#include <netdb.h>
#include <netinet/in.h>

#include "base/address.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "dispatch/metrics.h"

/* A client over the ceiling: accepted, so that it does not wait in the kernel for ever, and closed. */
struct refused {
    struct kt_gateway *gateway;
    uv_tcp_t tcp;
};

static void free_gateway(struct kt_gateway *gateway)
{
    void (*closed)(void *data) = gateway->closed;
    void *data = gateway->closed_data;
    struct kt_listener *listener;

    while ((listener = kt_list_first(&gateway->listeners, struct kt_listener, link))) {
        kt_list_remove(&listener->link);
        kt_tls_context_drop(listener->tls);
        kt_free(listener);
    }
    kt_free(gateway);
    if (closed)
        closed(data);
}

void gateway_handle_closed(struct kt_gateway *gateway)
{
    gateway->handles--;
    if (gateway->closing && gateway->handles == 0 && gateway->conns == 0)
        free_gateway(gateway);
}

void gateway_conn_freed(struct kt_gateway *gateway)
{
    gateway->conns--;
    if (gateway->closing && gateway->handles == 0 && gateway->conns == 0)
        free_gateway(gateway);
}

static void step_dirty(struct kt_gateway *gateway)
{
    struct kt_conn *conn;

    while ((conn = kt_list_first(&gateway->dirty, struct kt_conn, dirty))) {
        kt_list_remove(&conn->dirty);
        conn_step(conn);
    }
    if (gateway_drains(gateway) && gateway->conns == 0 && gateway->drained) {
        void (*drained)(void *data) = gateway->drained;

        gateway->drained = NULL;
        drained(gateway->drained_data);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    step_dirty(KT_CONTAINER(prepare, struct kt_gateway, prepare));
}

static void stop_taking(struct kt_gateway *gateway);

static void on_check(uv_check_t *check)
{
    struct kt_gateway *gateway = KT_CONTAINER(check, struct kt_gateway, check);

    if (gateway->drain_turns > 0 && --gateway->drain_turns == 0)
        stop_taking(gateway);
    step_dirty(gateway);
}

static void on_tick(uv_timer_t *timer)
{
    struct kt_gateway *gateway = KT_CONTAINER(timer, struct kt_gateway, tick);
    kt_time_ms now_ms = uv_now(gateway->options.loop);
    struct kt_list *at;

    kt_list_each (at, &gateway->listeners) {
        struct kt_listener *listener = KT_CONTAINER(at, struct kt_listener, link);

        for (struct kt_list *link = listener->conns.next, *following; link != &listener->conns; link = following) {
            following = link->next;
            conn_tick(KT_CONTAINER(link, struct kt_conn, link), now_ms);
        }
    }
}

enum kt_code kt_gateway_open(const struct kt_gateway_options *options, struct kt_gateway **out, struct kt_error *error)
{
    struct kt_gateway *gateway = kt_zalloc(sizeof(*gateway));

    (void)error;
    gateway->options = *options;
    kt_list_init(&gateway->listeners);
    kt_list_init(&gateway->dirty);
    /* These fail for no reason but a NULL callback. */
    KT_CHECK(uv_prepare_init(options->loop, &gateway->prepare) == 0);
    KT_CHECK(uv_check_init(options->loop, &gateway->check) == 0);
    KT_CHECK(uv_timer_init(options->loop, &gateway->tick) == 0);
    KT_CHECK(uv_prepare_start(&gateway->prepare, on_prepare) == 0);
    KT_CHECK(uv_check_start(&gateway->check, on_check) == 0);
    KT_CHECK(uv_timer_start(&gateway->tick, on_tick, KT_TICK_MS, KT_TICK_MS) == 0);
    gateway->handles = 3;
    *out = gateway;
    return KT_OK;
}

static void on_refused(uv_handle_t *handle)
{
    struct refused *refused = KT_CONTAINER(handle, struct refused, tcp);
    struct kt_gateway *gateway = refused->gateway;

    kt_free(refused);
    gateway_handle_closed(gateway);
}

static void refuse(struct kt_listener *listener)
{
    struct refused *refused = kt_zalloc(sizeof(*refused));

    refused->gateway = listener->gateway;
    KT_CHECK(uv_tcp_init(listener->gateway->options.loop, &refused->tcp) == 0);
    listener->gateway->handles++;
    /* If this fails the client is gone already. */
    (void)uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&refused->tcp);
    uv_close((uv_handle_t *)&refused->tcp, on_refused);
}

static void warn_accept(struct kt_listener *listener, const char *why)
{
    struct kt_gateway *gateway = listener->gateway;
    kt_time_ms now_ms = uv_now(gateway->options.loop);

    /* Out of descriptors it happens with every client that comes. */
    if (gateway->warned_ms != 0 && now_ms - gateway->warned_ms < KT_WARN_EVERY_MS)
        return;
    gateway->warned_ms = now_ms;
    kt_warn("gateway", "%s: cannot accept a client: %s", listener->protocol->name, why);
}

static void on_client(uv_stream_t *server, int status)
{
    struct kt_listener *listener = KT_CONTAINER(server, struct kt_listener, tcp);
    struct kt_gateway *gateway = listener->gateway;
    struct kt_conn *conn;

    if (status != 0) {
        warn_accept(listener, uv_strerror(status));
        return;
    }
    if (listener->count >= gateway->options.connections_max) {
        listener->refused++;
        refuse(listener);
        return;
    }
    conn = conn_create(gateway->options.dispatch, listener->protocol, listener->settings);
    conn->gateway = gateway;
    conn->listener = listener;
    KT_CHECK(uv_tcp_init(gateway->options.loop, &conn->tcp) == 0);
    gateway->handles++;
    gateway->conns++;
    listener->count++;
    listener->accepted++;
    kt_list_append(&listener->conns, &conn->link);
    if (uv_accept(server, (uv_stream_t *)&conn->tcp) != 0) {
        conn_close(conn);
        return;
    }
    conn_start(conn);
}

static void on_listener_closed(uv_handle_t *handle)
{
    gateway_handle_closed(KT_CONTAINER(handle, struct kt_listener, tcp)->gateway);
}

static void stop_listening(struct kt_listener *listener)
{
    if (listener->closed)
        return;
    listener->closed = true;
    uv_close((uv_handle_t *)&listener->tcp, on_listener_closed);
}

/* A name is resolved at once and so may block: listeners are opened at start only. */
static enum kt_code resolve(const char *text, struct sockaddr_storage *out, struct kt_error *error)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    struct kt_address address;
    enum kt_code code = kt_address_parse(text, &address, error);
    int rc;

    if (code != KT_OK)
        return code;
    rc = getaddrinfo(address.host, NULL, &hints, &found);
    if (rc != 0 || !found)
        return kt_error_set(error, KT_BAD_REQUEST, "'%s' cannot be resolved: %s", text, gai_strerror(rc));
    memset(out, 0, sizeof(*out));
    memcpy(out, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    if (out->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)out)->sin6_port = htons((uint16_t)address.port);
    else
        ((struct sockaddr_in *)out)->sin_port = htons((uint16_t)address.port);
    return KT_OK;
}

static unsigned bound_port(const uv_tcp_t *tcp)
{
    struct sockaddr_storage address;
    int len = sizeof(address);

    if (uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &len) != 0)
        return 0;
    return address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port)
                                         : ntohs(((struct sockaddr_in *)&address)->sin_port);
}

/* So that every operation and every error is shown from the start. */
static void name_operations(struct kt_metrics *metrics, const struct kt_protocol *protocol)
{
    const struct kt_command *command;
    size_t at = 0;

    for (size_t i = 0; protocol->operations && protocol->operations[i]; i++)
        kt_metrics_operation(metrics, protocol->name, protocol->operations[i]);
    for (size_t i = 0; protocol->errors && protocol->errors[i]; i++)
        kt_metrics_error(metrics, protocol->name, protocol->errors[i], 0);
    while (protocol->command_name && (command = kt_command_next(&at, NULL))) {
        const char *name = protocol->command_name(command);

        if (name)
            kt_metrics_operation(metrics, protocol->name, name);
    }
}

enum kt_code kt_gateway_listen(struct kt_gateway *gateway, const struct kt_listen_options *options, unsigned *port,
                               struct kt_error *error)
{
    const struct kt_protocol *protocol = options->protocol;
    struct kt_listener *listener;
    struct sockaddr_storage address;
    enum kt_code code;
    int rc;

    KT_CHECK(!gateway->draining && !gateway->closing);
    if (protocol->check) {
        code = protocol->check(options->settings, error);
        if (code != KT_OK)
            return code;
    }
    code = resolve(options->address, &address, error);
    if (code != KT_OK)
        return code;

    listener = kt_zalloc(sizeof(*listener));
    listener->gateway = gateway;
    listener->protocol = protocol;
    listener->settings = options->settings;
    listener->tls = kt_tls_context_acquire(options->tls);
    listener->idle_ms = (kt_time_ms)options->idle_s * 1000;
    kt_list_init(&listener->conns);
    kt_list_append(&gateway->listeners, &listener->link);
    KT_CHECK(uv_tcp_init(gateway->options.loop, &listener->tcp) == 0);
    gateway->handles++;
    /* libuv sets SO_REUSEADDR, so that a restart does not wait for connections of the last run. */
    rc = uv_tcp_bind(&listener->tcp, (struct sockaddr *)&address, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&listener->tcp, KT_LISTEN_BACKLOG, on_client);
    if (rc != 0) {
        stop_listening(listener);
        return kt_error_errno(error, KT_IO_FAILED, -rc, "%s cannot listen on %s", protocol->name, options->address);
    }
    if (port)
        *port = bound_port(&listener->tcp);
    name_operations(kt_dispatch_metrics(gateway->options.dispatch), protocol);
    return KT_OK;
}

void kt_gateway_set_tls(struct kt_gateway *gateway, struct kt_tls_context *tls)
{
    struct kt_list *link;

    kt_list_each (link, &gateway->listeners) {
        struct kt_listener *listener = KT_CONTAINER(link, struct kt_listener, link);
        struct kt_tls_context *before = listener->tls;

        if (!before)
            continue;
        listener->tls = kt_tls_context_acquire(tls);
        kt_tls_context_drop(before);
    }
}

void kt_gateway_counts(const struct kt_gateway *gateway, const char *protocol, struct kt_gateway_counts *counts)
{
    struct kt_list *link;

    memset(counts, 0, sizeof(*counts));
    kt_list_each (link, &gateway->listeners) {
        const struct kt_listener *listener = KT_CONTAINER(link, struct kt_listener, link);

        if (strcmp(listener->protocol->name, protocol) != 0)
            continue;
        counts->open += listener->count;
        counts->accepted += listener->accepted;
        counts->refused += listener->refused;
        counts->bytes_in += listener->bytes_in;
        counts->bytes_out += listener->bytes_out;
    }
}

unsigned kt_gateway_connections(const struct kt_gateway *gateway)
{
    unsigned count = 0;
    struct kt_list *link;

    kt_list_each (link, &gateway->listeners)
        count += KT_CONTAINER(link, struct kt_listener, link)->count;
    return count;
}

void kt_gateway_drain(struct kt_gateway *gateway, void (*drained)(void *data), void *data)
{
    KT_CHECK(!gateway->draining && !gateway->closing);
    gateway->draining = true;
    gateway->drain_turns = KT_DRAIN_TURNS;
    gateway->drained = drained;
    gateway->drained_data = data;
    /* So that those turns come at once. */
    KT_CHECK(uv_timer_start(&gateway->tick, on_tick, 0, 1) == 0);
}

bool gateway_drains(const struct kt_gateway *gateway)
{
    return gateway->draining && gateway->drain_turns == 0;
}

static void stop_taking(struct kt_gateway *gateway)
{
    struct kt_list *at, *link;

    KT_CHECK(uv_timer_start(&gateway->tick, on_tick, KT_TICK_MS, KT_TICK_MS) == 0);
    kt_list_each (at, &gateway->listeners) {
        struct kt_listener *listener = KT_CONTAINER(at, struct kt_listener, link);

        stop_listening(listener);
        kt_list_each (link, &listener->conns)
            conn_touch(KT_CONTAINER(link, struct kt_conn, link));
    }
}

static void on_prepare_closed(uv_handle_t *handle)
{
    gateway_handle_closed(KT_CONTAINER(handle, struct kt_gateway, prepare));
}

static void on_check_closed(uv_handle_t *handle)
{
    gateway_handle_closed(KT_CONTAINER(handle, struct kt_gateway, check));
}

static void on_tick_closed(uv_handle_t *handle)
{
    gateway_handle_closed(KT_CONTAINER(handle, struct kt_gateway, tick));
}

void kt_gateway_close(struct kt_gateway *gateway, void (*closed)(void *data), void *data)
{
    struct kt_list *at;

    KT_CHECK(!gateway->closing);
    gateway->closing = true;
    gateway->drain_turns = 0;
    gateway->drained = NULL;
    gateway->closed = closed;
    gateway->closed_data = data;
    kt_list_each (at, &gateway->listeners) {
        struct kt_listener *listener = KT_CONTAINER(at, struct kt_listener, link);
        struct kt_conn *conn;

        stop_listening(listener);
        while ((conn = kt_list_first(&listener->conns, struct kt_conn, link)))
            conn_close(conn);
    }
    uv_close((uv_handle_t *)&gateway->prepare, on_prepare_closed);
    uv_close((uv_handle_t *)&gateway->check, on_check_closed);
    uv_close((uv_handle_t *)&gateway->tick, on_tick_closed);
}
