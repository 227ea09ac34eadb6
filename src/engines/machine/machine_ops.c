/*
 * The operations as the log stores them. Rows and their order are a format on disk: rows are appended, and a changed
 * meaning takes a new operation. The limits are those of the commands; a body that breaks them was not written by
 * prepare and is refused as a result.
 */
#include "engines/machine/machine_internal.h"

#define MEMBER(type, member) offsetof(struct type, member)

static const struct kt_field put_rows[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(machine_put_op, machine), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_NAME_BYTES_MAX, "Name of the machine."},
    {"version", KT_FIELD_U64, MEMBER(machine_put_op, version), KT_FIELD_REQUIRED, MACHINE_VERSION_MAX, "Its version."},
    {"definition", KT_FIELD_JSON_OBJECT, MEMBER(machine_put_op, definition), KT_FIELD_REQUIRED,
     MACHINE_DEFINITION_BYTES_MAX, "Its normal form."},
    {"versions_max", KT_FIELD_U64, MEMBER(machine_put_op, versions_max), KT_FIELD_REQUIRED, 0,
     "Versions that a machine may have; 0: any number."},
};

static const struct kt_field create_rows[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(machine_create_op, machine), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_NAME_BYTES_MAX, "Name of the machine."},
    {"version", KT_FIELD_U64, MEMBER(machine_create_op, version), KT_FIELD_REQUIRED, MACHINE_VERSION_MAX,
     "Version of its definition."},
    {"instance_id", KT_FIELD_TEXT, MEMBER(machine_create_op, instance_id), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_ID_BYTES_MAX, "The new instance."},
    {"generated", KT_FIELD_BOOL, MEMBER(machine_create_op, generated), KT_FIELD_REQUIRED, 0,
     "The id was made for the client."},
    {"initial_ctx", KT_FIELD_JSON_OBJECT, MEMBER(machine_create_op, initial_ctx), KT_FIELD_REQUIRED,
     MACHINE_CTX_BYTES_MAX, "The context to begin with."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(machine_create_op, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     "Empty: none."},
    {"recreate", KT_FIELD_BOOL, MEMBER(machine_create_op, recreate), KT_FIELD_REQUIRED, 0,
     "A deleted instance's id may be taken."},
};

static const struct kt_field delete_rows[] = {
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_delete_params, instance_id),
     KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY, MACHINE_ID_BYTES_MAX, "The instance."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(kt_machine_delete_params, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     "Empty: none."},
};

static const struct kt_field event_rows[] = {
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, instance_id), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_ID_BYTES_MAX, "The instance."},
    {"event", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, event), KT_FIELD_REQUIRED, MACHINE_ID_BYTES_MAX,
     "What happened."},
    {"payload", KT_FIELD_JSON_OBJECT, MEMBER(kt_machine_event_params, payload), 0, MACHINE_CTX_BYTES_MAX,
     "What is merged into the context."},
    {"expected_state", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, expected_state), 0, 0,
     "The state it must be in."},
    {"expected_wal_offset", KT_FIELD_U64, MEMBER(kt_machine_event_params, expected_wal_offset), 0, 0,
     "The offset it must be at."},
    {"event_id", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, event_id), 0, MACHINE_ID_BYTES_MAX,
     "The caller's name for the event."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     "Empty: none."},
};

static const struct kt_field forget_rows[] = {
    {"max", KT_FIELD_U64, MEMBER(machine_forget_op, max), KT_FIELD_REQUIRED, 0, "Kept answers removed at most."},
};

static const struct kt_field trim_rows[] = {
    {"before", KT_FIELD_U64, MEMBER(machine_trim_op, before), KT_FIELD_REQUIRED, 0,
     "What the change log keeps begins at this index."},
    {"max", KT_FIELD_U64, MEMBER(machine_trim_op, max), KT_FIELD_REQUIRED, 0, "Changes removed at most."},
};

static const struct kt_field compact_rows[] = {
    {"keep_ms", KT_FIELD_U64, MEMBER(machine_compact_op, keep_ms), KT_FIELD_REQUIRED, 0,
     "Changes that are younger stay."},
};

