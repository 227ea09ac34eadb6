/*
 * What operations of this engine leave in the change log, and how it looks in WAL_READ. The topic of a record is the
 * instance; machines have none.
 *
 * Bodies: u8 flags, then varints and strings (writer.h) in the order of the members below that the kind has.
 */
#ifndef KT_ENGINES_MACHINE_CHANGE_H
#define KT_ENGINES_MACHINE_CHANGE_H

#include "engines/changes.h"
#include "wire/json.h"

/* Stored: appended, never reused. */
enum kt_machine_change_kind {
    KT_MACHINE_CHANGE_PUT = 1,
    KT_MACHINE_CHANGE_CREATE = 2,
    KT_MACHINE_CHANGE_EVENT = 3,
    KT_MACHINE_CHANGE_DELETE = 4,
    KT_MACHINE_CHANGE_FLUSH = 5,
    KT_MACHINE_CHANGE_MIGRATE = 6, /* one instance, to another version or back */
};

/* Slices are borrowed; what a kind does not have is empty. Contexts, payloads and definitions are canonical JSON text.
 */
struct kt_machine_change {
    enum kt_machine_change_kind kind;
    struct kt_slice instance_id; /* the topic */
    struct kt_slice machine;     /* put, create, event, delete, migrate */
    uint64_t version;            /* the same; migrate: the new one */
    uint64_t from_version;       /* migrate */
    struct kt_slice from_state;  /* event, migrate */
    struct kt_slice to_state;    /* event, migrate; create: the initial state */
    struct kt_slice event;       /* event */
    struct kt_slice payload;     /* event; empty if there was none */
    struct kt_slice ctx;         /* event: after the merge; create: the initial one; migrate: the new one */
    struct kt_slice definition;  /* put */
    uint64_t instances_removed, machines_removed; /* flush */
    bool has_event_id, has_key;
    struct kt_slice event_id;
    struct kt_slice idempotency_key;
};

/*
 * Begins the record (kt_change_begin) and appends the body. Reads only; the result is for kt_change_put. What goes in
 * has its own ceilings, so besides the store's failures only memory can be wanting: KT_INTERNAL.
 */
KT_MUST_USE enum kt_code kt_machine_change_write(const struct kt_changes *changes, struct kt_txn *txn,
                                                 const struct kt_apply *apply, const struct kt_machine_change *change,
                                                 struct kt_buf *record, uint8_t key[KT_CHANGE_KEY_BYTES]);
/* KT_OK; KT_NOT_FOUND: a record of another engine or of a kind that this version does not know; KT_CORRUPT. */
KT_MUST_USE enum kt_code kt_machine_change_read(const struct kt_change *change, struct kt_machine_change *out);

/*
 * The entry of a WAL_READ record (rstmdb.md 11.3) as one JSON object. brief: without payload, context and definition,
 * for a record that is larger than a message; it says so ("omitted": true).
 */
void kt_machine_change_print(const struct kt_change *record, const struct kt_machine_change *change, bool brief,
                             struct kt_json_writer *writer);

/* What a watch wants to see; empty lists want everything. Slices are borrowed. */
struct kt_machine_filter {
    struct kt_slice instance_id; /* empty: all instances */
    const struct kt_slice *machines, *from_states, *to_states, *events;
    size_t machine_count, from_state_count, to_state_count, event_count;
};

/* An applied event that the filter wants; *out is filled if so. Pure: any thread. */
bool kt_machine_filter_wants(const struct kt_machine_filter *filter, const struct kt_change *change,
                             struct kt_machine_change *out);

#endif
