/*
 * EXPLAIN_EVENT: what an event would do to an instance, and why. The transitions that leave the instance's state on the
 * event are gone through as APPLY_EVENT does; nothing is written. Reading only, on the pool: the definition is compiled
 * for the question alone, since the memory of compiled ones is the applier's.
 */
#include "engines/machine/catalog.h"
#include "engines/machine/instance.h"
#include "engines/machine/merge.h"

/* A value longer than this is told by its size: an explanation is read by people. */
#define VALUE_SHOWN_BYTES 1024u

struct explaining {
    const struct kt_machine_explain_params *params;
    const struct instance *instance;
    const struct definition *definition;
    const struct definition_transition *taken; /* NULL: none so far */
    uint32_t tried;
    bool gave_up;         /* the guards look at more context than an event may */
    uint64_t work_bytes;  /* left for guards, as for the event itself */
    uint64_t shown_bytes; /* left for looking up what they looked at */
    struct kt_json_writer *writer;
};

static bool was_named(const struct guard *guard, size_t at)
{
    struct kt_slice path = guard_field(guard, at);

    for (size_t i = 0; i < at; i++)
        if (kt_slice_equal(guard_field(guard, i), path))
            return true;
    return false;
}

/* The fields that a guard names, each once, with what the context holds there. */
static void put_fields(struct explaining *explaining, const struct guard *guard)
{
    struct kt_json_writer *writer = explaining->writer;
    size_t count = guard_field_count(guard);

    kt_json_put_key(writer, "fields");
    kt_json_begin_array(writer);
    for (size_t i = 0; i < count; i++) {
        struct kt_slice path = guard_field(guard, i), value;

        if (was_named(guard, i))
            continue;
        if (!guard_find(explaining->instance->ctx, path, &value, &explaining->shown_bytes))
            break;
        kt_json_begin_object(writer);
        if (value.len > VALUE_SHOWN_BYTES)
            kt_json_put_u64_member(writer, "bytes", value.len);
        kt_json_put_string_member(writer, "field", path);
        if (value.len <= VALUE_SHOWN_BYTES)
            kt_json_put_raw_member(writer, "value", value);
        kt_json_end_object(writer);
    }
    kt_json_end_array(writer);
}

static const char *judge(struct explaining *explaining, const struct definition_transition *transition)
{
    if (explaining->taken || explaining->gave_up)
        return "not_tried";
    explaining->tried++;
    if (!transition->guard || guard_evaluate(transition->guard, explaining->instance->ctx, &explaining->work_bytes)) {
        explaining->taken = transition;
        return "taken";
    }
    explaining->gave_up = explaining->work_bytes == 0;
    return explaining->gave_up ? "not_decided" : "guard_failed";
}

static void put_transitions(struct explaining *explaining)
{
    struct kt_json_writer *writer = explaining->writer;
    const struct definition_rule *rules;
    uint32_t count =
        definition_rules(explaining->definition, explaining->instance->state_at, explaining->params->event, &rules);

    kt_json_put_key(writer, "transitions");
    kt_json_begin_array(writer);
    for (uint32_t i = 0; i < count && kt_buf_code(writer->out) == KT_OK; i++) {
        const struct definition_transition *transition = &explaining->definition->transitions[rules[i].transition];
        const char *result = judge(explaining, transition);

        kt_json_begin_object(writer);
        if (transition->guard) {
            put_fields(explaining, transition->guard);
            kt_json_put_string_member(writer, "guard", transition->guard_text);
        }
        kt_json_put_text_member(writer, "result", result);
        kt_json_put_string_member(writer, "to", transition->target_name);
        kt_json_put_u64_member(writer, "transition", rules[i].transition);
        kt_json_end_object(writer);
    }
    kt_json_end_array(writer);
}