static const struct kt_field batch_rows[] = {
    {"atomic", KT_FIELD_BOOL, MEMBER(machine_batch_op, atomic), KT_FIELD_REQUIRED, 0, "All or nothing."},
    {"items", KT_FIELD_BYTES, MEMBER(machine_batch_op, items), KT_FIELD_REQUIRED, 0, "The operations."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(machine_batch_op, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     "Of the whole batch; empty: none."},
};

static const struct kt_field fire_rows[] = {
    {"max", KT_FIELD_U64, MEMBER(machine_fire_op, max), KT_FIELD_REQUIRED, 0, "Timers fired at most."},
};

static const struct kt_field migrate_rows[] = {
    {"migration", KT_FIELD_BYTES, MEMBER(machine_migrate_op, migration), KT_FIELD_REQUIRED, MACHINE_MIGRATION_BYTES_MAX,
     "The mapping."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(machine_migrate_op, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     "Empty: none."},
};

static const struct kt_field migration_step_rows[] = {
    {"migration", KT_FIELD_U64, MEMBER(machine_migration_step_op, migration), KT_FIELD_REQUIRED, 0, "Its id."},
    {"max", KT_FIELD_U64, MEMBER(machine_migration_step_op, max), KT_FIELD_REQUIRED, 0, "Instances at most."},
};

static const struct kt_field migration_end_rows[] = {
    {"migration", KT_FIELD_U64, MEMBER(machine_migration_end_op, migration), KT_FIELD_REQUIRED, 0, "Its id."},
    {"undo", KT_FIELD_BOOL, MEMBER(machine_migration_end_op, undo), KT_FIELD_REQUIRED, 0, "Undone; else confirmed."},
};

const struct kt_op_kind machine_op_put = {
    .code = MACHINE_OP_PUT,
    .name = "machine.put",
    .body = KT_STRUCT(struct machine_put_op, put_rows),
    .apply = machine_put_apply,
};

const struct kt_op_kind machine_op_create = {
    .code = MACHINE_OP_CREATE,
    .name = "machine.create_instance",
    .body = KT_STRUCT(struct machine_create_op, create_rows),
    .apply = machine_create_apply,
};

const struct kt_op_kind machine_op_delete = {
    .code = MACHINE_OP_DELETE,
    .name = "machine.delete_instance",
    .frees = true,
    .body = KT_STRUCT(struct kt_machine_delete_params, delete_rows),
    .apply = machine_delete_apply,
};

const struct kt_op_kind machine_op_event = {
    .code = MACHINE_OP_EVENT,
    .name = "machine.apply_event",
    .body = KT_STRUCT(struct kt_machine_event_params, event_rows),
    .apply = machine_event_apply,
};

const struct kt_op_kind machine_op_forget = {
    .code = MACHINE_OP_FORGET,
    .name = "machine.forget",
    .frees = true,
    .body = KT_STRUCT(struct machine_forget_op, forget_rows),
    .apply = machine_forget_apply,
};

const struct kt_op_kind machine_op_trim = {
    .code = MACHINE_OP_TRIM,
    .name = "machine.trim",
    .body = KT_STRUCT(struct machine_trim_op, trim_rows),
    .apply = machine_trim_apply,
};

const struct kt_op_kind machine_op_compact = {
    .code = MACHINE_OP_COMPACT,
    .name = "machine.compact",
    .body = KT_STRUCT(struct machine_compact_op, compact_rows),
    .apply = machine_compact_apply,
};

const struct kt_op_kind machine_op_flush = {
    .code = MACHINE_OP_FLUSH,
    .name = "machine.flush",
    .body = {.size = sizeof(struct machine_flush_op)},
    .apply = machine_flush_apply,
};

const struct kt_op_kind machine_op_batch = {
    .code = MACHINE_OP_BATCH,
    .name = "machine.batch",
    .body = KT_STRUCT(struct machine_batch_op, batch_rows),
    .apply = machine_batch_apply,
};

const struct kt_op_kind machine_op_fire = {
    .code = MACHINE_OP_FIRE,
    .name = "machine.fire",
    .body = KT_STRUCT(struct machine_fire_op, fire_rows),
    .apply = machine_fire_apply,
};

const struct kt_op_kind machine_op_migrate = {
    .code = MACHINE_OP_MIGRATE,
    .name = "machine.migrate",
    .body = KT_STRUCT(struct machine_migrate_op, migrate_rows),
    .apply = machine_migrate_apply,
};

const struct kt_op_kind machine_op_migration_step = {
    .code = MACHINE_OP_MIGRATION_STEP,
    .name = "machine.migration_step",
    .body = KT_STRUCT(struct machine_migration_step_op, migration_step_rows),
    .apply = machine_migration_step_apply,
};

const struct kt_op_kind machine_op_migration_end = {
    .code = MACHINE_OP_MIGRATION_END,
    .name = "machine.migration_end",
    .body = KT_STRUCT(struct machine_migration_end_op, migration_end_rows),
    .apply = machine_migration_end_apply,
};

const struct kt_op_kind *const machine_ops[MACHINE_OP_COUNT] = {
    &machine_op_put,     &machine_op_create,         &machine_op_delete,        &machine_op_event,   &machine_op_forget,
    &machine_op_batch,   &machine_op_fire,           &machine_op_trim,          &machine_op_compact, &machine_op_flush,
    &machine_op_migrate, &machine_op_migration_step, &machine_op_migration_end,
};
