/* A socket that blocks, with or without TLS between it and its reader. One thread. */
#include "cluster/transport/transport_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "base/alloc.h"

#define STALLED_S 30 /* a socket that does not move for so long is given up */

void stream_init(struct stream *stream, struct kt_tls *tls)
{
    stream->tls = tls;
    stream->sealed = tls ? kt_alloc(SEALED_BYTES) : NULL;
}

void stream_release(struct stream *stream)
{
    kt_tls_free(stream->tls);
    kt_free(stream->sealed);
    stream_init(stream, NULL);
}

void stream_block(int fd)
{
    struct timeval stalled = {.tv_sec = STALLED_S};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stalled, sizeof(stalled));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stalled, sizeof(stalled));
}

/* ---- the socket itself ---- */

static bool send_bytes(int fd, const uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* At least one byte and at most room; 0: the socket ended or failed. */
static size_t receive_some(int fd, uint8_t *to, size_t room)
{
    for (;;) {
        ssize_t got = recv(fd, to, room, 0);
        if (got < 0 && errno == EINTR)
            continue;
        return got > 0 ? (size_t)got : 0;
    }
}

/* ---- TLS ---- */

static bool send_output(struct stream *stream, int fd)
{
    struct kt_buf *output = kt_tls_output(stream->tls);
    bool sent = send_bytes(fd, output->data, output->len);
    kt_buf_clear(output);
    return sent;
}

/* The session needs more to go on. */
static bool feed(struct stream *stream, int fd)
{
    size_t got = receive_some(fd, stream->sealed, SEALED_BYTES);
    if (got > 0)
        kt_tls_feed(stream->tls, kt_slice(stream->sealed, got));
    return got > 0;
}

bool stream_shake(struct stream *stream, int fd)
{
    if (!stream->tls)
        return true;
    for (;;) {
        enum kt_code code = kt_tls_shake(stream->tls);
        /* Also when it failed: the alert. */
        bool sent = send_output(stream, fd);
        if (code == KT_OK)
            return sent;
        if (code != KT_MORE || !sent || !feed(stream, fd))
            return false;
    }
}

bool stream_send(struct stream *stream, int fd, const void *data, size_t len)
{
    struct kt_slice piece = kt_slice(data, len);
    if (!stream->tls)
        return send_bytes(fd, data, len);
    return kt_tls_write(stream->tls, &piece, 1) == KT_OK && send_output(stream, fd);
}

bool stream_receive(struct stream *stream, int fd, void *data, size_t len)
{
    uint8_t *at = data;
    while (len > 0) {
        size_t got = 0;
        enum kt_code code = KT_OK;
        if (!stream->tls) {
            got = receive_some(fd, at, len);
            code = got > 0 ? KT_OK : KT_IO_FAILED;
        } else {
            code = kt_tls_read(stream->tls, at, len, &got);
        }
        if (code == KT_MORE && !feed(stream, fd))
            return false;
        if (code != KT_OK && code != KT_MORE)
            return false;
        at += got;
        len -= got;
    }
    return true;
}
