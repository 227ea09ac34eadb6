#include "engines/machine/instance.h"

#include "base/hash.h"
#include "engines/machine/catalog.h"
#include "engines/machine/idempotency.h"
#include "engines/machine/timer.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define FLAG_DELETED  1u
#define FLAG_EVENT_ID 2u
#define FLAG_TIMERS   4u

/* First bytes of a key. */
#define KEY_PLAIN  0u
#define KEY_HASHED 1u

void instance_order(uint8_t out[INSTANCE_ORDER_BYTES], kt_index index, uint32_t serial)
{
    kt_put_be64(out, index);
    kt_put_be32(out + 8, serial);
}

/* Keys and records. */

void instance_encode(const struct instance *instance, const struct instance_key *key, struct kt_slice id,
                     struct kt_buf *out)
{
    unsigned flags = (instance->deleted ? FLAG_DELETED : 0) | (instance->has_event_id ? FLAG_EVENT_ID : 0) |
                     (instance->timer_count > 0 ? FLAG_TIMERS : 0);

    kt_buf_append_u8(out, (uint8_t)flags);
    kt_write_le64(out, instance->definition_hash);
    kt_write_varint(out, instance->machine_id);
    kt_write_varint(out, instance->version);
    kt_write_varint(out, instance->state_at);
    kt_write_varint(out, instance->group);
    kt_write_varint(out, instance->created_index);
    kt_write_varint(out, instance->created_serial);
    kt_write_varint(out, instance->created_ms);
    kt_write_varint(out, instance->updated_ms);
    kt_write_varint(out, instance->last_offset);
    kt_write_string(out, key->hashed ? id : kt_slice("", 0));
    kt_write_string(out, instance->machine);
    kt_write_string(out, instance->state);
    kt_write_string(out, instance->event_id);
    kt_write_string(out, instance->ctx);
    if (instance->timer_count > 0)
        kt_write_varint(out, instance->timer_count);
    for (uint32_t i = 0; i < instance->timer_count; i++) {
        kt_write_varint(out, instance->timers[i].transition);
        kt_write_varint(out, instance->timers[i].due_ms);
        kt_write_string(out, instance->timers[i].event);
    }
}

static bool decode_timers(struct kt_reader *reader, struct instance *instance)
{
    instance->timer_count = (uint32_t)kt_read_varint(reader);
    if (instance->timer_count > MACHINE_TIMERS_MAX)
        return false;
    for (uint32_t i = 0; i < instance->timer_count; i++) {
        instance->timers[i].transition = (uint32_t)kt_read_varint(reader);
        instance->timers[i].due_ms = kt_read_varint(reader);
        instance->timers[i].event = kt_read_string(reader);
    }
    return true;
}

static enum kt_code decode_instance(struct kt_slice record, struct instance *instance, struct kt_slice *id)
{
    struct kt_reader reader;
    uint8_t flags;

    kt_reader_init(&reader, record);
    flags = kt_read_u8(&reader);
    instance->deleted = flags & FLAG_DELETED;
    instance->has_event_id = flags & FLAG_EVENT_ID;
    instance->definition_hash = kt_read_le64(&reader);
    instance->machine_id = (uint32_t)kt_read_varint(&reader);
    instance->version = (uint32_t)kt_read_varint(&reader);
    instance->state_at = (uint32_t)kt_read_varint(&reader);
    instance->group = (uint32_t)kt_read_varint(&reader);
    instance->created_index = kt_read_varint(&reader);
    instance->created_serial = (uint32_t)kt_read_varint(&reader);
    instance->created_ms = kt_read_varint(&reader);
    instance->updated_ms = kt_read_varint(&reader);
    instance->last_offset = kt_read_varint(&reader);
    *id = kt_read_string(&reader);
    instance->machine = kt_read_string(&reader);
    instance->state = kt_read_string(&reader);
    instance->event_id = kt_read_string(&reader);
    instance->ctx = kt_read_string(&reader);
    instance->timer_count = 0;
    if ((flags & FLAG_TIMERS) && !decode_timers(&reader, instance))
        return KT_CORRUPT;
    return kt_reader_done(&reader) ? KT_OK : KT_CORRUPT;
}

