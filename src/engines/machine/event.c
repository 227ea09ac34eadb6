/*
 * APPLY_EVENT: one instance is read, judged and written back. The order of the checks is part of what clients see:
 * instance, repetition, expected state, expected offset, transition, guard.
 */
#include "engines/machine/event.h"

#include "engines/machine/catalog.h"
#include "engines/machine/idempotency.h"
#include "engines/machine/merge.h"
#include "engines/machine/timer.h"

static enum kt_code check_expectations(const struct kt_machine_event_params *op, const struct instance *instance,
                                       struct kt_reply *reply)
{
    if (KT_GIVEN(op, KT_MACHINE_EVENT_EXPECTED_STATE) && !kt_slice_equal(op->expected_state, instance->state))
        return fail_state(reply, op->expected_state, instance->state);
    if (KT_GIVEN(op, KT_MACHINE_EVENT_EXPECTED_WAL_OFFSET) && op->expected_wal_offset != instance->last_offset)
        return fail_offset(reply, op->expected_wal_offset, instance->last_offset);
    return KT_OK;
}

/*
 * The first transition whose guard holds for the context as it is before the merge: a payload cannot satisfy its own
 * guard. When all refuse, the first one is named.
 */
static enum kt_code choose(const struct definition *definition, const struct kt_machine_event_params *op,
                           const struct instance *instance, const struct definition_transition **chosen,
                           struct kt_reply *reply)
{
    const struct definition_transition *transition;
    uint64_t work_bytes = MACHINE_GUARD_WORK_BYTES_MAX;
    const struct definition_rule *rules;
    uint32_t count = definition_rules(definition, instance->state_at, op->event, &rules);

    if (count == 0)
        return fail_transition(reply, instance->state, op->event);
    for (uint32_t i = 0; i < count; i++) {
        transition = &definition->transitions[rules[i].transition];
        if (!transition->guard || guard_evaluate(transition->guard, instance->ctx, &work_bytes)) {
            *chosen = transition;
            return KT_OK;
        }
        if (work_bytes == 0)
            return kt_reply_fail(reply, KT_TOO_LARGE, "the guards look at more than %llu bytes of context",
                                 (unsigned long long)MACHINE_GUARD_WORK_BYTES_MAX);
    }
    transition = &definition->transitions[rules[0].transition];
    return fail_guard(reply, instance->state, transition->target_name, op->event, transition->guard_text);
}

/* The context after the event: the old one, or a merged one in machine->ctx. */
static enum kt_code merge(struct machine *machine, const struct kt_machine_event_params *op, struct kt_slice old,
                          struct kt_slice *ctx, struct kt_reply *reply)
{
    *ctx = old;
    if (op->payload.len <= 2) /* absent or {} */
        return KT_OK;
    merge_objects(old, op->payload, &machine->arena, &machine->ctx);
    *ctx = kt_buf_slice(&machine->ctx);
    if (kt_buf_code(&machine->ctx) == KT_OK)
        return KT_OK;
    if (kt_buf_code(&machine->ctx) == KT_TOO_LARGE)
        return kt_reply_fail(reply, KT_TOO_LARGE, "the context would be larger than %u bytes", MACHINE_CTX_BYTES_MAX);
    return KT_INTERNAL;
}

static void reply_event(struct kt_reply *reply, const struct kt_machine_event_params *op, const struct instance *before,
                        const struct instance *after)
{
    struct kt_json_writer writer;

    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_bool_member(&writer, "applied", true);
    kt_json_put_raw_member(&writer, "ctx", after->ctx);
    if (after->has_event_id)
        kt_json_put_string_member(&writer, "event_id", op->event_id);
    kt_json_put_string_member(&writer, "from_state", before->state);
    kt_json_put_string_member(&writer, "to_state", after->state);
    kt_json_put_u64_member(&writer, "wal_offset", after->last_offset);
    kt_json_end_object(&writer);
}

void event_take(const struct compiled *compiled, const struct definition_transition *transition,
                const struct kt_apply *apply, struct instance *instance)
{
    instance->state_at = transition->target;
    instance->state = compiled->definition.states[transition->target];
    instance->group = compiled->groups[transition->target];
    instance->updated_ms = apply->time_ms;
    instance->last_offset = apply->index;
}

