/*
 * TLS of a link: OpenSSL on its non-blocking socket. Steps never block; who calls them waits for what they ask for.
 * One thread at a time, as the client.
 */
#ifndef KT_CLIENT_TLS_H
#define KT_CLIENT_TLS_H

#include <openssl/ssl.h>

#include "base/error.h"
#include "kontiki/client.h"

struct link_tls_context;

/* What one try to read, write or shake hands came to. */
enum step {
    STEP_DONE,
    STEP_READ,  /* again when the socket can be read */
    STEP_WRITE, /* again when the socket can be written */
    STEP_ENDED, /* the other side closed */
    STEP_FAILED,
};

/* Lives where it is: OpenSSL keeps its address from link_tls_begin to link_tls_end. */
struct link_tls {
    SSL *ssl; /* NULL: plain, or not connected */
    int fd;
    const char *name; /* that the certificate must have; borrowed */
    bool ended;       /* the other side closed the socket */
    bool lasting;     /* why it failed will not go away by itself: a certificate, no TLS at all */
    int number;       /* errno of the socket, 0: none */
    char text[160];   /* why it failed; empty: number says it */
};

/* Reads the files. KT_BAD_REQUEST with a sentence that names the file; *context is the caller's. */
KT_MUST_USE enum kt_code link_tls_context_create(const struct kontiki_tls *options, struct link_tls_context **context,
                                                 struct kt_error *error);
/* NULL is harmless. */
void link_tls_context_free(struct link_tls_context *context);

/* A session over a connected socket with the host that was asked for. */
void link_tls_begin(struct link_tls *tls, const struct link_tls_context *context, int fd, const char *host);
/* clean: tells the other side, as far as that goes without waiting. Leaves what link_tls_begin does not set. */
void link_tls_end(struct link_tls *tls, bool clean);
enum step link_tls_shake(struct link_tls *tls);
enum step link_tls_read(struct link_tls *tls, void *room, size_t len, size_t *got);
enum step link_tls_write(struct link_tls *tls, const void *bytes, size_t len, size_t *done);
/* STEP_DONE: there is something to read; nothing is taken. What is TLS's own is dealt with on the way. */
enum step link_tls_peek(struct link_tls *tls);

#endif
