/* A whole simulated cluster: everything that one seed makes. */
#ifndef KT_SIM_CLUSTER_H
#define KT_SIM_CLUSTER_H

#include "check.h"
#include "clients.h"
#include "faults.h"
#include "network.h"
#include "node.h"
#include "world.h"

/* Faults of the simulator's own making that a check must find; product code is untouched. */
enum sim_plant {
    SIM_PLANT_NONE,
    SIM_PLANT_EARLY_ACK,  /* entries are called durable when written, not when synced */
    SIM_PLANT_LOST_VOTE,  /* a restarted node does not remember whom it voted for */
    SIM_PLANT_STALE_READ, /* reads are answered from the local state without asking a majority */
    SIM_PLANT_DOUBLE,     /* a node's requests carry another sequence number each time they are sent */
    SIM_PLANT_DRIFT,      /* one node's apply sees other bytes than the log holds */
};

/* Instead of faults at random: one, in a cluster at rest, and what clients feel of it is measured. */
enum sim_scenario {
    SIM_SCENARIO_NONE,
    SIM_SCENARIO_KILL,    /* the leader's process dies; its connections close */
    SIM_SCENARIO_POWER,   /* the leader's machine dies; nobody is told */
    SIM_SCENARIO_PAUSE,   /* the leader hangs */
    SIM_SCENARIO_ISOLATE, /* the leader is cut off */
    SIM_SCENARIO_RESIGN,  /* planned hand-over: no request may fail, not even at the old leader */
};

struct sim_options {
    uint64_t seed;
    unsigned nodes;    /* 3 or 5 */
    unsigned fault_ms; /* virtual time with faults; then they end and everything must come to rest */
    bool trace;
    enum sim_plant plant;
    enum sim_scenario scenario;
    const char *folder; /* where the nodes' state files go; exists */
};

struct sim_counts {
    uint64_t commits, applied, crashes, power_losses, elections, partitions, pauses, slow_disks, full_disks, breaks,
        clock_jumps, resigns, writes, reads, unknown, refused, steps, restored, replacements, replaced,
        replaced_under_way;
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
    bool calm;       /* the faults are long over, or the only one is known: nothing may fail any more... */
    unsigned victim; /* ...except at this node; SIM_NODES_MAX: at none */
    sim_us fault_at; /* of a scenario */
    sim_us write_at; /* when the first write that was asked for since was acknowledged elsewhere; 0: not yet */
};

/* Runs one seed from start to end. True if every check held; else the world of the cluster has the failure. */
bool sim_cluster_run(struct sim_cluster *cluster, const struct sim_options *options);

#endif
