/*
 * The inside of the transport: prefaces (preface.c), one TCP connection (connection.c, connection_write.c), peers
 * (transport.c), transfers (transfer.c) and the sockets they block on (stream.c).
 */
#ifndef KT_CLUSTER_TRANSPORT_INTERNAL_H
#define KT_CLUSTER_TRANSPORT_INTERNAL_H

#include "base/address.h"
#include "base/list.h"
#include "base/random.h"
#include "cluster/transport/transport.h"
#include "wire/tls.h"

#define PREFACE_BYTES   52u
#define PREFACE_VERSION 1u
#define PREFACE_MS      5000u /* a connection that has not said who it is by then is closed */

#define FRAME_HEADER_BYTES  8u
#define INPUT_BYTES         (64u << 10) /* an idle connection's read buffer: a batch of common frames in one read */
#define INPUT_SHRINK_MS     1000u  /* a buffer grown for a large frame is given back after so long without another */
#define OUTPUT_FRAMES_MAX   65536u /* waiting for one peer: bounds the bookkeeping when frames are tiny */
#define OUTPUT_BATCH_FRAMES 256u   /* of one gathered write: two buffers each, below every system's IOV_MAX of 1024 */
#define OUTPUT_BATCH_BYTES  (1u << 20) /* a write takes no further frame past it, so that sent memory is freed soon */
#define OUTPUT_TURN_BYTES   (4u << 20) /* of one connection in one turn of the loop: other events do not wait long */
#define STRANGERS_MAX       32u /* accepted connections that have not said yet who they are; one more is closed */
#define PEER_ADDRESSES_MAX  8u  /* of one name that are tried in one attempt */
#define SEALED_BYTES        (64u << 10) /* one read of encrypted bytes; all of them are decrypted at once */
#define LINGER_MS           1000u  /* a connection refused with an alert is read for so long, that the alert arrives */
#define NOTICE_MS           60000u /* a repeating reason is told once in so long per peer */

/* Why a connection is refused; crosses the wire in the preface of the accepting side: appended, never reused. */
/* What a connection is for, in the place of the verdict in the preface of the connecting side. */
enum purpose {
    PURPOSE_PEER = 0,
    PURPOSE_TRANSFER = 1, /* this side wants the other's state: transfer.c */
};

enum verdict {
    VERDICT_WELCOME = 0,
    VERDICT_VERSION = 1,   /* another version of the peer protocol */
    VERDICT_CLUSTER = 2,   /* a node of another cluster */
    VERDICT_STRANGER = 3,  /* an id that is not in the list of members */
    VERDICT_ADDRESS = 4,   /* the node meant is not the one that listens there */
    VERDICT_DUPLICATE = 5, /* the other connection of this pair stays */
    VERDICT_BUSY = 6,      /* a transfer is under way already */
    VERDICT_PLAIN = 7,     /* it speaks TLS and this node does not; not encrypted, so a sign more than a message */
    VERDICT_NAME = 8,      /* its certificate does not name the node that it says it is */
    VERDICT_COUNT
};

/*
 * What each side says first, the accepting side only after it has read the other's: le16 and le64 fields in this order
 * behind the magic, then le32 crc32c of all that.
 */
struct preface {
    uint16_t version;
    uint16_t verdict;     /* enum verdict; of the connecting side enum purpose */
    uint64_t cluster;     /* hash of the cluster's name */
    uint64_t from, to;    /* node ids; to: whom the connecting side means; whom the accepting side answers */
    uint64_t incarnation; /* drawn at open: tells a restarted process from the one before */
    uint64_t sequence;    /* prefaces of this incarnation so far: tells which of two connections is newer */
};

/* Writes PREFACE_BYTES. */
void preface_write(const struct preface *preface, uint8_t *to);
/*
 * KT_OK; KT_MORE: fewer than PREFACE_BYTES and nothing wrong so far; KT_BAD_VERSION: only version is set; KT_BAD_FRAME:
 * no preface at all.
 */
KT_MUST_USE enum kt_code preface_read(struct kt_slice in, struct preface *preface);

