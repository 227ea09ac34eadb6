/* The inside of the gateway: gateway.c owns listeners and the loop's handles, conn.c connections, output.c what leaves,
 * secure.c TLS. */
#ifndef KT_GATEWAY_GATEWAY_INTERNAL_H
#define KT_GATEWAY_GATEWAY_INTERNAL_H

#include <stdalign.h>

#include "gateway/gateway.h"
#include "gateway/limits.h"

/* One reason that the log was told. */
struct told {
    kt_time_ms at_ms; /* 0: never */
    uint64_t untold;  /* times since */
};

struct kt_listener {
    struct kt_gateway *gateway;
    const struct kt_protocol *protocol;
    const void *settings;
    kt_time_ms idle_ms;
    struct kt_list link;  /* in the gateway's listeners */
    struct kt_list conns; /* open ones */
    unsigned count;       /* of conns */
    uint64_t accepted, refused, bytes_in, bytes_out;
    bool closed;                /* takes no more */
    struct kt_tls_context *tls; /* NULL: plain */
    struct told told[KT_TLS_FAILURE_COUNT];
    uv_tcp_t tcp;
};

struct kt_gateway {
    struct kt_gateway_options options;
    struct kt_list listeners;
    struct kt_list dirty; /* connections that something happened to in this turn of the loop */
    uv_prepare_t prepare; /* both step the dirty connections: before the loop sleeps, and after it was woken */
    uv_check_t check;
    uv_timer_t tick;
    unsigned handles;     /* not closed yet, connections' included */
    unsigned conns;       /* whose memory is not freed yet */
    uint64_t out_bytes;   /* of all connections */
    kt_time_ms warned_ms; /* when a failed accept was last told; 0: never */
    bool draining, closing;
    unsigned drain_turns; /* left, of KT_DRAIN_TURNS */
    void (*drained)(void *data);
    void *drained_data;
    void (*closed)(void *data);
    void *closed_data;
    char scratch[KT_READ_BYTES];
    uint8_t plain[KT_READ_BYTES]; /* decrypted out of scratch */
};

struct kt_conn {
    struct kt_gateway *gateway;   /* NULL: a connection in memory (conn_memory.h) */
    struct kt_listener *listener; /* NULL: as above */
    const struct kt_protocol *protocol;
    const void *settings;
    struct kt_dispatch *dispatch;
    struct kt_lane lane;
    struct kt_list link;    /* in the listener's conns */
    struct kt_list dirty;   /* in the gateway's dirty */
    struct kt_buf in;       /* arrived and not consumed; no memory while nothing is left over */
    struct kt_list answers; /* in the order in which they were begun */
    unsigned answer_count;  /* of answers, and of those still under way when the connection closed */
    size_t out_bytes;       /* of answers that are ready and not sent */
    size_t head_sent;       /* bytes of the first answer that are sent */
    unsigned writing;       /* first answers that the kernel is being given; 0: no write is under way */
    unsigned paused;        /* kt_conn_pause calls that are not undone */
    unsigned holds;         /* kt_conn_hold calls that are not undone */
    kt_time_ms active_ms;   /* bytes came or an answer left */
    kt_time_ms progress_ms; /* a write began or moved */
    size_t write_left;      /* of the write under way, when last looked at */
    kt_time_ms linger_until_ms;
    struct kt_buf *memory_out; /* of a connection in memory: where answers go */
    struct secure *secure;     /* NULL: plain */
    bool looked_at;            /* a plain one: whether its client speaks TLS */
    bool reading;
    bool eof;       /* the client sends nothing more */
    bool finishing; /* nothing more is taken */
    bool lingering; /* all was sent and our side is shut down */
    bool gone;      /* closing: answers under way go nowhere */
    bool handle_closed;
    bool taking;     /* inside conn_take */
    bool push_waits; /* the protocol found no room for a pushed message */
    uv_tcp_t tcp;
    uv_write_t write;
    uv_shutdown_t shutdown;
    alignas(max_align_t) unsigned char state[]; /* the protocol's */
};

