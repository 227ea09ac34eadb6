/*
 * What must hold at every step, seen from outside the replica: the simulator sees every entry that is written, synced,
 * recovered and applied, every answer that a client gets, and keeps books of its own.
 *
 *  1. Log matching: an (index, term) names one entry, on every node and for ever.
 *  2. Durability: a synced entry and vote are there after any crash; a recovered log is the synced one with a prefix of
 *     what was written after it. What a node calls stored is synced.
 *  3. One leader per term, and a new leader has every entry that is committed.
 *  4. Commitment: an entry is on the disks of a majority before any node calls it committed.
 *  5. State machine safety: all nodes apply the same entry at an index, once, in order, never above the commit index,
 * and have the same state hash after it.
 *  6. Exactly once, in order: of the operations of one origin each takes effect at most once, in the order of its
 * sequence.
 *  7. An acknowledged write is the entry at the index it was answered with.
 *  8. A read's state is at least at the index of everything that was acknowledged before the read began.
 *
 * What clients see is judged apart, in history.h. With a planted fault, the checks that look inside (4 and 8, and 2's
 * votes) stand back, so that those on the outside must find it.
 */
#ifndef KT_SIM_CHECK_H
#define KT_SIM_CHECK_H

#include "base/map.h"
#include "cluster/log/wal.h"
#include "engines/state.h"
#include "network.h"
#include "world.h"

struct sim_cluster;
struct sim_node;

/* An entry as the books know it. */
struct sim_item {
    kt_term term;
    uint64_t hash; /* of type and payload */
};

/* A log: entries 1..last. */
struct sim_log {
    struct sim_item *items; /* [index - 1] */
    kt_index last;
    size_t cap;
};

struct sim_pending {
    kt_index index;
    struct sim_item item;
    bool appended;
};

/* One node's books. They outlive its processes. */
struct sim_books {
    struct sim_log seen;         /* what the replica handed to the log: its memory */
    struct sim_log durable;      /* what was synced */
    struct sim_pending *pending; /* handed over, not synced */
    size_t pending_count, pending_cap;
    kt_term voted_term; /* durable */
    kt_node_id vote;
    kt_term voting_term; /* being written; 0: none */
    kt_node_id voting;
    kt_term term;    /* highest seen in this life */
    kt_index commit; /* called committed in this life, and judged */
};

/* One index, for the whole cluster. */
struct sim_committed {
    struct sim_item item;
    bool committed;  /* some node says so */
    kt_term in_term; /* that node's term then: not before the term in which it was committed */
    bool applied;    /* some node did */
    uint64_t state_hash;
    uint64_t origin, sequence; /* of the operation; 0: none */
    bool effect;               /* it took effect here, and is not a repetition */
};

struct sim_term {
    kt_node_id leader;
};

struct sim_check {
    struct sim_books books[SIM_NODES_MAX];
    struct sim_committed *committed; /* [index - 1] */
    size_t committed_count, committed_cap;
    kt_index commit_max;    /* highest index that a node called committed */
    struct sim_term *terms; /* [term] */
    size_t term_cap;
    struct kt_map entries; /* (index, term) -> hash */
    struct kt_map origins; /* origin -> last sequence that took effect */
    kt_index acked;        /* highest index that anybody was told of */
    bool outside_only;
};

void sim_check_init(struct sim_check *check, bool outside_only);
void sim_check_release(struct sim_check *check);

uint64_t sim_entry_hash(const struct kt_entry *entry);

/* The replica handed a write to the log writer. */
void sim_check_handed(struct sim_node *node, const struct kt_entry *entries, size_t count);
/* The first `count` entries that are not yet written have been written; then: all written ones are synced. */
void sim_check_appended(struct sim_node *node, size_t count);
void sim_check_synced(struct sim_node *node);
/* A vote is being written; it was. */
void sim_check_voting(struct sim_node *node, kt_term term, kt_node_id vote);
void sim_check_voted(struct sim_node *node, kt_term term, kt_node_id vote);
/* After a crash: what the log holds against the books; power: unsynced writes may be gone. The books follow the log. */
void sim_check_recovered(struct sim_node *node, const struct kt_wal_found *found, bool power);
/* The log was founded: entry 1 is there. */
void sim_check_founded(struct sim_node *node);
/* After each turn, with node->status fresh. */
void sim_check_status(struct sim_node *node);
/* One entry was applied. */
void sim_check_applied(struct sim_node *node, const struct kt_entry *entry, const struct kt_reply *reply,
                       struct kt_state_position position);
/* A client was told the result of a write. op is the operation as it was stamped. */
void sim_check_answered(struct sim_cluster *cluster, struct kt_slice op, const struct kt_reply *reply);
/* A client's read may begin on this node; floor is check.acked when it was asked for. */
void sim_check_read(struct sim_node *node, kt_index floor);
/* At the end: all nodes stand at the same place. */
void sim_check_converged(struct sim_cluster *cluster);

#endif