enum kt_code instance_decode(struct kt_slice record, struct instance *instance)
{
    struct kt_slice id;

    return decode_instance(record, instance, &id);
}

/*
 * An id that does not fit a key is stored under its hash. Ids may share one, by intent: each then has another probe,
 * and the record tells which id it is of. Records stay for ever, so a chain of probes has no holes.
 */
static enum kt_code find_hashed(const struct machine *machine, struct kt_txn *txn, struct kt_slice id,
                                struct instance_key *key, struct instance *instance)
{
    key->hashed = true;
    key->len = 1 + 16 + 1;
    key->bytes[0] = KEY_HASHED;
    kt_put_be64(key->bytes + 1, kt_hash64(0x6b6f6e74696b6931ull, id.data, id.len));
    kt_put_be64(key->bytes + 9, kt_hash64(0x6b6f6e74696b6932ull, id.data, id.len));
    for (unsigned probe = 0; probe < MACHINE_PROBES_MAX; probe++) {
        struct kt_slice record, stored;
        enum kt_code code;

        key->bytes[17] = (uint8_t)probe;
        code = kt_txn_get(txn, machine->instances, kt_slice(key->bytes, key->len), &record);
        if (code != KT_OK)
            return code;
        if ((code = decode_instance(record, instance, &stored)) != KT_OK)
            return code;
        if (kt_slice_equal(stored, id))
            return KT_OK;
    }
    key->len = 0;
    return KT_NOT_FOUND;
}

enum kt_code instance_find(const struct machine *machine, struct kt_txn *txn, struct kt_slice id,
                           struct instance_key *key, struct instance *instance)
{
    struct kt_slice record, stored;
    enum kt_code code;

    if (1 + id.len > sizeof(key->bytes))
        return find_hashed(machine, txn, id, key, instance);
    key->hashed = false;
    key->len = 1 + id.len;
    key->bytes[0] = KEY_PLAIN;
    if (id.len > 0)
        memcpy(key->bytes + 1, id.data, id.len);
    code = kt_txn_get(txn, machine->instances, kt_slice(key->bytes, key->len), &record);
    return code == KT_OK ? decode_instance(record, instance, &stored) : code;
}

/* Counters and orders. */

static struct kt_slice count_key(uint8_t key[5], char kind, uint32_t number)
{
    key[0] = (uint8_t)kind;
    kt_put_be32(key + 1, number);
    return kt_slice(key, 5);
}

enum kt_code instance_count(const struct machine *machine, struct kt_txn *txn, char kind, uint32_t number,
                            uint64_t *count)
{
    struct kt_slice value;
    uint8_t key[5];
    enum kt_code code = kt_txn_get(txn, machine->counts, count_key(key, kind, number), &value);

    *count = 0;
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code != KT_OK)
        return code;
    if (value.len != 8)
        return KT_CORRUPT;
    *count = kt_get_be64(value.data);
    return KT_OK;
}

enum kt_code instance_add_count(struct machine *machine, struct kt_txn *txn, char kind, uint32_t number, int by)
{
    uint8_t key[5], value[8];
    uint64_t count;
    enum kt_code code = instance_count(machine, txn, kind, number, &count);

    if (code != KT_OK)
        return code;
    if (by < 0 && count == 0)
        return KT_CORRUPT;
    kt_put_be64(value, by < 0 ? count - 1 : count + 1);
    return kt_txn_put(txn, machine->counts, count_key(key, kind, number), kt_slice(value, sizeof(value)));
}

/* The key of an instance in machine.by_machine or machine.by_group. */
static struct kt_slice order_key(uint8_t key[4 + INSTANCE_ORDER_BYTES], uint32_t number,
                                 const struct instance *instance)
{
    kt_put_be32(key, number);
    instance_order(key + 4, instance->created_index, instance->created_serial);
    return kt_slice(key, 4 + INSTANCE_ORDER_BYTES);
}

enum kt_code instance_move(struct machine *machine, struct kt_txn *txn, const struct instance *instance,
                           uint32_t to_group)
{
    uint8_t key[4 + INSTANCE_ORDER_BYTES];
    enum kt_code code = kt_txn_delete(txn, machine->by_group, order_key(key, instance->group, instance));

    if (code == KT_OK)
        code = kt_txn_put(txn, machine->by_group, order_key(key, to_group, instance), kt_slice("", 0));
    if (code == KT_OK)
        code = instance_add_count(machine, txn, 'g', instance->group, -1);
    if (code == KT_OK)
        code = instance_add_count(machine, txn, 'g', to_group, 1);
    return code;
}

