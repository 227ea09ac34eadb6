/*
 * The text of a TCP address: "host:port", an IPv6 host in brackets. Names are looked up by whoever connects. Any
 * thread.
 */
#ifndef KT_BASE_ADDRESS_H
#define KT_BASE_ADDRESS_H

#include "base/error.h"

#define KT_ADDRESS_HOST_MAX 253 /* bytes of a host: the longest DNS name (RFC 1035 section 2.3.4) */

struct kt_address {
    char host[KT_ADDRESS_HOST_MAX + 1]; /* without brackets, never empty */
    char service[6];                    /* the port's digits, as getaddrinfo wants them */
    unsigned port;                      /* 0..65535 */
};

/* KT_BAD_REQUEST with a sentence that quotes the text when it is no address. The error may be NULL. */
KT_MUST_USE enum kt_code kt_address_parse(const char *text, struct kt_address *address, struct kt_error *error);
/*
 * A socket that is bound to the address and listens, non-blocking, for its caller to own. *port: what was bound. With
 * SO_REUSEADDR: a restarted process takes its port again although connections of the old one linger. A name is looked
 * up here, blocking. KT_BAD_REQUEST: no address; KT_IO_FAILED: it cannot be had.
 */
KT_MUST_USE enum kt_code kt_address_listen(const char *text, int backlog, int *fd, unsigned *port,
                                           struct kt_error *error);

#endif
