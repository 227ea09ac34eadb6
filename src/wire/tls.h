/*
 * TLS over memory: a session takes encrypted bytes in, gives plain bytes out, and
 * the reverse. Sockets are its caller's: an event loop feeds what it read, a thread that blocks does the same.
 *
 *   socket ─▶ kt_tls_feed ─▶ kt_tls_read ─▶ plain          plain ─▶ kt_tls_write ─▶ kt_tls_output ─▶ socket
 *
 * Between nodes: mutual TLS 1.3 (RFC 8446). Both sides show a certificate that an authority of the context signed. Whom
 * it names is a URI in its subject alternative names, "kontiki:node:<id>" (certificate.h); host names are not looked
 * at, because a node is who it is wherever it runs.
 *
 * For clients: TLS 1.2 (RFC 5246) or 1.3, of which a node is the server. It shows its certificate; what that says is
 * the clients' business. They show one only where the context asks for it.
 *
 * No renegotiation, no compression, no resumption: no tickets, no early data.
 *
 * A context may be used by any threads at once; a session by one thread at a time.
 */
#ifndef KT_WIRE_TLS_H
#define KT_WIRE_TLS_H

#include "base/buf.h"
#include "base/error.h"

#define KT_TLS_RECORD_BYTES (16u << 10) /* of plain text in one record (RFC 8446 section 5.1) */
#define KT_TLS_OUTPUT_MAX   (4u << 20)  /* encrypted and not taken yet; a write that would pass it fails the session */

struct kt_tls_context;
struct kt_tls;

struct kt_tls_files {
    const char *ca;          /* PEM: the authorities whose signature is taken */
    const char *certificate; /* PEM: this node's certificate first, then what is between it and an authority */
    const char *key;         /* PEM, not encrypted */
    kt_node_id node;         /* which the certificate must name */
};

/*
 * Reads the files. KT_BAD_REQUEST with a sentence that names the file: it cannot be read or parsed, key and certificate
 * are no pair, the certificate does not name the node or no authority in ca signed it. One that has expired, or will
 * soon, and a key that others can read are warned of in the log. The reference is the caller's.
 */
KT_MUST_USE enum kt_code kt_tls_context_create(const struct kt_tls_files *files, struct kt_tls_context **context,
                                               struct kt_error *error);

struct kt_tls_gate_files {
    const char *certificate; /* PEM: as above, without a node in it */
    const char *key;         /* PEM, not encrypted: PKCS#1, PKCS#8 or SEC1 */
    const char *client_ca;   /* PEM: every client must show a certificate that one of these signed; NULL: none must */
};

/* The same for clients' connections; only KT_TLS_SERVER, and expected 0, go with it. */
KT_MUST_USE enum kt_code kt_tls_gate_create(const struct kt_tls_gate_files *files, struct kt_tls_context **context,
                                            struct kt_error *error);
/* One more reference, which is returned; NULL stays NULL. Sessions hold one of their own. */
struct kt_tls_context *kt_tls_context_acquire(struct kt_tls_context *context);
/* NULL is harmless. */
void kt_tls_context_drop(struct kt_tls_context *context);

enum kt_tls_role { KT_TLS_CLIENT, KT_TLS_SERVER };

/* Why a session failed: for a caller that tells repeating reasons once. */
enum kt_tls_failure {
    KT_TLS_FINE,
    KT_TLS_NOT_TLS,           /* the other side does not speak TLS */
    KT_TLS_OLD,               /* the other side does not speak a version that is taken here */
    KT_TLS_EXPIRED,           /* its certificate: not valid any more */
    KT_TLS_NOT_YET,           /* its certificate: not valid yet */
    KT_TLS_UNKNOWN_AUTHORITY, /* its certificate: nobody known signed it */
    KT_TLS_NO_CERTIFICATE,    /* it showed none */
    KT_TLS_WRONG_NAME,        /* its certificate: not the node that was expected */
    KT_TLS_BAD_CERTIFICATE,   /* its certificate: another fault */
    KT_TLS_REFUSED_EXPIRED,   /* the other side does not take this node's certificate: it has expired */
    KT_TLS_REFUSED_AUTHORITY, /* ... nobody known there signed it */
    KT_TLS_REFUSED_NAME,      /* ... not the node that is expected here */
    KT_TLS_REFUSED,           /* ... another fault */
    KT_TLS_ENDED,             /* the other side closed the session in order */
    KT_TLS_BROKEN,            /* anything else: damaged records, a fault of the protocol */
    KT_TLS_FAILURE_COUNT
};

/* expected: the node that the other side's certificate must name; 0: not known yet (kt_tls_names asks later). */
struct kt_tls *kt_tls_create(struct kt_tls_context *context, enum kt_tls_role role, kt_node_id expected);
/* Says nothing to the other side (kt_tls_end): frames and transfers know their own end. NULL is harmless. */
void kt_tls_free(struct kt_tls *tls);

/*
 * Bytes from the socket, borrowed: before the next feed, kt_tls_shake must have said KT_MORE, or KT_OK and then
 * kt_tls_read KT_MORE; then all of them are taken.
 */
void kt_tls_feed(struct kt_tls *tls, struct kt_slice bytes);
/* What was fed and not taken is dropped: its memory goes, and nothing will be read any more. */
void kt_tls_forget(struct kt_tls *tls);
/*
 * Begins the handshake and goes on with it. KT_OK: done; KT_MORE: send the output, feed what comes; else it failed, and
 * the output has the alert that tells the other side.
 */
KT_MUST_USE enum kt_code kt_tls_shake(struct kt_tls *tls);
/* Plain bytes, once the handshake is done. KT_OK: *got of them, at least 1; KT_MORE: feed more; else it failed. */
KT_MUST_USE enum kt_code kt_tls_read(struct kt_tls *tls, uint8_t *to, size_t room, size_t *got);
/*
 * Encrypts all pieces into the output, in as few records as there can be. KT_OK, or it failed. A client that ended its
 * direction in order (KT_TLS_ENDED) can still be answered.
 */
KT_MUST_USE enum kt_code kt_tls_write(struct kt_tls *tls, const struct kt_slice *pieces, size_t count);
/* Tells the other side that nothing follows: the last that is written. Harmless before the handshake is done. */
void kt_tls_end(struct kt_tls *tls);
/* What is to be sent: the caller sends it and consumes or takes it. Every call of a session may add to it. */
struct kt_buf *kt_tls_output(struct kt_tls *tls);

/* Whether the other side's certificate names the node; after the handshake. */
bool kt_tls_names(const struct kt_tls *tls, kt_node_id node);
enum kt_tls_failure kt_tls_failure(const struct kt_tls *tls);
/* Why it failed, as the end of "connection closed: ..."; "" as long as it has not. */
const char *kt_tls_text(const struct kt_tls *tls);
/* Whether the first bytes of a connection can be the beginning of TLS. */
bool kt_tls_begins(struct kt_slice bytes);

#endif
