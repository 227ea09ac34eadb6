/*
 * The inside of the state-machine engine: its keyspaces, what it keeps in memory, and the failures in words.
 *
 * Keyspaces (integers in keys big-endian, so that bytewise order is numeric; in values varints):
 *
 *   machine.name        machine name                       -> machine id, number of versions
 *   machine.definition  id32 version32                     -> hash of the rest, offset, groups of states, normal form
 *   machine.group       id32 state name                    -> group32
 *   machine.state       length16 state name group32        -> nothing
 *   machine.count       'm' id32 | 'g' group32             -> instances, deleted ones not counted
 *                       't' 0                              -> definitions with timers
 *   machine.instance    00 id | 01 hash128 probe8          -> record (instance.h)
 *   machine.created     index64 serial32                   -> instance id
 *   machine.by_machine  id32 index64 serial32              -> nothing
 *   machine.by_group    group32 index64 serial32           -> nothing
 *   machine.reply       index64 serial32                   -> time, operation, instance id, key, encoded reply
 *   machine.reply_key   hash128                            -> keys in machine.reply, 12 bytes each
 *   machine.timer       due64 index64 serial32 transition32 -> instance id
 *   machine.migration   id64                               -> record (migration.h); the id is its entry's index
 *   machine.migration_kept  id64 kind8 index64 serial32    -> instance id, index of the move, the record that it had
 *   machine.migration_left  id64 kind8 index64 serial32    -> reason, instance id, state
 *
 * A group is one state of one machine (by name, over all its versions); groups exist from the put on, so that an event
 * moves an instance from one to another without looking up a name. Machine ids and groups are numbered from 1.
 */
#ifndef KT_ENGINES_MACHINE_INTERNAL_H
#define KT_ENGINES_MACHINE_INTERNAL_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "engines/machine/change.h"
#include "engines/machine/definition.h"
#include "engines/machine/machine.h"
#include "engines/machine/machine_limits.h"
#include "engines/registry.h"
#include "store/store.h"
#include "wire/json.h"

/* Operations: stored in the log, appended, never reused. */
enum {
    MACHINE_OP_PUT = KT_OP_CODE(KT_ENGINE_MACHINE, 1),
    MACHINE_OP_CREATE = KT_OP_CODE(KT_ENGINE_MACHINE, 2),
    MACHINE_OP_DELETE = KT_OP_CODE(KT_ENGINE_MACHINE, 3),
    MACHINE_OP_EVENT = KT_OP_CODE(KT_ENGINE_MACHINE, 4),
    MACHINE_OP_FORGET = KT_OP_CODE(KT_ENGINE_MACHINE, 5),
    MACHINE_OP_TRIM = KT_OP_CODE(KT_ENGINE_MACHINE, 6),
    MACHINE_OP_COMPACT = KT_OP_CODE(KT_ENGINE_MACHINE, 7),
    MACHINE_OP_FLUSH = KT_OP_CODE(KT_ENGINE_MACHINE, 8),
    MACHINE_OP_BATCH = KT_OP_CODE(KT_ENGINE_MACHINE, 16),
    MACHINE_OP_FIRE = KT_OP_CODE(KT_ENGINE_MACHINE, 17),
    MACHINE_OP_MIGRATE = KT_OP_CODE(KT_ENGINE_MACHINE, 18),
    MACHINE_OP_MIGRATION_STEP = KT_OP_CODE(KT_ENGINE_MACHINE, 19),
    MACHINE_OP_MIGRATION_END = KT_OP_CODE(KT_ENGINE_MACHINE, 20),
};

/* A compiled definition, cached. */
struct compiled {
    struct kt_list link; /* least recently used first */
    uint8_t key[16];     /* machine id, version, hash of the record: memory never answers for a record that is gone */
    struct kt_arena arena;
    struct definition definition;
    const uint32_t *groups; /* of its states */
};

/* Applier's thread. */
struct compiled_cache {
    struct kt_map entries;
    struct kt_list order;
    size_t bytes;
};

