/*
 * The commands about the change log: reading it, watching it, cutting it off; and FLUSH_ALL. Parameters, and prepare
 * where there is something to prepare.
 */
#include "engines/machine/machine_internal.h"

#define MEMBER(type, member) offsetof(struct type, member)

static const struct kt_field instance_fields[] = {
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_instance_params, instance_id),
     KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY, MACHINE_ID_BYTES_MAX, "The instance."},
};

static const struct kt_field wal_read_fields[] = {
    {"from_offset", KT_FIELD_U64, MEMBER(kt_machine_wal_read_params, from_offset), KT_FIELD_REQUIRED, 0,
     "The first record with at least this offset begins the page."},
    {"limit", KT_FIELD_U64, MEMBER(kt_machine_wal_read_params, limit), 0, 0,
     "At most so many records, but an entry's records stay together; as many as fit one message if absent."},
    {"from_number", KT_FIELD_U64, MEMBER(kt_machine_wal_read_params, from_number), 0, KT_CHANGE_NUMBER_MAX,
     "Of the record within the entry at from_offset, as next_number of the page before says."},
};

static const struct kt_field compact_fields[] = {
    {"force_snapshot", KT_FIELD_BOOL, MEMBER(kt_machine_compact_params, force_snapshot), 0, 0,
     "Keep only the last two seconds of the change log, instead of the last minute."},
};

/* Both watches begin with the same rows, so that those have the same numbers. */
#define WATCH_INCLUDE_CTX                                                                                              \
    {                                                                                                                  \
        "include_ctx", KT_FIELD_BOOL, MEMBER(kt_machine_watch_params, include_ctx), 0, 0,                              \
            "Whether events carry the context; true if absent."                                                        \
    }
#define WATCH_FROM_OFFSET                                                                                              \
    {                                                                                                                  \
        "from_offset", KT_FIELD_U64, MEMBER(kt_machine_watch_params, from_offset), 0, 0,                               \
            "Begin with the events from this offset on, out of the change log."                                        \
    }
#define WATCH_FROM_NUMBER                                                                                              \
    {                                                                                                                  \
        "from_number", KT_FIELD_U64, MEMBER(kt_machine_watch_params, from_number), 0, KT_CHANGE_NUMBER_MAX,            \
            "Of the event within the entry at from_offset."                                                            \
    }

static const struct kt_field watch_instance_fields[] = {
    WATCH_INCLUDE_CTX,
    WATCH_FROM_OFFSET,
    WATCH_FROM_NUMBER,
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_watch_params, instance_id), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_ID_BYTES_MAX, "The instance."},
};

static const struct kt_field watch_all_fields[] = {
    WATCH_INCLUDE_CTX,
    WATCH_FROM_OFFSET,
    WATCH_FROM_NUMBER,
    {"machines", KT_FIELD_JSON, MEMBER(kt_machine_watch_params, machines), 0, 0,
     "Names of machines; any if absent or empty."},
    {"from_states", KT_FIELD_JSON, MEMBER(kt_machine_watch_params, from_states), 0, 0,
     "States before the event; any if absent or empty."},
    {"to_states", KT_FIELD_JSON, MEMBER(kt_machine_watch_params, to_states), 0, 0,
     "States after the event; any if absent or empty."},
    {"events", KT_FIELD_JSON, MEMBER(kt_machine_watch_params, events), 0, 0,
     "Names of events; any if absent or empty."},
};

static enum kt_code prepare_compact(const struct kt_call *call, const void *parameters, struct kt_buf *op,
                                    struct kt_reply *reply)
{
    const struct kt_machine_compact_params *params = parameters;
    struct machine_compact_op body = {
        .given = 1,
        .keep_ms = params->force_snapshot ? MACHINE_COMPACT_FORCE_KEEP_MS : MACHINE_COMPACT_KEEP_MS,
    };

    (void)call;
    return machine_encode(&machine_op_compact, &body, op, reply);
}

static enum kt_code prepare_flush(const struct kt_call *call, const void *params, struct kt_buf *op,
                                  struct kt_reply *reply)
{
    const struct machine *machine = call->state;
    struct machine_flush_op body = {.given = 0};

    (void)params;
    if (!machine->options.flush_all)
        return kt_reply_fail(reply, KT_BAD_REQUEST,
                             "FLUSH_ALL is disabled: the setting storage.allow_flush_all does not allow it");
    return machine_encode(&machine_op_flush, &body, op, reply);
}

static const enum kt_code no_errors[] = {KT_OK};
static const enum kt_code refusals[] = {KT_BAD_REQUEST, KT_OK};
static const enum kt_code instance_errors[] = {KT_INSTANCE_NOT_FOUND, KT_OK};

const struct kt_command machine_command_wal_read = {
    .name = "machine.wal_read",
    .wire = {.rcp = "WAL_READ"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_wal_read_params, wal_read_fields),
    .query = machine_wal_read_query,
    .scans = true,
    .errors = no_errors,
    .doc = "The change log: what every operation changed, in order.",
};

const struct kt_command machine_command_snapshot = {
    .name = "machine.snapshot_instance",
    .wire = {.rcp = "SNAPSHOT_INSTANCE"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_instance_params, instance_fields),
    .query = machine_snapshot_query,
    .errors = instance_errors,
    .doc = "Size and checksum of an instance's stored form. The store is a snapshot at all times: nothing is written.",
};

const struct kt_command machine_command_compact = {
    .name = "machine.compact",
    .wire = {.rcp = "COMPACT"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_ADMIN,
    .params = KT_STRUCT(struct kt_machine_compact_params, compact_fields),
    .prepare = prepare_compact,
    .errors = no_errors,
    .doc = "Cuts old changes off the change log, on every node. Machines, instances and kept answers stay as they are.",
};

const struct kt_command machine_command_flush = {
    .name = "machine.flush",
    .wire = {.rcp = "FLUSH_ALL"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_ADMIN,
    .params = {.size = sizeof(struct kt_machine_flush_params)},
    .prepare = prepare_flush,
    .errors = refusals,
    .doc = "Removes all machines, instances and kept answers, if storage.allow_flush_all is set.",
};

const struct kt_command machine_command_watch_instance = {
    .name = "machine.watch_instance",
    .wire = {.rcp = "WATCH_INSTANCE"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_watch_params, watch_instance_fields),
    .query = machine_watch_instance_query,
    .watches = true,
    .errors = instance_errors,
    .doc = "Begins to tell the events of one instance.",
};

const struct kt_command machine_command_watch_all = {
    .name = "machine.watch_all",
    .wire = {.rcp = "WATCH_ALL"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_watch_params, watch_all_fields),
    .query = machine_watch_all_query,
    .watches = true,
    .errors = refusals,
    .doc = "Begins to tell the events of all instances, or of those that pass the filters.",
};