/* The events that the state has transitions for: what could be sent instead. */
static void put_events(struct explaining *explaining)
{
    const struct definition *definition = explaining->definition;
    const struct kt_slice *last = NULL;

    kt_json_put_key(explaining->writer, "events");
    kt_json_begin_array(explaining->writer);
    for (uint32_t i = 0; i < definition->rule_count; i++) {
        const struct kt_slice *event = &definition->transitions[definition->rules[i].transition].event;

        if (definition->rules[i].source != explaining->instance->state_at || (last && kt_slice_equal(*last, *event)))
            continue;
        kt_json_put_string(explaining->writer, *event);
        last = event;
    }
    kt_json_end_array(explaining->writer);
}

static const char *outcome_of(const struct explaining *explaining, enum kt_code merged)
{
    if (explaining->gave_up)
        return "TOO_LARGE";
    if (!explaining->taken)
        return explaining->tried > 0 ? "GUARD_FAILED" : "INVALID_TRANSITION";
    return merged == KT_TOO_LARGE ? "TOO_LARGE" : "APPLIED";
}

/* Members in the order of their names; the transitions are judged first, into text of their own. */
static enum kt_code put_explanation(struct explaining *explaining, struct kt_arena *arena, struct kt_reply *reply)
{
    const struct instance *instance = explaining->instance;
    struct kt_json_writer writer, transitions;
    struct kt_buf judged, ctx;
    const char *outcome;
    enum kt_code code;

    kt_buf_init(&judged, KT_REPLY_BYTES_MAX);
    kt_buf_init(&ctx, MACHINE_CTX_BYTES_MAX);
    kt_json_writer_init(&transitions, &judged);
    kt_json_begin_object(&transitions);
    explaining->writer = &transitions;
    put_transitions(explaining);
    if (explaining->taken)
        merge_objects(instance->ctx, explaining->params->payload, arena, &ctx);
    code = kt_buf_code(&judged);
    if (code == KT_OK && kt_buf_code(&ctx) == KT_NO_MEMORY)
        code = KT_NO_MEMORY;
    outcome = outcome_of(explaining, kt_buf_code(&ctx));

    kt_json_writer_init(&writer, &reply->body);
    explaining->writer = &writer;
    kt_json_begin_object(&writer);
    if (explaining->taken && kt_buf_code(&ctx) == KT_OK)
        kt_json_put_raw_member(&writer, "ctx", kt_buf_slice(&ctx));
    kt_json_put_string_member(&writer, "current_state", instance->state);
    kt_json_put_string_member(&writer, "event", explaining->params->event);
    put_events(explaining);
    kt_json_put_string_member(&writer, "instance_id", explaining->params->instance_id);
    kt_json_put_u64_member(&writer, "last_wal_offset", instance->last_offset);
    kt_json_put_string_member(&writer, "machine", instance->machine);
    kt_json_put_text_member(&writer, "outcome", outcome);
    if (explaining->taken)
        kt_json_put_string_member(&writer, "to_state", explaining->taken->target_name);
    if (code == KT_OK) {
        kt_buf_append_u8(&reply->body, ',');
        kt_buf_append(&reply->body, judged.data + 1, judged.len - 1); /* behind its opening brace */
    }
    kt_json_put_u64_member(&writer, "version", instance->version);
    kt_json_end_object(&writer);
    kt_buf_release(&ctx);
    kt_buf_release(&judged);
    return code;
}

enum kt_code machine_explain_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_explain_params *params = parameters;
    struct explaining explaining = {
        .params = params, .work_bytes = MACHINE_GUARD_WORK_BYTES_MAX, .shown_bytes = MACHINE_GUARD_WORK_BYTES_MAX};
    struct definition definition;
    struct instance instance;
    struct instance_key key;
    enum kt_code code = instance_find(call->state, call->txn, params->instance_id, &key, &instance);

    if (code == KT_NOT_FOUND || (code == KT_OK && instance.deleted))
        return fail_instance_not_found(reply, params->instance_id);
    if (code == KT_OK)
        code =
            catalog_definition(call->state, call->txn, instance.machine_id, instance.version, call->arena, &definition);
    if (code == KT_OK) {
        explaining.instance = &instance;
        explaining.definition = &definition;
        code = put_explanation(&explaining, call->arena, reply);
    }
    return machine_query_end(code == KT_NOT_FOUND ? KT_CORRUPT : code, reply);
}
