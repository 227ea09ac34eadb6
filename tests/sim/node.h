/*
 * A simulated node: a data folder, the real log, state and boot in it, the real founding and replica, and in place of
 * the threads around them a virtual log writer, log reader and applier (host.c), all driven by events.
 *
 * A node lives from boot to crash; `life` counts. What was scheduled for one life never reaches the next. A killed
 * process leaves to its disk what it wrote; a power loss takes any part of what was not synced, and may set the state
 * file back to an earlier commit, though never behind its last sync, as MDB_NOMETASYNC allows.
 */
#ifndef KT_SIM_NODE_H
#define KT_SIM_NODE_H

#include "cluster/node/founding.h"
#include "cluster/node/replica.h"
#include "folder.h"

#define SIM_SEGMENT_BYTES (64u << 10) /* the smallest: segments end often */

struct sim_cluster;

/* A queue of things that embed a struct kt_task. */
struct sim_queue {
    struct kt_task *first, *last;
};

/* What was done to a node's data on purpose, and is not healed yet. */
enum sim_harm {
    SIM_WHOLE,
    SIM_WIPED,   /* its folder is gone */
    SIM_FLIPPED, /* a bit of its log or vote */
    SIM_ALTERED, /* a bit of its state */
};

/* Another node's state on its way here. */
struct sim_transfer {
    bool under_way;
    unsigned from;
    uint64_t from_life, connection;
    uint64_t number; /* of the transfer, in this life */
};

struct sim_node {
    struct sim_cluster *cluster;
    unsigned number; /* 0-based */
    kt_node_id id;   /* number + 1 */
    uint64_t life;
    bool up;
    bool dying;        /* the process is gone, what it held is being given back */
    bool power_lost;   /* at its last end, the machine went with it */
    bool write_failed; /* and in the middle of a write */
    sim_us paused_until;

    struct sim_folder *folder;
    struct kt_boot boot;
    struct kt_wal *wal;           /* the boot's */
    struct kt_state *state;       /* the boot's */
    struct kt_founding *founding; /* until the replica is there */
    struct kt_replica *replica;   /* NULL while founding */
    kt_space instances;           /* of machines, in the store */
    uint64_t peers;               /* bit per node: connected */
    bool adopting;                /* a state was adopted, the boot that takes it is still to come */
    bool adopted;                 /* and was taken by the last boot, if it was not lost before */
    char state_path[300];         /* of the state in the last boot */
    bool gone;                    /* its folder was wiped and not booted since */
    bool condemned;               /* its data is to be set aside */
    struct sim_transfer transfer;

    enum sim_harm harm;
    kt_index diverged_at; /* first entry after which the state was wrong; 0: none */

    /* Clocks: monotonic starts anywhere at each boot, wall is off by some. */
    kt_time_ms clock_base;
    int64_t wall_offset_ms;

    /* The turn that ends with kt_replica_flush, and the next tick. */
    bool turn_due;
    sim_us tick_at; /* of the tick event that is scheduled; 0: none */
    sim_us greeted_at;

    /* Virtual log writer. */
    struct sim_queue writes;    /* waiting */
    struct sim_queue group;     /* written, not synced */
    struct sim_queue refused;   /* at most one, for a moment */
    struct sim_queue completed; /* synced, the replica not told yet */
    bool writer_busy;
    bool vote_due;       /* the time that the first vote in the queue takes has passed */
    size_t group_bytes;  /* at most, of the records being written */
    size_t recent_bytes; /* and of the last ones synced: the end of the log, which nothing behind vouches for */
    unsigned slow_disk;  /* factor on the latency; 1: none */
    sim_us stall;        /* the next sync takes so much longer */
    bool disk_low;
    bool disk_full;
    bool said_full; /* the replica knows */
    bool doomed;    /* the disk ends at one of its next changes, and the node with it */
    bool doom_came;
    bool sync_fails; /* one of the next syncs does, and the process ends */
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

    /* Trimming. */
    uint64_t log_keep; /* bytes */
    sim_us trim_pause;

    /* A copy of the state file as of an earlier commit. */
    uint8_t *saved;
    size_t saved_len;
    kt_index saved_index;
    bool saved_whole; /* nothing in it was altered */
    char saved_path[300];

    struct kt_replica_status status; /* as of the last turn */
};

void sim_node_init(struct sim_node *node, struct sim_cluster *cluster, unsigned number);
void sim_node_release(struct sim_node *node);

/* Starts the process. A failure fails the run, unless the disk is to fail or full: then the node is not up. */
void sim_node_boot(struct sim_node *node);
/* Ends it at once. power: the machine with it. */
void sim_node_crash(struct sim_node *node, bool power);
void sim_node_pause(struct sim_node *node, sim_us span);
void sim_node_disk_full(struct sim_node *node, bool full);
/* host.c: the replica hears that little room is left, now, or that there is enough again, after a while. */
void sim_node_tell_low(struct sim_node *node, bool low);
/* The power goes at the n-th change to the disk from now, in the middle of whatever makes it. 0: not any more. */
void sim_node_doom(struct sim_node *node, uint64_t n);
/* The n-th sync from now fails. */
void sim_node_fail_sync(struct sim_node *node, unsigned n);
/* It is up and has a replica. */
bool sim_node_runs(const struct sim_node *node);
/* The process ends by itself after a while and is started again; power: at once, as by a power loss. */
void sim_node_end_soon(struct sim_node *node, sim_us delay, bool power);

/* Monotonic and wall time as the node sees them. */
kt_time_ms sim_node_clock(const struct sim_node *node);
kt_time_ms sim_node_wall(const struct sim_node *node);
/* An event for the replica was delivered: the turn ends soon. */
void sim_node_turn(struct sim_node *node);
/* Before anything is handed to the replica: its clock is brought up to date. */
void sim_node_enter(struct sim_node *node);
/* Something that writes failed: so it must if the disk was to, and the node ends; else it is a fault of the program. */
void sim_node_failed(struct sim_node *node, const char *what, enum kt_code code);

/* From the network, in an event of the node. */
void sim_node_received(struct sim_node *node, kt_node_id from, struct kt_slice frame);
void sim_node_connected(struct sim_node *node, kt_node_id peer);
void sim_node_disconnected(struct sim_node *node, kt_node_id peer);

/* host.c */
void sim_host_fill(struct sim_node *node, struct kt_replica_host *host);
/* What the host holds goes back to the replica, so that it can be freed. */
void sim_host_give_back(struct sim_node *node);
/* The applier commits now. */
void sim_host_commit(struct sim_node *node);
/* The applier gives up the copy that a power loss may bring back, for one of now. */
void sim_host_synced_state(struct sim_node *node);

/* transfer.c */
void sim_transfer_start(struct sim_node *node, unsigned from, kt_index index);

/* harm.c: damage at rest. False: not possible now. */
void sim_harm_wipe(struct sim_node *node);
bool sim_harm_flip(struct sim_node *node);
bool sim_harm_alter(struct sim_node *node);

#endif
