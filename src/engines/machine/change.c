#include "engines/machine/change.h"

#include "engines/machine/definition.h"
#include "engines/registry.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define FLAG_EVENT_ID 1u
#define FLAG_KEY      2u

static void write_names(const struct kt_machine_change *change, struct kt_buf *out)
{
    kt_write_string(out, change->machine);
    kt_write_varint(out, change->version);
}

static void write_body(const struct kt_machine_change *change, struct kt_buf *out)
{
    unsigned flags = (change->has_event_id ? FLAG_EVENT_ID : 0) | (change->has_key ? FLAG_KEY : 0);

    kt_buf_append_u8(out, (uint8_t)flags);
    switch (change->kind) {
    case KT_MACHINE_CHANGE_PUT:
        write_names(change, out);
        kt_write_string(out, change->definition);
        break;
    case KT_MACHINE_CHANGE_CREATE:
        write_names(change, out);
        kt_write_string(out, change->to_state);
        kt_write_string(out, change->ctx);
        break;
    case KT_MACHINE_CHANGE_EVENT:
        write_names(change, out);
        kt_write_string(out, change->from_state);
        kt_write_string(out, change->to_state);
        kt_write_string(out, change->event);
        kt_write_string(out, change->payload);
        kt_write_string(out, change->ctx);
        break;
    case KT_MACHINE_CHANGE_DELETE:
        write_names(change, out);
        break;
    case KT_MACHINE_CHANGE_FLUSH:
        kt_write_varint(out, change->instances_removed);
        kt_write_varint(out, change->machines_removed);
        break;
    case KT_MACHINE_CHANGE_MIGRATE:
        write_names(change, out);
        kt_write_varint(out, change->from_version);
        kt_write_string(out, change->from_state);
        kt_write_string(out, change->to_state);
        kt_write_string(out, change->ctx);
        break;
    }
    if (change->has_event_id)
        kt_write_string(out, change->event_id);
    if (change->has_key)
        kt_write_string(out, change->idempotency_key);
}

enum kt_code kt_machine_change_write(const struct kt_changes *changes, struct kt_txn *txn, const struct kt_apply *apply,
                                     const struct kt_machine_change *change, struct kt_buf *record,
                                     uint8_t key[KT_CHANGE_KEY_BYTES])
{
    enum kt_code code = kt_change_begin(changes, txn, apply, KT_ENGINE_MACHINE, (uint8_t)change->kind,
                                        change->instance_id, record, key);

    if (code != KT_OK)
        return code;
    write_body(change, record);
    return kt_buf_code(record) == KT_OK ? KT_OK : KT_INTERNAL;
}

static void read_names(struct kt_reader *reader, struct kt_machine_change *out)
{
    out->machine = kt_read_string(reader);
    out->version = kt_read_varint(reader);
}

enum kt_code kt_machine_change_read(const struct kt_change *change, struct kt_machine_change *out)
{
    struct kt_reader reader;
    unsigned flags;

    if (change->engine != KT_ENGINE_MACHINE || change->kind < KT_MACHINE_CHANGE_PUT ||
        change->kind > KT_MACHINE_CHANGE_MIGRATE)
        return KT_NOT_FOUND;
    *out = (struct kt_machine_change){.kind = (enum kt_machine_change_kind)change->kind, .instance_id = change->topic};
    kt_reader_init(&reader, change->body);
    flags = kt_read_u8(&reader);
    switch (out->kind) {
    case KT_MACHINE_CHANGE_PUT:
        read_names(&reader, out);
        out->definition = kt_read_string(&reader);
        break;
    case KT_MACHINE_CHANGE_CREATE:
        read_names(&reader, out);
        out->to_state = kt_read_string(&reader);
        out->ctx = kt_read_string(&reader);
        break;
    case KT_MACHINE_CHANGE_EVENT:
        read_names(&reader, out);
        out->from_state = kt_read_string(&reader);
        out->to_state = kt_read_string(&reader);
        out->event = kt_read_string(&reader);
        out->payload = kt_read_string(&reader);
        out->ctx = kt_read_string(&reader);
        break;
    case KT_MACHINE_CHANGE_DELETE:
        read_names(&reader, out);
        break;
    case KT_MACHINE_CHANGE_FLUSH:
        out->instances_removed = kt_read_varint(&reader);
        out->machines_removed = kt_read_varint(&reader);
        break;
    case KT_MACHINE_CHANGE_MIGRATE:
        read_names(&reader, out);
        out->from_version = kt_read_varint(&reader);
        out->from_state = kt_read_string(&reader);
        out->to_state = kt_read_string(&reader);
        out->ctx = kt_read_string(&reader);
        break;
    }
    out->has_event_id = flags & FLAG_EVENT_ID;
    out->has_key = flags & FLAG_KEY;
    if (out->has_event_id)
        out->event_id = kt_read_string(&reader);
    if (out->has_key)
        out->idempotency_key = kt_read_string(&reader);
    return kt_reader_done(&reader) ? KT_OK : KT_CORRUPT;
}

