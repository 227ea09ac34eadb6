/*
 * One TCP connection: its handles, TLS, the preface, framing and the read buffer. What it sends: connection_write.c.
 *
 * Bytes come from the socket in read_bytes alone. Under TLS they are read into a buffer that all connections share and
 * decrypted into the connection's own at once, so that framing sees the same plain bytes with and without it.
 */
#include "cluster/transport/transport_internal.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "wire/writer.h"

/* ---- life ---- */

struct connection *connection_create(struct kt_transport *transport)
{
    struct connection *connection = kt_zalloc(sizeof(*connection));
    connection->transport = transport;
    KT_CHECK(uv_tcp_init(transport->loop, &connection->tcp) == 0);
    KT_CHECK(uv_timer_init(transport->loop, &connection->timer) == 0);
    connection->tcp.data = connection;
    connection->timer.data = connection;
    connection->handles = 2;
    kt_buf_init(&connection->sealed, KT_TLS_OUTPUT_MAX);
    kt_list_append(&transport->connections, &connection->link);
    transport->pending++;
    return connection;
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    if (--connection->handles > 0)
        return;
    /* A cancelled write has been called back by now, so nothing refers to the frames any more. */
    connection_release_output(connection);
    kt_tls_free(connection->tls);
    kt_free(connection->input);
    kt_list_remove(&connection->link);
    transport_gone(connection);
    kt_free(connection);
}