static enum kt_code enter(struct machine *machine, struct kt_txn *txn, const struct instance *instance,
                          struct kt_slice id)
{
    uint8_t key[4 + INSTANCE_ORDER_BYTES], order[INSTANCE_ORDER_BYTES];
    enum kt_code code;

    instance_order(order, instance->created_index, instance->created_serial);
    code = kt_txn_put(txn, machine->created, kt_slice(order, sizeof(order)), id);
    if (code == KT_OK)
        code = kt_txn_put(txn, machine->by_machine, order_key(key, instance->machine_id, instance), kt_slice("", 0));
    if (code == KT_OK)
        code = kt_txn_put(txn, machine->by_group, order_key(key, instance->group, instance), kt_slice("", 0));
    if (code == KT_OK)
        code = instance_add_count(machine, txn, 'm', instance->machine_id, 1);
    if (code == KT_OK)
        code = instance_add_count(machine, txn, 'g', instance->group, 1);
    return code;
}

static enum kt_code leave(struct machine *machine, struct kt_txn *txn, const struct instance *instance)
{
    uint8_t key[4 + INSTANCE_ORDER_BYTES], order[INSTANCE_ORDER_BYTES];
    enum kt_code code;

    instance_order(order, instance->created_index, instance->created_serial);
    code = kt_txn_delete(txn, machine->created, kt_slice(order, sizeof(order)));
    if (code == KT_OK)
        code = kt_txn_delete(txn, machine->by_machine, order_key(key, instance->machine_id, instance));
    if (code == KT_OK)
        code = kt_txn_delete(txn, machine->by_group, order_key(key, instance->group, instance));
    if (code == KT_OK)
        code = instance_add_count(machine, txn, 'm', instance->machine_id, -1);
    if (code == KT_OK)
        code = instance_add_count(machine, txn, 'g', instance->group, -1);
    return code;
}

/* Creating. */

static enum kt_code refuse_deleted(const struct instance *existing, const struct machine_create_op *op,
                                   struct kt_reply *reply)
{
    if (existing->deleted && op->recreate)
        return KT_OK;
    return fail_instance_exists(reply, op->instance_id);
}

/* A place in the order of creation that no other instance of the same entry has. */
static enum kt_code find_serial(const struct machine *machine, struct kt_txn *txn, kt_index index, uint32_t *serial)
{
    uint8_t order[INSTANCE_ORDER_BYTES];
    struct kt_slice id;
    enum kt_code code = KT_OK;

    for (*serial = 0; code == KT_OK; ++*serial) {
        instance_order(order, index, *serial);
        code = kt_txn_get(txn, machine->created, kt_slice(order, sizeof(order)), &id);
        if (code == KT_NOT_FOUND)
            return KT_OK;
    }
    return code;
}

static void reply_create(struct kt_reply *reply, struct kt_slice id, const struct instance *instance)
{
    struct kt_json_writer writer;

    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_string_member(&writer, "instance_id", id);
    kt_json_put_string_member(&writer, "state", instance->state);
    kt_json_put_u64_member(&writer, "wal_offset", instance->last_offset);
    kt_json_end_object(&writer);
}

/* The instance that the operation makes; its definition decides state and group. */
static enum kt_code make_instance(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                                  const struct machine_create_op *op, struct instance *instance, struct kt_reply *reply)
{
    const struct compiled *compiled = NULL;
    struct catalog_machine found;
    uint64_t hash = 0;
    enum kt_code code = catalog_find(machine, txn, op->machine, &found);

