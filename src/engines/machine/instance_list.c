/*
 * LIST_INSTANCES, in the order of creation. Without a filter, by machine, and by machine and state there is an index to
 * walk; a state of all machines is a merge of the groups that have its name. Totals are counters.
 */
#include "engines/machine/catalog.h"
#include "engines/machine/instance.h"
#include "wire/writer.h"

/* One stretch of an index: keys of an optional number and an order. */
struct source {
    uint32_t number;
    uint8_t order[INSTANCE_ORDER_BYTES]; /* the one that comes next */
};

struct walk {
    const struct machine *machine;
    struct kt_txn *txn;
    struct kt_cursor *cursor;
    size_t prefix_bytes;    /* of a number before the order: 4 or none */
    struct source *sources; /* a heap, the one with the lowest order first */
    size_t count;
    uint64_t total;
};

static bool comes_before(const struct source *a, const struct source *b)
{
    return memcmp(a->order, b->order, sizeof(a->order)) < 0;
}

static void sink(struct walk *walk, size_t at)
{
    for (;;) {
        size_t least = at, left = 2 * at + 1, right = left + 1;
        struct source moved;

        if (left < walk->count && comes_before(&walk->sources[left], &walk->sources[least]))
            least = left;
        if (right < walk->count && comes_before(&walk->sources[right], &walk->sources[least]))
            least = right;
        if (least == at)
            return;
        moved = walk->sources[at];
        walk->sources[at] = walk->sources[least];
        walk->sources[least] = moved;
        at = least;
    }
}

/* Takes the order out of a key of the source; KT_NOT_FOUND if the key is behind the source's stretch. */
static enum kt_code take_order(const struct walk *walk, struct source *source, struct kt_slice key)
{
    const uint8_t *bytes = key.data;

    if (key.len != walk->prefix_bytes + INSTANCE_ORDER_BYTES)
        return KT_CORRUPT;
    if (walk->prefix_bytes > 0 && kt_get_be32(bytes) != source->number)
        return KT_NOT_FOUND;
    memcpy(source->order, bytes + walk->prefix_bytes, INSTANCE_ORDER_BYTES);
    return KT_OK;
}

/* Moves a source to its first key not before its order. */
static enum kt_code seek(const struct walk *walk, struct source *source)
{
    uint8_t from[4 + INSTANCE_ORDER_BYTES];
    struct kt_slice key, value;
    enum kt_code code;

    kt_put_be32(from, source->number);
    memcpy(from + walk->prefix_bytes, source->order, INSTANCE_ORDER_BYTES);
    code = kt_cursor_seek(walk->cursor, kt_slice(from, walk->prefix_bytes + INSTANCE_ORDER_BYTES), &key, &value);
    return code == KT_OK ? take_order(walk, source, key) : code;
}

/* Leaves the first source's order behind. A lone source has the cursor to itself. */
static enum kt_code advance(struct walk *walk)
{
    struct source *source = &walk->sources[0];
    struct kt_slice key, value;
    enum kt_code code;

    if (walk->count == 1) {
        code = kt_cursor_next(walk->cursor, &key, &value);
        if (code == KT_OK)
            code = take_order(walk, source, key);
    } else {
        for (size_t i = INSTANCE_ORDER_BYTES; i > 0 && ++source->order[i - 1] == 0; i--)
            ;
        code = seek(walk, source);
    }
    if (code == KT_NOT_FOUND) {
        *source = walk->sources[--walk->count];
        code = KT_OK;
        /* The cursor stands where the last seek left it: a source that is alone from now on wants it at its own. */
        if (walk->count == 1)
            code = seek(walk, source);
    } else if (code == KT_OK && walk->count > 1) {
        sink(walk, 0);
        return KT_OK;
    }
    if (walk->count > 1)
        sink(walk, 0);
    return code;
}

/* The groups of a state in all machines, those that hold an instance. */
static enum kt_code collect_groups(struct walk *walk, struct kt_slice state, struct kt_arena *arena)
{
    uint8_t from[2 + MACHINE_NAME_BYTES_MAX];
    struct kt_slice prefix, key, value;
    struct kt_cursor *cursor;
    size_t cap = 0;
    enum kt_code code;

    if (state.len > MACHINE_NAME_BYTES_MAX)
        return KT_OK;
    kt_put_be16(from, (uint16_t)state.len);
    if (state.len > 0)
        memcpy(from + 2, state.data, state.len);
    prefix = kt_slice(from, 2 + state.len);
    if ((code = kt_cursor_open(walk->txn, walk->machine->states, &cursor)) != KT_OK)
        return code;
    code = kt_cursor_seek(cursor, prefix, &key, &value);
    while (code == KT_OK && key.len == prefix.len + 4 && memcmp(key.data, prefix.data, prefix.len) == 0) {
        struct source source = {.number = kt_get_be32((const uint8_t *)key.data + prefix.len)};
        uint64_t count;

        if ((code = instance_count(walk->machine, walk->txn, 'g', source.number, &count)) != KT_OK)
            break;
        if (count > 0) {
            if (walk->count == cap) {
                size_t grown = cap ? 2 * cap : 8;
                struct source *sources = kt_arena_alloc(arena, grown * sizeof(*sources));

                if (cap > 0)
                    memcpy(sources, walk->sources, cap * sizeof(*sources));
                walk->sources = sources;
                cap = grown;
            }
            walk->sources[walk->count++] = source;
            walk->total += count;
        }
        code = kt_cursor_next(cursor, &key, &value);
    }
    kt_cursor_close(cursor);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

/* The one source of a list by machine, or by machine and state. */
static enum kt_code find_source(struct walk *walk, const struct kt_machine_instances_params *params, bool by_state)
{
    struct source *source = &walk->sources[0];
    struct catalog_machine found;
    enum kt_code code = catalog_find(walk->machine, walk->txn, params->machine, &found);

