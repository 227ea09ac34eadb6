/*
 * Instances in the store. A record holds everything that one event needs, so that an event reads one key:
 *
 *   u8 flags, then le64 definition's hash, varints: machine id, version, state (position in the definition), group,
 *   created index, created serial, created time, updated time, last offset; then strings: id (when the key has only
 *   its hash), machine name, state name, last event id, context. If it has timers (a flag says so) there follow their
 *   number and for each transition, due time and event.
 *
 * A deleted instance stays as a record without context, which remembers the offset of its deletion.
 */
#ifndef KT_ENGINES_MACHINE_INSTANCE_H
#define KT_ENGINES_MACHINE_INSTANCE_H

#include "engines/machine/machine_internal.h"

/* A timer that runs: of a transition of the definition that leaves the state (timer.h). */
struct instance_timer {
    uint32_t transition; /* position in the definition */
    kt_time_ms due_ms;   /* replicated time */
    struct kt_slice event;
};

/* The slices are borrowed: from the transaction when found, so they die with its next write. */
struct instance {
    bool deleted;
    bool has_event_id;
    uint32_t machine_id;
    uint32_t version;
    uint64_t definition_hash;
    uint32_t state_at; /* position in the definition's states */
    uint32_t group;
    kt_index created_index;
    uint32_t created_serial; /* apart from others created by the same entry */
    kt_time_ms created_ms;
    kt_time_ms updated_ms;
    kt_index last_offset; /* of its last event or its creation; when deleted, of its deletion */
    struct kt_slice machine;
    struct kt_slice state;
    struct kt_slice event_id;
    struct kt_slice ctx;
    uint32_t timer_count;
    struct instance_timer timers[MACHINE_TIMERS_MAX]; /* by transition */
};

/* Where an instance is stored, or would be: len 0 if there is no room for another id with the same hash. */
struct instance_key {
    uint8_t bytes[KT_STORE_KEY_MAX];
    size_t len;
    bool hashed;
};

/* The index of instances in the order of their creation, behind a number: group, machine, or none. */
#define INSTANCE_ORDER_BYTES 12
void instance_order(uint8_t out[INSTANCE_ORDER_BYTES], kt_index index, uint32_t serial);

/* KT_OK (also a deleted one), KT_NOT_FOUND with the key set, KT_CORRUPT, or the store's failure. Any thread. */
KT_MUST_USE enum kt_code instance_find(const struct machine *machine, struct kt_txn *txn, struct kt_slice id,
                                       struct instance_key *key, struct instance *instance);
/* The other way, of a record that was kept elsewhere. KT_OK or KT_CORRUPT. */
KT_MUST_USE enum kt_code instance_decode(struct kt_slice record, struct instance *instance);
/* Appends the record. id is that of the key. */
void instance_encode(const struct instance *instance, const struct instance_key *key, struct kt_slice id,
                     struct kt_buf *out);

/* Instances that are not deleted, of a machine ('m') or a group ('g'); 't' 0: definitions with timers. */
KT_MUST_USE enum kt_code instance_count(const struct machine *machine, struct kt_txn *txn, char kind, uint32_t number,
                                        uint64_t *count);
/* Writes: a count, up (by is 1) or down (-1). Also of definitions with timers ('t', number 0). */
KT_MUST_USE enum kt_code instance_add_count(struct machine *machine, struct kt_txn *txn, char kind, uint32_t number,
                                            int by);
/* Writes: moves an instance that stays between groups. */
KT_MUST_USE enum kt_code instance_move(struct machine *machine, struct kt_txn *txn, const struct instance *instance,
                                       uint32_t to_group);

#endif
