/* Connections in memory: conn.c without the socket. */
#include "gateway/conn_memory.h"

#include "gateway/gateway_internal.h"

struct kt_conn *kt_conn_memory_open(struct kt_dispatch *dispatch, const struct kt_protocol *protocol,
                                    const void *settings, struct kt_buf *out)
{
    struct kt_conn *conn = conn_create(dispatch, protocol, settings);

    conn->memory_out = out;
    if (protocol->open)
        protocol->open(conn, settings);
    return conn;
}

void kt_conn_memory_feed(struct kt_conn *conn, struct kt_slice bytes)
{
    if (!conn->finishing)
        conn_take(conn, bytes);
}

unsigned kt_conn_memory_pending(const struct kt_conn *conn)
{
    return conn->answer_count;
}

bool kt_conn_memory_finished(const struct kt_conn *conn)
{
    return conn->finishing;
}

void kt_conn_memory_close(struct kt_conn *conn)
{
    conn_close(conn);
    conn->handle_closed = true; /* it never had one; not before: requests that end while it closes must not free it */
    conn_settle(conn);
}
