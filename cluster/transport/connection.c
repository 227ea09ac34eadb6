/*
 * One TCP connection: its handles, the preface, framing, the read buffer and the queue of what is to be sent.
 *
 * Bytes pass the socket in two places alone, read_bytes and write_batch: a filter (TLS) goes between them and the
 * framing.
 */
#include "cluster/transport/transport_internal.h"

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
    kt_list_append(&transport->connections, &connection->link);
    transport->pending++;
    return connection;
}

static void release_frames(struct connection *connection)
{
    for (size_t i = 0; i < connection->frames_count; i++)
        kt_buf_release(&connection->frames[(connection->frames_head + i) & (connection->frames_cap - 1)].payload);
    kt_free(connection->frames);
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    if (--connection->handles > 0)
        return;
    /* A cancelled write has been called back by now, so nothing refers to the frames any more. */
    release_frames(connection);
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
    transport_greeted(connection, code, &preface);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct connection *connection = handle->data;
    (void)suggested;
    room->base = (char *)connection->input + connection->input_end;
    room->len = connection->input_cap - connection->input_end;
}

static void read_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct connection *connection = stream->data;
    (void)room;
    if (connection->state == CONNECTION_CLOSED || n == 0)
        return;
    if (n < 0) {
        const char *why = n == UV_EOF ? "the other side closed it" : uv_strerror((int)n);
        transport_broken(connection, NOTICE_LOST, "%s", why);
        return;
    }
    connection->input_end += (size_t)n;
    if (connection->state == CONNECTION_NEW)
        take_preface(connection);
    if (connection->state == CONNECTION_READY)
        take_frames(connection);
}

/* ---- beginning ---- */

