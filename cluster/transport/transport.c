/*
 * Peers: listening, connecting, who may come in, which of two connections stays, and the events.
 *
 * Of a pair's two connections one stays because both nodes decide by the same facts. The connecting side speaks first;
 * a node answers a preface at once, with a verdict. While its own preface is on the way, the node with the smaller id
 * answers DUPLICATE, the other one gives its attempt up. A node that has a connection does not connect; so a preface
 * that comes over a second one means that the other side has lost the first (README, invariant 3), unless its sequence
 * shows that it is older than the first.
 */
#include "cluster/transport/transport_internal.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "cluster/transport/transfer.h"

#define LOG            "transport"
#define LISTEN_BACKLOG 128
/* Bounds of the time for one TCP connection to stand: a SYN that met a broken network is not worth waiting for. */
#define DIAL_MS_MIN 250u
#define DIAL_MS_MAX 5000u

static void peer_dial(struct peer *peer);
static void peer_retry_later(struct peer *peer);

/* ---- lines that repeat ---- */

static bool notice_due(struct kt_transport *transport, struct peer *peer, int notice)
{
    struct notices *notices = peer ? &peer->notices : &transport->stranger_notices;
    uint64_t now = uv_now(transport->loop) + 1;
    if (notices->last_ms[notice] && now - notices->last_ms[notice] < NOTICE_MS)
        return false;
    notices->last_ms[notice] = now;
    return true;
}

static const char *verdict_text(unsigned verdict)
{
    switch (verdict) {
    case VERDICT_WELCOME:
        return "welcome";
    case VERDICT_VERSION:
        return "it speaks another version of the peer protocol";
    case VERDICT_CLUSTER:
        return "it belongs to another cluster";
    case VERDICT_STRANGER:
        return "it is not a member of this cluster";
    case VERDICT_ADDRESS:
        return "it looks for another node at this address";
    case VERDICT_DUPLICATE:
        return "the other connection of this pair stays";
    case VERDICT_BUSY:
        return "a transfer is under way already";
    case VERDICT_PLAIN:
        return "it speaks TLS, and the other node does not";
    case VERDICT_NAME:
        return "its certificate does not name it";
    default:
        return "a reason that this version does not know";
    }
}

/* ---- connections in use ---- */

/* Forgets the connection, if it is the peer's in any role. true: it was the one in use. */
static bool peer_forget(struct peer *peer, struct connection *connection)
{
    if (peer->dialling == connection)
        peer->dialling = NULL;
    if (peer->ready != connection)
        return false;
    peer->ready = NULL;
    return true;
}

static void lose(struct connection *connection)
{
    struct kt_transport *transport = connection->transport;
    struct peer *peer = connection->peer;
    if (connection->farewell)
        connection_linger(connection);
    else
        connection_close(connection);
    if (!peer)
        return;
    bool used = peer_forget(peer, connection);
    peer_retry_later(peer);
    if (used && !transport->closing)
        transport->disconnected(transport->data, peer->id);
}

void transport_broken(struct connection *connection, enum notice notice, const char *format, ...)
{
    struct kt_transport *transport = connection->transport;
    struct peer *peer = connection->peer;
    char why[160];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (connection->state == CONNECTION_CLOSED || connection->state == CONNECTION_LINGER)
        return;
    if (notice_due(transport, peer, (int)notice)) {
        if (!peer)
            kt_warn(LOG, "connection from %s closed: %s", connection->remote, why);
        else if (peer->ready == connection) {
            kt_warn(LOG, "connection to node %llu lost: %s", (unsigned long long)peer->id, why);
            /* When connections flap the log still reads in pairs: a loss that was told has its end told too. */
            peer->notices.last_ms[NOTICE_CONNECTED] = 0;
        } else
            kt_warn(LOG, "connection to node %llu at %s closed before it was ready: %s", (unsigned long long)peer->id,
                    peer->text, why);
    }
    lose(connection);
}

