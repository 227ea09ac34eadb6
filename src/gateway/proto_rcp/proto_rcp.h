/* The state machine protocol (RCP): 22 operations as JSON in checksummed frames or lines. Source of its rules:
 * README.md. */
#ifndef KT_GATEWAY_PROTO_RCP_PROTO_RCP_H
#define KT_GATEWAY_PROTO_RCP_PROTO_RCP_H

#include "gateway/protocol.h"

/*
 * What INFO shows and no other part of the node can be asked for. Whether authentication is required comes from the
 * dispatcher, connection counts and ceilings from the gateway. All NULL (or no settings at all) is fine.
 */
struct kt_rcp_settings {
    const char *fsync_policy; /* "every_write" if NULL; borrowed while the listener is open */
    bool tls;                 /* the listener has it */
};

extern const struct kt_protocol kt_proto_rcp;

#endif