static void on_late(uv_timer_t *timer)
{
    struct connection *connection = timer->data;
    if (connection->dialled && !connection->preface_sent) {
        transport_dialled(connection, UV_ETIMEDOUT);
        return;
    }
    transport_broken(connection, NOTICE_NO_PREFACE, "no preface came within %u ms", connection->transport->preface_ms);
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

/* The TCP connection stands: the other side's preface is awaited. */
static void start_reading(struct connection *connection)
{
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
    if (connection->state == CONNECTION_NEW)
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
    uv_buf_t out = uv_buf_init((char *)bytes, PREFACE_BYTES);
    connection->preface_sent = true;
    /* The first bytes of a connection: its send buffer is empty, so a socket that does not take them is broken. */
    return uv_try_write((uv_stream_t *)&connection->tcp, &out, 1) == (int)PREFACE_BYTES;
}

void connection_ready(struct connection *connection)
{
    connection->state = CONNECTION_READY;
    uv_timer_stop(&connection->timer);
}

/* ---- writing ---- */

static struct output_frame *frame_at(struct connection *connection, size_t i)
{
    return &connection->frames[(connection->frames_head + i) & (connection->frames_cap - 1)];
}

static size_t frame_bytes(const struct output_frame *frame)
{
    return FRAME_HEADER_BYTES + frame->payload.len;
}

static void grow_ring(struct connection *connection)
{
    size_t cap = connection->frames_cap ? connection->frames_cap * 2 : 16;
    struct output_frame *frames = kt_alloc(cap * sizeof(*frames));
    for (size_t i = 0; i < connection->frames_count; i++)
        frames[i] = *frame_at(connection, i);
    kt_free(connection->frames);
    connection->frames = frames;
    connection->frames_cap = cap;
    connection->frames_head = 0;
}

bool connection_send(struct connection *connection, struct kt_buf *payload)
{
    size_t bytes = FRAME_HEADER_BYTES + payload->len;
    if (connection->state != CONNECTION_READY || connection->frames_count >= OUTPUT_FRAMES_MAX ||
        bytes > KT_PEER_QUEUE_BYTES_MAX - connection->queued_bytes) {
        kt_buf_release(payload);
        return false;
    }
    if (connection->frames_count == connection->frames_cap)
        grow_ring(connection);
    struct output_frame *frame = frame_at(connection, connection->frames_count++);
    memset(frame, 0, sizeof(*frame));
    kt_buf_take(payload, &frame->payload);
    kt_put_le32(frame->header, (uint32_t)frame->payload.len);
    kt_put_le32(frame->header + 4, kt_crc32c(0, frame->payload.data, frame->payload.len));
    connection->queued_bytes += bytes;
    transport_dirty(connection->transport);
    return true;
}

/* The first frames, as far as a write takes them; bytes: of all of them. */
static unsigned gather(struct connection *connection, uv_buf_t *out, size_t *bytes)
{
    size_t skip = connection->head_sent;
    unsigned count = 0;
    *bytes = 0;
    for (size_t i = 0; i < connection->frames_count && i < OUTPUT_BATCH_FRAMES && *bytes < OUTPUT_BATCH_BYTES; i++) {
        struct output_frame *frame = frame_at(connection, i);
        *bytes += frame_bytes(frame) - skip;
        if (skip < FRAME_HEADER_BYTES)
            out[count++] = uv_buf_init((char *)frame->header + skip, (unsigned)(FRAME_HEADER_BYTES - skip));
        size_t payload_skip = skip > FRAME_HEADER_BYTES ? skip - FRAME_HEADER_BYTES : 0;
        if (frame->payload.len > payload_skip)
            out[count++] =
                uv_buf_init((char *)frame->payload.data + payload_skip, (unsigned)(frame->payload.len - payload_skip));
        skip = 0;
    }
    return count;
}

/* So many bytes have left: whole frames are freed. */
static void sent(struct connection *connection, size_t bytes)
{
    bytes += connection->head_sent;
    while (connection->frames_count > 0 && bytes >= frame_bytes(frame_at(connection, 0))) {
        struct output_frame *frame = frame_at(connection, 0);
        bytes -= frame_bytes(frame);
        connection->queued_bytes -= frame_bytes(frame);
        kt_buf_release(&frame->payload);
        connection->frames_head = (connection->frames_head + 1) & (connection->frames_cap - 1);
        connection->frames_count--;
    }
    connection->head_sent = bytes;
}

static void on_written(uv_write_t *request, int status)
{
    struct connection *connection = request->data;
    size_t bytes = connection->write_bytes;
    connection->write_bytes = 0;
    if (connection->state == CONNECTION_CLOSED)
        return;
    if (status < 0) {
        transport_broken(connection, NOTICE_LOST, "%s", uv_strerror(status));
        return;
    }
    sent(connection, bytes);
    if (connection->frames_count > 0)
        transport_dirty(connection->transport);
}

/* Writes one gathered batch; *bytes: what left at once. false: the socket takes no more now, or it broke. */
static bool write_batch(struct connection *connection, size_t *bytes)
{
    uv_buf_t out[2 * OUTPUT_BATCH_FRAMES];
    uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
    size_t wanted;
    unsigned count = gather(connection, out, &wanted);
    int n = uv_try_write(stream, out, count);
    *bytes = n > 0 ? (size_t)n : 0;
    if (n < 0 && n != UV_EAGAIN) {
        transport_broken(connection, NOTICE_LOST, "%s", uv_strerror(n));
        return false;
    }
    sent(connection, *bytes);
    if (*bytes == wanted)
        return true;
    count = gather(connection, out, &connection->write_bytes);
    connection->write.data = connection;
    int failed = uv_write(&connection->write, stream, out, count, on_written);
    if (failed) {
        connection->write_bytes = 0;
        transport_broken(connection, NOTICE_LOST, "%s", uv_strerror(failed));
    }
    return false;
}

bool connection_flush(struct connection *connection)
{
    size_t left = 0;
    while (connection->state == CONNECTION_READY && connection->write_bytes == 0 && connection->frames_count > 0) {
        size_t bytes;
        if (left >= OUTPUT_TURN_BYTES)
            return true;
        if (!write_batch(connection, &bytes))
            return false;
        left += bytes;
    }
    return false;
}
