#include "engines/machine/catalog.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "engines/machine/instance.h"
#include "engines/machine/text.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* machine.state has the longest key around a name. */
_Static_assert(2 + MACHINE_NAME_BYTES_MAX + 4 <= KT_STORE_KEY_MAX, "a state's key fits the store");

/* What machine.definition holds. */
struct stored_definition {
    uint64_t hash; /* of all that follows it in the record */
    kt_index offset;
    struct kt_reader groups; /* varints, as many as states */
    uint64_t group_count;
    struct kt_slice text;
};

static struct kt_slice definition_key(uint8_t key[8], uint32_t machine_id, uint32_t version)
{
    kt_put_be32(key, machine_id);
    kt_put_be32(key + 4, version);
    return kt_slice(key, 8);
}

static enum kt_code decode_definition(struct kt_slice record, struct stored_definition *stored)
{
    struct kt_reader reader;

    kt_reader_init(&reader, record);
    stored->hash = kt_read_le64(&reader);
    stored->offset = kt_read_varint(&reader);
    stored->group_count = kt_read_varint(&reader);
    stored->groups = reader;
    if (stored->group_count > MACHINE_STATES_MAX)
        return KT_CORRUPT;
    for (uint64_t i = 0; i < stored->group_count; i++)
        kt_read_varint(&reader);
    stored->text = kt_read_string(&reader);
    return kt_reader_done(&reader) ? KT_OK : KT_CORRUPT;
}

static enum kt_code find_definition(const struct machine *machine, struct kt_txn *txn, uint32_t machine_id,
                                    uint32_t version, struct stored_definition *stored)
{
    struct kt_slice record;
    uint8_t key[8];
    enum kt_code code = kt_txn_get(txn, machine->definitions, definition_key(key, machine_id, version), &record);

    return code == KT_OK ? decode_definition(record, stored) : code;
}

static enum kt_code decode_machine(struct kt_slice record, struct catalog_machine *found)
{
    struct kt_reader reader;

    kt_reader_init(&reader, record);
    found->id = (uint32_t)kt_read_varint(&reader);
    found->version_count = kt_read_varint(&reader);
    return kt_reader_done(&reader) ? KT_OK : KT_CORRUPT;
}

enum kt_code catalog_find(const struct machine *machine, struct kt_txn *txn, struct kt_slice name,
                          struct catalog_machine *found)
{
    struct kt_slice record;
    enum kt_code code;

    if (name.len == 0 || name.len > MACHINE_NAME_BYTES_MAX)
        return KT_NOT_FOUND;
    code = kt_txn_get(txn, machine->names, name, &record);
    return code == KT_OK ? decode_machine(record, found) : code;
}

static struct kt_slice group_key(uint8_t key[KT_STORE_KEY_MAX], uint32_t machine_id, struct kt_slice state)
{
    kt_put_be32(key, machine_id);
    if (state.len > 0)
        memcpy(key + 4, state.data, state.len);
    return kt_slice(key, 4 + state.len);
}

enum kt_code catalog_group(const struct machine *machine, struct kt_txn *txn, uint32_t machine_id,
                           struct kt_slice state, uint32_t *group)
{
    uint8_t key[KT_STORE_KEY_MAX];
    struct kt_slice record;
    enum kt_code code;

    if (state.len > MACHINE_NAME_BYTES_MAX)
        return KT_NOT_FOUND;
    code = kt_txn_get(txn, machine->groups, group_key(key, machine_id, state), &record);
    if (code != KT_OK)
        return code;
    if (record.len != 4)
        return KT_CORRUPT;
    *group = kt_get_be32(record.data);
    return KT_OK;
}

/* Compiled definitions. */

void compiled_cache_init(struct compiled_cache *cache)
{
    kt_map_init(&cache->entries);
    kt_list_init(&cache->order);
    cache->bytes = 0;
}

static void drop_compiled(struct compiled_cache *cache, struct compiled *compiled)
{
    kt_map_remove(&cache->entries, kt_slice(compiled->key, sizeof(compiled->key)));
    kt_list_remove(&compiled->link);
    cache->bytes -= compiled->arena.used_bytes;
    kt_arena_release(&compiled->arena);
    kt_free(compiled);
}

void compiled_cache_release(struct compiled_cache *cache)
{
    while (!kt_list_empty(&cache->order))
        drop_compiled(cache, kt_list_first(&cache->order, struct compiled, link));
    kt_map_release(&cache->entries);
}

static void compiled_key(uint8_t key[16], uint32_t machine_id, uint32_t version, uint64_t hash)
{
    kt_put_be32(key, machine_id);
    kt_put_be32(key + 4, version);
    kt_put_be64(key + 8, hash);
}

