/*
 * The replica: the raft core and everything this node decides around it, driven by events and acting only through its
 * host. No thread, clock, socket or file of its own: kontikid runs it on the replica thread (cluster/node/runtime.c),
 * the simulator runs many in one process.
 *
 * Rules that hold (numbered in cluster/README.md): nothing is sent before the term and vote it depends on are durable;
 * an AppendEntries result follows the sync of its entries; entries reach the applier in order, once, when committed; a
 * leader serves only after an entry of its own term is applied; a linearizable read is confirmed by a majority that is
 * asked after the read came; requests keep the order in which this node got them, also across a change of leader, and
 * each takes effect at most once.
 */
#ifndef KT_CLUSTER_NODE_REPLICA_H
#define KT_CLUSTER_NODE_REPLICA_H

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "base/task.h"
#include "cluster/log/log_writer.h"
#include "engines/reply.h"

struct kt_replica;

/*
 * A write on its way. The caller owns it and its operation until done runs, exactly once. deadline_ms is on the clock
 * of kt_replica_tick. The operation is stamped in place with origin and sequence.
 */
struct kt_proposal {
    struct kt_task task; /* for whoever moves it between threads */
    struct kt_buf op;    /* a whole encoded operation (engines/op.h) */
    kt_time_ms deadline_ms;
    struct kt_reply reply; /* set when done: the result, or why there is none */
    void (*done)(struct kt_proposal *proposal);
    void *owner; /* whoever moves it between threads */
    /* the replica's */
    struct kt_list link;
    uint64_t sequence;
    kt_term sent_term; /* the term under which it is with a leader now; 0: with none */
    bool tried;        /* it was handed to a leader once: without a result its outcome is unknown */
};

/* A read that wants to know how far the state must be. */
struct kt_read {
    struct kt_task task;
    kt_time_ms deadline_ms;
    enum kt_code code; /* KT_OK: a read transaction begun from now on sees all it must; else why not */
    kt_index index;    /* the index that was asked for */
    void (*done)(struct kt_read *read);
    void *owner;         /* whoever moves it between threads */
    struct kt_list link; /* the replica's */
    uint64_t number;     /* the replica's */
};

/* Committed entries for the applier, in order; returned through kt_replica_applied. */
struct kt_apply_item {
    struct kt_entry entry;
    bool wanted;           /* somebody here waits for the result */
    struct kt_reply reply; /* filled if wanted */
};

struct kt_apply_batch {
    struct kt_task task;
    struct kt_apply_item *items;
    size_t count;
    size_t bytes;  /* of payload */
    void *applier; /* whoever applies it may note itself here */
};

/* Entries to be read back from the log; returned through kt_replica_fetched. */
struct kt_log_read {
    struct kt_task task;
    kt_index first, last;
    size_t bytes;
    struct kt_entry entries[256];
    size_t count;
    enum kt_code code;
};

#define KT_LOG_READ_ENTRIES_MAX 256

struct kt_replica_host {
    void *data;
    /* Sends a frame to a peer; false if it was dropped. Takes the contents in either case. */
    bool (*send)(void *data, kt_node_id to, struct kt_buf *frame);
    /* Makes durable, in order; then calls kt_replica_persisted. Never from inside this call. */
    void (*persist)(void *data, struct kt_log_write *write);
    /* Reads entries that are durable in the log; then calls kt_replica_fetched. Never from inside this call. */
    void (*fetch)(void *data, struct kt_log_read *read);
    /* Applies in order; then calls kt_replica_applied. Never from inside this call. */
    void (*apply)(void *data, struct kt_apply_batch *batch);
    /* A reader waits until the state is visible up to index: commit soon, then kt_replica_visible. */
    void (*want)(void *data, kt_index index);
    /* Milliseconds since the Unix epoch, for stamping operations. */
    kt_time_ms (*wall)(void *data);
    /* This node cannot go on. May return in the simulator; the replica does nothing more. */
    void (*fatal)(void *data, enum kt_code code, const char *text);
    /* The role, term or known leader changed. */
    void (*changed)(void *data);
};

struct kt_member {
    kt_node_id id;
    const char *address; /* of its peer listener */
};

struct kt_replica_options {
    kt_node_id self;
    const struct kt_member *members; /* the founding members, the same on every node; copied */
    size_t member_count;
    unsigned election_ms, heartbeat_ms;
    uint64_t random_seed; /* of election jitter and of the origin id */
    kt_time_ms now_ms;
    /* What the log and the state hold. */
    struct kt_wal_found log;
    kt_index applied; /* position of the state as restarted */
    kt_term applied_term;
    struct kt_replica_host host;
    /* Term of an entry that is in the log at start, synchronously; only during kt_replica_create. */
    kt_term (*term_of)(void *data, kt_index index);
    /* Reads entries synchronously; only during kt_replica_create, to find the configuration. */
    enum kt_code (*read)(void *data, struct kt_log_read *read);
};

KT_MUST_USE enum kt_code kt_replica_create(const struct kt_replica_options *options, struct kt_replica **replica,
                                           struct kt_error *error);
/* Fails what is pending with KT_SHUTTING_DOWN or KT_OUTCOME_UNKNOWN and frees. Nothing may be with the host any more.
 */
void kt_replica_free(struct kt_replica *replica);

/* Events. now_ms never decreases. */
void kt_replica_tick(struct kt_replica *replica, kt_time_ms now_ms);
/* When kt_replica_tick must be called at the latest. Ask after every event. */
kt_time_ms kt_replica_deadline(const struct kt_replica *replica);
void kt_replica_received(struct kt_replica *replica, kt_node_id from, struct kt_slice frame);
void kt_replica_connected(struct kt_replica *replica, kt_node_id peer);
void kt_replica_disconnected(struct kt_replica *replica, kt_node_id peer);
void kt_replica_persisted(struct kt_replica *replica, struct kt_log_write *write);
void kt_replica_fetched(struct kt_replica *replica, struct kt_log_read *read);
void kt_replica_applied(struct kt_replica *replica, struct kt_apply_batch *batch);
void kt_replica_visible(struct kt_replica *replica, kt_index index);
/*
 * End of one turn: what was proposed since the last call goes to the core in one piece, read rounds begin, committed
 * entries go to the applier. The host calls it once after each bunch of events.
 */
void kt_replica_flush(struct kt_replica *replica);

/* Requests; each is answered exactly once through its done. */
void kt_replica_propose(struct kt_replica *replica, struct kt_proposal *proposal);
void kt_replica_read(struct kt_replica *replica, struct kt_read *read);
/* Hands leadership to the best follower, if this node leads. Watch the status for the effect. */
void kt_replica_resign(struct kt_replica *replica);

/* The log cannot grow at the moment, or can again: a leader without room takes nothing and hands over. */
void kt_replica_disk_full(struct kt_replica *replica, bool full);

enum kt_role { KT_FOLLOWER, KT_CANDIDATE, KT_LEADER };

struct kt_peer_status {
    kt_node_id id;
    const char *address;
    bool voter;
    bool connected;
    kt_index match; /* leader only: known to be durable there */
};

struct kt_replica_status {
    kt_node_id self, leader; /* leader 0: unknown */
    enum kt_role role;
    bool serving; /* leader of its term with its barrier applied */
    kt_term term;
    kt_index first, last, durable, commit, applied, visible;
    size_t proposals, reads; /* in flight */
    size_t peer_count;
    struct kt_peer_status peers[16]; /* the members, this node among them */
    uint64_t elections;              /* won by this node since start */
};

void kt_replica_status(const struct kt_replica *replica, struct kt_replica_status *status);

#endif
