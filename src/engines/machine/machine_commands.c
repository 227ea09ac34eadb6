/*
 * The commands as clients see them: parameters, and prepare, which turns an intention into an operation. What prepare
 * decides by this node's settings travels in the operation, so that every node applies the same.
 */
#include "base/random.h"
#include "engines/machine/machine_internal.h"

#define MEMBER(type, member) offsetof(struct type, member)

static const char doc_key[] = "A repetition with the same key within 24 hours gets the first answer.";

static const struct kt_field put_fields[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(kt_machine_put_params, machine), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_NAME_BYTES_MAX, "Name of the machine."},
    {"version", KT_FIELD_U64, MEMBER(kt_machine_put_params, version), KT_FIELD_REQUIRED, MACHINE_VERSION_MAX,
     "Version of the definition; versions need not follow each other."},
    {"definition", KT_FIELD_JSON_OBJECT, MEMBER(kt_machine_put_params, definition), KT_FIELD_REQUIRED | KT_FIELD_SORTED,
     MACHINE_DEFINITION_BYTES_MAX, "States, initial state and transitions."},
    {"checksum", KT_FIELD_TEXT, MEMBER(kt_machine_put_params, checksum), 0, MACHINE_ID_BYTES_MAX,
     "Accepted and ignored."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(kt_machine_put_params, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     "Accepted; putting the same definition again changes nothing in any case."},
};

static const struct kt_field get_fields[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(kt_machine_get_params, machine), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY, 0,
     "Name of the machine."},
    {"version", KT_FIELD_U64, MEMBER(kt_machine_get_params, version), 0, 0, "The highest one if absent."},
};

static const struct kt_field list_fields[] = {
    {"limit", KT_FIELD_U64, MEMBER(kt_machine_list_params, limit), 0, 0, "At most so many machines; all if absent."},
    {"offset", KT_FIELD_U64, MEMBER(kt_machine_list_params, offset), 0, 0, "Machines to pass over."},
};

static const struct kt_field create_fields[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(kt_machine_create_params, machine), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_NAME_BYTES_MAX, "Name of the machine."},
    {"version", KT_FIELD_U64, MEMBER(kt_machine_create_params, version), KT_FIELD_REQUIRED, MACHINE_VERSION_MAX,
     "Version of its definition; an instance keeps it for life."},
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_create_params, instance_id), KT_FIELD_NON_EMPTY,
     MACHINE_ID_BYTES_MAX, "A random UUID if absent."},
    {"initial_ctx", KT_FIELD_JSON_OBJECT, MEMBER(kt_machine_create_params, initial_ctx), 0, MACHINE_CTX_BYTES_MAX,
     "The context to begin with; empty if absent."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(kt_machine_create_params, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     doc_key},
};

static const struct kt_field instance_fields[] = {
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_instance_params, instance_id),
     KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY, MACHINE_ID_BYTES_MAX, "The instance."},
};

static const struct kt_field instances_fields[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(kt_machine_instances_params, machine), 0, 0, "Only instances of this machine."},
    {"state", KT_FIELD_TEXT, MEMBER(kt_machine_instances_params, state), 0, 0, "Only instances in this state."},
    {"limit", KT_FIELD_U64, MEMBER(kt_machine_instances_params, limit), 0, 0,
     "At most so many; 100 if absent, more than 1000 is 1000."},
    {"offset", KT_FIELD_U64, MEMBER(kt_machine_instances_params, offset), 0, 0, "Instances to pass over."},
};

static const struct kt_field delete_fields[] = {
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_delete_params, instance_id),
     KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY, MACHINE_ID_BYTES_MAX, "The instance."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(kt_machine_delete_params, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     doc_key},
};

static const struct kt_field event_fields[] = {
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, instance_id), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_ID_BYTES_MAX, "The instance."},
    {"event", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, event), KT_FIELD_REQUIRED, MACHINE_ID_BYTES_MAX,
     "What happened."},
    {"payload", KT_FIELD_JSON_OBJECT, MEMBER(kt_machine_event_params, payload), 0, MACHINE_CTX_BYTES_MAX,
     "Its members become members of the context."},
    {"expected_state", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, expected_state), 0, 0,
     "Refused unless the instance is in this state."},
    {"expected_wal_offset", KT_FIELD_U64, MEMBER(kt_machine_event_params, expected_wal_offset), 0, 0,
     "Refused unless this is the instance's last offset."},
    {"event_id", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, event_id), 0, MACHINE_ID_BYTES_MAX,
     "The caller's name for the event; answered and remembered."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(kt_machine_event_params, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     doc_key},
};

