/*
 * Migration: the instances of one version of a machine move to another version, by a declared mapping of states and
 * changes of the context. An extension.
 *
 *   MIGRATE_INSTANCES           UNDO_MIGRATION
 *   ------------------> MOVING -----------------+
 *                         | all looked at       v
 *                         v                  UNDOING --> UNDONE
 *                       MOVED ------------------^
 *                         | CONFIRM_MIGRATION, or MACHINE_MIGRATION_KEPT_MS later
 *                         v
 *                     CONFIRMING --> CONFIRMED
 *
 * A migration is a record in the state; the leader proposes machine.migration_step until it is done, so it goes on
 * across fail-over and restart. A step looks at a bounded number of instances, in the order of their creation. Each is
 * moved as a whole by one step: before it behaves by the old version, after it by the new one.
 *
 * What an instance was is kept until the migration is confirmed. Undoing gives it back to every instance that nothing
 * happened to since (its last offset is the move's); the others stay as they are and are listed.
 *
 * A moved instance has a new last offset, so that a client that expects the old one is told. The time of its last event
 * stays, and timers of its new state count from then.
 */
#ifndef KT_ENGINES_MACHINE_MIGRATION_H
#define KT_ENGINES_MACHINE_MIGRATION_H

#include "engines/machine/instance.h"

/* Stored: appended, never reused. */
enum migration_phase {
    MIGRATION_MOVING = 1,
    MIGRATION_MOVED = 2,
    MIGRATION_UNDOING = 3,
    MIGRATION_UNDONE = 4,
    MIGRATION_CONFIRMING = 5,
    MIGRATION_CONFIRMED = 6,
};

/* Why an instance was left where it is. Stored: appended, never reused. */
enum migration_reason {
    MIGRATION_MOVES = 0, /* it was not */
    MIGRATION_NO_MAPPING = 1,
    MIGRATION_UNKNOWN_TARGET = 2,
    MIGRATION_CTX_TOO_LARGE = 3,
    MIGRATION_CHANGED_SINCE = 4,
    MIGRATION_DELETED_SINCE = 5,
};

/* The record in machine.migration, and on the way to it the operation. Slices of a read one are borrowed. */
struct migration {
    uint64_t given;
    struct kt_slice machine;
    uint64_t machine_id;
    uint64_t from_version, to_version;
    struct kt_slice states;       /* {"old":"new",...} */
    struct kt_slice ctx_defaults; /* {"member":value,...}: added where missing */
    struct kt_slice ctx_renames;  /* {"old":"new",...} */
    struct kt_slice ctx_removed;  /* ["member",...] */
    uint64_t phase;
    struct kt_slice cursor; /* MOVING: the order of the next instance to look at */
    uint64_t looked_at, moved, left, restored;
    uint64_t started_ms, ended_ms; /* ended: of MOVED, UNDONE or CONFIRMED */
};

extern const struct kt_struct migration_struct;
const char *migration_phase_text(uint64_t phase);
const char *migration_reason_text(uint64_t reason);

/* KT_OK, KT_NOT_FOUND, KT_CORRUPT, or the store's failure. Any thread. */
KT_MUST_USE enum kt_code migration_find(const struct machine *machine, struct kt_txn *txn, uint64_t id,
                                        struct migration *migration);
/* Writes the record. Its slices are looked at before. Uses machine->record. */
KT_MUST_USE enum kt_code migration_put(struct machine *machine, struct kt_txn *txn, uint64_t id,
                                       const struct migration *migration);

/*
 * Rows that belong to a migration: id64 kind8 order. kind: what an instance was (machine.migration_kept), or which
 * stage left it behind (machine.migration_left).
 */
#define MIGRATION_ROW_BYTES (8 + 1 + INSTANCE_ORDER_BYTES)
enum { MIGRATION_ROW_MOVE = 1, MIGRATION_ROW_UNDO = 2 };
struct kt_slice migration_row(uint8_t key[MIGRATION_ROW_BYTES], uint64_t id, uint8_t kind,
                              const uint8_t order[INSTANCE_ORDER_BYTES]);

/* What a migration does to an instance, ready for use; lives in its arena. */
struct migration_plan {
    struct kt_arena *arena;
    struct kt_map states;  /* plain name -> name (struct kt_slice *) */
    struct kt_map targets; /* plain name -> position + 1 */
    struct kt_map members; /* canonical key -> struct plan_member */
    struct plan_member *first, **last;
};

/* to: the definition of the target version, which must live as long as the plan. */
void migration_plan_init(struct migration_plan *plan, const struct migration *migration, const struct definition *to,
                         struct kt_arena *arena);
void migration_plan_release(struct migration_plan *plan);
/* The position of the state that a state becomes. */
enum migration_reason migration_plan_state(const struct migration_plan *plan, struct kt_slice state, uint32_t *target);
/* The name that the mapping gives a state, its own if it names none. */
struct kt_slice migration_plan_name(const struct migration_plan *plan, struct kt_slice state);
/* Appends what a context becomes: removed members go, renamed ones take their new names, missing ones are added. */
void migration_plan_ctx(struct migration_plan *plan, struct kt_slice ctx, struct kt_buf *out);

/* The checks of MIGRATE_INSTANCES that need no state: KT_OK, or the reply says why not. Any thread. */
KT_MUST_USE enum kt_code machine_migrate_check(const struct kt_machine_migrate_params *params, struct kt_reply *reply);
/* The mapping of a request, borrowed from it; everything else 0. */
void migration_from_params(const struct kt_machine_migrate_params *params, struct migration *migration);

/* The leader's part of the background work (engine.h): a step of a migration that is under way, the end of an old one.
 */
KT_MUST_USE enum kt_code migrations_tick(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms,
                                         struct kt_buf *op, kt_time_ms *next_ms);

#endif
