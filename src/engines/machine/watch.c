/* WATCH_INSTANCE and WATCH_ALL as far as the engine goes: where a subscription begins, and what it wants to see. */
#include "engines/machine/instance.h"
#include "engines/machine/text.h"

static enum kt_code fail_list(struct kt_reply *reply, const char *name, const char *why)
{
    kt_buf_clear(&reply->details);
    kt_buf_printf(&reply->details, "{\"field\":\"%s\"}", name);
    return kt_reply_fail(reply, KT_BAD_REQUEST, "field '%s' %s", name, why);
}

static enum kt_code check_list(struct kt_slice list, const char *name, struct kt_arena *arena, struct kt_reply *reply)
{
    struct kt_json_iter iter;
    struct kt_slice key, value, plain;
    size_t count = 0;

    if (list.len == 0)
        return KT_OK;
    if (kt_json_text_kind(list) != KT_JSON_ARRAY)
        return fail_list(reply, name, "must be an array of strings");
    if (list.len > MACHINE_FILTER_BYTES_MAX)
        return fail_list(reply, name, "is too long");
    kt_json_iter_init(&iter, list);
    while (kt_json_iter_next(&iter, &key, &value)) {
        if (!text_of_string(value, arena, &plain))
            return fail_list(reply, name, "must be an array of strings");
        if (++count > MACHINE_FILTER_NAMES_MAX)
            return fail_list(reply, name, "has too many names");
    }
    return KT_OK;
}

/* A checked list; NULL and 0 if it is absent or empty. */
static const struct kt_slice *read_list(struct kt_slice list, struct kt_arena *arena, size_t *count)
{
    struct kt_slice key, value, *items;
    struct kt_json_iter iter;

    *count = 0;
    if (list.len == 0)
        return NULL;
    kt_json_iter_init(&iter, list);
    while (kt_json_iter_next(&iter, &key, &value))
        ++*count;
    if (*count == 0)
        return NULL;
    items = kt_arena_alloc(arena, *count * sizeof(*items));
    kt_json_iter_init(&iter, list);
    for (size_t i = 0; i < *count && kt_json_iter_next(&iter, &key, &value); i++)
        if (!text_of_string(value, arena, &items[i]))
            items[i] = kt_slice("", 0);
    return items;
}

void kt_machine_watch_begin(const struct kt_machine_watch_params *params, kt_index answered, struct kt_arena *arena,
                            struct kt_machine_filter *filter, struct kt_machine_watch_start *start)
{
    bool history = KT_GIVEN(params, KT_MACHINE_WATCH_FROM_OFFSET);

    *filter = (struct kt_machine_filter){.instance_id = params->instance_id};
    filter->machines = read_list(params->machines, arena, &filter->machine_count);
    filter->from_states = read_list(params->from_states, arena, &filter->from_state_count);
    filter->to_states = read_list(params->to_states, arena, &filter->to_state_count);
    filter->events = read_list(params->events, arena, &filter->event_count);
    /* An existing client always sends 0 with WATCH_INSTANCE and expects no history (rstmdb.md 10.4). */
    if (params->instance_id.len > 0 && params->from_offset == 0)
        history = false;
    *start = (struct kt_machine_watch_start){
        .index = history ? params->from_offset : answered + 1,
        .number = history ? (unsigned)params->from_number : 0,
        .include_ctx = !KT_GIVEN(params, KT_MACHINE_WATCH_INCLUDE_CTX) || params->include_ctx,
        .fresh = !history || params->from_offset == 0,
    };
}

enum kt_code machine_watch_instance_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_watch_params *params = parameters;
    struct kt_json_writer writer;
    struct instance_key key;
    struct instance instance;
    enum kt_code code = instance_find(call->state, call->txn, params->instance_id, &key, &instance);

    if (code == KT_NOT_FOUND || (code == KT_OK && instance.deleted))
        return fail_instance_not_found(reply, params->instance_id);
    if (code != KT_OK)
        return machine_query_end(code, reply);
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_string_member(&writer, "current_state", instance.state);
    kt_json_put_u64_member(&writer, "current_wal_offset", instance.last_offset);
    kt_json_put_string_member(&writer, "instance_id", params->instance_id);
    kt_json_end_object(&writer);
    return machine_query_end(KT_OK, reply);
}

enum kt_code machine_watch_all_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_watch_params *params = parameters;
    struct kt_json_writer writer;
    enum kt_code code = check_list(params->machines, "machines", call->arena, reply);

    if (code == KT_OK)
        code = check_list(params->from_states, "from_states", call->arena, reply);
    if (code == KT_OK)
        code = check_list(params->to_states, "to_states", call->arena, reply);
    if (code == KT_OK)
        code = check_list(params->events, "events", call->arena, reply);
    if (code != KT_OK)
        return code;
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    /* The end of the log: the next event's offset is not below it. */
    kt_json_put_u64_member(&writer, "wal_offset", call->index + 1);
    kt_json_end_object(&writer);
    return machine_query_end(KT_OK, reply);
}