static enum kt_code compile(struct compiled *compiled, const struct stored_definition *stored)
{
    struct kt_reader groups = stored->groups;
    enum kt_code code;
    uint32_t *numbers;

    code = definition_read(kt_arena_dup(&compiled->arena, stored->text), &compiled->arena, &compiled->definition, NULL);
    if (code != KT_OK || compiled->definition.state_count != stored->group_count)
        return KT_CORRUPT;
    definition_index(&compiled->definition, &compiled->arena);
    numbers = kt_arena_alloc(&compiled->arena, (size_t)stored->group_count * sizeof(*numbers));
    for (uint64_t i = 0; i < stored->group_count; i++)
        numbers[i] = (uint32_t)kt_read_varint(&groups);
    compiled->groups = numbers;
    return KT_OK;
}

enum kt_code catalog_compiled(struct machine *machine, struct kt_txn *txn, uint32_t machine_id, uint32_t version,
                              uint64_t *hash, const struct compiled **compiled)
{
    struct compiled_cache *cache = &machine->cache;
    struct stored_definition stored;
    struct compiled *entry = NULL;
    bool have_stored = *hash == 0;
    uint8_t key[16];
    enum kt_code code;

    if (have_stored) {
        if ((code = find_definition(machine, txn, machine_id, version, &stored)) != KT_OK)
            return code;
        *hash = stored.hash;
    }
    compiled_key(key, machine_id, version, *hash);
    entry = kt_map_get(&cache->entries, kt_slice(key, sizeof(key)));
    if (entry) {
        kt_list_remove(&entry->link);
        kt_list_append(&cache->order, &entry->link);
        *compiled = entry;
        return KT_OK;
    }
    if (!have_stored && (code = find_definition(machine, txn, machine_id, version, &stored)) != KT_OK)
        return code;
    if (stored.hash != *hash)
        return KT_CORRUPT;
    entry = kt_zalloc(sizeof(*entry));
    memcpy(entry->key, key, sizeof(key));
    kt_arena_init(&entry->arena);
    if ((code = compile(entry, &stored)) != KT_OK) {
        kt_arena_release(&entry->arena);
        kt_free(entry);
        return code;
    }
    cache->bytes += entry->arena.used_bytes;
    while (!kt_list_empty(&cache->order) &&
           (cache->entries.count >= MACHINE_CACHE_ENTRIES_MAX || cache->bytes > MACHINE_CACHE_BYTES_MAX))
        drop_compiled(cache, kt_list_first(&cache->order, struct compiled, link));
    kt_map_put(&cache->entries, kt_slice(entry->key, sizeof(entry->key)), entry);
    kt_list_append(&cache->order, &entry->link);
    *compiled = entry;
    return KT_OK;
}

enum kt_code catalog_definition(const struct machine *machine, struct kt_txn *txn, uint32_t machine_id,
                                uint32_t version, struct kt_arena *arena, struct definition *definition)
{
    struct stored_definition stored;
    enum kt_code code = find_definition(machine, txn, machine_id, version, &stored);

    if (code != KT_OK)
        return code;
    if (definition_read(kt_arena_dup(arena, stored.text), arena, definition, NULL) != KT_OK)
        return KT_CORRUPT;
    definition_index(definition, arena);
    return KT_OK;
}

/* Putting. */

static void reply_put(struct kt_reply *reply, const struct machine_put_op *op, bool created)
{
    struct kt_json_writer writer;
    char checksum[9];

    definition_checksum(op->definition, checksum);
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_bool_member(&writer, "created", created);
    kt_json_put_string_member(&writer, "machine", op->machine);
    kt_json_put_text_member(&writer, "stored_checksum", checksum);
    kt_json_put_u64_member(&writer, "version", op->version);
    kt_json_end_object(&writer);
}

/* Finds or makes the group of each state and appends its number to the record. */
static enum kt_code put_groups(struct machine *machine, struct kt_txn *txn, uint32_t machine_id,
                               const struct definition *definition)
{
    uint8_t key[KT_STORE_KEY_MAX], number[4];
    uint64_t group_count;
    enum kt_code code = kt_txn_count(txn, machine->groups, &group_count);

    for (uint32_t i = 0; i < definition->state_count && code == KT_OK; i++) {
        struct kt_slice state = definition->states[i];
        uint32_t group;

        code = catalog_group(machine, txn, machine_id, state, &group);
        if (code == KT_NOT_FOUND) {
            group = (uint32_t)++group_count;
            kt_put_be32(number, group);
            code = kt_txn_put(txn, machine->groups, group_key(key, machine_id, state), kt_slice(number, 4));
            if (code != KT_OK)
                return code;
            kt_put_be16(key, (uint16_t)state.len);
            memcpy(key + 2, state.data, state.len);
            kt_put_be32(key + 2 + state.len, group);
            code = kt_txn_put(txn, machine->states, kt_slice(key, 2 + state.len + 4), kt_slice("", 0));
        }
        if (code == KT_OK)
            kt_write_varint(&machine->record, group);
    }
    return code;
}

