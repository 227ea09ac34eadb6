/* The inside of the replica's thread, shared by cluster.c (the loop) and runtime_*.c. */
#ifndef KT_CLUSTER_NODE_RUNTIME_INTERNAL_H
#define KT_CLUSTER_NODE_RUNTIME_INTERNAL_H

#include <uv.h>

#include "cluster/node/applier.h"
#include "cluster/node/cluster.h"
#include "cluster/node/founding.h"
#include "cluster/transport/transfer.h"
#include "cluster/transport/transport.h"

/* A peer connection is tried again after this pause. */
#define RECONNECT_MS 100u
/* A connection that does not move for so many election timeouts is dead. */
#define DEAD_ELECTIONS 3u
/*
 * Background work of the engines is asked for this often, and so long after the last one at the earliest: an engine
 * that always has something leaves the applier to the others in between.
 */
#define ENGINES_MS       1000u
#define ENGINES_PAUSE_MS 10u
/* How often slow things are looked at: a stalled disk, a hand-over under way. */
#define WATCH_MS 50u
/* A sync that takes longer makes a leader hand over; one that takes this long ends the process: the disk is gone. */
#define SYNC_SLOW_US 1000000u
#define SYNC_DEAD_US 30000000u
/* Deadline of operations that the engines propose. */
#define ENGINE_DEADLINE_MS 5000u

/* The free space of the data folder is looked at this often. */
#define SPACE_MS 1000u
/* What the log occupies is looked at this often, and entries that the state makes superfluous are forgotten. */
#define TRIM_MS 1000u
/* Nodes that a founding waits for are named in the log this often. */
#define MISSING_MS 10000u

enum phase {
    FOUNDING, /* no replica yet: waiting to hear from the other nodes */
    RUNNING,
    RESIGNING,
    CLOSING,
    DRAINING,
    ENDED
};

struct kt_cluster {
    struct kt_cluster_options options;
    char *name, *listen;
    struct kt_member *members;

    struct kt_boot *boot;
    struct kt_log_writer *writer;
    struct kt_applier *applier;
    struct kt_transport *transport;
    struct kt_founding *founding;
    struct kt_replica *replica;

    pthread_t thread;
    uv_loop_t loop;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t deadline, watch, tick_timer;
    struct kt_mailbox mailbox;

    enum phase phase;
    kt_time_ms now_ms; /* the replica's clock */
    struct kt_task stop_task;
    kt_time_ms stop_by;
    unsigned writes, batches, fetches; /* with other threads */
    atomic_bool log_full, state_full;  /* as their threads told last */

    /* What came before there was a replica. */
    struct kt_list early_proposals, early_reads;
    kt_time_ms greeted_ms, missing_ms;

    uv_work_t tick_work;
    bool ticking;
    enum kt_code tick_code;
    kt_time_ms tick_wall_ms, tick_next_ms; /* the last one, and when it wants the next one, by the wall clock */
    kt_time_ms tick_at_ms;                 /* the next one, by the replica's clock */
    struct kt_proposal tick;

    uv_work_t trim_work;
    bool trimming;
    enum kt_code trim_code;
    kt_time_ms trimmed_ms;
    kt_index trim_durable, trim_to;

    uv_work_t space_work;
    bool looking;         /* at the space, on the pool */
    bool low;             /* less of it than storage.min_free_mb, until there is a quarter more than that again */
    uint64_t space_bytes; /* free, as seen last */
    int space_error;
    kt_time_ms looked_ms;

    bool transferring; /* another node's state is on its way */

    pthread_mutex_t follow_lock; /* also of applier, for whoever is not on the loop */
    void (*told)(void *data, kt_index visible);
    void *told_data;
    bool prompt;

    pthread_mutex_t status_lock;
    struct kt_replica_status status;
    bool status_changed;
    kt_time_ms status_ms;
};

static inline struct kt_cluster *cluster_of_loop(uv_loop_t *loop)
{
    return KT_CONTAINER(loop, struct kt_cluster, loop);
}

/* cluster.c */
void runtime_advance_clock(struct kt_cluster *cluster);
void runtime_publish_status(struct kt_cluster *cluster);
void runtime_open_loop(struct kt_cluster *cluster);
void runtime_close_handles(struct kt_cluster *cluster);
void runtime_transport_closed(void *data);
void *runtime_run(void *data);

/* runtime_host.c */
void runtime_host(struct kt_cluster *cluster, struct kt_replica_host *host);
void runtime_batch_applied(void *data, struct kt_apply_batch *batch);
void runtime_state_visible(void *data, kt_index index);
void runtime_peer_received(void *data, kt_node_id from, struct kt_slice frame);
void runtime_peer_connected(void *data, kt_node_id peer);
void runtime_peer_disconnected(void *data, kt_node_id peer);
void runtime_writer_failed(void *data, enum kt_code code, const char *text);
void runtime_writer_full(void *data, bool full);
void runtime_applier_full(void *data, bool full);
bool runtime_send(void *data, kt_node_id to, struct kt_buf *frame);

/* runtime_space.c */
/* Looks at the free space from time to time, and tells the replica what it means. */
void runtime_space_step(struct kt_cluster *cluster, kt_time_ms now);

/* runtime_start.c */
/* While founding: says hello, and goes on to running when the outcome is there. */
void runtime_found_step(struct kt_cluster *cluster, kt_time_ms now);
/* What came early and waits for a replica is answered at its deadline, or at the end. */
void runtime_early_sweep(struct kt_cluster *cluster, kt_time_ms now, bool all);
/* After the thread ended. */
void runtime_release(struct kt_cluster *cluster);
/* Log writer and applier end; the replica is freed. */
void runtime_release_replica(struct kt_cluster *cluster);

#endif