static const struct kt_field batch_fields[] = {
    {"mode", KT_FIELD_TEXT, MEMBER(kt_machine_batch_params, mode), 0, 0,
     "\"atomic\": all or nothing. \"best_effort\", the default: each operation for itself."},
    {"ops", KT_FIELD_JSON, MEMBER(kt_machine_batch_params, ops), 0, 0,
     "At most 100 operations, each {\"op\":...,\"params\":{...}}."},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(kt_machine_batch_params, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     "Of the whole batch; the operations may have their own."},
};

static const struct kt_field explain_fields[] = {
    {"instance_id", KT_FIELD_TEXT, MEMBER(kt_machine_explain_params, instance_id),
     KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY, MACHINE_ID_BYTES_MAX, "The instance."},
    {"event", KT_FIELD_TEXT, MEMBER(kt_machine_explain_params, event), KT_FIELD_REQUIRED, MACHINE_ID_BYTES_MAX,
     "What would happen."},
    {"payload", KT_FIELD_JSON_OBJECT, MEMBER(kt_machine_explain_params, payload), 0, MACHINE_CTX_BYTES_MAX,
     "What would come with it."},
};

/* All rows of an operation's body are given. */
#define ALL_GIVEN(kind) ((UINT64_C(1) << (kind).body.count) - 1)

enum kt_code machine_encode(const struct kt_op_kind *kind, const void *body, struct kt_buf *op, struct kt_reply *reply)
{
    kt_op_begin(op, kind->code);
    kt_struct_encode(&kind->body, body, op);
    if (kt_buf_code(op) == KT_OK)
        return KT_OK;
    return kt_reply_fail(reply, kt_buf_code(op), "the request does not fit a log entry of %zu bytes", op->max);
}

static enum kt_code prepare_put(const struct kt_call *call, const void *parameters, struct kt_buf *op,
                                struct kt_reply *reply)
{
    const struct kt_machine_put_params *params = parameters;
    const struct machine *machine = call->state;
    struct machine_put_op body = {
        .given = ALL_GIVEN(machine_op_put),
        .machine = params->machine,
        .version = params->version,
        .versions_max = machine->options.machine_versions_max,
    };
    struct definition definition;
    struct kt_buf normal_form;
    struct kt_error error;
    enum kt_code code = definition_read(params->definition, call->arena, &definition, &error);

    if (code != KT_OK)
        return fail_definition(reply, &error, &definition.fault);
    kt_buf_init(&normal_form, MACHINE_DEFINITION_BYTES_MAX);
    definition_print(&definition, &normal_form);
    body.definition = kt_buf_slice(&normal_form);
    if (kt_buf_code(&normal_form) == KT_OK)
        code = machine_encode(&machine_op_put, &body, op, reply);
    else if (kt_buf_code(&normal_form) == KT_TOO_LARGE)
        code = kt_reply_fail(reply, KT_BAD_REQUEST, "invalid machine definition: more than %u bytes in its normal form",
                             MACHINE_DEFINITION_BYTES_MAX);
    else
        code = kt_reply_fail(reply, kt_buf_code(&normal_form), "no memory for the definition");
    kt_buf_release(&normal_form);
    return code;
}

static enum kt_code prepare_create(const struct kt_call *call, const void *parameters, struct kt_buf *op,
                                   struct kt_reply *reply)
{
    const struct kt_machine_create_params *params = parameters;
    const struct machine *machine = call->state;
    struct machine_create_op body = {
        .given = ALL_GIVEN(machine_op_create),
        .machine = params->machine,
        .version = params->version,
        .instance_id = params->instance_id,
        .initial_ctx = params->initial_ctx,
        .idempotency_key = params->idempotency_key,
        .recreate = machine->options.instance_recreate,
    };
    char uuid[37];

    if (!KT_GIVEN(params, KT_MACHINE_CREATE_INSTANCE_ID)) {
        kt_uuid(uuid);
        body.instance_id = kt_slice_text(uuid);
        body.generated = true;
    }
    if (!KT_GIVEN(params, KT_MACHINE_CREATE_INITIAL_CTX))
        body.initial_ctx = kt_slice_text("{}");
    return machine_encode(&machine_op_create, &body, op, reply);
}

static enum kt_code prepare_delete(const struct kt_call *call, const void *params, struct kt_buf *op,
                                   struct kt_reply *reply)
{
    (void)call;
    return machine_encode(&machine_op_delete, params, op, reply);
}

static enum kt_code prepare_event(const struct kt_call *call, const void *params, struct kt_buf *op,
                                  struct kt_reply *reply)
{
    (void)call;
    return machine_encode(&machine_op_event, params, op, reply);
}