/* From now on the connection is the peer's. */
static void peer_adopt(struct peer *peer, struct connection *connection, const struct preface *preface)
{
    struct kt_transport *transport = peer->transport;
    struct connection *old = peer->ready, *attempt = peer->dialling;
    connection->peer = peer;
    connection->incarnation = preface->incarnation;
    connection->sequence = preface->sequence;
    connection_ready(connection);
    peer->dialling = NULL;
    peer->ready = connection;
    uv_timer_stop(&peer->retry);
    if (attempt && attempt != connection)
        connection_close(attempt);
    if (old) {
        connection_close(old);
        transport->disconnected(transport->data, peer->id);
        /* The event may have ended what has just begun. */
        if (connection->state != CONNECTION_READY)
            return;
    }
    if (notice_due(transport, peer, NOTICE_CONNECTED))
        kt_info(LOG, "connected with node %llu at %s", (unsigned long long)peer->id, connection->remote);
    transport->connected(transport->data, peer->id);
}

/* ---- prefaces ---- */

struct peer *transport_peer(const struct kt_transport *transport, kt_node_id id)
{
    for (size_t i = 0; i < transport->peer_count; i++) {
        if (transport->peers[i].id == id)
            return (struct peer *)&transport->peers[i];
    }
    return NULL;
}

static enum verdict judge_guest(const struct connection *connection, enum kt_code code, const struct preface *preface)
{
    const struct kt_transport *transport = connection->transport;
    if (code == KT_BAD_VERSION)
        return VERDICT_VERSION;
    if (connection->tls && !kt_tls_names(connection->tls, preface->from))
        return VERDICT_NAME;
    if (preface->cluster != transport->cluster)
        return VERDICT_CLUSTER;
    if (preface->to != transport->self)
        return VERDICT_ADDRESS;
    struct peer *peer = transport_peer(transport, preface->from);
    if (!peer)
        return VERDICT_STRANGER;
    if (preface->verdict == PURPOSE_TRANSFER)
        return VERDICT_WELCOME;
    if (peer->ready && peer->ready->incarnation == preface->incarnation && preface->sequence < peer->ready->sequence)
        return VERDICT_DUPLICATE;
    if (peer->dialling && peer->dialling->preface_sent && transport->self < peer->id)
        return VERDICT_DUPLICATE;
    return VERDICT_WELCOME;
}

static void refuse_guest(struct connection *connection, enum verdict verdict, const struct preface *preface)
{
    struct kt_transport *transport = connection->transport;
    struct peer *peer = transport_peer(transport, preface->from);
    connection_greet(connection, preface->from, verdict);
    if (verdict == VERDICT_DUPLICATE)
        kt_debug(LOG, "second connection of node %llu refused", (unsigned long long)preface->from);
    else if (verdict == VERDICT_VERSION && notice_due(transport, NULL, NOTICE_REFUSED + VERDICT_VERSION))
        kt_warn(LOG, "connection from %s refused: it speaks version %u of the peer protocol, this node version %u",
                connection->remote, preface->version, PREFACE_VERSION);
    else if (verdict == VERDICT_NAME && notice_due(transport, NULL, NOTICE_REFUSED + VERDICT_NAME))
        kt_warn(LOG, "connection from %s refused: it says it is node %llu, and its certificate does not name node %llu",
                connection->remote, (unsigned long long)preface->from, (unsigned long long)preface->from);
    else if (verdict != VERDICT_VERSION && verdict != VERDICT_NAME &&
             notice_due(transport, peer, NOTICE_REFUSED + (int)verdict))
        kt_warn(LOG, "connection of node %llu from %s refused: %s", (unsigned long long)preface->from,
                connection->remote, verdict_text(verdict));
    connection_close(connection);
}

/* The socket and its TLS session go to the transfer's own thread; the connection is done with. */
static void hand_to_transfer(struct connection *connection, const struct preface *preface)
{
    struct kt_transport *transport = connection->transport;
    struct kt_tls *tls = NULL;
    int fd = -1;

    if (transfers_busy(transport)) {
        connection_greet(connection, preface->from, VERDICT_BUSY);
        connection_close(connection);
        return;
    }
    if (connection_greet(connection, preface->from, VERDICT_WELCOME))
        fd = connection_detach(connection, &tls);
    connection_close(connection);
    if (fd >= 0 && !transfer_serve_socket(transport, preface->from, fd, tls)) {
        kt_tls_free(tls);
        close(fd);
    }
}

