/*
 * Connections under TLS: between the socket and what conn.c takes, and between the answers of output.c and the socket.
 *
 *   socket ─▶ secure_take ─▶ conn_take          answers ─▶ secure_flush: one portion sealed ─▶ socket
 *
 * An answer is encrypted when the socket has taken what was encrypted before it, a portion at a time: a client that
 * does not read costs what it costs without TLS, and one portion. What is encrypted and not sent counts as output.
 */
#include "gateway/gateway_internal.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"

#define NAME_MAX_BYTES 64 /* of an address as text: IPv6 with a zone is shorter */

struct secure {
    struct kt_tls *tls;
    struct kt_buf sealed; /* the write under way; none: empty */
    size_t counted;       /* of conn.out_bytes: encrypted and not sent */
    kt_time_ms since_ms;
    bool shaken; /* the handshake is done */
    bool failed; /* answers go nowhere any more */
    bool ended;  /* the client was told that nothing follows */
};

static kt_time_ms now(const struct kt_conn *conn)
{
    return uv_now(conn->gateway->options.loop);
}

void secure_open(struct kt_conn *conn)
{
    struct secure *secure = kt_zalloc(sizeof(*secure));

    secure->tls = kt_tls_create(conn->listener->tls, KT_TLS_SERVER, 0);
    kt_buf_init(&secure->sealed, KT_TLS_OUTPUT_MAX);
    secure->since_ms = now(conn);
    conn->secure = secure;
}

static void count(struct kt_conn *conn)
{
    struct secure *secure = conn->secure;
    size_t bytes = secure->sealed.len + kt_tls_output(secure->tls)->len;

    output_count(conn, bytes, secure->counted);
    secure->counted = bytes;
}

void secure_free(struct kt_conn *conn)
{
    struct secure *secure = conn->secure;

    output_count(conn, 0, secure->counted);
    kt_tls_free(secure->tls);
    kt_buf_release(&secure->sealed);
    kt_free(secure);
    conn->secure = NULL;
}

/* ---- what the log says ---- */

static const char *name_of(const struct kt_conn *conn, char text[NAME_MAX_BYTES])
{
    struct sockaddr_storage address;
    int len = sizeof(address);

    if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&address, &len) != 0 ||
        uv_ip_name((struct sockaddr *)&address, text, NAME_MAX_BYTES) != 0)
        return "an unknown address";
    return text;
}

/* A client that does it once does it again and again: each reason once in a while. */
static void tell(struct kt_conn *conn, enum kt_tls_failure reason, const char *why)
{
    struct told *told = &conn->listener->told[reason];
    char name[NAME_MAX_BYTES], more[64] = "";
    kt_time_ms now_ms = now(conn);

    if (told->at_ms != 0 && now_ms - told->at_ms < KT_TELL_TLS_EVERY_MS) {
        told->untold++;
        return;
    }
    if (told->untold > 0)
        snprintf(more, sizeof(more), " (%llu more since it was last said)", (unsigned long long)told->untold);
    *told = (struct told){.at_ms = now_ms};
    kt_warn("gateway", "%s: closing a client from %s: %s%s", conn->protocol->name, name_of(conn, name), why, more);
}

void secure_look(struct kt_conn *conn, struct kt_slice first)
{
    conn->looked_at = true;
    if (kt_tls_begins(first) && first.len > 1)
        tell(conn, KT_TLS_FINE, "it speaks TLS, and this port does not");
}

/* ---- what comes ---- */

/* The alert, if there is one, is sent as a last answer would be. */
static void failed(struct kt_conn *conn)
{
    struct secure *secure = conn->secure;

    if (secure->failed)
        return;
    secure->failed = true;
    conn->finishing = true;
    tell(conn, kt_tls_failure(secure->tls), kt_tls_text(secure->tls));
}

/* Decrypts until the room is full or nothing is left. */
static enum kt_code decrypt(struct kt_conn *conn, size_t *len)
{
    struct kt_gateway *gateway = conn->gateway;
    enum kt_code code = KT_OK;

    for (*len = 0; code == KT_OK && *len < sizeof(gateway->plain);) {
        size_t got;

        code = kt_tls_read(conn->secure->tls, gateway->plain + *len, sizeof(gateway->plain) - *len, &got);
        *len += got;
    }
    return code;
}

