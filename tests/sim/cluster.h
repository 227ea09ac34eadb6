/* A whole simulated cluster: everything that one seed makes. */
#ifndef KT_SIM_CLUSTER_H
#define KT_SIM_CLUSTER_H

#include "check.h"
#include "clients.h"
#include "faults.h"
#include "network.h"
#include "node.h"
#include "world.h"

struct sim_options {
    uint64_t seed;
    unsigned nodes;    /* 3 or 5 */
    unsigned fault_ms; /* virtual time with faults; then they end and everything must come to rest */
    bool trace;
    bool outside_only;  /* see check.h */
    const char *folder; /* where the nodes' state files go; exists */
};

struct sim_counts {
    uint64_t commits, applied, crashes, power_losses, elections, partitions, pauses, slow_disks, full_disks, breaks,
        clock_jumps, resigns, writes, reads, unknown, refused, steps, restored, trims, transfers, transfers_lost, wipes,
        flips, alterations, found_out, rejoins, sync_failures, replacements, replaced, replaced_under_way;
};

struct sim_cluster {
    struct sim_options options;
    struct sim_world world;
    struct sim_network network;
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_check check;
    struct sim_clients clients;
    struct sim_faults faults;
    struct sim_counts counts;
    uint64_t log_keep; /* bytes of the log that nodes keep for others */
    bool calm;         /* the faults are long over: nothing may fail any more */
};

/* Runs one seed from start to end. True if every check held; else the world of the cluster has the failure. */
bool sim_cluster_run(struct sim_cluster *cluster, const struct sim_options *options);

#endif