enum kt_code event_write_begin(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                               struct event_write *write)
{
    struct kt_machine_change change = {
        .kind = KT_MACHINE_CHANGE_EVENT,
        .instance_id = write->id,
        .machine = write->before->machine,
        .version = write->before->version,
        .from_state = write->before->state,
        .to_state = write->after->state,
        .event = write->event,
        .payload = write->payload,
        .ctx = write->after->ctx,
        .has_event_id = write->after->has_event_id,
        .has_key = write->idempotency_key.len > 0,
        .event_id = write->after->event_id,
        .idempotency_key = write->idempotency_key,
    };

    instance_encode(write->after, &write->key, write->id, &machine->record);
    /* The record has room for the largest context and all names. */
    if (kt_buf_code(&machine->record) != KT_OK)
        return KT_INTERNAL;
    return kt_machine_change_write(&machine->changes, txn, apply, &change, &machine->change, write->change_key);
}

enum kt_code event_write_end(struct machine *machine, struct kt_txn *txn, const struct event_write *write)
{
    enum kt_code code =
        kt_txn_put(txn, machine->instances, kt_slice(write->key.bytes, write->key.len), kt_buf_slice(&machine->record));

    if (code == KT_OK)
        code = kt_change_put(&machine->changes, txn, write->change_key, &machine->change);
    if (code == KT_OK && write->after->group != write->before->group)
        code = instance_move(machine, txn, write->before, write->after->group);
    if (code == KT_OK)
        code = timers_replace(machine, txn, write->before, write->after, write->id);
    return code;
}

/* Decides what the instance becomes; writes nothing. */
static enum kt_code decide(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                           const struct kt_machine_event_params *op, const struct instance *before,
                           struct instance *after, struct kt_reply *reply)
{
    const struct definition_transition *transition = NULL;
    uint64_t hash = before->definition_hash;
    const struct compiled *compiled;
    enum kt_code code = check_expectations(op, before, reply);

    if (code != KT_OK)
        return code;
    code = catalog_compiled(machine, txn, before->machine_id, before->version, &hash, &compiled);
    if (code == KT_NOT_FOUND || (code == KT_OK && before->state_at >= compiled->definition.state_count))
        code = KT_CORRUPT; /* an instance has its definition */
    if (code != KT_OK)
        return code;
    if ((code = choose(&compiled->definition, op, before, &transition, reply)) != KT_OK)
        return code;
    *after = *before;
    if ((code = merge(machine, op, before->ctx, &after->ctx, reply)) != KT_OK)
        return code;
    event_take(compiled, transition, apply, after);
    timers_set(compiled, after, apply->time_ms, apply->time_ms);
    after->has_event_id = KT_GIVEN(op, KT_MACHINE_EVENT_EVENT_ID);
    after->event_id = op->event_id;
    return KT_OK;
}

enum kt_code machine_event_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                 struct kt_reply *reply)
{
    const struct kt_machine_event_params *op = body;
    struct machine *machine = state;
    struct idempotency_key once = {
        .operation = IDEMPOTENCY_EVENT, .instance = op->instance_id, .key = op->idempotency_key};
    struct event_write write = {
        .id = op->instance_id, .event = op->event, .payload = op->payload, .idempotency_key = op->idempotency_key};
    struct instance before, after;
    struct idempotency_slot slot;
    struct kt_error error;
    enum kt_code code;

    machine_begin(machine);
    if (kt_struct_check(&machine_op_event.body, op, &error) != KT_OK)
        return kt_reply_fail_error(reply, &error);
    code = instance_find(machine, txn, op->instance_id, &write.key, &before);
    if (code == KT_NOT_FOUND || (code == KT_OK && before.deleted))
        return fail_instance_not_found(reply, op->instance_id);
    if (code != KT_OK)
        return code;
    code = idempotency_find(machine, txn, apply, &once, &slot, reply);
    if (code != KT_NOT_FOUND)
        return code;
    if ((code = decide(machine, txn, apply, op, &before, &after, reply)) != KT_OK)
        return code;
    write.before = &before;
    write.after = &after;
    reply_event(reply, op, &before, &after);
    if (kt_buf_code(&reply->body) != KT_OK)
        return machine_buf_failed(&reply->body, reply);
    code = event_write_begin(machine, txn, apply, &write);
    if (code == KT_OK)
        code = event_write_end(machine, txn, &write);
    if (code == KT_OK)
        code = idempotency_keep(machine, txn, apply, &once, &slot, reply);
    return code;
}