void secure_take(struct kt_conn *conn, struct kt_slice bytes)
{
    struct secure *secure = conn->secure;
    enum kt_code code;

    if (secure->failed || conn->eof)
        return;
    kt_tls_feed(secure->tls, bytes);
    code = kt_tls_shake(secure->tls);
    secure->shaken = code == KT_OK;
    while (code == KT_OK) {
        size_t len;

        code = decrypt(conn, &len);
        if (len > 0)
            conn_take(conn, kt_slice(conn->gateway->plain, len));
    }
    if (code != KT_MORE && kt_tls_failure(secure->tls) == KT_TLS_ENDED)
        conn->eof = true; /* and still gets what it asked for */
    else if (code != KT_MORE)
        failed(conn);
    count(conn);
}

bool secure_late(const struct kt_conn *conn, kt_time_ms now_ms)
{
    kt_time_ms limit = KT_SHAKE_MS;

    if (conn->listener->idle_ms > 0)
        limit = KT_MIN(limit, conn->listener->idle_ms);
    return !conn->secure->shaken && now_ms - conn->secure->since_ms >= limit;
}

void secure_tell_late(struct kt_conn *conn)
{
    tell(conn, KT_TLS_BROKEN, "no TLS handshake in time");
}

/* ---- what leaves ---- */

/* One portion of the answers that may leave becomes output. false: there was nothing. */
static bool seal(struct kt_conn *conn)
{
    struct secure *secure = conn->secure;
    uv_buf_t out[KT_WRITE_PIECES_MAX];
    struct kt_slice pieces[KT_WRITE_PIECES_MAX];
    size_t bytes;
    unsigned gathered;

    if (!secure->shaken && !secure->failed)
        return false;
    output_sent(conn, 0); /* forgets empty answers */
    gathered = output_gather(conn, out, &bytes);
    if (gathered == 0)
        return false;
    if (!secure->failed) {
        bytes = 0;
        for (unsigned i = 0; i < gathered; i++) {
            pieces[i] = kt_slice(out[i].base, KT_MIN(out[i].len, (size_t)KT_SEAL_BYTES - bytes));
            bytes += pieces[i].len;
        }
        if (kt_tls_write(secure->tls, pieces, gathered) != KT_OK)
            failed(conn);
    }
    output_sent(conn, bytes);
    return true;
}

static void on_written(uv_write_t *write, int status)
{
    struct kt_conn *conn = KT_CONTAINER(write, struct kt_conn, write);

    kt_buf_release(&conn->secure->sealed);
    count(conn);
    if (conn->gone)
        return; /* its close callback comes after this one */
    if (status != 0) {
        conn_close(conn);
        return;
    }
    conn->active_ms = now(conn);
    conn_touch(conn);
}

/* The socket is full: what it did not take goes when it has room. */
static bool write_later(struct kt_conn *conn, size_t taken)
{
    struct secure *secure = conn->secure;
    uv_buf_t rest;

    kt_buf_release(&secure->sealed);
    kt_buf_take(kt_tls_output(secure->tls), &secure->sealed);
    rest = uv_buf_init((char *)secure->sealed.data + taken, (unsigned)(secure->sealed.len - taken));
    conn->listener->bytes_out += rest.len;
    conn->write_left = rest.len;
    conn->progress_ms = now(conn);
    if (uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &rest, 1, on_written) == 0)
        return true;
    kt_buf_release(&secure->sealed);
    conn_close(conn);
    return false;
}

bool secure_flush(struct kt_conn *conn)
{
    struct secure *secure = conn->secure;
    struct kt_buf *output = kt_tls_output(secure->tls);
    bool open = true;

    while (open && !secure_writing(conn) && (output->len > 0 || seal(conn))) {
        uv_buf_t piece = uv_buf_init((char *)output->data, (unsigned)output->len);
        int n = output->len > 0 ? uv_try_write((uv_stream_t *)&conn->tcp, &piece, 1) : 0;

        if (n == UV_EAGAIN)
            n = 0;
        if (n < 0) {
            conn_close(conn);
            return false;
        }
        if (n > 0)
            conn->active_ms = now(conn);
        conn->listener->bytes_out += (size_t)n;
        if ((size_t)n < output->len)
            open = write_later(conn, (size_t)n);
        else
            kt_buf_clear(output);
    }
    if (output->len == 0)
        kt_buf_release(output); /* an idle connection owns no buffer */
    count(conn);
    return open;
}

bool secure_writing(const struct kt_conn *conn)
{
    return conn->secure->sealed.len > 0;
}

bool secure_empty(const struct kt_conn *conn)
{
    return !secure_writing(conn) && kt_tls_output(conn->secure->tls)->len == 0;
}

bool secure_end(struct kt_conn *conn)
{
    if (!conn->secure->ended) {
        conn->secure->ended = true;
        kt_tls_end(conn->secure->tls);
        if (!secure_flush(conn))
            return false;
    }
    return secure_empty(conn);
}
