/*
 * A connection without a socket: bytes are fed to it and its answers are appended to a buffer. It goes through the same
 * order, ceilings and protocol as one with a socket; protocol tests and fuzzers drive it. io thread.
 */
#ifndef KT_GATEWAY_CONN_MEMORY_H
#define KT_GATEWAY_CONN_MEMORY_H

#include "gateway/protocol.h"

/* out is borrowed until close; its ceiling bounds what is kept of the answers. */
struct kt_conn *kt_conn_memory_open(struct kt_dispatch *dispatch, const struct kt_protocol *protocol,
                                    const void *settings, struct kt_buf *out);
/* Bytes that arrive; as many messages as they complete are taken. Ignored once the protocol has finished. */
void kt_conn_memory_feed(struct kt_conn *conn, struct kt_slice bytes);
/* Answers that are begun and not ready. */
unsigned kt_conn_memory_pending(const struct kt_conn *conn);
/* The protocol wants no more; a socket would be closed once nothing is pending. */
bool kt_conn_memory_finished(const struct kt_conn *conn);
/* Answers still pending go nowhere; the memory is freed when the last of them is ready. */
void kt_conn_memory_close(struct kt_conn *conn);

#endif