enum connection_state {
    CONNECTION_NEW,    /* no socket yet, connecting, in the TLS handshake, or waiting for the other side's preface */
    CONNECTION_READY,  /* frames flow */
    CONNECTION_LINGER, /* refused with an alert: given up by everybody, read until the other side closes it */
    CONNECTION_CLOSED, /* handles are closing; nothing is delivered any more */
};

struct output_frame {
    uint8_t header[FRAME_HEADER_BYTES];
    struct kt_buf payload;
};

/* One TCP connection. Owned by its transport's list; freed when the last of its handles is closed. */
struct connection {
    struct kt_transport *transport;
    struct peer *peer; /* NULL while an accepted connection has not said who it is */
    struct kt_list link;
    enum connection_state state;
    bool dialled;
    bool stands;   /* the TCP connection */
    bool shaken;   /* the TLS handshake is done */
    bool farewell; /* an alert tells the other side why: linger */
    bool preface_sent;
    uint64_t incarnation, sequence; /* of the other side's preface */
    char remote[64];                /* address text, for the log */

    uv_tcp_t tcp;
    uv_timer_t timer; /* before READY: the deadline of the preface; then: giving back a grown read buffer */
    uv_connect_t connect;
    uv_write_t write;
    unsigned handles;

    struct kt_tls *tls; /* NULL: plain */

    uint8_t *input; /* plain bytes [input_start, input_end) are read and not consumed */
    size_t input_start, input_end, input_cap;
    bool input_large_used;

    struct output_frame *frames; /* a ring of cap (a power of two), count from head */
    size_t frames_head, frames_count, frames_cap;
    size_t head_sent;     /* bytes of the first frame, header included, that left already */
    size_t queued_bytes;  /* of all frames in the ring, headers included */
    size_t write_bytes;   /* of the write that libuv has, 0: none */
    struct kt_buf sealed; /* encrypted and not sent yet, from sealed_sent on; libuv may have it */
    size_t sealed_sent;
};

/* The reasons that repeat. */
enum notice {
    NOTICE_UNREACHABLE,
    NOTICE_NO_HANDSHAKE,
    NOTICE_NO_PREFACE,
    NOTICE_BAD_PREFACE,
    NOTICE_LOST,
    NOTICE_BROKEN,
    NOTICE_TOO_LARGE,
    NOTICE_CONNECTED,
    NOTICE_CROWD,
    NOTICE_TLS,                                            /* + enum kt_tls_failure */
    NOTICE_REFUSED_US = NOTICE_TLS + KT_TLS_FAILURE_COUNT, /* + enum verdict */
    NOTICE_REFUSED = NOTICE_REFUSED_US + VERDICT_COUNT,    /* + enum verdict */
    NOTICE_COUNT = NOTICE_REFUSED + VERDICT_COUNT
};

struct notices {
    uint64_t last_ms[NOTICE_COUNT]; /* loop time + 1 of the last line; 0: never */
};

struct peer {
    struct kt_transport *transport;
    kt_node_id id;
    const char *text; /* its address as configured */
    struct kt_address address;
    struct connection *ready;    /* the connection in use */
    struct connection *dialling; /* our attempt */
    uv_timer_t retry;
    uv_getaddrinfo_t lookup;
    bool looking_up;
    struct sockaddr_storage found[PEER_ADDRESSES_MAX];
    size_t found_count, found_next;
    struct notices notices;
};

struct kt_transport {
    uv_loop_t *loop;
    kt_node_id self;
    uint64_t cluster, incarnation, sequence;
    unsigned reconnect_ms, dead_ms, preface_ms;
    void (*received)(void *data, kt_node_id from, struct kt_slice frame);
    void (*connected)(void *data, kt_node_id peer);
    void (*disconnected)(void *data, kt_node_id peer);
    void *data;

    struct kt_tls_context *tls; /* of new connections; NULL: plain */
    uint8_t *sealed_input;      /* what is just being decrypted, of any connection; NULL: never any TLS */

    struct kt_random random;
    uv_tcp_t listener;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; /* active while something waits to be flushed: the loop does not sleep over it */
    unsigned port;
    struct kt_list connections;
    struct notices stranger_notices;
    struct peer peers[KT_PEERS_MAX];
    size_t peer_count;

    struct transfers *transfers;
    bool closing;
    unsigned pending; /* handles, lookups and connections that must end before the memory can go */
    void (*closed)(void *data);
    void *closed_data;
};