/* As text of WAL_READ. */

static const char *type_name(enum kt_machine_change_kind kind)
{
    switch (kind) {
    case KT_MACHINE_CHANGE_PUT:
        return "put_machine";
    case KT_MACHINE_CHANGE_CREATE:
        return "create_instance";
    case KT_MACHINE_CHANGE_EVENT:
        return "apply_event";
    case KT_MACHINE_CHANGE_DELETE:
        return "delete_instance";
    case KT_MACHINE_CHANGE_MIGRATE:
        return "migrate_instance";
    case KT_MACHINE_CHANGE_FLUSH:
        break;
    }
    return "flush_all";
}

static void put_definition(struct kt_json_writer *writer, struct kt_slice definition, bool brief)
{
    char checksum[9];

    definition_checksum(definition, checksum);
    kt_json_put_raw_member(writer, "definition", brief ? kt_slice_text("null") : definition);
    kt_json_put_text_member(writer, "definition_hash", checksum);
}

/* Members sorted by name, as in every answer of the engine. */
void kt_machine_change_print(const struct kt_change *record, const struct kt_machine_change *change, bool brief,
                             struct kt_json_writer *writer)
{
    enum kt_machine_change_kind kind = change->kind;
    bool create = kind == KT_MACHINE_CHANGE_CREATE, event = kind == KT_MACHINE_CHANGE_EVENT;
    bool flush = kind == KT_MACHINE_CHANGE_FLUSH, put = kind == KT_MACHINE_CHANGE_PUT;
    bool migrate = kind == KT_MACHINE_CHANGE_MIGRATE;
    struct kt_slice ctx = brief ? kt_slice_text("{}") : change->ctx;

    kt_json_begin_object(writer);
    if (event || migrate)
        kt_json_put_raw_member(writer, "ctx", ctx);
    if (put)
        put_definition(writer, change->definition, brief);
    if (event)
        kt_json_put_string_member(writer, "event", change->event);
    if (change->has_event_id)
        kt_json_put_string_member(writer, "event_id", change->event_id);
    if (event || migrate)
        kt_json_put_string_member(writer, "from_state", change->from_state);
    if (migrate)
        kt_json_put_u64_member(writer, "from_version", change->from_version);
    if (change->has_key)
        kt_json_put_string_member(writer, "idempotency_key", change->idempotency_key);
    if (create) {
        kt_json_put_raw_member(writer, "initial_ctx", ctx);
        kt_json_put_string_member(writer, "initial_state", change->to_state);
    }
    if (!put && !flush)
        kt_json_put_string_member(writer, "instance_id", change->instance_id);
    if (flush)
        kt_json_put_u64_member(writer, "instances_removed", change->instances_removed);
    else
        kt_json_put_string_member(writer, "machine", change->machine);
    if (flush)
        kt_json_put_u64_member(writer, "machines_removed", change->machines_removed);
    if (brief)
        kt_json_put_bool_member(writer, "omitted", true);
    if (event)
        kt_json_put_raw_member(writer, "payload",
                               brief || change->payload.len == 0 ? kt_slice_text("null") : change->payload);
    kt_json_put_u64_member(writer, "timestamp", record->time_ms);
    if (event || migrate)
        kt_json_put_string_member(writer, "to_state", change->to_state);
    kt_json_put_text_member(writer, "type", type_name(kind));
    if (!flush)
        kt_json_put_u64_member(writer, "version", change->version);
    kt_json_end_object(writer);
}

/* Watching. */

static bool lists(const struct kt_slice *items, size_t count, struct kt_slice wanted)
{
    for (size_t i = 0; i < count; i++)
        if (kt_slice_equal(items[i], wanted))
            return true;
    return count == 0;
}

bool kt_machine_filter_wants(const struct kt_machine_filter *filter, const struct kt_change *change,
                             struct kt_machine_change *out)
{
    if (change->kind != KT_MACHINE_CHANGE_EVENT)
        return false;
    if (filter->instance_id.len > 0 && !kt_slice_equal(filter->instance_id, change->topic))
        return false;
    return kt_machine_change_read(change, out) == KT_OK &&
           lists(filter->machines, filter->machine_count, out->machine) &&
           lists(filter->from_states, filter->from_state_count, out->from_state) &&
           lists(filter->to_states, filter->to_state_count, out->to_state) &&
           lists(filter->events, filter->event_count, out->event);
}