    if (code == KT_OK)
        code = catalog_compiled(machine, txn, found.id, (uint32_t)op->version, &hash, &compiled);
    if (code == KT_NOT_FOUND)
        return fail_machine_not_found(reply, op->machine, &op->version);
    if (code != KT_OK)
        return code;
    *instance = (struct instance){
        .machine_id = found.id,
        .version = (uint32_t)op->version,
        .definition_hash = hash,
        .state_at = compiled->definition.initial,
        .group = compiled->groups[compiled->definition.initial],
        .created_index = apply->index,
        .created_ms = apply->time_ms,
        .updated_ms = apply->time_ms,
        .last_offset = apply->index,
        .machine = op->machine,
        .state = compiled->definition.states[compiled->definition.initial],
        .ctx = op->initial_ctx,
    };
    timers_set(compiled, instance, apply->time_ms, apply->time_ms);
    return find_serial(machine, txn, apply->index, &instance->created_serial);
}

enum kt_code machine_create_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                  struct kt_reply *reply)
{
    const struct machine_create_op *op = body;
    struct machine *machine = state;
    struct idempotency_key once = {.operation = IDEMPOTENCY_CREATE, .key = op->idempotency_key};
    struct kt_machine_change change = {.kind = KT_MACHINE_CHANGE_CREATE,
                                       .instance_id = op->instance_id,
                                       .machine = op->machine,
                                       .version = op->version,
                                       .ctx = op->initial_ctx,
                                       .has_key = op->idempotency_key.len > 0,
                                       .idempotency_key = op->idempotency_key};
    uint8_t change_key[KT_CHANGE_KEY_BYTES];
    struct idempotency_slot slot;
    struct instance_key key;
    struct instance instance;
    struct kt_error error;
    enum kt_code code;

    machine_begin(machine);
    if (kt_struct_check(&machine_op_create.body, op, &error) != KT_OK)
        return kt_reply_fail_error(reply, &error);
    if (!op->generated)
        once.instance = op->instance_id;
    code = idempotency_find(machine, txn, apply, &once, &slot, reply);
    if (code != KT_NOT_FOUND)
        return code;
    code = instance_find(machine, txn, op->instance_id, &key, &instance);
    if (code == KT_OK)
        code = refuse_deleted(&instance, op, reply);
    else if (code == KT_NOT_FOUND)
        code = key.len > 0 ? KT_OK : kt_reply_fail(reply, KT_TOO_LARGE, "too many instance ids share one hash");
    if (code != KT_OK)
        return code;
    if ((code = make_instance(machine, txn, apply, op, &instance, reply)) != KT_OK)
        return code;
    reply_create(reply, op->instance_id, &instance);
    instance_encode(&instance, &key, op->instance_id, &machine->record);
    if (kt_buf_code(&reply->body) != KT_OK)
        return machine_buf_failed(&reply->body, reply);
    if (kt_buf_code(&machine->record) != KT_OK)
        return machine_buf_failed(&machine->record, reply);
    change.to_state = instance.state;
    code = kt_machine_change_write(&machine->changes, txn, apply, &change, &machine->change, change_key);
    if (code != KT_OK)
        return code;

    code = kt_txn_put(txn, machine->instances, kt_slice(key.bytes, key.len), kt_buf_slice(&machine->record));
    if (code == KT_OK)
        code = kt_change_put(&machine->changes, txn, change_key, &machine->change);
    if (code == KT_OK)
        code = enter(machine, txn, &instance, op->instance_id);
    if (code == KT_OK)
        code = timers_replace(machine, txn, NULL, &instance, op->instance_id);
    if (code == KT_OK)
        code = idempotency_keep(machine, txn, apply, &once, &slot, reply);
    return code;
}

/* Deleting. */

static void reply_delete(struct kt_reply *reply, struct kt_slice id, kt_index offset)
{
    struct kt_json_writer writer;

    reply->offset = offset;
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_bool_member(&writer, "deleted", true);
    kt_json_put_string_member(&writer, "instance_id", id);
    kt_json_put_u64_member(&writer, "wal_offset", offset);
    kt_json_end_object(&writer);
}

enum kt_code machine_delete_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                  struct kt_reply *reply)
{
    const struct kt_machine_delete_params *op = body;
    struct machine *machine = state;
    struct idempotency_key once = {
        .operation = IDEMPOTENCY_DELETE, .instance = op->instance_id, .key = op->idempotency_key};
    struct kt_machine_change change = {.kind = KT_MACHINE_CHANGE_DELETE,
                                       .instance_id = op->instance_id,
                                       .has_key = KT_GIVEN(op, KT_MACHINE_DELETE_IDEMPOTENCY_KEY),
                                       .idempotency_key = op->idempotency_key};
    uint8_t change_key[KT_CHANGE_KEY_BYTES];
    struct idempotency_slot slot;
    struct instance_key key;
    struct instance instance, before;
    struct kt_error error;
    bool first;
    enum kt_code code;

