/* The key-value protocol, revision A: binary commands in length-prefixed frames. Source of its rules: README.md. */
#ifndef KT_GATEWAY_PROTO_KV_PROTO_KV_H
#define KT_GATEWAY_PROTO_KV_PROTO_KV_H

#include "gateway/protocol.h"

/* No settings at all is the same as all zero: revision auto, success code 0. */
struct kt_kv_settings {
    const char *revision;  /* "auto", "a" or NULL; "b" is refused by kt_gateway_listen as not available */
    uint16_t success_code; /* status of a reply that worked: 0 as documented, 1 as the shipped clients expect */
};

extern const struct kt_protocol kt_proto_kv;

#endif
