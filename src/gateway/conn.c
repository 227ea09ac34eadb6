/*
 * A client connection from accept to close. conn_step is its one place of decision; callbacks note what happened and
 * touch the connection, and the gateway steps it once per turn of the loop.
 *
 *   OPEN --kt_conn_finish, fatal message, drain--> FINISHING --all answers sent--> LINGERING --eof, time--> GONE -->
 * freed OPEN --client's eof, all answers sent---------------------------------------------------------------> GONE any
 * --socket error, idle, stall, kt_gateway_close---------------------------------------------------> GONE
 *
 * A gone connection keeps its memory until its handle is closed and the last answer under way is ready.
 */
#include "gateway/gateway_internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"

static kt_time_ms now(const struct kt_conn *conn)
{
    return uv_now(conn->gateway->options.loop);
}

struct kt_conn *conn_create(struct kt_dispatch *dispatch, const struct kt_protocol *protocol, const void *settings)
{
    struct kt_conn *conn = kt_zalloc(sizeof(*conn) + protocol->conn_size);

    conn->protocol = protocol;
    conn->settings = settings;
    conn->dispatch = dispatch;
    kt_lane_init(&conn->lane);
    kt_list_init(&conn->link);
    kt_list_init(&conn->dirty);
    kt_list_init(&conn->answers);
    /* Room for the rest of one read, and of a TLS record begun before it, behind a message of the largest size. */
    kt_buf_init(&conn->in, protocol->frame_bytes_max + KT_READ_BYTES + KT_TLS_RECORD_BYTES);
    return conn;
}

void conn_touch(struct kt_conn *conn)
{
    if (conn->memory_out) {
        conn_take(conn, kt_slice(NULL, 0));
        output_push_more(conn);
    } else if (!conn->gone && kt_list_empty(&conn->dirty)) {
        kt_list_append(&conn->gateway->dirty, &conn->dirty);
    }
}

static bool may_take(const struct kt_conn *conn)
{
    return !conn->finishing && !conn->gone && conn->paused == 0 && output_open(conn) &&
           !(conn->gateway && gateway_drains(conn->gateway));
}

/* Returns how many bytes were consumed. */
static size_t take_from(struct kt_conn *conn, struct kt_slice bytes)
{
    size_t at = 0;

    while (at < bytes.len && may_take(conn)) {
        size_t used = 0;
        enum kt_code code = conn->protocol->take(conn, kt_slice((const char *)bytes.data + at, bytes.len - at), &used);

        KT_CHECK(used <= bytes.len - at);
        at += used;
        if (code == KT_MORE)
            break;
        KT_CHECK(code != KT_OK || used > 0);
        if (code != KT_OK)
            conn->finishing = true;
    }
    return at;
}

void conn_take(struct kt_conn *conn, struct kt_slice bytes)
{
    size_t used;

    if (conn->taking)
        return; /* a connection in memory, from inside its own take: the loop below goes on */
    conn->taking = true;
    if (conn->in.len == 0) {
        used = take_from(conn, bytes);
        if (!conn->finishing && used < bytes.len)
            kt_buf_append(&conn->in, (const char *)bytes.data + used, bytes.len - used);
    } else {
        kt_buf_append_slice(&conn->in, bytes);
        used = take_from(conn, kt_buf_slice(&conn->in));
        kt_buf_consume(&conn->in, used);
    }
    if (kt_buf_code(&conn->in) != KT_OK) {
        kt_warn("gateway", "%s: cannot keep a client's message: %s; closing it", conn->protocol->name,
                kt_code_text(kt_buf_code(&conn->in)));
        conn->finishing = true;
    }
    if (conn->finishing || conn->in.len == 0)
        kt_buf_release(&conn->in);
    conn->taking = false;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct kt_conn *conn = KT_CONTAINER(handle, struct kt_conn, tcp);

    (void)suggested;
    *buf = uv_buf_init(conn->gateway->scratch, sizeof(conn->gateway->scratch));
}

static void take_read(struct kt_conn *conn, struct kt_slice bytes)
{
    if (conn->secure) {
        secure_take(conn, bytes);
        return;
    }
    if (!conn->looked_at)
        secure_look(conn, bytes);
    conn_take(conn, bytes);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct kt_conn *conn = KT_CONTAINER(stream, struct kt_conn, tcp);

    if (n == 0)
        return;
    if (n == UV_EOF) {
        conn->eof = true;
        conn->reading = false;
        uv_read_stop(stream);
        conn_touch(conn);
        return;
    }
    if (n < 0) {
        conn_close(conn);
        return;
    }
    if (conn->lingering)
        return;
    conn->active_ms = now(conn);
    conn->listener->bytes_in += (size_t)n;
    take_read(conn, kt_slice(buf->base, (size_t)n));
    conn_touch(conn);
    /* Not left to the step: libuv may read again in this same callback round. */
    if (conn->eof || !may_take(conn)) {
        uv_read_stop(stream);
        conn->reading = false;
    }
}

void conn_start(struct kt_conn *conn)
{
    uv_tcp_nodelay(&conn->tcp, 1);
    uv_tcp_keepalive(&conn->tcp, 1, KT_KEEPALIVE_S);
    conn->active_ms = now(conn);
    if (conn->listener->tls)
        secure_open(conn);
    if (conn->protocol->open)
        conn->protocol->open(conn, conn->settings);
    conn_touch(conn);
}

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
    struct kt_conn *conn = KT_CONTAINER(shutdown, struct kt_conn, shutdown);

    if (status != 0 && !conn->gone)
        conn_close(conn);
}

