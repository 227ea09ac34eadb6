/*
 * Listeners and connections of the client protocols, on the io loop. A connection whose peer does not read stops being
 * read itself once its answers pass a ceiling; one that has too many requests under way stops being read until some are
 * answered. A client that shuts down its sending side still gets the answers under way. io thread.
 */
#ifndef KT_GATEWAY_GATEWAY_H
#define KT_GATEWAY_GATEWAY_H

#include "gateway/protocol.h"
#include "wire/tls.h"

struct kt_gateway;

struct kt_gateway_options {
    uv_loop_t *loop;
    struct kt_dispatch *dispatch;
    unsigned connections_max; /* per listener; one more is accepted and closed */
};

struct kt_listen_options {
    const struct kt_protocol *protocol;
    const char *address;        /* "host:port"; port 0 takes any (tests) */
    unsigned idle_s;            /* a connection without a request for so long is closed; 0: never */
    const void *settings;       /* the protocol's own; borrowed until close */
    struct kt_tls_context *tls; /* of kt_tls_gate_create; NULL: plain. The listener takes a reference of its own */
};

KT_MUST_USE enum kt_code kt_gateway_open(const struct kt_gateway_options *options, struct kt_gateway **gateway,
                                         struct kt_error *error);
/* May be called several times. port gets what was bound; may be NULL. */
KT_MUST_USE enum kt_code kt_gateway_listen(struct kt_gateway *gateway, const struct kt_listen_options *options,
                                           unsigned *port, struct kt_error *error);
/* What the listeners that have TLS use for connections from now on. */
void kt_gateway_set_tls(struct kt_gateway *gateway, struct kt_tls_context *tls);
unsigned kt_gateway_connections(const struct kt_gateway *gateway);

/* Of all listeners of one protocol, since the gateway was opened. */
struct kt_gateway_counts {
    unsigned open;              /* connections now */
    uint64_t accepted, refused; /* refused: over connections_max */
    uint64_t bytes_in, bytes_out;
};
/* protocol: its name; one that nobody listens for has zeros. */
void kt_gateway_counts(const struct kt_gateway *gateway, const char *protocol, struct kt_gateway_counts *counts);
/*
 * Takes what clients have sent so far, then stops accepting and reading; connections close once their answers are sent.
 * drained runs on the loop when none is left; it may close the gateway. Once.
 */
void kt_gateway_drain(struct kt_gateway *gateway, void (*drained)(void *data), void *data);
/* Closes everything at once; closed runs on the loop when all handles are gone and memory is freed. */
void kt_gateway_close(struct kt_gateway *gateway, void (*closed)(void *data), void *data);

#endif
