/*
 * How a node without a log comes to one. It tells every node of its member list which member it is (a HELLO) and
 * listens:
 *
 *   all of them are as new as this one     -> all make the same first entry out of the member ids they heard
 *   one of them belongs to a cluster whose
 *     first entry names this member        -> it is a founding member that was slow: it takes that entry
 *     first entry does not name it         -> it is a node that lost its data: it joins as a new member
 *
 * Founding needs a word from every listed node, so a node that comes up empty beside a cluster that lives can never
 * found a second one. Before the outcome nothing is voted for and nothing stored but the member id, so that starting
 * again changes nothing. No thread; driven like the replica, whose host it shares.
 */
#ifndef KT_CLUSTER_NODE_FOUNDING_H
#define KT_CLUSTER_NODE_FOUNDING_H

#include "cluster/node/boot.h"
#include "cluster/node/replica.h"

struct kt_founding;

enum kt_founding_outcome { KT_FOUNDING_WAITS, KT_FOUNDING_FOUNDED, KT_FOUNDING_JOINS };

struct kt_founding_options {
    kt_node_id self;
    kt_member_id member;
    const struct kt_member *members; /* borrowed */
    size_t member_count;
    bool (*send)(void *data, kt_node_id to, struct kt_buf *frame);
    void *data;
};

struct kt_founding *kt_founding_create(const struct kt_founding_options *options);
void kt_founding_free(struct kt_founding *founding);
void kt_founding_connected(struct kt_founding *founding, kt_node_id peer);
void kt_founding_disconnected(struct kt_founding *founding, kt_node_id peer);
void kt_founding_received(struct kt_founding *founding, kt_node_id from, struct kt_slice frame);
/* Says hello again now and then: call it every KT_FOUNDING_MS. */
void kt_founding_tick(struct kt_founding *founding);
#define KT_FOUNDING_MS 100u
enum kt_founding_outcome kt_founding_outcome(const struct kt_founding *founding);
/* What waits: "node 2, node 3", for the log. */
void kt_founding_missing(const struct kt_founding *founding, struct kt_buf *out);
/*
 * The outcome made durable: the first entry in the empty log of a founding member, then the mark that the member
 * belongs to a cluster. In this order, so that members whose power fails in between are the ones that the entry names.
 * A crash anywhere leaves a folder that finds out again.
 */
KT_MUST_USE enum kt_code kt_founding_settle(const struct kt_founding *founding, struct kt_boot *boot,
                                            struct kt_error *error);

#endif