    if (code == KT_OK && by_state)
        code = catalog_group(walk->machine, walk->txn, found.id, params->state, &source->number);
    if (code == KT_NOT_FOUND)
        return KT_OK;
    if (code != KT_OK)
        return code;
    if (!by_state)
        source->number = found.id;
    code = instance_count(walk->machine, walk->txn, by_state ? 'g' : 'm', source->number, &walk->total);
    walk->count = walk->total > 0 ? 1 : 0;
    return code;
}

/* Finds the sources and the total, and places every source at its first key. */
static enum kt_code begin(struct walk *walk, const struct kt_machine_instances_params *params, struct kt_arena *arena)
{
    bool by_machine = KT_GIVEN(params, KT_MACHINE_INSTANCES_MACHINE);
    bool by_state = KT_GIVEN(params, KT_MACHINE_INSTANCES_STATE);
    kt_space space = walk->machine->by_group;
    enum kt_code code;

    walk->prefix_bytes = 4;
    walk->sources = kt_arena_zalloc(arena, sizeof(*walk->sources));
    if (by_machine) {
        if (!by_state)
            space = walk->machine->by_machine;
        code = find_source(walk, params, by_state);
    } else if (by_state) {
        code = collect_groups(walk, params->state, arena);
    } else {
        space = walk->machine->created;
        walk->prefix_bytes = 0;
        code = kt_txn_count(walk->txn, space, &walk->total);
        walk->count = walk->total > 0 ? 1 : 0;
    }
    if (code == KT_OK)
        code = kt_cursor_open(walk->txn, space, &walk->cursor);
    for (size_t i = 0; i < walk->count && code == KT_OK; i++)
        code = seek(walk, &walk->sources[i]);
    for (size_t i = walk->count / 2; i > 0; i--)
        sink(walk, i - 1);
    return code == KT_NOT_FOUND ? KT_CORRUPT : code; /* a source that counts something has something */
}

static enum kt_code put_entry(const struct walk *walk, struct kt_json_writer *writer)
{
    struct instance_key key;
    struct instance instance;
    struct kt_slice id;
    enum kt_code code =
        kt_txn_get(walk->txn, walk->machine->created, kt_slice(walk->sources[0].order, INSTANCE_ORDER_BYTES), &id);

    if (code == KT_OK)
        code = instance_find(walk->machine, walk->txn, id, &key, &instance);
    if (code != KT_OK)
        return code == KT_NOT_FOUND ? KT_CORRUPT : code;
    kt_json_begin_object(writer);
    kt_json_put_u64_member(writer, "created_at", instance.created_ms);
    kt_json_put_string_member(writer, "id", id);
    kt_json_put_u64_member(writer, "last_wal_offset", instance.last_offset);
    kt_json_put_string_member(writer, "machine", instance.machine);
    kt_json_put_string_member(writer, "state", instance.state);
    kt_json_put_u64_member(writer, "updated_at", instance.updated_ms);
    kt_json_put_u64_member(writer, "version", instance.version);
    kt_json_end_object(writer);
    return KT_OK;
}

static enum kt_code put_page(struct walk *walk, uint64_t offset, uint64_t count, struct kt_json_writer *writer)
{
    enum kt_code code = KT_OK;

    for (uint64_t at = 0; at < offset + count && code == KT_OK && kt_buf_code(writer->out) == KT_OK; at++) {
        if (walk->count == 0)
            return KT_CORRUPT; /* counters and indexes tell of the same instances */
        if (at >= offset)
            code = put_entry(walk, writer);
        if (code == KT_OK && at + 1 < offset + count)
            code = advance(walk);
    }
    return code;
}

enum kt_code machine_instances_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_instances_params *params = parameters;
    struct walk walk = {.machine = call->state, .txn = call->txn};
    uint64_t limit = MACHINE_LIST_DEFAULT, offset, count;
    struct kt_json_writer writer;
    enum kt_code code = begin(&walk, params, call->arena);

    if (KT_GIVEN(params, KT_MACHINE_INSTANCES_LIMIT))
        limit = KT_MIN(params->limit, (uint64_t)MACHINE_LIST_MAX);
    offset = KT_MIN(params->offset, walk.total);
    count = KT_MIN(limit, walk.total - offset);
    if (code == KT_OK) {
        kt_json_writer_init(&writer, &reply->body);
        kt_json_begin_object(&writer);
        kt_json_put_bool_member(&writer, "has_more", offset + count < walk.total);
        kt_json_put_key(&writer, "instances");
        kt_json_begin_array(&writer);
        if (count > 0)
            code = put_page(&walk, offset, count, &writer);
        kt_json_end_array(&writer);
        kt_json_put_u64_member(&writer, "total", walk.total);
        kt_json_end_object(&writer);
    }
    if (walk.cursor)
        kt_cursor_close(walk.cursor);
    return machine_query_end(code, reply);
}