void connection_close(struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    connection->state = CONNECTION_CLOSED;
    uv_close((uv_handle_t *)&connection->timer, on_closed);
    uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

static void on_lingered(uv_timer_t *timer)
{
    connection_close(timer->data);
}

void connection_linger(struct connection *connection)
{
    uv_os_fd_t fd;
    if (connection->state == CONNECTION_CLOSED || connection->state == CONNECTION_LINGER)
        return;
    /* Closed with bytes unread, the kernel would answer with a reset, which takes the alert with it. */
    connection->state = CONNECTION_LINGER;
    if (uv_fileno((uv_handle_t *)&connection->tcp, &fd) == 0)
        shutdown(fd, SHUT_WR);
    uv_timer_start(&connection->timer, on_lingered, LINGER_MS, 0);
}

int connection_detach(struct connection *connection, struct kt_tls **tls)
{
    uv_os_fd_t fd;
    int own = -1;
    /* Whoever says more than a preface before it has an answer is not served. */
    bool quiet = connection->input_start == connection->input_end && connection->write_bytes == 0;
    if (quiet && uv_fileno((const uv_handle_t *)&connection->tcp, &fd) == 0)
        own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    *tls = NULL;
    if (own >= 0 && connection->tls) {
        *tls = connection->tls;
        connection->tls = NULL;
        kt_tls_forget(*tls);
    }
    connection_close(connection);
    return own;
}

/* ---- reading ---- */

static void on_input_idle(uv_timer_t *timer)
{
    struct connection *connection = timer->data;
    size_t held = connection->input_end - connection->input_start;
    if (connection->input_large_used || held > INPUT_BYTES) {
        connection->input_large_used = false;
        uv_timer_start(timer, on_input_idle, INPUT_SHRINK_MS, 0);
        return;
    }
    uint8_t *small = kt_alloc(INPUT_BYTES);
    memcpy(small, connection->input + connection->input_start, held);
    kt_free(connection->input);
    connection->input = small;
    connection->input_cap = INPUT_BYTES;
    connection->input_start = 0;
    connection->input_end = held;
}

/* Makes the read buffer hold a whole frame of so many bytes, header included. */
static bool grow_input(struct connection *connection, size_t frame_bytes)
{
    if (connection->input_cap >= frame_bytes)
        return true;
    uint8_t *large = kt_try_realloc(connection->input, frame_bytes);
    if (!large)
        return false;
    connection->input = large;
    connection->input_cap = frame_bytes;
    connection->input_large_used = true;
    if (!uv_is_active((uv_handle_t *)&connection->timer))
        uv_timer_start(&connection->timer, on_input_idle, INPUT_SHRINK_MS, 0);
    return true;
}

/* What was consumed makes room at the end. */
static void compact_input(struct connection *connection)
{
    size_t held = connection->input_end - connection->input_start;
    if (connection->input_start == 0)
        return;
    memmove(connection->input, connection->input + connection->input_start, held);
    connection->input_start = 0;
    connection->input_end = held;
}

static void take_frames(struct connection *connection)
{
    while (connection->state == CONNECTION_READY) {
        const uint8_t *at = connection->input + connection->input_start;
        size_t held = connection->input_end - connection->input_start;
        if (held < FRAME_HEADER_BYTES)
            break;
        size_t len = kt_get_le32(at);
        if (len > KT_PEER_FRAME_MAX) {
            transport_broken(connection, NOTICE_BROKEN, "frame is %zu bytes, the limit is %u", len, KT_PEER_FRAME_MAX);
            return;
        }
        if (held - FRAME_HEADER_BYTES < len) {
            compact_input(connection);
            if (!grow_input(connection, FRAME_HEADER_BYTES + len))
                transport_broken(connection, NOTICE_BROKEN, "no memory for a frame of %zu bytes", len);
            return;
        }
        if (FRAME_HEADER_BYTES + len > INPUT_BYTES)
            connection->input_large_used = true;
        const uint8_t *payload = at + FRAME_HEADER_BYTES;
        if (kt_crc32c(0, payload, len) != kt_get_le32(at + 4)) {
            transport_broken(connection, NOTICE_BROKEN, "checksum of a frame of %zu bytes is wrong", len);
            return;
        }
        connection->input_start += FRAME_HEADER_BYTES + len;
        transport_frame(connection, kt_slice(payload, len));
    }
    if (connection->state == CONNECTION_READY)
        compact_input(connection);
}

static void take_preface(struct connection *connection)
{
    struct preface preface;
    enum kt_code code = preface_read(
        kt_slice(connection->input + connection->input_start, connection->input_end - connection->input_start),
        &preface);
    if (code == KT_MORE)
        return;
    if (code == KT_OK)
        connection->input_start += PREFACE_BYTES;
    if (code == KT_BAD_FRAME && !connection->tls &&
        kt_tls_begins(
            kt_slice(connection->input + connection->input_start, connection->input_end - connection->input_start))) {
        /* To a guest anything that is no TLS says it all. */
        if (!connection->dialled)
            connection_greet(connection, 0, VERDICT_PLAIN);
        transport_broken(connection, NOTICE_TLS + (int)KT_TLS_NOT_TLS,
                         "it speaks TLS, and this node does not: cluster.tls is not set");
        return;
    }
    transport_greeted(connection, code, &preface);
}

static void take_plain(struct connection *connection)
{
    if (connection->state == CONNECTION_NEW)
        take_preface(connection);
    if (connection->state == CONNECTION_READY)
        take_frames(connection);
}

/* ---- TLS ---- */

/* Goes on with the handshake. true: it is done, and the connection still stands. */
static bool shake(struct connection *connection)
{
    if (connection->shaken)
        return true;
    enum kt_code code = kt_tls_shake(connection->tls);
    if (code == KT_MORE) {
        connection_push(connection);
        return false;
    }
    if (code != KT_OK) {
        connection_tls_failed(connection);
        return false;
    }
    connection->shaken = true;
    if (connection->dialled)
        transport_dialled(connection, 0);
    else
        connection_push(connection);
    return connection->state == CONNECTION_NEW;
}

static void take_sealed(struct connection *connection, struct kt_slice bytes)
{
    kt_tls_feed(connection->tls, bytes);
    if (!shake(connection))
        return;
    while (connection->state == CONNECTION_NEW || connection->state == CONNECTION_READY) {
        size_t got;
        /* Framing leaves room: for a whole preface, or for the frame that is arriving. */
        enum kt_code code = kt_tls_read(connection->tls, connection->input + connection->input_end,
                                        connection->input_cap - connection->input_end, &got);
        if (code == KT_MORE) {
            connection_push(connection);
            return;
        }
        if (code != KT_OK) {
            connection_tls_failed(connection);
            return;
        }
        connection->input_end += got;
        take_plain(connection);
    }
}

/* ---- the socket ---- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct connection *connection = handle->data;
    (void)suggested;
    if (connection->tls) {
        *room = uv_buf_init((char *)connection->transport->sealed_input, SEALED_BYTES);
        return;
    }
    room->base = (char *)connection->input + connection->input_end;
    room->len = connection->input_cap - connection->input_end;
}

static void read_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct connection *connection = stream->data;
    if (connection->state == CONNECTION_CLOSED || n == 0)
        return;
    if (connection->state == CONNECTION_LINGER) {
        if (n < 0)
            connection_close(connection);
        return;
    }
    if (n < 0) {
        const char *why = n == UV_EOF ? "the other side closed it" : uv_strerror((int)n);
        bool shaking = connection->tls && !connection->shaken;
        transport_broken(connection, NOTICE_LOST, "%s%s", why, shaking ? " during the TLS handshake" : "");
        return;
    }
    if (connection->tls) {
        take_sealed(connection, kt_slice(room->base, (size_t)n));
        return;
    }
    connection->input_end += (size_t)n;
    take_plain(connection);
}

/* ---- beginning ---- */

static void on_late(uv_timer_t *timer)
{
    struct connection *connection = timer->data;
    unsigned preface_ms = connection->transport->preface_ms;
    if (!connection->stands)
        transport_dialled(connection, UV_ETIMEDOUT);
    else if (connection->tls && !connection->shaken)
        transport_broken(connection, NOTICE_NO_HANDSHAKE, "no TLS handshake within %u ms", preface_ms);
    else
        transport_broken(connection, NOTICE_NO_PREFACE, "no preface came within %u ms", preface_ms);
}

/* Linux options that libuv has no name for. They fail on no TCP socket; without them a connection still works. */
static void tune(struct connection *connection)
{
    uv_os_fd_t fd;
    unsigned dead_ms = connection->transport->dead_ms;
    int one = 1, idle_s = (int)KT_MAX(dead_ms / 1000u, 1u), probes = 3;
    uv_tcp_nodelay(&connection->tcp, 1);
    if (uv_fileno((uv_handle_t *)&connection->tcp, &fd) != 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
}

static void name_remote(struct connection *connection)
{
    struct sockaddr_storage address;
    int len = sizeof(address);
    char host[46] = "?";
    unsigned port = 0;
    if (uv_tcp_getpeername(&connection->tcp, (struct sockaddr *)&address, &len) != 0) {
        snprintf(connection->remote, sizeof(connection->remote), "an unknown address");
        return;
    }
    uv_ip_name((const struct sockaddr *)&address, host, sizeof(host));
    if (address.ss_family == AF_INET6)
        port = ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    else
        port = ntohs(((const struct sockaddr_in *)&address)->sin_port);
    snprintf(connection->remote, sizeof(connection->remote), address.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
             port);
}

/* The TCP connection stands: TLS begins, if there is any, and the other side's preface is awaited. */
static void start_reading(struct connection *connection)
{
    struct kt_tls_context *tls = connection->transport->tls;
    connection->stands = true;
    if (tls)
        connection->tls = connection->dialled ? kt_tls_create(tls, KT_TLS_CLIENT, connection->peer->id)
                                              : kt_tls_create(tls, KT_TLS_SERVER, 0);
    tune(connection);
    name_remote(connection);
    connection->input = kt_alloc(INPUT_BYTES);
    connection->input_cap = INPUT_BYTES;
    uv_timer_start(&connection->timer, on_late, connection->transport->preface_ms, 0);
    int failed = uv_read_start((uv_stream_t *)&connection->tcp, on_room, read_bytes);
    if (failed)
        transport_broken(connection, NOTICE_LOST, "%s", uv_strerror(failed));
}

static void on_connected(uv_connect_t *request, int status)
{
    struct connection *connection = request->data;
    if (connection->state == CONNECTION_CLOSED)
        return;
    if (status == 0)
        start_reading(connection);
    if (connection->state != CONNECTION_NEW)
        return;
    if (connection->tls)
        shake(connection); /* the answer to it goes on */
    else
        transport_dialled(connection, status);
}

enum kt_code connection_dial(struct connection *connection, const struct sockaddr *address, unsigned attempt_ms)
{
    connection->dialled = true;
    connection->connect.data = connection;
    if (uv_tcp_connect(&connection->connect, &connection->tcp, address, on_connected) != 0)
        return KT_IO_FAILED;
    uv_timer_start(&connection->timer, on_late, attempt_ms, 0);
    return KT_OK;
}

bool connection_accept(struct connection *connection, uv_stream_t *listener)
{
    if (uv_accept(listener, (uv_stream_t *)&connection->tcp) != 0)
        return false;
    start_reading(connection);
    return true;
}

bool connection_greet(struct connection *connection, uint64_t to, enum verdict verdict)
{
    struct kt_transport *transport = connection->transport;
    struct preface preface = {.version = PREFACE_VERSION,
                              .verdict = (uint16_t)verdict,
                              .cluster = transport->cluster,
                              .from = transport->self,
                              .to = to,
                              .incarnation = transport->incarnation,
                              .sequence = ++transport->sequence};
    uint8_t bytes[PREFACE_BYTES];
    preface_write(&preface, bytes);
    connection->preface_sent = true;
    if (connection->tls) {
        struct kt_slice piece = kt_slice(bytes, sizeof(bytes));
        return kt_tls_write(connection->tls, &piece, 1) == KT_OK &&
               (connection_push(connection) || connection->state == CONNECTION_NEW);
    }
    uv_buf_t out = uv_buf_init((char *)bytes, PREFACE_BYTES);
    /* The first bytes of a connection: its send buffer is empty, so a socket that does not take them is broken. */
    return uv_try_write((uv_stream_t *)&connection->tcp, &out, 1) == (int)PREFACE_BYTES;
}

void connection_ready(struct connection *connection)
{
    connection->state = CONNECTION_READY;
    uv_timer_stop(&connection->timer);
}
