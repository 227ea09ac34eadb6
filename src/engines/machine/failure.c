/*
 * What the engine refuses, in words and in details for programs. The words that name what happened come first: a name
 * or id from a client may be longer than a sentence can hold.
 */
#include "engines/machine/machine_internal.h"

#define TEXT(slice) (int)KT_MIN((slice).len, (size_t)KT_ERROR_TEXT_MAX), (const char *)(slice).data

static struct kt_json_writer begin_details(struct kt_reply *reply)
{
    struct kt_json_writer writer;

    kt_buf_clear(&reply->details);
    kt_json_writer_init(&writer, &reply->details);
    kt_json_begin_object(&writer);
    return writer;
}

enum kt_code fail_machine_not_found(struct kt_reply *reply, struct kt_slice machine, const uint64_t *version)
{
    struct kt_json_writer writer;

    if (version)
        kt_reply_fail(reply, KT_MACHINE_NOT_FOUND, "machine not found: '%.*s' version %llu", TEXT(machine),
                      (unsigned long long)*version);
    else
        kt_reply_fail(reply, KT_MACHINE_NOT_FOUND, "machine not found: '%.*s'", TEXT(machine));
    writer = begin_details(reply);
    kt_json_put_string_member(&writer, "machine", machine);
    if (version)
        kt_json_put_u64_member(&writer, "version", *version);
    kt_json_end_object(&writer);
    return KT_MACHINE_NOT_FOUND;
}

enum kt_code fail_machine_exists(struct kt_reply *reply, struct kt_slice machine, uint64_t version)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_MACHINE_EXISTS, "version %llu exists with another definition: machine '%.*s'",
                  (unsigned long long)version, TEXT(machine));
    writer = begin_details(reply);
    kt_json_put_string_member(&writer, "machine", machine);
    kt_json_put_u64_member(&writer, "version", version);
    kt_json_end_object(&writer);
    return KT_MACHINE_EXISTS;
}

enum kt_code fail_machine_limit(struct kt_reply *reply, struct kt_slice machine, uint64_t versions, uint64_t limit)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_MACHINE_LIMIT, "machine '%.*s' already has %llu versions (limit: %llu)", TEXT(machine),
                  (unsigned long long)versions, (unsigned long long)limit);
    writer = begin_details(reply);
    kt_json_put_u64_member(&writer, "limit", limit);
    kt_json_end_object(&writer);
    return KT_MACHINE_LIMIT;
}

enum kt_code fail_definition(struct kt_reply *reply, const struct kt_error *error, const struct definition_fault *fault)
{
    struct kt_json_writer writer;

    kt_reply_fail_error(reply, error);
    if (!fault->in_transition && !fault->member)
        return reply->code;
    writer = begin_details(reply);
    if (fault->event.len > 0)
        kt_json_put_string_member(&writer, "event", fault->event);
    if (fault->member)
        kt_json_put_text_member(&writer, "field", fault->member);
    if (fault->state.len > 0)
        kt_json_put_string_member(&writer, "state", fault->state);
    if (fault->in_transition)
        kt_json_put_u64_member(&writer, "transition", fault->transition);
    kt_json_end_object(&writer);
    return reply->code;
}

enum kt_code fail_instance_not_found(struct kt_reply *reply, struct kt_slice id)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_INSTANCE_NOT_FOUND, "instance not found: '%.*s'", TEXT(id));
    writer = begin_details(reply);
    kt_json_put_string_member(&writer, "instance_id", id);
    kt_json_end_object(&writer);
    return KT_INSTANCE_NOT_FOUND;
}

enum kt_code fail_instance_exists(struct kt_reply *reply, struct kt_slice id)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_INSTANCE_EXISTS, "instance already exists: '%.*s'", TEXT(id));
    writer = begin_details(reply);
    kt_json_put_string_member(&writer, "instance_id", id);
    kt_json_end_object(&writer);
    return KT_INSTANCE_EXISTS;
}

enum kt_code fail_transition(struct kt_reply *reply, struct kt_slice state, struct kt_slice event)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_INVALID_TRANSITION, "invalid transition: cannot apply '%.*s' in state '%.*s'", TEXT(event),
                  TEXT(state));
    writer = begin_details(reply);
    kt_json_put_string_member(&writer, "current_state", state);
    kt_json_put_string_member(&writer, "event", event);
    kt_json_end_object(&writer);
    return KT_INVALID_TRANSITION;
}

enum kt_code fail_guard(struct kt_reply *reply, struct kt_slice from, struct kt_slice to, struct kt_slice event,
                        struct kt_slice guard)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_GUARD_FAILED, "guard failed for transition '%.*s' -> '%.*s' on event '%.*s'", TEXT(from),
                  TEXT(to), TEXT(event));
    writer = begin_details(reply);
    kt_json_put_string_member(&writer, "guard", guard);
    kt_json_end_object(&writer);
    return KT_GUARD_FAILED;
}

enum kt_code fail_state(struct kt_reply *reply, struct kt_slice expected, struct kt_slice actual)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_CONFLICT, "state conflict: expected '%.*s', actual '%.*s'", TEXT(expected), TEXT(actual));
    writer = begin_details(reply);
    kt_json_put_string_member(&writer, "actual_state", actual);
    kt_json_put_string_member(&writer, "expected_state", expected);
    kt_json_end_object(&writer);
    return KT_CONFLICT;
}

enum kt_code fail_offset(struct kt_reply *reply, uint64_t expected, uint64_t actual)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_CONFLICT, "WAL offset conflict: expected %llu, actual %llu", (unsigned long long)expected,
                  (unsigned long long)actual);
    writer = begin_details(reply);
    kt_json_put_u64_member(&writer, "actual_offset", actual);
    kt_json_put_u64_member(&writer, "expected_offset", expected);
    kt_json_end_object(&writer);
    return KT_CONFLICT;
}