static void greet_guest(struct connection *connection, enum kt_code code, const struct preface *preface)
{
    struct kt_transport *transport = connection->transport;
    enum verdict verdict = judge_guest(connection, code, preface);
    if (verdict != VERDICT_WELCOME) {
        refuse_guest(connection, verdict, preface);
        return;
    }
    if (preface->verdict == PURPOSE_TRANSFER) {
        hand_to_transfer(connection, preface);
        return;
    }
    if (!connection_greet(connection, preface->from, VERDICT_WELCOME)) {
        transport_broken(connection, NOTICE_LOST, "it does not take the preface");
        return;
    }
    peer_adopt(transport_peer(transport, preface->from), connection, preface);
}

/* We connected; the other side has answered. */
static void greet_host(struct connection *connection, enum kt_code code, const struct preface *preface)
{
    struct kt_transport *transport = connection->transport;
    struct peer *peer = connection->peer;
    enum verdict verdict = preface->verdict < VERDICT_COUNT ? (enum verdict)preface->verdict : VERDICT_COUNT;
    if (code == KT_BAD_VERSION) {
        transport_broken(connection, NOTICE_BAD_PREFACE,
                         "it speaks version %u of the peer protocol, this node version %u", preface->version,
                         PREFACE_VERSION);
    } else if (verdict == VERDICT_DUPLICATE) {
        kt_debug(LOG, "node %llu keeps the other connection", (unsigned long long)peer->id);
        lose(connection);
    } else if (verdict != VERDICT_WELCOME) {
        if (notice_due(transport, peer, NOTICE_REFUSED_US + (int)KT_MIN((int)verdict, VERDICT_COUNT - 1)))
            kt_warn(LOG, "node %llu at %s refuses this node: %s", (unsigned long long)peer->id, peer->text,
                    verdict_text(verdict));
        lose(connection);
    } else if (preface->cluster != transport->cluster || preface->from != peer->id || preface->to != transport->self) {
        transport_broken(connection, NOTICE_BAD_PREFACE, "node %llu answers there, of %s cluster",
                         (unsigned long long)preface->from,
                         preface->cluster == transport->cluster ? "this" : "another");
    } else {
        peer_adopt(peer, connection, preface);
    }
}

void transport_greeted(struct connection *connection, enum kt_code code, const struct preface *preface)
{
    if (code == KT_BAD_FRAME)
        transport_broken(connection, NOTICE_BAD_PREFACE, "what it sent is no preface of a Kontiki node");
    else if (connection->dialled)
        greet_host(connection, code, preface);
    else
        greet_guest(connection, code, preface);
}

void transport_frame(struct connection *connection, struct kt_slice frame)
{
    struct kt_transport *transport = connection->transport;
    transport->received(transport->data, connection->peer->id, frame);
}

/* ---- connecting ---- */

static void on_retry(uv_timer_t *timer)
{
    peer_dial(timer->data);
}

static void peer_retry_later(struct peer *peer)
{
    struct kt_transport *transport = peer->transport;
    if (transport->closing || peer->ready || peer->dialling || peer->looking_up ||
        uv_is_active((uv_handle_t *)&peer->retry))
        return;
    uint64_t pause_ms = transport->reconnect_ms + kt_random_below(&transport->random, transport->reconnect_ms / 2 + 1);
    uv_timer_start(&peer->retry, on_retry, pause_ms, 0);
}

static void tell_unreachable(struct peer *peer, const char *why)
{
    if (notice_due(peer->transport, peer, NOTICE_UNREACHABLE))
        kt_warn(LOG, "node %llu at %s cannot be reached: %s", (unsigned long long)peer->id, peer->text, why);
}

/* Tries the next of the addresses that were found; none left: a pause. */
static void peer_try(struct peer *peer)
{
    struct kt_transport *transport = peer->transport;
    unsigned attempt_ms = KT_MIN(KT_MAX(transport->dead_ms, DIAL_MS_MIN), DIAL_MS_MAX);
    while (peer->found_next < peer->found_count) {
        const struct sockaddr *address = (const struct sockaddr *)&peer->found[peer->found_next++];
        struct connection *connection = connection_create(transport);
        connection->peer = peer;
        if (connection_dial(connection, address, attempt_ms) == KT_OK) {
            peer->dialling = connection;
            return;
        }
        connection_close(connection);
        tell_unreachable(peer, "its address cannot be used");
    }
    peer_retry_later(peer);
}

