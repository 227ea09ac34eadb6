/*
 * Sessions: what makes a repeated request answer its first result instead of happening again. Internal to engines/.
 *
 * A session is the sequence of requests of one origin. Keyspace "session": origin -> {done_below, cleaned_below, minute
 * of last use}, origin|sequence -> encoded reply of that request. Keyspace "session_idle": minute|origin -> nothing, so
 * that the session that waited longest is found first. Numbers in keys are big-endian.
 *
 * Invariants: 1. A session's record exists as long as any of its replies does. 2. No reply below cleaned_below exists;
 * none at or above done_below was ever removed while its session lives. 3. Every session has exactly one row in
 * session_idle, with its minute. 4. All of it follows from the entries alone, whatever the commits and restarts between
 * them: equal on every node. 5. The operations of an origin take effect in the order of their sequence.
 *
 * The common request costs two look-ups and one put: the session's record is written, and replies are removed, only
 * when enough requests are done or a minute has passed.
 */
#ifndef KT_ENGINES_SESSIONS_H
#define KT_ENGINES_SESSIONS_H

#include "engines/op.h"
#include "engines/reply.h"
#include "store/store.h"

#define KT_SESSION_IDLE_MINUTES 60 /* of replicated time: far beyond any deadline of a request */
#define KT_SESSION_REMOVE_MAX   64 /* replies removed with one operation: bounds its cost */
#define KT_SESSION_STEP         32 /* requests done before the session's record is written again */

struct kt_sessions {
    kt_space records;
    kt_space idle;
    struct kt_buf scratch; /* an encoded reply */
};

/* A session as one operation finds it; made by kt_sessions_find for kt_sessions_keep. */
struct kt_session {
    bool known;
    uint64_t done_below;
    uint64_t cleaned_below;
    uint64_t minute;
};

KT_MUST_USE enum kt_code kt_sessions_open(struct kt_sessions *sessions, struct kt_store *store, struct kt_error *error);
void kt_sessions_close(struct kt_sessions *sessions);

/*
 * Before an operation: whether it was carried out already. Then *answered is true and the reply is the first one, or
 * KT_STALE if that is gone. An operation that was not, while a later one of its origin was, is never carried out any
 * more: *answered is true and the reply KT_UNAVAILABLE, without an offset. op->origin is not 0. What comes back
 * otherwise is fatal.
 */
KT_MUST_USE enum kt_code kt_sessions_find(struct kt_sessions *sessions, struct kt_txn *txn, const struct kt_op *op,
                                          struct kt_session *session, struct kt_reply *reply, bool *answered);
/* After it: keeps the reply, forgets what the origin has. Anything but KT_OK is fatal. */
KT_MUST_USE enum kt_code kt_sessions_keep(struct kt_sessions *sessions, struct kt_txn *txn, const struct kt_op *op,
                                          const struct kt_session *session, kt_time_ms time_ms,
                                          const struct kt_reply *reply);
/* Removes a piece of the session that was idle longest, if it was idle long enough. Anything but KT_OK is fatal. */
KT_MUST_USE enum kt_code kt_sessions_sweep(struct kt_sessions *sessions, struct kt_txn *txn, kt_time_ms time_ms);

#endif
