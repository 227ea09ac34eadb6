/* Between tls.c (sessions) and tls_context.c (files and what a certificate says). */
#ifndef KT_WIRE_TLS_INTERNAL_H
#define KT_WIRE_TLS_INTERNAL_H

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "wire/tls.h"

struct kt_tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *buffers; /* must outlive the sessions' BIOs */
    bool gate;           /* for clients: kt_tls_gate_create */
    atomic_uint references;
};

/* The BIO of a session: reads what was fed, writes to the output. The caller frees it. */
BIO_METHOD *tls_buffers(void);
/* OpenSSL's question for every certificate of a chain: adds the check of the node to its own. */
int tls_judge(int fine, X509_STORE_CTX *store);
/* Whether a certificate names the node; *other: a node that it names instead, 0 if none. */
bool tls_certificate_names(const X509 *certificate, kt_node_id node, kt_node_id *other);

#endif