static void linger(struct kt_conn *conn)
{
    conn->lingering = true;
    conn->linger_until_ms = now(conn) + KT_LINGER_MS;
    if (uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->tcp, on_shutdown) != 0)
        conn_close(conn);
}

/* Takes from what was left over. true: something was taken. */
static bool take_rest(struct kt_conn *conn)
{
    size_t before = conn->in.len;

    if (before == 0 || !may_take(conn))
        return false;
    conn_take(conn, kt_slice(NULL, 0));
    return conn->in.len != before;
}

void conn_step(struct kt_conn *conn)
{
    enum kt_hold hold;
    bool reading;

    if (conn->gone)
        return;
    do {
        if (!output_flush(conn))
            return;
    } while (take_rest(conn) || output_push_more(conn));

    hold = output_hold(conn);
    if (hold != conn->lane.hold)
        kt_lane_hold(&conn->lane, hold);

    if (!conn->lingering && output_empty(conn) && (conn->finishing || conn->eof || gateway_drains(conn->gateway)) &&
        (!conn->secure || secure_end(conn))) {
        if (conn->eof)
            conn_close(conn);
        else
            linger(conn);
    }
    if (conn->lingering && conn->eof)
        conn_close(conn);
    if (conn->gone)
        return;

    reading = !conn->eof && (conn->lingering || may_take(conn));
    if (reading != conn->reading) {
        conn->reading = reading;
        if (!reading)
            uv_read_stop((uv_stream_t *)&conn->tcp);
        else if (uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) != 0)
            conn_close(conn);
    }
}

void conn_tick(struct kt_conn *conn, kt_time_ms now_ms)
{
    if (conn->lingering) {
        if (now_ms >= conn->linger_until_ms)
            conn_close(conn);
        return;
    }
    if (conn->secure && secure_late(conn, now_ms)) {
        secure_tell_late(conn);
        conn_close(conn);
        return;
    }
    if (conn->writing > 0 || (conn->secure && secure_writing(conn))) {
        size_t left = uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp);

        if (left != conn->write_left) {
            conn->write_left = left;
            conn->progress_ms = now_ms;
        } else if (now_ms - conn->progress_ms >= KT_STALL_MS) {
            kt_info("gateway", "%s: closing a client that takes none of its answers", conn->protocol->name);
            conn_close(conn);
        }
        return;
    }
    if (conn->listener->idle_ms > 0 && conn->holds == 0 && output_empty(conn) &&
        now_ms - conn->active_ms >= conn->listener->idle_ms)
        conn_close(conn);
}

static void on_closed(uv_handle_t *handle)
{
    struct kt_conn *conn = KT_CONTAINER(handle, struct kt_conn, tcp);
    struct kt_gateway *gateway = conn->gateway;

    if (conn->secure)
        secure_free(conn); /* not before: a write under way was of its memory */
    conn->handle_closed = true;
    conn_settle(conn);
    gateway_handle_closed(gateway);
}

void conn_close(struct kt_conn *conn)
{
    if (conn->gone)
        return;
    conn->gone = true;
    kt_list_remove(&conn->dirty);
    if (conn->protocol->close)
        conn->protocol->close(conn);
    output_drop(conn);
    kt_buf_release(&conn->in);
    if (conn->listener) {
        kt_list_remove(&conn->link);
        conn->listener->count--;
        uv_close((uv_handle_t *)&conn->tcp, on_closed);
    }
    /* Requests that the hold kept back would wait for ever. */
    kt_lane_hold(&conn->lane, KT_HOLD_OPEN);
}

void conn_settle(struct kt_conn *conn)
{
    struct kt_gateway *gateway = conn->gateway;

    if (!conn->gone || !conn->handle_closed || conn->answer_count > 0)
        return;
    KT_CHECK(conn->lane.count == 0);
    kt_free(conn);
    if (gateway)
        gateway_conn_freed(gateway);
}

void *kt_conn_state(struct kt_conn *conn)
{
    return conn->state;
}

const void *kt_conn_settings(struct kt_conn *conn)
{
    return conn->settings;
}

struct kt_dispatch *kt_conn_dispatch(struct kt_conn *conn)
{
    return conn->dispatch;
}

struct kt_lane *kt_conn_lane(struct kt_conn *conn)
{
    return &conn->lane;
}

unsigned kt_conn_count(struct kt_conn *conn)
{
    return conn->listener ? conn->listener->count : 1;
}

unsigned kt_conn_count_max(struct kt_conn *conn)
{
    return conn->gateway ? conn->gateway->options.connections_max : 1;
}

void kt_conn_finish(struct kt_conn *conn)
{
    conn->finishing = true;
    conn_touch(conn);
}

void kt_conn_pause(struct kt_conn *conn)
{
    conn->paused++;
}

void kt_conn_resume(struct kt_conn *conn)
{
    KT_CHECK(conn->paused > 0);
    conn->paused--;
    conn_touch(conn);
}

void kt_conn_hold(struct kt_conn *conn)
{
    conn->holds++;
}

void kt_conn_release(struct kt_conn *conn)
{
    KT_CHECK(conn->holds > 0);
    conn->holds--;
}
