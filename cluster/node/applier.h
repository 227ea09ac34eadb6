/*
 * The applier's thread: applies committed entries to the state in order and commits the state's transaction when a
 * reader waits for it, when enough is uncommitted, or a few milliseconds after the first uncommitted entry. Results go
 * back before the commit: the log already holds the write. A failure to apply or commit ends the process.
 */
#ifndef KT_CLUSTER_NODE_APPLIER_H
#define KT_CLUSTER_NODE_APPLIER_H

#include "cluster/node/replica.h"
#include "engines/state.h"

struct kt_applier;

struct kt_applier_options {
    struct kt_state *state;
    struct kt_mailbox *mailbox; /* where the calls below run */
    void (*applied)(void *data, struct kt_apply_batch *batch);
    void (*visible)(void *data,
                    kt_index index); /* something more can be seen; may be told less often than it happens */
    void *data;
};

/* Applies one batch to the state: what the thread does, for whoever has none. Fatal codes only; error says which entry.
 */
KT_MUST_USE enum kt_code kt_apply_batch(struct kt_state *state, struct kt_apply_batch *batch, struct kt_error *error);

struct kt_applier *kt_applier_start(const struct kt_applier_options *options);
/* In order; one thread. */
void kt_applier_submit(struct kt_applier *applier, struct kt_apply_batch *batch);
/* Somebody waits to see the state up to index. Any thread. */
void kt_applier_want(struct kt_applier *applier, kt_index index);
/* Commit whenever nothing is left to apply, or a few milliseconds have passed. Any thread. */
void kt_applier_prompt(struct kt_applier *applier, bool prompt);
/* Applies what was submitted, commits and ends the thread. What it posted may still be in the mailbox. */
void kt_applier_stop(struct kt_applier *applier);
/* After the mailbox was drained. */
void kt_applier_free(struct kt_applier *applier);

#endif