/* The engine's state. Everything above the line is fixed from open on and for any thread. */
struct machine {
    struct kt_engine_options options;
    kt_space names, definitions, groups, states, counts;
    kt_space instances, created, by_machine, by_group;
    kt_space replies, reply_keys;
    struct kt_changes changes;
    kt_space timers;
    kt_space migrations, migration_kept, migration_left;
    /* ---- applier's thread ---- */
    struct compiled_cache cache;
    struct kt_arena arena; /* of the operation being applied */
    struct kt_buf record;  /* the value about to be written */
    struct kt_buf ctx;     /* a merged context */
    struct kt_buf change;  /* the record for the change log */
    /* ---- any thread ---- */
    atomic_uint tick_turn; /* which piece of background work is asked first */
};

/* The largest value written: a kept answer, with its keys. */
#define MACHINE_RECORD_BYTES_MAX (KT_REPLY_BYTES_MAX + (64u << 10))

/* Operation bodies. Delete and event take the command's parameters as they are. */
struct machine_put_op {
    uint64_t given;
    struct kt_slice machine;
    uint64_t version;
    struct kt_slice definition; /* the normal form */
    uint64_t versions_max;      /* the proposer's setting, so that all nodes decide alike; 0: none */
};

struct machine_create_op {
    uint64_t given;
    struct kt_slice machine;
    uint64_t version;
    struct kt_slice instance_id;
    bool generated; /* the client named no instance: its idempotency key stands alone */
    struct kt_slice initial_ctx;
    struct kt_slice idempotency_key;
    bool recreate; /* the proposer's setting */
};

struct machine_forget_op {
    uint64_t given;
    uint64_t max;
};

struct machine_trim_op {
    uint64_t given;
    uint64_t before; /* what the change log keeps begins at this index */
    uint64_t max;    /* records removed at most */
};

struct machine_compact_op {
    uint64_t given;
    uint64_t keep_ms; /* changes that are younger stay */
};

struct machine_flush_op {
    uint64_t given;
};

/* The engine's keyspaces but for the change log, which outlives FLUSH_ALL: opened and cleared by this one list. */
#define MACHINE_SPACE_COUNT 15
kt_space *machine_space(struct machine *machine, size_t i, const char **name);

struct machine_batch_op {
    uint64_t given;
    bool atomic;
    struct kt_slice items; /* batch.c */
    struct kt_slice idempotency_key;
};

struct machine_fire_op {
    uint64_t given;
    uint64_t max;
};

struct machine_migrate_op {
    uint64_t given;
    struct kt_slice migration; /* an encoded struct migration: the mapping, and zeros */
    struct kt_slice idempotency_key;
};

struct machine_migration_step_op {
    uint64_t given;
    uint64_t migration;
    uint64_t max;
};

struct machine_migration_end_op {
    uint64_t given;
    uint64_t migration;
    bool undo; /* else it is confirmed */
};

#define MACHINE_COMMAND_COUNT 21
#define MACHINE_OP_COUNT      13
extern const struct kt_command *const machine_commands[MACHINE_COMMAND_COUNT];
/* log_commands.c */
extern const struct kt_command machine_command_wal_read, machine_command_snapshot, machine_command_compact,
    machine_command_flush, machine_command_watch_instance, machine_command_watch_all;
extern const struct kt_op_kind *const machine_ops[MACHINE_OP_COUNT];
/* Those of migration_commands.c. */
extern const struct kt_command machine_migrate_command, machine_undo_command, machine_confirm_command,
    machine_migration_command, machine_migrations_command;
/* The bodies' descriptions, for prepare. */
extern const struct kt_op_kind machine_op_put, machine_op_create, machine_op_delete, machine_op_event,
    machine_op_forget, machine_op_trim, machine_op_compact, machine_op_flush, machine_op_batch, machine_op_fire,
    machine_op_migrate, machine_op_migration_step, machine_op_migration_end;

