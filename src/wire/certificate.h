/*
 * Making certificates: a development authority, and certificates that name nodes. What checks them is tls.h.
 *
 * A node is named by a URI in the subject alternative names, "kontiki:node:<id>". Keys are ECDSA P-256 (RFC 5480).
 * No files, no state; any thread.
 */
#ifndef KT_WIRE_CERTIFICATE_H
#define KT_WIRE_CERTIFICATE_H

#include "base/buf.h"
#include "base/error.h"

#define KT_CERTIFICATE_URI      "kontiki:node:" /* the id in decimal follows */
#define KT_PEM_BYTES_MAX        (64u << 10)     /* of one certificate or key: ours have less than 2 KiB */
#define KT_CERTIFICATE_HOST_MAX 253             /* bytes of a host name (RFC 1035 section 2.3.4) */

/* A certificate and its key, PEM without a NUL behind it. Release both buffers. */
struct kt_pem {
    struct kt_buf certificate, key;
};

void kt_pem_init(struct kt_pem *pem);
/* The key is overwritten before its memory goes. */
void kt_pem_release(struct kt_pem *pem);

/* From when until when, in seconds from now; negative is in the past. */
struct kt_validity {
    int64_t from_s, until_s;
};

struct kt_certificate_plan {
    const char *name; /* common name: for people, at most 64 bytes (RFC 5280 appendix A.1) */
    kt_node_id node;  /* 0: names no node */
    const char *const *hosts;
    size_t host_count; /* DNS names and IP addresses of it */
    struct kt_validity validity;
};

/* A new authority that signs itself. pem must be initialised. KT_INTERNAL: OpenSSL could not. */
KT_MUST_USE enum kt_code kt_certificate_authority(const char *name, struct kt_validity validity, struct kt_pem *pem,
                                                  struct kt_error *error);
/*
 * A new key and a certificate for it, signed by the authority, for both sides of a TLS connection. pem must be
 * initialised. KT_BAD_REQUEST: the plan or the authority makes no sense.
 */
KT_MUST_USE enum kt_code kt_certificate_issue(const struct kt_pem *authority, const struct kt_certificate_plan *plan,
                                              struct kt_pem *pem, struct kt_error *error);
/* Whether a text can stand as a host in a certificate: a DNS name, or an IP address without brackets. */
bool kt_certificate_host(const char *text);

#endif