static enum kt_code put_new_version(struct machine *machine, struct kt_txn *txn, const struct kt_apply *apply,
                                    const struct machine_put_op *op, struct catalog_machine found,
                                    const struct definition *definition)
{
    struct kt_machine_change change = {
        .kind = KT_MACHINE_CHANGE_PUT, .machine = op->machine, .version = op->version, .definition = op->definition};
    struct kt_buf *record = &machine->record;
    uint8_t key[8], change_key[KT_CHANGE_KEY_BYTES];
    enum kt_code code = kt_machine_change_write(&machine->changes, txn, apply, &change, &machine->change, change_key);

    if (code == KT_OK)
        code = kt_change_put(&machine->changes, txn, change_key, &machine->change);
    if (code != KT_OK)
        return code;
    kt_buf_clear(record);
    kt_write_varint(record, found.id);
    kt_write_varint(record, found.version_count + 1);
    code = kt_txn_put(txn, machine->names, op->machine, kt_buf_slice(record));
    if (code != KT_OK)
        return code;
    kt_buf_clear(record);
    kt_write_le64(record, 0);
    kt_write_varint(record, apply->index);
    kt_write_varint(record, definition->state_count);
    if ((code = put_groups(machine, txn, found.id, definition)) != KT_OK)
        return code;
    kt_write_string(record, op->definition);
    /* A definition's size was checked before the first write: only memory can be wanting. */
    if (kt_buf_code(record) != KT_OK)
        return KT_INTERNAL;
    kt_put_le64(record->data, kt_hash64(0, record->data + 8, record->len - 8));
    if (definition->timed && (code = instance_add_count(machine, txn, 't', 0, 1)) != KT_OK)
        return code;
    return kt_txn_put(txn, machine->definitions, definition_key(key, found.id, (uint32_t)op->version),
                      kt_buf_slice(record));
}

enum kt_code machine_put_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                               struct kt_reply *reply)
{
    const struct machine_put_op *op = body;
    struct machine *machine = state;
    struct stored_definition stored;
    struct catalog_machine found;
    struct definition definition;
    struct kt_error error;
    uint64_t machine_count;
    enum kt_code code;

    machine_begin(machine);
    if (kt_struct_check(&machine_op_put.body, op, &error) != KT_OK)
        return kt_reply_fail_error(reply, &error);
    code = catalog_find(machine, txn, op->machine, &found);
    if (code == KT_NOT_FOUND) {
        if ((code = kt_txn_count(txn, machine->names, &machine_count)) != KT_OK)
            return code;
        found = (struct catalog_machine){.id = (uint32_t)machine_count + 1};
    } else if (code != KT_OK) {
        return code;
    }
    code = find_definition(machine, txn, found.id, (uint32_t)op->version, &stored);
    if (code == KT_OK) {
        if (!kt_slice_equal(stored.text, op->definition))
            return fail_machine_exists(reply, op->machine, op->version);
        reply_put(reply, op, false);
        return kt_buf_code(&reply->body) == KT_OK ? KT_OK : machine_buf_failed(&reply->body, reply);
    }
    if (code != KT_NOT_FOUND)
        return code;
    if (op->versions_max > 0 && found.version_count >= op->versions_max)
        return fail_machine_limit(reply, op->machine, found.version_count, op->versions_max);
    /* prepare has checked it; read again because the groups need the states. */
    if (definition_read(op->definition, &machine->arena, &definition, &error) != KT_OK)
        return kt_reply_fail_error(reply, &error);
    reply_put(reply, op, true);
    if (kt_buf_code(&reply->body) != KT_OK)
        return machine_buf_failed(&reply->body, reply);
    return put_new_version(machine, txn, apply, op, found, &definition);
}

/* Looking. */

/* The highest version of a machine. */
static enum kt_code find_last_version(const struct machine *machine, struct kt_txn *txn, uint32_t machine_id,
                                      uint64_t *version)
{
    struct kt_slice found, record;
    struct kt_cursor *cursor;
    uint8_t key[8];
    enum kt_code code = kt_cursor_open(txn, machine->definitions, &cursor);

    if (code != KT_OK)
        return code;
    code = kt_cursor_seek_before(cursor, definition_key(key, machine_id, UINT32_MAX), &found, &record);
    if (code == KT_OK && (found.len != 8 || kt_get_be32(found.data) != machine_id))
        code = KT_NOT_FOUND;
    if (code == KT_OK)
        *version = kt_get_be32((const uint8_t *)found.data + 4);
    kt_cursor_close(cursor);
    return code;
}

