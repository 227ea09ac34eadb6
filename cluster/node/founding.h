/*
 * The first entry of a cluster's log: its founding members. Every node that is started with the same member list makes
 * the same bytes, so each can write the entry for itself, and doing so again changes nothing (raft dissertation, 4.4).
 */
#ifndef KT_CLUSTER_NODE_FOUNDING_H
#define KT_CLUSTER_NODE_FOUNDING_H

#include "base/error.h"
#include "cluster/node/replica.h"

/* Entry 1, term 1. Members are ordered by id whatever the order given. The entry's chunk reference is the caller's. */
KT_MUST_USE enum kt_code kt_founding_entry(const struct kt_member *members, size_t count, struct kt_entry *entry,
                                           struct kt_error *error);
/*
 * Makes an empty log a founded one: the entry and term 1, durable. A log that is not empty must begin with that very
 * entry, else KT_BAD_REQUEST says that the member list is not the one the node was founded with. found is brought up to
 * date.
 */
KT_MUST_USE enum kt_code kt_founding_write(struct kt_wal *wal, const struct kt_member *members, size_t count,
                                           struct kt_wal_found *found, struct kt_error *error);

#endif
