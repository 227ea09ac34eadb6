/*
 * The cluster as the rest of the node sees it: one object that owns the replica thread, the log writer and the applier.
 * Any thread may call; answers come through the done of what was handed in, on the replica thread: it must not block
 * and usually posts to the caller's own mailbox.
 */
#ifndef KT_CLUSTER_NODE_CLUSTER_H
#define KT_CLUSTER_NODE_CLUSTER_H

#include "cluster/node/replica.h"
#include "engines/state.h"

struct kt_cluster;

struct kt_cluster_options {
    kt_node_id self;
    const char *name;                /* nodes of different clusters refuse each other */
    const char *listen;              /* peer listener, "host:port" */
    const struct kt_member *members; /* founding members, this node among them; copied */
    size_t member_count;
    const char *folder; /* the log lives in "<folder>/log" */
    uint64_t segment_bytes;
    unsigned election_ms, heartbeat_ms;
    struct kt_state *state; /* borrowed until close; its applier is this object's */
};

/* Recovers the log, checks it against the state, starts the threads. */
KT_MUST_USE enum kt_code kt_cluster_open(const struct kt_cluster_options *options, struct kt_cluster **cluster,
                                         struct kt_error *error);
/* Hands leadership over if it leads (waiting up to wait_ms), fails what is pending, stops the threads, frees. */
void kt_cluster_close(struct kt_cluster *cluster, unsigned wait_ms);

/* Both are answered exactly once. deadline_ms is on kt_clock_ms. */
void kt_cluster_propose(struct kt_cluster *cluster, struct kt_proposal *proposal);
void kt_cluster_read(struct kt_cluster *cluster, struct kt_read *read);

/* A copy of the last published status; texts live as long as the cluster. */
void kt_cluster_status(struct kt_cluster *cluster, struct kt_replica_status *status);
/* Size of the log on disk. */
void kt_cluster_log_usage(struct kt_cluster *cluster, uint64_t *bytes, unsigned *segments);

/* Calls and bytes of the log since it was opened. */
void kt_cluster_log_io(struct kt_cluster *cluster, struct kt_disk_counters *counters);

/*
 * From now on told runs on the replica thread whenever more of the state can be seen: at least once after the last time
 * that something became visible, perhaps fewer times than that happened. It must not block. One at a time; NULL ends it
 * (it may still be running once when this returns). Never after kt_cluster_close has returned.
 */
void kt_cluster_follow(struct kt_cluster *cluster, void (*told)(void *data, kt_index visible), void *data);
/*
 * Somebody waits for everything: what is applied becomes visible as soon as nothing more is at hand, instead of when a
 * reader asks or time has passed.
 */
void kt_cluster_prompt(struct kt_cluster *cluster, bool prompt);

#endif
