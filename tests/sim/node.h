/*
 * A simulated node: a disk, the real log on it, the real state in a file, the real replica, and in place of the threads
 * around it a virtual log writer, a virtual log reader and a virtual applier, all driven by events.
 *
 * A node lives from boot to crash; `life` counts. What was scheduled for one life never reaches the next. A killed
 * process leaves to its disk what it wrote; a power loss takes any part of what was not synced, and may set the state
 * file back to an earlier commit, as MDB_NOMETASYNC allows.
 */
#ifndef KT_SIM_NODE_H
#define KT_SIM_NODE_H

#include "cluster/node/replica.h"
#include "engines/state.h"
#include "support/memory_disk.h"
#include "world.h"

struct sim_cluster;

/* A queue of things that embed a struct kt_task. */
struct sim_queue {
    struct kt_task *first, *last;
};

struct sim_node {
    struct sim_cluster *cluster;
    unsigned number; /* 0-based */
    kt_node_id id;   /* number + 1 */
    uint64_t life;
    bool up;
    bool dying;      /* the process is gone, what it held is being given back */
    bool power_lost; /* at its last end, the machine went with it */
    sim_us paused_until;

    struct kt_memory_disk *disk;
    struct kt_wal *wal;
    struct kt_state *state;
    struct kt_replica *replica;
    char path[256];

    /* Clocks: monotonic starts anywhere at each boot, wall is off by some. */
    kt_time_ms clock_base;
    int64_t wall_offset_ms;

    /* The turn that ends with kt_replica_flush, and the next tick. */
    bool turn_due;
    sim_us tick_at; /* of the tick event that is scheduled; 0: none */

    /* Virtual log writer. */
    struct sim_queue writes;    /* waiting */
    struct sim_queue group;     /* written, not synced */
    struct sim_queue refused;   /* at most one, for a moment */
    struct sim_queue completed; /* synced, the replica not told yet */
    bool writer_busy;
    bool vote_due;      /* the time that the first vote in the queue takes has passed */
    unsigned slow_disk; /* factor on the latency; 1: none */
    sim_us stall;       /* the next sync takes so much longer */
    bool disk_full;
    bool said_full; /* the replica knows */
    bool doomed;    /* the disk ends at one of its next changes, and the node with it */
    bool doom_came;
    sim_us sync_low, sync_high;

    /* Virtual log reader. */
    struct sim_queue fetches;

    /* Virtual applier. */
    struct sim_queue batches; /* waiting */
    struct sim_queue applied; /* done, the replica not told yet */
    bool applier_busy;
    kt_index boot_applied; /* where the state stood at the last boot */
    kt_index wanted;
    bool commit_due;
    sim_us committed_at;
    sim_us apply_us; /* per entry */

    /* A copy of the state file as of an earlier commit. */
    uint8_t *saved;
    size_t saved_len;

    struct kt_replica_status status; /* as of the last turn */
};

void sim_node_init(struct sim_node *node, struct sim_cluster *cluster, unsigned number);
void sim_node_release(struct sim_node *node);

/* Starts the process. A failure fails the run, unless the disk was doomed: then the node is not up. */
void sim_node_boot(struct sim_node *node);
/* Ends it at once. power: the machine with it. */
void sim_node_crash(struct sim_node *node, bool power);
void sim_node_pause(struct sim_node *node, sim_us span);
void sim_node_disk_full(struct sim_node *node, bool full);
/* The power goes at the n-th change to the disk from now, in the middle of whatever makes it. 0: not any more. */
void sim_node_doom(struct sim_node *node, uint64_t n);

/* Monotonic and wall time as the node sees them. */
kt_time_ms sim_node_clock(const struct sim_node *node);
kt_time_ms sim_node_wall(const struct sim_node *node);
/* An event for the replica was delivered: the turn ends soon. */
void sim_node_turn(struct sim_node *node);
/* Before anything is handed to the replica: its clock is brought up to date. */
void sim_node_enter(struct sim_node *node);

/* From the network, in an event of the node. */
void sim_node_received(struct sim_node *node, kt_node_id from, struct kt_slice frame);
void sim_node_connected(struct sim_node *node, kt_node_id peer);
void sim_node_disconnected(struct sim_node *node, kt_node_id peer);

#endif
