/*
 * The replicated state: store, engines, the sessions that make requests exactly-once, and the position in the log, all
 * in one transaction. The applier (cluster/node/applier.h) and the simulator drive it; queries look through
 * kt_state_read.
 *
 * Keyspace "meta": "position" -> {index, term, time_ms, hash}, "format" -> version of this layout. The sessions'
 * keyspaces are described in sessions.h: sessions unused for an hour of replicated time go away, a bounded piece with
 * each operation that finds them.
 *
 * Invariants: 1. position, data and session records of an entry are in one commit. 2. An entry at or below the position
 * is never applied again. 3. The time given to engines never decreases.
 */
#ifndef KT_ENGINES_STATE_H
#define KT_ENGINES_STATE_H

#include "engines/changes.h"
#include "engines/engine.h"

struct kt_state;

struct kt_state_position {
    kt_index index;
    kt_term term;
    kt_time_ms time_ms;
    uint64_t hash; /* of all writes up to index; equal on all nodes at equal index */
};

struct kt_state_options {
    struct kt_store_options store;
    struct kt_engine_options engines;
};

KT_MUST_USE enum kt_code kt_state_open(const struct kt_state_options *options, struct kt_state **state,
                                       struct kt_error *error);
/* No transaction may be open; commits nothing. */
void kt_state_close(struct kt_state *state);
struct kt_store *kt_state_store(struct kt_state *state);
const struct kt_changes *kt_state_changes(const struct kt_state *state);
/* The engine's state, by its position in kt_engines. */
void *kt_state_engine(struct kt_state *state, size_t engine);

/* Applier's thread: the position including what is not committed yet. */
struct kt_state_position kt_state_applied(const struct kt_state *state);
/*
 * Applies one entry; opens the write transaction if none is open. index must be the position's + 1 (KT_CHECK). An entry
 * without operation (barrier, configuration) passes an empty slice. The reply may be NULL when nobody waits. A business
 * failure is in the reply and KT_OK returned; anything else returned is fatal for the node.
 */
KT_MUST_USE enum kt_code kt_state_apply(struct kt_state *state, kt_index index, kt_term term, struct kt_slice entry,
                                        struct kt_reply *reply, struct kt_error *error);
/*
 * Commits what was applied since the last commit; nothing to do is KT_OK. After a failure, as after a failure of
 * kt_state_apply, the state is again what the last successful commit left: entries from its position on can be applied
 * again.
 */
KT_MUST_USE enum kt_code kt_state_commit(struct kt_state *state);
/* Any thread: the index up to which read transactions that begin now can see. */
kt_index kt_state_visible(const struct kt_state *state);

/* The position stored in a read transaction. */
KT_MUST_USE enum kt_code kt_state_position_of(struct kt_state *state, struct kt_txn *txn,
                                              struct kt_state_position *position);
/*
 * One round of the engines' background work: asks the engines in turn, beginning behind the one that had something
 * last, until one has something to propose; op may stay empty. *next_ms is the wall time at which to ask again, and not
 * before the operation is done. Any thread.
 */
KT_MUST_USE enum kt_code kt_state_tick(struct kt_state *state, kt_time_ms wall_ms, struct kt_buf *op,
                                       kt_time_ms *next_ms);
/* Names and counts of an operation for people: "machine.put machine=\"door\" version=1". Total. */
void kt_op_describe(struct kt_slice entry, struct kt_buf *out);

#endif