enum kt_code machine_get_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_get_params *params = parameters;
    const struct machine *machine = call->state;
    const uint64_t *asked = KT_GIVEN(params, KT_MACHINE_GET_VERSION) ? &params->version : NULL;
    uint64_t version = params->version;
    struct stored_definition stored;
    struct catalog_machine found;
    struct kt_json_writer writer;
    char checksum[9];
    enum kt_code code = catalog_find(machine, call->txn, params->machine, &found);

    if (code == KT_OK && !asked)
        code = find_last_version(machine, call->txn, found.id, &version);
    if (code == KT_OK)
        code = version > MACHINE_VERSION_MAX
                   ? KT_NOT_FOUND
                   : find_definition(machine, call->txn, found.id, (uint32_t)version, &stored);
    if (code == KT_NOT_FOUND)
        return fail_machine_not_found(reply, params->machine, asked);
    if (code != KT_OK)
        return machine_query_end(code, reply);
    definition_checksum(stored.text, checksum);
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_text_member(&writer, "checksum", checksum);
    kt_json_put_raw_member(&writer, "definition", stored.text);
    kt_json_put_string_member(&writer, "machine", params->machine);
    kt_json_put_u64_member(&writer, "version", version);
    kt_json_end_object(&writer);
    return machine_query_end(KT_OK, reply);
}

/* The versions of a machine, ascending, as an array. */
static enum kt_code list_versions(struct kt_cursor *cursor, uint32_t machine_id, struct kt_json_writer *writer)
{
    struct kt_slice key, record;
    uint8_t from[8];
    enum kt_code code;

    kt_json_begin_array(writer);
    code = kt_cursor_seek(cursor, definition_key(from, machine_id, 0), &key, &record);
    while (code == KT_OK && key.len == 8 && kt_get_be32(key.data) == machine_id && kt_buf_code(writer->out) == KT_OK) {
        kt_json_put_u64(writer, kt_get_be32((const uint8_t *)key.data + 4));
        code = kt_cursor_next(cursor, &key, &record);
    }
    kt_json_end_array(writer);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

static enum kt_code list_machines(struct kt_cursor *names, struct kt_cursor *definitions, uint64_t offset,
                                  uint64_t count, struct kt_json_writer *writer)
{
    struct kt_slice name, record;
    enum kt_code code = kt_cursor_seek(names, kt_slice("", 0), &name, &record);

    for (uint64_t at = 0; code == KT_OK && at < offset + count && kt_buf_code(writer->out) == KT_OK; at++) {
        struct catalog_machine found;

        if (at >= offset) {
            if ((code = decode_machine(record, &found)) != KT_OK)
                return code;
            kt_json_begin_object(writer);
            kt_json_put_string_member(writer, "machine", name);
            kt_json_put_key(writer, "versions");
            if ((code = list_versions(definitions, found.id, writer)) != KT_OK)
                return code;
            kt_json_end_object(writer);
        }
        code = kt_cursor_next(names, &name, &record);
    }
    return code == KT_NOT_FOUND ? KT_OK : code;
}

enum kt_code machine_list_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_list_params *params = parameters;
    const struct machine *machine = call->state;
    struct kt_cursor *names = NULL, *definitions = NULL;
    uint64_t total, count, offset;
    struct kt_json_writer writer;
    enum kt_code code = kt_txn_count(call->txn, machine->names, &total);

    if (code == KT_OK)
        code = kt_cursor_open(call->txn, machine->names, &names);
    if (code == KT_OK)
        code = kt_cursor_open(call->txn, machine->definitions, &definitions);
    if (code == KT_OK) {
        offset = KT_MIN(params->offset, total);
        count = total - offset;
        if (KT_GIVEN(params, KT_MACHINE_LIST_LIMIT))
            count = KT_MIN(count, params->limit);
        kt_json_writer_init(&writer, &reply->body);
        kt_json_begin_object(&writer);
        kt_json_put_bool_member(&writer, "has_more", offset + count < total);
        kt_json_put_key(&writer, "items");
        kt_json_begin_array(&writer);
        if (count > 0)
            code = list_machines(names, definitions, offset, count, &writer);
        kt_json_end_array(&writer);
        kt_json_put_u64_member(&writer, "total", total);
        kt_json_end_object(&writer);
    }
    if (definitions)
        kt_cursor_close(definitions);
    if (names)
        kt_cursor_close(names);
    return machine_query_end(code, reply);
}
