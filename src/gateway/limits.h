/* The ceilings of the gateway, each with its reason. */
#ifndef KT_GATEWAY_LIMITS_H
#define KT_GATEWAY_LIMITS_H

/*
 * Answers of one connection that are under way or not sent; past it the connection is not read. A client that pipelines
 * a thousand requests is served at full width, and what one connection can queue in the node stays small.
 */
#define KT_CONN_ANSWERS_MAX 1024

/*
 * Bytes of answers that wait for a client to read them. Past it the connection is not read and its reads do not look
 * (kt_lane_hold), so that it holds this much and one more answer at most. More than a socket buffer takes at once, so
 * that an ordinary client never meets it.
 */
#define KT_CONN_OUT_BYTES_MAX (1u << 20)

/* The same over all connections together; past it each one's ceiling is the small one below. */
#define KT_GATEWAY_OUT_BYTES_MAX  (256u << 20)
#define KT_CONN_OUT_BYTES_PRESSED (64u << 10)

/*
 * Messages that answer nothing (events) are queued while a connection has less than this to send; the rest waits where
 * it comes from. Below the ceilings above, so that a client that is slow with its events still gets answers.
 */
#define KT_CONN_PUSHES_MAX     512
#define KT_CONN_PUSH_BYTES_MAX (256u << 10)
/* Once all connections together have so much to send, events go only to those with nothing else to send. */
#define KT_GATEWAY_PUSH_BYTES_MAX (128u << 20)

/* One read from a socket, into memory that all connections of a gateway share: an idle connection owns no buffer. */
#define KT_READ_BYTES (64u << 10)

/* Pieces handed to the kernel in one write; the rest follows in the next. Below IOV_MAX (1024). */
#define KT_WRITE_PIECES_MAX 64

/* Of answers that are encrypted at once: what a TLS connection costs more than a plain one when its client reads
 * slowly. */
#define KT_SEAL_BYTES (64u << 10)

/* A TLS handshake must be done so long after the connection began, or after the listener's idle time if that is less.
 */
#define KT_SHAKE_MS 10000

/* Why clients' TLS fails is told once in so long for each reason: one wrong client tries again for ever. */
#define KT_TELL_TLS_EVERY_MS 60000

/* Connections that the kernel may hold for us before we accept them. */
#define KT_LISTEN_BACKLOG 1024

/*
 * Turns of the loop that a draining gateway still accepts and reads in: what clients had sent when it began is in the
 * kernel, and would be lost. The turn that it begins in, and a whole one.
 */
#define KT_DRAIN_TURNS 2

/* A failed accept is told this often. */
#define KT_WARN_EVERY_MS 10000

/* How often idle, stalled and lingering connections are looked for. */
#define KT_TICK_MS 500

/*
 * After its last answer a connection is shut down in our direction and read until the client closes too, so that a
 * reset (the kernel's answer to unread bytes) cannot overtake the answer. For so long at most:
 */
#define KT_LINGER_MS 2000

/* A client that took nothing of its answers for so long is gone. */
#define KT_STALL_MS 60000

/* Seconds of silence before the kernel probes a peer; finds clients that vanished without a word. */
#define KT_KEEPALIVE_S 60

#endif