void transport_dialled(struct connection *connection, int status)
{
    struct peer *peer = connection->peer;
    if (status == 0 && connection_greet(connection, peer->id, VERDICT_WELCOME))
        return;
    tell_unreachable(peer, status ? uv_strerror(status) : "it does not take the preface");
    connection_close(connection);
    peer_forget(peer, connection);
    peer_try(peer);
}

static void pending_done(struct kt_transport *transport);

static void on_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *results)
{
    struct peer *peer = request->data;
    peer->looking_up = false;
    peer->found_count = peer->found_next = 0;
    for (struct addrinfo *at = status == 0 ? results : NULL; at && peer->found_count < PEER_ADDRESSES_MAX;
         at = at->ai_next) {
        if (at->ai_addrlen <= sizeof(peer->found[0]))
            memcpy(&peer->found[peer->found_count++], at->ai_addr, at->ai_addrlen);
    }
    uv_freeaddrinfo(results);
    if (!peer->transport->closing && !peer->ready) {
        if (status != 0)
            tell_unreachable(peer, uv_strerror(status));
        peer_try(peer);
    }
    pending_done(peer->transport);
}

static void peer_dial(struct peer *peer)
{
    static const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct kt_transport *transport = peer->transport;
    int port = (int)peer->address.port;
    if (peer->ready || peer->dialling || peer->looking_up)
        return;
    peer->found_next = 0;
    peer->found_count = 1;
    if (uv_ip4_addr(peer->address.host, port, (struct sockaddr_in *)&peer->found[0]) == 0 ||
        uv_ip6_addr(peer->address.host, port, (struct sockaddr_in6 *)&peer->found[0]) == 0) {
        peer_try(peer);
        return;
    }
    /* A name is looked up anew for every attempt: the node may have moved. */
    peer->found_count = 0;
    peer->lookup.data = peer;
    int failed =
        uv_getaddrinfo(transport->loop, &peer->lookup, on_looked_up, peer->address.host, peer->address.service, &hints);
    if (failed) {
        tell_unreachable(peer, uv_strerror(failed));
        peer_retry_later(peer);
        return;
    }
    peer->looking_up = true;
    transport->pending++;
}

/* ---- listening ---- */

static size_t count_strangers(const struct kt_transport *transport)
{
    size_t count = 0;
    const struct kt_list *link;
    kt_list_each (link, &transport->connections) {
        const struct connection *connection = KT_CONTAINER(link, struct connection, link);
        count += !connection->peer && (connection->state == CONNECTION_NEW || connection->state == CONNECTION_LINGER);
    }
    return count;
}

static void on_guest(uv_stream_t *listener, int status)
{
    struct kt_transport *transport = listener->data;
    if (status < 0) {
        if (notice_due(transport, NULL, NOTICE_LOST))
            kt_warn(LOG, "a connection could not be accepted: %s", uv_strerror(status));
        return;
    }
    size_t strangers = count_strangers(transport);
    struct connection *connection = connection_create(transport);
    if (!connection_accept(connection, listener)) {
        connection_close(connection);
    } else if (strangers >= STRANGERS_MAX) {
        transport_broken(connection, NOTICE_CROWD, "%u others have not said yet who they are", STRANGERS_MAX);
    }
}

/* ---- flushing ---- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active is all: the loop polls without sleeping */
}

void transport_dirty(struct kt_transport *transport)
{
    if (!transport->closing)
        uv_idle_start(&transport->idle, on_idle);
}

/*
 * Before and after the loop polls: frames that anybody queued in between leave together. The idle handle keeps the loop
 * from sleeping when something is queued behind our hook of the same phase.
 */
static void flush_all(struct kt_transport *transport)
{
    bool more = false;
    if (!uv_is_active((uv_handle_t *)&transport->idle))
        return;
    uv_idle_stop(&transport->idle);
    for (size_t i = 0; i < transport->peer_count && !transport->closing; i++) {
        struct connection *connection = transport->peers[i].ready;
        if (connection)
            more |= connection_flush(connection);
    }
    if (more)
        transport_dirty(transport);
}

static void on_prepare(uv_prepare_t *prepare)
{
    flush_all(prepare->data);
}

static void on_check(uv_check_t *check)
{
    flush_all(check->data);
}