/* A connection without a socket, in the transport's list. */
struct connection *connection_create(struct kt_transport *transport);
/* Starts connecting; transport_dialled follows if KT_OK, later. attempt_ms: until the TCP connection must stand. */
KT_MUST_USE enum kt_code connection_dial(struct connection *connection, const struct sockaddr *address,
                                         unsigned attempt_ms);
/* Takes a connection off the listener and waits for its preface; false: there was none to take. */
bool connection_accept(struct connection *connection, uv_stream_t *listener);
/* Sends our preface at once; false: the connection is of no use (the caller closes it). */
bool connection_greet(struct connection *connection, uint64_t to, enum verdict verdict);
/* The preface was good: frames flow from now on. */
void connection_ready(struct connection *connection);
/* Queues; takes the payload in every case. false: dropped. */
bool connection_send(struct connection *connection, struct kt_buf *payload);
/* Writes what waits, as far as the socket takes it. May end in transport_broken. true: more could leave at once. */
bool connection_flush(struct connection *connection);
/* Bytes that have not left yet: of frames, and of what TLS made of frames. */
size_t connection_queued(const struct connection *connection);
/* Silent: no event. Twice is harmless. The memory goes later. */
void connection_close(struct connection *connection);
/* As close, but the other side has time to read the alert that was sent last. */
void connection_linger(struct connection *connection);
/*
 * A socket of its own for what this connection has become, and its TLS session (NULL: plain), and closes the
 * connection; -1: it cannot be had, and the connection is closed all the same.
 */
int connection_detach(struct connection *connection, struct kt_tls **tls);

/* connection_write.c, for connection.c. */
/* Frees the queue, when no write refers to it any more. */
void connection_release_output(struct connection *connection);
/* Sends what the TLS session has to say. false: it waits for the socket, or the connection broke. */
bool connection_push(struct connection *connection);
/* The TLS session failed: sends its alert if that is possible at once, and gives the connection up. */
void connection_tls_failed(struct connection *connection);

/* Called by connection.c; each may close the connection. */
void transport_dialled(struct connection *connection, int status);
/* The bytes of a preface; KT_BAD_VERSION with preface->version; KT_BAD_FRAME. */
void transport_greeted(struct connection *connection, enum kt_code code, const struct preface *preface);
void transport_frame(struct connection *connection, struct kt_slice frame);
/* The connection cannot go on; says why in words. */
void transport_broken(struct connection *connection, enum notice notice, const char *format, ...) KT_PRINTF(3, 4);
/* The peer of that id, or NULL. */
struct peer *transport_peer(const struct kt_transport *transport, kt_node_id id);
/* The transfers' handle is closed and their memory gone. */
void transport_transfers_closed(struct kt_transport *transport);

/* transfer.c. Takes the socket and its TLS session (NULL: plain) if it can serve; false: they stay with the caller. */
bool transfer_serve_socket(struct kt_transport *transport, kt_node_id to, int fd, struct kt_tls *tls);
/* Nothing can be served now. */
bool transfers_busy(const struct kt_transport *transport);
void transfers_open(struct kt_transport *transport);
/* Closes what the transfers hold once nothing is under way and the transport is closing. */
void transfers_maybe_close(struct kt_transport *transport);

/* stream.c: a socket that blocks, with or without TLS, for the threads of transfers. The socket is its owner's. */
struct stream {
    struct kt_tls *tls; /* NULL: plain */
    uint8_t *sealed;    /* what was read last, while it is decrypted; NULL without TLS */
};

/* Takes the session. */
void stream_init(struct stream *stream, struct kt_tls *tls);
void stream_release(struct stream *stream);
/* Makes a socket blocking, with an end to its patience. */
void stream_block(int fd);
/* The TLS handshake, if there is TLS. These return false when the socket or TLS fails: kt_tls_text may say why. */
bool stream_shake(struct stream *stream, int fd);
bool stream_send(struct stream *stream, int fd, const void *data, size_t len);
bool stream_receive(struct stream *stream, int fd, void *data, size_t len);

/* The memory of a connection is about to go. */
void transport_gone(struct connection *connection);
/* Something was queued: flush before the loop sleeps. */
void transport_dirty(struct kt_transport *transport);

#endif
