/*
 * A command is declared once, by the engine that carries it out; the gate, the protocols, metrics, documentation and
 * tests read the declaration.
 *
 * A write has prepare: it runs on the node that the client is connected to, checks everything that needs no state,
 * turns intention into effect as far as no clock is needed (generated ids, normalised definitions), and appends the
 * encoded operation. Whatever depends on time is decided in apply, by the time stamped on the entry. A read has query:
 * it runs in a read transaction that is as fresh as the request's read level asks.
 */
#ifndef KT_ENGINES_COMMAND_H
#define KT_ENGINES_COMMAND_H

#include "engines/field.h"
#include "engines/reply.h"

struct kt_txn;

enum kt_permission {
    KT_PERMISSION_READ = 1,
    KT_PERMISSION_WRITE = 2,
    KT_PERMISSION_ADMIN = 4,
};

enum kt_command_kind { KT_READ, KT_WRITE };

/* What prepare and query are given. */
struct kt_call {
    void *state;            /* the engine's, as its open made it */
    struct kt_arena *arena; /* the request's */
    struct kt_txn *txn;     /* query only */
    kt_time_ms now_ms;      /* query only: wall time at which the read is judged (expiry) */
    kt_index index;         /* query only: the applied index of what txn shows */
};

struct kt_command {
    const char *name; /* "machine.put" */
    struct {
        const char *rcp;     /* operation name, or NULL */
        uint16_t kv_a, kv_b; /* command ids of the two revisions, or 0 */
    } wire;
    enum kt_command_kind kind;
    enum kt_permission needs;
    struct kt_struct params;
    /* KT_OK, or a code with the reply filled by kt_reply_fail; op is empty before. */
    enum kt_code (*prepare)(const struct kt_call *call, const void *params, struct kt_buf *op, struct kt_reply *reply);
    enum kt_code (*query)(const struct kt_call *call, const void *params, struct kt_reply *reply);
    /*
     * Another command with the same parameters that carries the request out, as these parameters ask for it (a dry run
     * of a write is a read); NULL: this one does. May be NULL itself.
     */
    const struct kt_command *(*instead)(const void *params);
    bool scans;                 /* the query may look at many entries: it runs on the pool */
    bool watches;               /* its answer begins a subscription: the protocol goes on with dispatch/watch.h */
    const enum kt_code *errors; /* what it may answer besides the general codes; ends with KT_OK */
    const char *doc;
};

#endif
