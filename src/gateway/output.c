/*
 * What leaves a connection: answers in the order in which they were begun, many in one write.
 *
 *   begun --kt_answer_ready--> ready --all before it are ready--> sent
 *
 * The first kt_conn.writing answers belong to the write under way; their memory is the kernel's until it is done.
 */
#include "gateway/gateway_internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"

static size_t out_bytes_max(const struct kt_conn *conn)
{
    if (conn->gateway && conn->gateway->out_bytes > KT_GATEWAY_OUT_BYTES_MAX)
        return KT_CONN_OUT_BYTES_PRESSED;
    return KT_CONN_OUT_BYTES_MAX;
}

static void count_out(struct kt_conn *conn, size_t bytes)
{
    conn->out_bytes += bytes;
    if (conn->gateway)
        conn->gateway->out_bytes += bytes;
}

static void uncount_out(struct kt_conn *conn, size_t bytes)
{
    conn->out_bytes -= bytes;
    if (conn->gateway)
        conn->gateway->out_bytes -= bytes;
}

void output_count(struct kt_conn *conn, size_t more, size_t less)
{
    count_out(conn, more);
    uncount_out(conn, less);
}

static struct kt_answer *first_answer(const struct kt_conn *conn)
{
    return kt_list_first(&conn->answers, struct kt_answer, link);
}

static void free_answer(struct kt_answer *answer)
{
    answer->conn->answer_count--;
    kt_list_remove(&answer->link);
    kt_buf_release(&answer->buf);
    kt_free(answer);
}

bool output_empty(const struct kt_conn *conn)
{
    return conn->answer_count == 0 && (!conn->secure || secure_empty(conn));
}

bool output_open(const struct kt_conn *conn)
{
    return conn->answer_count < KT_CONN_ANSWERS_MAX && conn->out_bytes < out_bytes_max(conn);
}

enum kt_hold output_hold(const struct kt_conn *conn)
{
    const struct kt_answer *first = first_answer(conn);

    if (conn->out_bytes < out_bytes_max(conn))
        return KT_HOLD_OPEN;
    return first && !first->ready ? KT_HOLD_OLDEST : KT_HOLD_HELD;
}

struct kt_answer *kt_answer_begin(struct kt_conn *conn)
{
    struct kt_answer *answer = kt_zalloc(sizeof(*answer));

    KT_CHECK(!conn->gone);
    answer->conn = conn;
    kt_buf_init(&answer->buf, conn->protocol->frame_bytes_max);
    kt_list_append(&conn->answers, &answer->link);
    conn->answer_count++;
    return answer;
}

struct kt_buf *kt_answer_buf(struct kt_answer *answer)
{
    return &answer->buf;
}

struct kt_conn *kt_answer_conn(struct kt_answer *answer)
{
    return answer->conn->gone ? NULL : answer->conn;
}

/* For a connection in memory there is no kernel to wait for. */
static void flush_memory(struct kt_conn *conn)
{
    struct kt_answer *answer;

    while ((answer = first_answer(conn)) && answer->ready) {
        kt_buf_append_slice(conn->memory_out, kt_buf_slice(&answer->buf));
        uncount_out(conn, answer->buf.len);
        free_answer(answer);
    }
}

void kt_answer_ready(struct kt_answer *answer)
{
    struct kt_conn *conn = answer->conn;

    KT_CHECK(!answer->ready);
    if (conn->gone) {
        free_answer(answer);
        conn_settle(conn);
        return;
    }
    answer->ready = true;
    if (kt_buf_code(&answer->buf) != KT_OK) {
        /* The protocol answers what does not fit with an error; a half-written message would desynchronise the client.
         */
        kt_warn("gateway", "%s: an answer failed: %s; closing its client", conn->protocol->name,
                kt_code_text(kt_buf_code(&answer->buf)));
        kt_buf_clear(&answer->buf);
        conn->finishing = true;
    }
    count_out(conn, answer->buf.len);
    if (conn->out_bytes >= out_bytes_max(conn))
        kt_lane_hold(&conn->lane, KT_HOLD_HELD); /* until the next step knows better */
    if (conn->memory_out)
        flush_memory(conn);
    conn_touch(conn);
}

void kt_answer_now(struct kt_conn *conn, struct kt_slice bytes)
{
    struct kt_answer *answer = kt_answer_begin(conn);

    kt_buf_append_slice(&answer->buf, bytes);
    kt_answer_ready(answer);
}