    machine_begin(machine);
    if (kt_struct_check(&machine_op_delete.body, op, &error) != KT_OK)
        return kt_reply_fail_error(reply, &error);
    code = idempotency_find(machine, txn, apply, &once, &slot, reply);
    if (code != KT_NOT_FOUND)
        return code;
    code = instance_find(machine, txn, op->instance_id, &key, &instance);
    if (code == KT_NOT_FOUND)
        return fail_instance_not_found(reply, op->instance_id);
    if (code != KT_OK)
        return code;
    first = !instance.deleted;
    if (first) {
        before = instance;
        instance.timer_count = 0;
        instance.deleted = true;
        instance.last_offset = apply->index;
        instance.updated_ms = apply->time_ms;
        instance.has_event_id = false;
        instance.event_id = instance.ctx = kt_slice("", 0);
    }
    reply_delete(reply, op->instance_id, instance.last_offset);
    instance_encode(&instance, &key, op->instance_id, &machine->record);
    if (kt_buf_code(&reply->body) != KT_OK)
        return machine_buf_failed(&reply->body, reply);
    if (kt_buf_code(&machine->record) != KT_OK)
        return machine_buf_failed(&machine->record, reply);

    if (first) {
        change.machine = instance.machine;
        change.version = instance.version;
        code = kt_machine_change_write(&machine->changes, txn, apply, &change, &machine->change, change_key);
        if (code != KT_OK)
            return code;
        code = kt_txn_put(txn, machine->instances, kt_slice(key.bytes, key.len), kt_buf_slice(&machine->record));
        if (code == KT_OK)
            code = kt_change_put(&machine->changes, txn, change_key, &machine->change);
        if (code == KT_OK)
            code = leave(machine, txn, &instance);
        if (code == KT_OK)
            code = timers_replace(machine, txn, &before, &instance, op->instance_id);
        if (code != KT_OK)
            return code;
    }
    return idempotency_keep(machine, txn, apply, &once, &slot, reply);
}

/* Looking. */

/* In the order in which they are due, of those due together the definition's first. */
static void put_timers(struct kt_json_writer *writer, const struct instance *instance)
{
    bool done[MACHINE_TIMERS_MAX] = {false};

    kt_json_put_key(writer, "timers");
    kt_json_begin_array(writer);
    for (uint32_t count = 0; count < instance->timer_count; count++) {
        uint32_t next = MACHINE_TIMERS_MAX;

        for (uint32_t i = 0; i < instance->timer_count; i++)
            if (!done[i] && (next == MACHINE_TIMERS_MAX || instance->timers[i].due_ms < instance->timers[next].due_ms))
                next = i;
        done[next] = true;
        kt_json_begin_object(writer);
        kt_json_put_u64_member(writer, "due", instance->timers[next].due_ms);
        kt_json_put_string_member(writer, "event", instance->timers[next].event);
        kt_json_end_object(writer);
    }
    kt_json_end_array(writer);
}

enum kt_code machine_instance_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_instance_params *params = parameters;
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
    kt_json_put_u64_member(&writer, "created_at", instance.created_ms);
    kt_json_put_raw_member(&writer, "ctx", instance.ctx);
    kt_json_put_string_member(&writer, "instance_id", params->instance_id);
    if (instance.has_event_id)
        kt_json_put_string_member(&writer, "last_event_id", instance.event_id);
    kt_json_put_u64_member(&writer, "last_wal_offset", instance.last_offset);
    kt_json_put_string_member(&writer, "machine", instance.machine);
    kt_json_put_string_member(&writer, "state", instance.state);
    if (instance.timer_count > 0)
        put_timers(&writer, &instance);
    kt_json_put_u64_member(&writer, "updated_at", instance.updated_ms);
    kt_json_put_u64_member(&writer, "version", instance.version);
    kt_json_end_object(&writer);
    return machine_query_end(KT_OK, reply);
}
