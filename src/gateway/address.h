/* Addresses to listen on, as settings write them. */
#ifndef KT_GATEWAY_ADDRESS_H
#define KT_GATEWAY_ADDRESS_H

#include <sys/socket.h>

#include "base/error.h"

/*
 * "host:port", an IPv6 host in brackets: "127.0.0.1:7401", "[::1]:7401", "localhost:0". A name is resolved at once, so this
 * may block: at start only. KT_BAD_REQUEST with a sentence for anything else.
 */
KT_MUST_USE enum kt_code kt_address_parse(const char *address, struct sockaddr_storage *out, struct kt_error *error);

#endif