/* ---- the transport ---- */

static enum kt_code check_options(const struct kt_transport_options *options, struct kt_error *error)
{
    struct kt_address address;
    if (options->self == 0 || options->self > KT_NODE_ID_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "node id %llu is not in 1..%u", (unsigned long long)options->self,
                            KT_NODE_ID_MAX);
    if (options->peer_count > KT_PEERS_MAX)
        return kt_error_set(error, KT_BAD_REQUEST, "%zu peers, the limit is %u", options->peer_count, KT_PEERS_MAX);
    for (size_t i = 0; i < options->peer_count; i++) {
        kt_node_id id = options->peers[i].id;
        if (id == 0 || id > KT_NODE_ID_MAX)
            return kt_error_set(error, KT_BAD_REQUEST, "peer id %llu is not in 1..%u", (unsigned long long)id,
                                KT_NODE_ID_MAX);
        if (id == options->self)
            return kt_error_set(error, KT_BAD_REQUEST, "node %llu is its own peer", (unsigned long long)id);
        for (size_t j = 0; j < i; j++) {
            if (options->peers[j].id == id)
                return kt_error_set(error, KT_BAD_REQUEST, "peer %llu is named twice", (unsigned long long)id);
        }
        enum kt_code code = kt_address_parse(options->peers[i].address, &address, error);
        if (code != KT_OK)
            return code;
    }
    return KT_OK;
}

/* libuv writes without MSG_NOSIGNAL: a peer that closed must be an error of the write, not the end of the process. */
static void ignore_sigpipe(void)
{
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        sigaction(SIGPIPE, &action, NULL);
    }
}

static void open_handles(struct kt_transport *transport, int fd)
{
    uv_loop_t *loop = transport->loop;
    KT_CHECK(uv_tcp_init(loop, &transport->listener) == 0);
    KT_CHECK(uv_tcp_open(&transport->listener, fd) == 0);
    KT_CHECK(uv_prepare_init(loop, &transport->prepare) == 0);
    KT_CHECK(uv_check_init(loop, &transport->check) == 0);
    KT_CHECK(uv_idle_init(loop, &transport->idle) == 0);
    transport->listener.data = transport;
    transport->prepare.data = transport;
    transport->check.data = transport;
    transport->idle.data = transport;
    transport->pending += 4;
    uv_prepare_start(&transport->prepare, on_prepare);
    uv_check_start(&transport->check, on_check);
    KT_CHECK(uv_listen((uv_stream_t *)&transport->listener, LISTEN_BACKLOG, on_guest) == 0);
}

static void open_peer(struct kt_transport *transport, const struct kt_peer *from)
{
    struct peer *peer = &transport->peers[transport->peer_count++];
    peer->transport = transport;
    peer->id = from->id;
    peer->text = from->address;
    KT_CHECK(kt_address_parse(from->address, &peer->address, NULL) == KT_OK);
    KT_CHECK(uv_timer_init(transport->loop, &peer->retry) == 0);
    peer->retry.data = peer;
    transport->pending++;
    /* Not from inside open: the caller does not expect events yet. */
    uv_timer_start(&peer->retry, on_retry, 0, 0);
}

enum kt_code kt_transport_open(const struct kt_transport_options *options, struct kt_transport **transport,
                               struct kt_error *error)
{
    *transport = NULL;
    enum kt_code code = check_options(options, error);
    if (code != KT_OK)
        return code;
    int fd;
    unsigned port;
    code = kt_address_listen(options->listen, LISTEN_BACKLOG, &fd, &port, error);
    if (code != KT_OK)
        return code;
    ignore_sigpipe();
    struct kt_transport *opened = kt_zalloc(sizeof(*opened));
    opened->loop = options->loop;
    opened->self = options->self;
    opened->cluster = kt_hash64(0, options->cluster, strlen(options->cluster));
    opened->incarnation = kt_random_system();
    opened->reconnect_ms = options->reconnect_ms;
    opened->dead_ms = options->dead_ms;
    opened->preface_ms = options->preface_ms ? options->preface_ms : PREFACE_MS;
    opened->received = options->received;
    opened->connected = options->connected;
    opened->disconnected = options->disconnected;
    opened->data = options->data;
    opened->port = port;
    kt_transport_set_tls(opened, options->tls);
    if (!options->tls && options->peer_count > 0)
        kt_warn(LOG, "connections between the nodes are neither encrypted nor authenticated: cluster.tls is not set");
    kt_random_seed(&opened->random, opened->incarnation);
    kt_list_init(&opened->connections);
    open_handles(opened, fd);
    transfers_open(opened);
    opened->pending++;
    for (size_t i = 0; i < options->peer_count; i++)
        open_peer(opened, &options->peers[i]);
    *transport = opened;
    return KT_OK;
}

