/* What an event writes, whether a client sent it or a timer. */
#ifndef KT_ENGINES_MACHINE_EVENT_H
#define KT_ENGINES_MACHINE_EVENT_H

#include "engines/machine/instance.h"

/* One applied event. before's slices may be borrowed from the transaction; none is looked at after the first write. */
struct event_write {
    struct kt_slice id;
    struct instance_key key;
    const struct instance *before, *after;
    struct kt_slice event;
    struct kt_slice payload;                 /* empty: none */
    struct kt_slice idempotency_key;         /* empty: none */
    uint8_t change_key[KT_CHANGE_KEY_BYTES]; /* of its record in the change log; set by begin */
};

/* Lets the instance take a transition of its definition at the entry's time; context and event id stay as they are. */
void event_take(const struct compiled *compiled, const struct definition_transition *transition,
                const struct kt_apply *apply, struct instance *instance);
/* Encodes what is to be written, which is all in memory then. KT_INTERNAL: no memory; or the store's. Writes nothing.
 */
KT_MUST_USE enum kt_code event_write_begin(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                                           struct event_write *write);
/* Writes it. Only failures of the store. */
KT_MUST_USE enum kt_code event_write_end(struct machine *machine, struct kt_txn *txn, const struct event_write *write);

#endif
