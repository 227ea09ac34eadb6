/*
 * What must hold at every step, seen from outside the replica: the simulator sees every entry that is written, synced,
 * recovered and applied, every answer that a client gets, and keeps books of its own.
 *
 *  1. Log matching: an (index, term) names one entry, on every node and for ever.
 *  2. Durability: a synced entry and vote are there after any crash; a recovered log is the synced one with a prefix of
 *     what was written after it, without entries that were trimmed, or empty behind an adopted state that has all of
 *     it. What a node calls stored is synced.
 *  3. One leader per term, and a new leader has every entry that is committed.
 *  4. Commitment: an entry is on the disks of a majority of the voters before any node calls it committed.
 *  5. State machine safety: all nodes apply the same entry at an index, once, in order, never above the commit index,
 *     and have the same state hash after it; the same holds for states that were adopted, and for the configuration
 *     that goes with them.
 *  6. Exactly once, in order: of the operations of one origin each takes effect at most once, in the order of its
 *     sequence.
 *  7. An acknowledged write is the entry at the index it was answered with.
 *  8. A read's state is at least at the index of everything that was acknowledged before the read began.
 *  9. Members: data that is lost or set aside takes its member id with it, and nothing is ever said in its name again;
 *     nothing is set aside, and nobody is turned out, without a reason.
 * 10. Damage to a state is found out by the comparison of hashes soon after it shows.
 *
 * What clients see is judged apart, in history.h. Checks 4 and 8, and 2's votes, look inside; with outside_only they
 * stand back, to see whether those on the outside notice as well.
 */
#ifndef KT_SIM_CHECK_H
#define KT_SIM_CHECK_H

#include "base/map.h"
#include "cluster/log/wal.h"
#include "cluster/node/replica.h"
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
    kt_member_id member;         /* whose they are; 0: nobody's yet */
    kt_index first;              /* of the log; what is before is committed */
    kt_index trim;               /* entries up to here may be gone */
    bool founding;               /* the first entry is being written */
    bool stored;                 /* something was: this member's data can be missed */
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
    bool hashed;     /* the hash is known, from a node whose state is whole */
    uint64_t state_hash;
    struct sim_node *altered; /* one whose state was altered applied it as well, and this is its hash */
    uint64_t altered_hash;
    uint32_t
        appliers; /* where hashes are compared: bit per node that applied it; no connection was lost since the first */
    uint64_t breaks;           /* of the network, then */
    bool fair_first;           /* none was missing when the first one did */
    bool fair;                 /* nor when the last one did, */
    sim_us last_at;            /* then */
    uint64_t origin, sequence; /* of the operation; 0: none */
    bool effect;               /* it took effect here, and is not a repetition */
};

struct sim_term {
    kt_node_id leader;
};

/* A member that is no more: its data was lost, or set aside. */
struct sim_former {
    kt_member_id member;
    struct sim_log durable; /* at the end */
};

struct sim_check {
    struct sim_books books[SIM_NODES_MAX];
    struct sim_former *former;
    size_t former_count;
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
/* Entries up to index are about to be forgotten. */
void sim_check_trimming(struct sim_node *node, kt_index index);
/* The node booted: who it is, and what log and state hold, against the books, which follow it. */
void sim_check_booted(struct sim_node *node);
/* The outcome of the founding is about to be made durable; it was. */
void sim_check_founding(struct sim_node *node, bool founded);
void sim_check_founded(struct sim_node *node);
/* A frame is handed to the network. */
void sim_check_sent(struct sim_node *node, struct kt_slice frame);
/* The replica ended by itself. */
void sim_check_ended(struct sim_node *node, enum kt_end why, const char *text);
/* Every node is a voter, and what was done to its data is healed. */
bool sim_check_whole(const struct sim_cluster *cluster);
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