/* The applies (engine.h). */
enum kt_code machine_put_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                               struct kt_reply *reply);
enum kt_code machine_create_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                  struct kt_reply *reply);
enum kt_code machine_delete_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                  struct kt_reply *reply);
enum kt_code machine_event_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                 struct kt_reply *reply);
enum kt_code machine_forget_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                  struct kt_reply *reply);

enum kt_code machine_batch_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                 struct kt_reply *reply);
enum kt_code machine_trim_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                struct kt_reply *reply);
enum kt_code machine_compact_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                   struct kt_reply *reply);
enum kt_code machine_flush_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                 struct kt_reply *reply);

enum kt_code machine_fire_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                struct kt_reply *reply);
enum kt_code machine_migrate_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                   struct kt_reply *reply);
enum kt_code machine_migration_step_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply,
                                          const void *body, struct kt_reply *reply);
enum kt_code machine_migration_end_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply,
                                         const void *body, struct kt_reply *reply);

/* Appends an operation; what does not fit becomes the reply. */
enum kt_code machine_encode(const struct kt_op_kind *kind, const void *body, struct kt_buf *op, struct kt_reply *reply);
/* The change log's share of the background work: appends a machine.trim if there is something to cut off or remove. */
enum kt_code machine_trim_tick(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms, struct kt_buf *op,
                               kt_time_ms *next_ms);

/* The prepares and queries that have a file of their own. */
enum kt_code machine_batch_prepare(const struct kt_call *call, const void *params, struct kt_buf *op,
                                   struct kt_reply *reply);
enum kt_code machine_migrate_prepare(const struct kt_call *call, const void *params, struct kt_buf *op,
                                     struct kt_reply *reply);
enum kt_code machine_undo_prepare(const struct kt_call *call, const void *params, struct kt_buf *op,
                                  struct kt_reply *reply);
enum kt_code machine_confirm_prepare(const struct kt_call *call, const void *params, struct kt_buf *op,
                                     struct kt_reply *reply);
enum kt_code machine_migrate_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_migration_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_migrations_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_explain_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_get_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_list_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_instance_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_instances_query(const struct kt_call *call, const void *params, struct kt_reply *reply);

enum kt_code machine_wal_read_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_snapshot_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_watch_instance_query(const struct kt_call *call, const void *params, struct kt_reply *reply);
enum kt_code machine_watch_all_query(const struct kt_call *call, const void *params, struct kt_reply *reply);

/* Empties what one operation used; called at the start of each apply. Large buffers are given back. */
void machine_begin(struct machine *machine);
/* A buffer's failure as the result of an apply: want of memory is no result but stops the node. */
enum kt_code machine_buf_failed(const struct kt_buf *buf, struct kt_reply *reply);
/* Ends a query: what did not fit or failed becomes the reply. */
enum kt_code machine_query_end(enum kt_code code, struct kt_reply *reply);

/* Failures with their details: each fills the reply and returns its code. */
enum kt_code fail_machine_not_found(struct kt_reply *reply, struct kt_slice machine, const uint64_t *version);
enum kt_code fail_machine_exists(struct kt_reply *reply, struct kt_slice machine, uint64_t version);
enum kt_code fail_machine_limit(struct kt_reply *reply, struct kt_slice machine, uint64_t versions, uint64_t limit);
enum kt_code fail_definition(struct kt_reply *reply, const struct kt_error *error,
                             const struct definition_fault *fault);
enum kt_code fail_instance_not_found(struct kt_reply *reply, struct kt_slice id);
enum kt_code fail_instance_exists(struct kt_reply *reply, struct kt_slice id);
enum kt_code fail_transition(struct kt_reply *reply, struct kt_slice state, struct kt_slice event);
enum kt_code fail_guard(struct kt_reply *reply, struct kt_slice from, struct kt_slice to, struct kt_slice event,
                        struct kt_slice guard);
enum kt_code fail_state(struct kt_reply *reply, struct kt_slice expected, struct kt_slice actual);
enum kt_code fail_offset(struct kt_reply *reply, uint64_t expected, uint64_t actual);

#endif
