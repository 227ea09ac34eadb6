/*
 * What a connection sends: the queue of frames, gathered into few writes, and what TLS makes of them.
 *
 * Plain, frames are written from where they lie and freed when they have left. Under TLS a batch of them is encrypted
 * and freed, and what is then written is the sealed buffer: the next batch waits until it has left.
 */
#include "cluster/transport/transport_internal.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "wire/writer.h"

/* ---- the queue ---- */

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
    if (connection->state == CONNECTION_CLOSED || connection->state == CONNECTION_LINGER)
        return;
    if (status < 0) {
        transport_broken(connection, NOTICE_LOST, "%s", uv_strerror(status));
        return;
    }
    if (!connection->tls) {
        sent(connection, bytes);
    } else {
        connection->sealed_sent += bytes;
        connection_push(connection);
    }
    if (connection->frames_count > 0)
        transport_dirty(connection->transport);
}

/* Leaves to libuv what the socket did not take at once. */
static void write_later(struct connection *connection, const uv_buf_t *out, unsigned count)
{
    connection->write.data = connection;
    int failed = uv_write(&connection->write, (uv_stream_t *)&connection->tcp, out, count, on_written);
    if (failed) {
        connection->write_bytes = 0;
        transport_broken(connection, NOTICE_LOST, "%s", uv_strerror(failed));
    }
}

/* What the socket takes now; false: it broke. */
static bool write_now(struct connection *connection, const uv_buf_t *out, unsigned count, size_t *bytes)
{
    int n = uv_try_write((uv_stream_t *)&connection->tcp, out, count);
    *bytes = n > 0 ? (size_t)n : 0;
    if (n >= 0 || n == UV_EAGAIN)
        return true;
    transport_broken(connection, NOTICE_LOST, "%s", uv_strerror(n));
    return false;
}

/* Writes one gathered batch; *bytes: what left at once. false: the socket takes no more now, or it broke. */
static bool write_plain(struct connection *connection, size_t *bytes)
{
    uv_buf_t out[2 * OUTPUT_BATCH_FRAMES];
    size_t wanted;
    unsigned count = gather(connection, out, &wanted);
    if (!write_now(connection, out, count, bytes))
        return false;
    sent(connection, *bytes);
    if (*bytes == wanted)
        return true;
    count = gather(connection, out, &connection->write_bytes);
    write_later(connection, out, count);
    return false;
}

/* ---- TLS ---- */

bool connection_push(struct connection *connection)
{
    struct kt_buf *sealed = &connection->sealed, *output = kt_tls_output(connection->tls);
    if (connection->write_bytes > 0)
        return false;
    for (;;) {
        if (connection->sealed_sent == sealed->len) {
            kt_buf_release(sealed);
            connection->sealed_sent = 0;
            if (output->len == 0)
                return true;
            kt_buf_take(output, sealed);
        }
        uv_buf_t out = uv_buf_init((char *)sealed->data + connection->sealed_sent,
                                   (unsigned)(sealed->len - connection->sealed_sent));
        size_t bytes;
        if (!write_now(connection, &out, 1, &bytes))
            return false;
        connection->sealed_sent += bytes;
        if (bytes < out.len) {
            out = uv_buf_init(out.base + bytes, (unsigned)(out.len - bytes));
            connection->write_bytes = out.len;
            write_later(connection, &out, 1);
            return false;
        }
    }
}

/* Encrypts one batch of frames, which are done with then, and writes it. As write_plain. */
static bool write_sealed(struct connection *connection, size_t *bytes)
{
    uv_buf_t out[2 * OUTPUT_BATCH_FRAMES];
    struct kt_slice pieces[2 * OUTPUT_BATCH_FRAMES];
    size_t gathered;
    unsigned count = gather(connection, out, &gathered);
    *bytes = 0;
    /* A large frame is sealed in parts: what is encrypted and waits stays small. */
    for (unsigned i = 0; i < count; i++) {
        pieces[i] = kt_slice(out[i].base, KT_MIN(out[i].len, OUTPUT_BATCH_BYTES - *bytes));
        *bytes += pieces[i].len;
    }
    if (kt_tls_write(connection->tls, pieces, count) != KT_OK) {
        connection_tls_failed(connection);
        return false;
    }
    sent(connection, *bytes);
    return connection_push(connection);
}

void connection_tls_failed(struct connection *connection)
{
    const struct kt_buf *alert = kt_tls_output(connection->tls);
    uv_buf_t out = uv_buf_init((char *)alert->data, (unsigned)alert->len);
    if (out.len > 0 && connection->write_bytes == 0 &&
        uv_try_write((uv_stream_t *)&connection->tcp, &out, 1) == (int)out.len)
        connection->farewell = true;
    transport_broken(connection, NOTICE_TLS + (int)kt_tls_failure(connection->tls), "%s", kt_tls_text(connection->tls));
}

bool connection_flush(struct connection *connection)
{
    size_t left = 0;
    while (connection->state == CONNECTION_READY && connection->write_bytes == 0 && connection->frames_count > 0) {
        size_t bytes;
        if (left >= OUTPUT_TURN_BYTES)
            return true;
        if (!(connection->tls ? write_sealed(connection, &bytes) : write_plain(connection, &bytes)))
            return false;
        left += bytes;
    }
    return false;
}

size_t connection_queued(const struct connection *connection)
{
    return connection->queued_bytes + connection->sealed.len - connection->sealed_sent;
}

void connection_release_output(struct connection *connection)
{
    for (size_t i = 0; i < connection->frames_count; i++)
        kt_buf_release(&frame_at(connection, i)->payload);
    kt_free(connection->frames);
    kt_buf_release(&connection->sealed);
}
