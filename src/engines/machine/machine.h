/*
 * The state-machine engine: definitions, instances, events, and the answers kept for repeated requests.
 *
 * Everything that its commands answer is canonical JSON text of an object, with the members sorted by name. The
 * parameter structs are what kt_struct_from_json fills from a client's request; a caller inside the process may fill
 * one by hand and check it with kt_struct_check (given: bit i for row i, in the order of the members below).
 */
#ifndef KT_ENGINES_MACHINE_H
#define KT_ENGINES_MACHINE_H

#include "engines/engine.h"

extern const struct kt_engine kt_machine_engine;

/* machine.put; RCP PUT_MACHINE. The definition's keys must be sorted (the field row asks for it). */
struct kt_machine_put_params {
    uint64_t given;
    struct kt_slice machine;
    uint64_t version;
    struct kt_slice definition;
    struct kt_slice checksum;        /* accepted, ignored */
    struct kt_slice idempotency_key; /* accepted, ignored: a repeated put changes nothing by nature */
};

/* machine.get; RCP GET_MACHINE. Without version the highest one. */
struct kt_machine_get_params {
    uint64_t given;
    struct kt_slice machine;
    uint64_t version;
};

/* machine.list; RCP LIST_MACHINES. Without limit everything from offset on. */
struct kt_machine_list_params {
    uint64_t given;
    uint64_t limit;
    uint64_t offset;
};

/* machine.create_instance; RCP CREATE_INSTANCE. Without instance_id a random UUID. */
struct kt_machine_create_params {
    uint64_t given;
    struct kt_slice machine;
    uint64_t version;
    struct kt_slice instance_id;
    struct kt_slice initial_ctx;
    struct kt_slice idempotency_key;
};

/* machine.get_instance; RCP GET_INSTANCE. */
struct kt_machine_instance_params {
    uint64_t given;
    struct kt_slice instance_id;
};

/* machine.list_instances; RCP LIST_INSTANCES. */
struct kt_machine_instances_params {
    uint64_t given;
    struct kt_slice machine;
    struct kt_slice state;
    uint64_t limit;
    uint64_t offset;
};

/* machine.delete_instance; RCP DELETE_INSTANCE. */
struct kt_machine_delete_params {
    uint64_t given;
    struct kt_slice instance_id;
    struct kt_slice idempotency_key;
};

/* machine.apply_event; RCP APPLY_EVENT. */
struct kt_machine_event_params {
    uint64_t given;
    struct kt_slice instance_id;
    struct kt_slice event;
    struct kt_slice payload;
    struct kt_slice expected_state;
    uint64_t expected_wal_offset;
    struct kt_slice event_id;
    struct kt_slice idempotency_key;
};

/* machine.wal_read; RCP WAL_READ. Without limit as many records as fit one message. */
struct kt_machine_wal_read_params {
    uint64_t given;
    uint64_t from_offset;
    uint64_t limit;
    uint64_t from_number; /* of the record within the entry at from_offset; for entries larger than a message */
};

/* machine.compact; RCP COMPACT. */
struct kt_machine_compact_params {
    uint64_t given;
    bool force_snapshot; /* keep less */
};

/* machine.flush; RCP FLUSH_ALL. */
struct kt_machine_flush_params {
    uint64_t given;
};

/*
 * machine.watch_instance and machine.watch_all; RCP WATCH_INSTANCE and WATCH_ALL. The query answers where the
 * subscription stands; kt_machine_watch_begin says what it is to be told.
 */
struct kt_machine_watch_params {
    uint64_t given;
    bool include_ctx;
    uint64_t from_offset;
    uint64_t from_number;                                     /* of the event within the entry at from_offset */
    struct kt_slice instance_id;                              /* watch_instance */
    struct kt_slice machines, from_states, to_states, events; /* watch_all: JSON text of arrays of strings */
};

struct kt_machine_filter;

/*
 * The filter and the first change of a subscription that was answered at call->index. Slices live in the arena or in
 * params. Any thread. fresh: no history was asked for, or all of it, so that none can be missing.
 */
