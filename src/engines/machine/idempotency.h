/*
 * Answers kept for repeated requests: the first successful answer to (operation, instance, idempotency key) is given to
 * every repetition for 24 hours of replicated time, word for word, offset included. Failures are not kept. Deleting an
 * instance does not end its keys. An empty key is none: such a request is always carried out.
 *
 * The answers are stored in the order of their entries, which is the order of their time: the oldest go first, some
 * with every new one and some by machine.forget.
 */
#ifndef KT_ENGINES_MACHINE_IDEMPOTENCY_H
#define KT_ENGINES_MACHINE_IDEMPOTENCY_H

#include "engines/machine/machine_internal.h"

/* Stored: appended, never reused. */
enum idempotency_operation {
    IDEMPOTENCY_CREATE = 1,
    IDEMPOTENCY_DELETE = 2,
    IDEMPOTENCY_EVENT = 3,
    IDEMPOTENCY_BATCH = 4,
    IDEMPOTENCY_MIGRATE = 5,
};

struct idempotency_key {
    enum idempotency_operation operation;
    struct kt_slice instance; /* empty if the request named none */
    struct kt_slice key;
};

#define IDEMPOTENCY_ANSWER_KEY_BYTES 12

/* What looking found out, for keeping. */
struct idempotency_slot {
    uint8_t hash[16];
    uint8_t answers[MACHINE_REPLY_BUCKET_MAX][IDEMPOTENCY_ANSWER_KEY_BYTES]; /* under the hash, without the expired */
    unsigned count;
    bool expired; /* one of this key was, and is to go */
    uint8_t expired_answer[IDEMPOTENCY_ANSWER_KEY_BYTES];
};

/*
 * Reads only. KT_OK: a repetition, the reply is the first one's. KT_NOT_FOUND: carry it out, then keep. Else a failure:
 * of the store, or KT_TOO_LARGE in the reply when too many keys share one hash.
 */
KT_MUST_USE enum kt_code idempotency_find(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                                          const struct idempotency_key *key, struct idempotency_slot *slot,
                                          struct kt_reply *reply);
/* Writes: keeps a success, and drops a few old answers. Uses machine->record. Without a key nothing. */
KT_MUST_USE enum kt_code idempotency_keep(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                                          const struct idempotency_key *key, const struct idempotency_slot *slot,
                                          const struct kt_reply *reply);
/* There is an answer to forget at that time. Any thread. */
KT_MUST_USE enum kt_code idempotency_expired(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms,
                                             bool *expired);

#endif