bool kt_transport_send(struct kt_transport *transport, kt_node_id to, struct kt_buf *frame)
{
    struct peer *peer = transport_peer(transport, to);
    bool whole = kt_buf_code(frame) == KT_OK && frame->len <= KT_PEER_FRAME_MAX;
    if (!whole && notice_due(transport, peer, NOTICE_TOO_LARGE))
        kt_fail(LOG, "a frame of %zu bytes for node %llu is dropped: %s", frame->len, (unsigned long long)to,
                frame->len > KT_PEER_FRAME_MAX ? "it is too large" : kt_code_text(kt_buf_code(frame)));
    if (!whole || !peer || !peer->ready || transport->closing) {
        kt_buf_release(frame);
        return false;
    }
    return connection_send(peer->ready, frame);
}

bool kt_transport_connected(const struct kt_transport *transport, kt_node_id peer)
{
    const struct peer *found = transport_peer(transport, peer);
    return found && found->ready && !transport->closing;
}

size_t kt_transport_queued(const struct kt_transport *transport, kt_node_id peer)
{
    const struct peer *found = transport_peer(transport, peer);
    return found && found->ready ? connection_queued(found->ready) : 0;
}

unsigned kt_transport_port(const struct kt_transport *transport)
{
    return transport->port;
}

void kt_transport_set_tls(struct kt_transport *transport, struct kt_tls_context *tls)
{
    struct kt_tls_context *before = transport->tls;
    transport->tls = kt_tls_context_acquire(tls);
    kt_tls_context_drop(before);
    if (tls && !transport->sealed_input)
        transport->sealed_input = kt_alloc(SEALED_BYTES);
}

/* ---- closing ---- */

static void pending_done(struct kt_transport *transport)
{
    if (--transport->pending > 0)
        return;
    void (*closed)(void *) = transport->closed;
    void *data = transport->closed_data;
    kt_tls_context_drop(transport->tls);
    kt_free(transport->sealed_input);
    kt_free(transport);
    if (closed)
        closed(data);
}

void transport_gone(struct connection *connection)
{
    pending_done(connection->transport);
}

void transport_transfers_closed(struct kt_transport *transport)
{
    pending_done(transport);
}

static void on_listener_closed(uv_handle_t *handle)
{
    pending_done(handle->data);
}

static void on_retry_closed(uv_handle_t *handle)
{
    pending_done(((struct peer *)handle->data)->transport);
}

void kt_transport_close(struct kt_transport *transport, void (*closed)(void *data), void *data)
{
    struct kt_list *link;
    KT_CHECK(!transport->closing);
    transport->closing = true;
    transport->closed = closed;
    transport->closed_data = data;
    uv_close((uv_handle_t *)&transport->listener, on_listener_closed);
    uv_close((uv_handle_t *)&transport->prepare, on_listener_closed);
    uv_close((uv_handle_t *)&transport->check, on_listener_closed);
    uv_close((uv_handle_t *)&transport->idle, on_listener_closed);
    for (size_t i = 0; i < transport->peer_count; i++) {
        struct peer *peer = &transport->peers[i];
        /* What was queued in this very turn (a last word before leaving) still goes, as far as the socket takes it. */
        if (peer->ready)
            (void)connection_flush(peer->ready);
        peer->ready = peer->dialling = NULL;
        uv_close((uv_handle_t *)&peer->retry, on_retry_closed);
        /* A lookup that has begun cannot be cancelled; its end is waited for. */
        if (peer->looking_up)
            uv_cancel((uv_req_t *)&peer->lookup);
    }
    kt_list_each (link, &transport->connections)
        connection_close(KT_CONTAINER(link, struct connection, link));
    kt_transfer_cancel(transport);
    transfers_maybe_close(transport);
}
