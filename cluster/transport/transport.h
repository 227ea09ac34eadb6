/*
 * Peer connections: one duplex TCP connection per pair of nodes on the replica's loop, carrying checksummed frames.
 *
 * Both nodes of a pair try to connect; when two connections meet, the one that the node with the smaller id opened
 * stays.
 * Under TLS (wire/tls.h) a connection begins with its handshake, and both sides must show a certificate that names the
 * node they are. Then comes a preface of each side (magic, version, cluster name hash, node id), then frames:
 *   le32 length of the payload | le32 crc32c of the payload | payload
 * Frames of one connection arrive whole, in order, at most once; a broken connection loses what was under way. Anything
 * unexpected from the other side closes the connection with one line in the log, and it is opened anew after a pause
 * with jitter. TCP_NODELAY, keepalive, and a user timeout that ends a black-holed connection.
 *
 * All calls and events on the loop's thread. No event comes from inside kt_transport_open and kt_transport_send.
 */
#ifndef KT_CLUSTER_TRANSPORT_TRANSPORT_H
#define KT_CLUSTER_TRANSPORT_TRANSPORT_H

#include <uv.h>

#include "base/buf.h"
#include "base/error.h"
#include "wire/tls.h"

#define KT_PEER_FRAME_MAX       (32u << 20) /* one frame: an entry of the largest size and its header fit well */
#define KT_PEER_QUEUE_BYTES_MAX (64u << 20) /* waiting to be sent to one peer; past it frames are dropped */
#define KT_PEERS_MAX            16

struct kt_transport;

struct kt_peer {
    kt_node_id id;
    const char *address; /* "host:port"; IPv6 in brackets; borrowed until close */
};

struct kt_transport_options {
    uv_loop_t *loop;
    kt_node_id self;
    const char *listen;          /* "host:port" */
    const char *cluster;         /* name: nodes of different clusters refuse each other */
    struct kt_tls_context *tls;  /* NULL: plain TCP, which open warns of. A reference of its own is taken */
    const struct kt_peer *peers; /* the others; borrowed during open */
    size_t peer_count;
    unsigned reconnect_ms; /* pause between attempts; jitter of half of it is added */
    unsigned dead_ms;      /* a connection silent for so long with data under way is closed (TCP_USER_TIMEOUT) */
    unsigned preface_ms;   /* a connection that has not said who it is by then is closed; 0: 5000 */
    /* The frame is borrowed. Events may send, and may begin closing the transport: then none follows. */
    void (*received)(void *data, kt_node_id from, struct kt_slice frame);
    void (*connected)(void *data, kt_node_id peer);
    void (*disconnected)(void *data, kt_node_id peer);
    void *data;
};

/*
 * Listens and begins to connect. KT_BAD_REQUEST: an option makes no sense; KT_IO_FAILED: the listener cannot be opened;
 * then nothing is left to be closed. Ignores SIGPIPE for the process if nobody has decided on it.
 */
KT_MUST_USE enum kt_code kt_transport_open(const struct kt_transport_options *options, struct kt_transport **transport,
                                           struct kt_error *error);
/*
 * Queues a frame; takes the contents of the buffer in every case. false: dropped, because the peer is not connected or
 * too much is waiting for it. Frames queued in one turn of the loop leave in one write.
 */
bool kt_transport_send(struct kt_transport *transport, kt_node_id to, struct kt_buf *frame);
/*
 * For new connections and transfers from now on; those that stand keep what they have. Only between TLS and TLS: a
 * cluster does not change between TLS and plain while it runs.
 */
void kt_transport_set_tls(struct kt_transport *transport, struct kt_tls_context *tls);
bool kt_transport_connected(const struct kt_transport *transport, kt_node_id peer);
/* Bytes waiting to be sent to a peer. */
size_t kt_transport_queued(const struct kt_transport *transport, kt_node_id peer);
/* The port that was bound (for tests that listen on port 0). */
unsigned kt_transport_port(const struct kt_transport *transport);
/*
 * Sends what is queued as far as it goes at once, closes all handles; closed(data) runs on the loop when everything is
 * freed. No further event. Once, and nothing else may be called any more. A name that is just being looked up is waited
 * for.
 */
void kt_transport_close(struct kt_transport *transport, void (*closed)(void *data), void *data);

#endif