static bool push_room(const struct kt_conn *conn)
{
    if (conn->gone || conn->finishing || conn->eof || (conn->gateway && gateway_drains(conn->gateway)))
        return false;
    if (conn->gateway && conn->gateway->out_bytes > KT_GATEWAY_PUSH_BYTES_MAX)
        return conn->answer_count == 0;
    return conn->answer_count < KT_CONN_PUSHES_MAX && conn->out_bytes < KT_CONN_PUSH_BYTES_MAX;
}

bool kt_conn_push_room(struct kt_conn *conn)
{
    bool room = push_room(conn);

    if (!room)
        conn->push_waits = true;
    return room;
}

void kt_conn_push(struct kt_conn *conn, struct kt_buf *message)
{
    struct kt_answer *answer = kt_answer_begin(conn);

    kt_buf_take(message, &answer->buf);
    kt_answer_ready(answer);
}

bool output_push_more(struct kt_conn *conn)
{
    unsigned before = conn->answer_count;

    if (!conn->push_waits || !conn->protocol->room || !push_room(conn))
        return false;
    conn->push_waits = false;
    conn->protocol->room(conn);
    return conn->answer_count != before;
}

void output_sent(struct kt_conn *conn, size_t n)
{
    struct kt_answer *answer;

    while ((answer = first_answer(conn)) && answer->ready && n >= answer->buf.len - conn->head_sent) {
        n -= answer->buf.len - conn->head_sent;
        uncount_out(conn, answer->buf.len);
        conn->head_sent = 0;
        free_answer(answer);
    }
    conn->head_sent += n;
}

unsigned output_gather(struct kt_conn *conn, uv_buf_t pieces[KT_WRITE_PIECES_MAX], size_t *bytes)
{
    struct kt_list *link;
    unsigned count = 0;
    size_t skip = conn->head_sent;

    *bytes = 0;
    kt_list_each (link, &conn->answers) {
        struct kt_answer *answer = KT_CONTAINER(link, struct kt_answer, link);

        if (!answer->ready || count == KT_WRITE_PIECES_MAX)
            break;
        pieces[count++] = uv_buf_init((char *)answer->buf.data + skip, (unsigned)(answer->buf.len - skip));
        *bytes += answer->buf.len - skip;
        skip = 0;
    }
    return count;
}

static void on_written(uv_write_t *write, int status)
{
    struct kt_conn *conn = KT_CONTAINER(write, struct kt_conn, write);

    conn->head_sent = 0;
    for (; conn->writing > 0; conn->writing--) {
        struct kt_answer *answer = first_answer(conn);
        uncount_out(conn, answer->buf.len);
        free_answer(answer);
    }
    if (conn->gone)
        return; /* its close callback comes after this one */
    if (status != 0) {
        conn_close(conn);
        return;
    }
    conn->active_ms = uv_now(conn->gateway->options.loop);
    conn_touch(conn);
}

/* An empty answer at the head (a protocol with nothing to say) is sent by forgetting it: a write of no bytes is not. */
static void forget_empty(struct kt_conn *conn)
{
    output_sent(conn, 0);
}

bool output_flush(struct kt_conn *conn)
{
    uv_buf_t pieces[KT_WRITE_PIECES_MAX];
    size_t bytes;
    unsigned count;

    if (conn->secure)
        return secure_flush(conn);
    if (conn->memory_out || conn->writing > 0)
        return true;
    for (forget_empty(conn); (count = output_gather(conn, pieces, &bytes)) > 0; forget_empty(conn)) {
        int n = uv_try_write((uv_stream_t *)&conn->tcp, pieces, count);

        if (n == UV_EAGAIN)
            n = 0;
        if (n < 0) {
            conn_close(conn);
            return false;
        }
        if (n > 0)
            conn->active_ms = uv_now(conn->gateway->options.loop);
        conn->listener->bytes_out += (size_t)n;
        output_sent(conn, (size_t)n);
        if ((size_t)n == bytes)
            continue;
        /* The socket is full: the rest of these pieces goes when the kernel has room. */
        count = output_gather(conn, pieces, &bytes);
        if (uv_write(&conn->write, (uv_stream_t *)&conn->tcp, pieces, count, on_written) != 0) {
            conn_close(conn);
            return false;
        }
        conn->listener->bytes_out += bytes;
        conn->writing = count;
        conn->write_left = bytes;
        conn->progress_ms = uv_now(conn->gateway->options.loop);
        break;
    }
    return true;
}

void output_drop(struct kt_conn *conn)
{
    struct kt_list *link = conn->answers.next;

    for (unsigned i = 0; i < conn->writing; i++)
        link = link->next;
    while (link != &conn->answers) {
        struct kt_answer *answer = KT_CONTAINER(link, struct kt_answer, link);

        link = link->next;
        if (answer->ready) {
            uncount_out(conn, answer->buf.len);
            free_answer(answer);
        }
    }
}