struct kt_answer {
    struct kt_list link;
    struct kt_conn *conn;
    struct kt_buf buf;
    bool ready;
};

/* conn.c */

/* A new connection, no socket yet; the protocol's open has not run. */
struct kt_conn *conn_create(struct kt_dispatch *dispatch, const struct kt_protocol *protocol, const void *settings);
/* Begins to serve a connection whose socket is accepted. */
void conn_start(struct kt_conn *conn);
/* Hands what has arrived to the protocol, as far as the ceilings allow. bytes: newly arrived, behind what was left
 * over. */
void conn_take(struct kt_conn *conn, struct kt_slice bytes);
/* Something happened to the connection: it will be stepped before the loop sleeps. */
void conn_touch(struct kt_conn *conn);
/* Sends, takes, reads, holds, closes: whatever is due. */
void conn_step(struct kt_conn *conn);
/* Looks for an idle, stalled or lingering connection. */
void conn_tick(struct kt_conn *conn, kt_time_ms now_ms);
/* At once; answers under way go nowhere. Its memory is freed when the last one is ready. */
void conn_close(struct kt_conn *conn);
/* Frees a gone connection that nothing refers to any more. */
void conn_settle(struct kt_conn *conn);

/* output.c */

/* Gives the kernel the answers that may leave. false: the connection was closed. */
bool output_flush(struct kt_conn *conn);
/* Nothing is under way and nothing waits to be sent. */
bool output_empty(const struct kt_conn *conn);
/* Whether more may be taken as far as answers are concerned. */
bool output_open(const struct kt_conn *conn);
/* How far the connection's requests may go now. */
enum kt_hold output_hold(const struct kt_conn *conn);
/* Lets the protocol go on pushing if it waited for room and there is some. true: something was pushed. */
bool output_push_more(struct kt_conn *conn);
/* Drops the answers that are ready; those under way find the connection gone. Not those of a write under way. */
void output_drop(struct kt_conn *conn);

/* Ready answers from the head on, without what is sent of the first one. Returns how many. */
unsigned output_gather(struct kt_conn *conn, uv_buf_t pieces[KT_WRITE_PIECES_MAX], size_t *bytes);
/* Removes n sent bytes from the head of the answers; whole ones are freed, and empty ones that follow. */
void output_sent(struct kt_conn *conn, size_t n);
/* Bytes that are output and no answers: more of them, and less. */
void output_count(struct kt_conn *conn, size_t more, size_t less);

/* secure.c: what a connection with TLS does instead. */

void secure_open(struct kt_conn *conn);
/* Its handle is closed. */
void secure_free(struct kt_conn *conn);
/* The first bytes of a plain connection: says in the log if they are TLS. */
void secure_look(struct kt_conn *conn, struct kt_slice first);
/* Bytes from the socket. At the end in order, eof is set; after a failure, finishing. */
void secure_take(struct kt_conn *conn, struct kt_slice bytes);
/* Whether the handshake should have been done by now, and saying so in the log. */
bool secure_late(const struct kt_conn *conn, kt_time_ms now_ms);
void secure_tell_late(struct kt_conn *conn);
/* As output_flush. */
bool secure_flush(struct kt_conn *conn);
/* A write is under way. */
bool secure_writing(const struct kt_conn *conn);
/* Nothing encrypted waits to be sent. */
bool secure_empty(const struct kt_conn *conn);
/* Tells the client, once, that nothing follows. true: that has left. May close the connection, and is false then. */
bool secure_end(struct kt_conn *conn);

/* gateway.c */

/* Nothing more is taken from any client. */
bool gateway_drains(const struct kt_gateway *gateway);
void gateway_handle_closed(struct kt_gateway *gateway);
void gateway_conn_freed(struct kt_gateway *gateway);

#endif