static const enum kt_code put_errors[] = {KT_BAD_REQUEST, KT_MACHINE_EXISTS, KT_MACHINE_LIMIT, KT_OK};
static const enum kt_code get_errors[] = {KT_MACHINE_NOT_FOUND, KT_OK};
static const enum kt_code list_errors[] = {KT_TOO_LARGE, KT_OK};
static const enum kt_code create_errors[] = {KT_MACHINE_NOT_FOUND, KT_INSTANCE_EXISTS, KT_TOO_LARGE, KT_OK};
static const enum kt_code instance_errors[] = {KT_INSTANCE_NOT_FOUND, KT_OK};
static const enum kt_code delete_errors[] = {KT_INSTANCE_NOT_FOUND, KT_TOO_LARGE, KT_OK};
static const enum kt_code event_errors[] = {
    KT_INSTANCE_NOT_FOUND, KT_CONFLICT, KT_INVALID_TRANSITION, KT_GUARD_FAILED, KT_TOO_LARGE, KT_OK,
};

static const enum kt_code batch_errors[] = {KT_TOO_LARGE, KT_OK};

static const struct kt_command put_command = {
    .name = "machine.put",
    .wire = {.rcp = "PUT_MACHINE"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_WRITE,
    .params = KT_STRUCT(struct kt_machine_put_params, put_fields),
    .prepare = prepare_put,
    .errors = put_errors,
    .doc = "Stores a version of a machine's definition. Versions never change; the same definition again is no error.",
};

static const struct kt_command get_command = {
    .name = "machine.get",
    .wire = {.rcp = "GET_MACHINE"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_get_params, get_fields),
    .query = machine_get_query,
    .errors = get_errors,
    .doc = "A machine's definition in its normal form, and its checksum.",
};

static const struct kt_command list_command = {
    .name = "machine.list",
    .wire = {.rcp = "LIST_MACHINES"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_list_params, list_fields),
    .query = machine_list_query,
    .scans = true,
    .errors = list_errors,
    .doc = "The machines by name, with their versions.",
};

static const struct kt_command create_command = {
    .name = "machine.create_instance",
    .wire = {.rcp = "CREATE_INSTANCE"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_WRITE,
    .params = KT_STRUCT(struct kt_machine_create_params, create_fields),
    .prepare = prepare_create,
    .errors = create_errors,
    .doc = "Makes an instance of a machine, in its initial state.",
};

static const struct kt_command instance_command = {
    .name = "machine.get_instance",
    .wire = {.rcp = "GET_INSTANCE"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_instance_params, instance_fields),
    .query = machine_instance_query,
    .errors = instance_errors,
    .doc = "An instance's state and context.",
};

static const struct kt_command instances_command = {
    .name = "machine.list_instances",
    .wire = {.rcp = "LIST_INSTANCES"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_instances_params, instances_fields),
    .query = machine_instances_query,
    .scans = true,
    .errors = list_errors,
    .doc = "Instances in the order of their creation, by machine and state.",
};

static const struct kt_command delete_command = {
    .name = "machine.delete_instance",
    .wire = {.rcp = "DELETE_INSTANCE"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_WRITE,
    .params = KT_STRUCT(struct kt_machine_delete_params, delete_fields),
    .prepare = prepare_delete,
    .errors = delete_errors,
    .doc = "Deletes an instance. Deleting it again is no error and answers the first deletion's offset.",
};

static const struct kt_command event_command = {
    .name = "machine.apply_event",
    .wire = {.rcp = "APPLY_EVENT"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_WRITE,
    .params = KT_STRUCT(struct kt_machine_event_params, event_fields),
    .prepare = prepare_event,
    .errors = event_errors,
    .doc = "Takes an instance along the transition for an event, if its guard holds, and merges the payload.",
};

static const struct kt_command batch_command = {
    .name = "machine.batch",
    .wire = {.rcp = "BATCH"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_WRITE,
    .params = KT_STRUCT(struct kt_machine_batch_params, batch_fields),
    .prepare = machine_batch_prepare,
    .errors = batch_errors,
    .doc = "Carries out several operations in order, as one entry of the log.",
};

static const struct kt_command explain_command = {
    .name = "machine.explain_event",
    .wire = {.rcp = "EXPLAIN_EVENT"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_explain_params, explain_fields),
    .query = machine_explain_query,
    .scans = true,
    .errors = instance_errors,
    .doc = "What an event would do to an instance, and why: transitions tried, guards and the values they look at.",
};

const struct kt_command *const machine_commands[MACHINE_COMMAND_COUNT] = {
    &put_command,
    &get_command,
    &list_command,
    &create_command,
    &instance_command,
    &instances_command,
    &delete_command,
    &event_command,
    &batch_command,
    &explain_command,
    &machine_migrate_command,
    &machine_undo_command,
    &machine_confirm_command,
    &machine_migration_command,
    &machine_migrations_command,
    &machine_command_wal_read,
    &machine_command_snapshot,
    &machine_command_compact,
    &machine_command_flush,
    &machine_command_watch_instance,
    &machine_command_watch_all,
};
