/*
 * The contract between the replicated state and an engine.
 *
 * apply is deterministic: it uses nothing but the transaction, the operation and struct kt_apply; no clock, random,
 * environment, locale, pointer or hash order. It reads, decides, then writes; after its first write only a fatal code
 * may come back. A business failure is a result like any other and is replicated. Everything runs on the applier's
 * thread except prepare and query (command.h).
 */
#ifndef KT_ENGINES_ENGINE_H
#define KT_ENGINES_ENGINE_H

#include "engines/command.h"
#include "engines/op.h"
#include "store/store.h"

struct kt_apply {
    kt_index index;
    kt_time_ms time_ms; /* stamped by the leader, never decreasing from one applied operation to the next */
};

struct kt_op_kind {
    uint16_t code;    /* KT_OP_CODE(engine id, n): stored on disk, appended, never reused */
    const char *name; /* "machine.put" */
    struct kt_struct body;
    /*
     * Fills the reply. KT_OK or a client-class code is a result; a fatal code stops the node. The reply's offset is set
     * by the caller to the entry's index before, and may be changed (a repeated delete answers the first one's offset).
     */
    enum kt_code (*apply)(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                          struct kt_reply *reply);
};

struct kt_engine_options {
    uint64_t machine_versions_max; /* storage.max_machine_versions; 0 is unlimited */
    bool instance_recreate;        /* storage.allow_instance_recreate */
    bool flush_all;                /* storage.allow_flush_all */
    uint64_t change_log_bytes;     /* storage.change_log_mb; 0 is unlimited */
    kt_time_ms change_log_ms;      /* storage.change_log_hours; 0 is unlimited */
};

struct kt_engine {
    uint8_t id; /* 1..255, appended, never reused */
    const char *name;
    const struct kt_command *const *commands;
    size_t command_count;
    const struct kt_op_kind *const *ops;
    size_t op_count;
    /* Opens keyspaces (kt_store_space) and whatever is kept in memory. */
    enum kt_code (*open)(struct kt_store *store, const struct kt_engine_options *options, void **state,
                         struct kt_error *error);
    void (*close)(void *state);
    /*
     * Background work, asked of the leader in a read transaction: appends one encoded operation (or nothing) that the
     * leader proposes. now_ms is the wall time, but never before the replicated time. *next_ms is when it will be asked
     * again, a second from now; an engine that has something to do sooner lowers it. With an operation it is not asked
     * before that one is done. May be NULL.
     */
    enum kt_code (*tick)(void *state, struct kt_txn *txn, kt_time_ms now_ms, struct kt_buf *op, kt_time_ms *next_ms);
    /* Counters for INFO and status: adds members to an open JSON object. May be NULL. */
    enum kt_code (*stats)(void *state, struct kt_txn *txn, struct kt_reply *out);
};

#endif