struct kt_machine_watch_start {
    kt_index index;
    unsigned number;
    bool include_ctx;
    bool fresh;
};

void kt_machine_watch_begin(const struct kt_machine_watch_params *params, kt_index answered, struct kt_arena *arena,
                            struct kt_machine_filter *filter, struct kt_machine_watch_start *start);

/* machine.batch; RCP BATCH. Each of ops is {"op","params"} in the words of RCP. */
struct kt_machine_batch_params {
    uint64_t given;
    struct kt_slice mode; /* "atomic" or "best_effort", the default */
    struct kt_slice ops;
    struct kt_slice idempotency_key;
};

/* machine.explain_event; RCP EXPLAIN_EVENT, an extension. */
struct kt_machine_explain_params {
    uint64_t given;
    struct kt_slice instance_id;
    struct kt_slice event;
    struct kt_slice payload;
};

/* machine.migrate; RCP MIGRATE_INSTANCES, an extension (migration.h). With dry_run nothing is written. */
struct kt_machine_migrate_params {
    uint64_t given;
    struct kt_slice machine;
    uint64_t from_version, to_version;
    struct kt_slice states;
    struct kt_slice ctx_defaults;
    struct kt_slice ctx_renames;
    struct kt_slice ctx_removed;
    bool dry_run;
    uint64_t limit, offset; /* of the dry run's list */
    struct kt_slice idempotency_key;
};

/* machine.undo_migration, machine.confirm_migration and machine.get_migration; RCP UNDO_MIGRATION, ... */
struct kt_machine_migration_params {
    uint64_t given;
    uint64_t migration_id;
    uint64_t limit, offset; /* of machine.get_migration's list */
};

/* machine.list_migrations; RCP LIST_MIGRATIONS. */
struct kt_machine_migrations_params {
    uint64_t given;
    struct kt_slice machine;
};

/* The row numbers of what may be absent, for KT_GIVEN and for filling given by hand. */
enum {
    KT_MACHINE_GET_VERSION = 1,
    KT_MACHINE_LIST_LIMIT = 0,
    KT_MACHINE_LIST_OFFSET = 1,
    KT_MACHINE_CREATE_INSTANCE_ID = 2,
    KT_MACHINE_CREATE_INITIAL_CTX = 3,
    KT_MACHINE_CREATE_IDEMPOTENCY_KEY = 4,
    KT_MACHINE_INSTANCES_MACHINE = 0,
    KT_MACHINE_INSTANCES_STATE = 1,
    KT_MACHINE_INSTANCES_LIMIT = 2,
    KT_MACHINE_INSTANCES_OFFSET = 3,
    KT_MACHINE_DELETE_IDEMPOTENCY_KEY = 1,
    KT_MACHINE_EVENT_PAYLOAD = 2,
    KT_MACHINE_EVENT_EXPECTED_STATE = 3,
    KT_MACHINE_EVENT_EXPECTED_WAL_OFFSET = 4,
    KT_MACHINE_EVENT_EVENT_ID = 5,
    KT_MACHINE_EVENT_IDEMPOTENCY_KEY = 6,
    KT_MACHINE_WAL_READ_LIMIT = 1,
    KT_MACHINE_WAL_READ_FROM_NUMBER = 2,
    KT_MACHINE_COMPACT_FORCE_SNAPSHOT = 0,
    KT_MACHINE_WATCH_INCLUDE_CTX = 0,
    KT_MACHINE_WATCH_FROM_OFFSET = 1,
    KT_MACHINE_WATCH_FROM_NUMBER = 2,
    KT_MACHINE_BATCH_MODE = 0,
    KT_MACHINE_MIGRATE_CTX_REMOVED = 6,
    KT_MACHINE_MIGRATE_DRY_RUN = 7,
    KT_MACHINE_MIGRATE_LIMIT = 8,
    KT_MACHINE_MIGRATION_LIMIT = 1,
    KT_MACHINE_MIGRATIONS_MACHINE = 0,
};

#endif
