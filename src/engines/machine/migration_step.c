/* One step of a migration: a bounded number of instances is moved, moved back, or forgotten. */
#include "engines/machine/catalog.h"
#include "engines/machine/change.h"
#include "engines/machine/migration.h"
#include "engines/machine/timer.h"
#include "wire/reader.h"
#include "wire/writer.h"

struct stepping {
    struct machine *machine;
    struct kt_txn *txn;
    const struct kt_apply *apply;
    uint64_t id;
    struct migration *migration;
    uint64_t max;       /* rows to look at */
    uint64_t ctx_bytes; /* of the instances so far */
    struct kt_buf kept; /* what an instance was */
};

/* The first row of a keyspace at or behind a prefix, if it still begins with its first prefix_len bytes. */
static enum kt_code first_row(struct kt_txn *txn, kt_space space, struct kt_slice from, size_t prefix_len,
                              struct kt_slice *key, struct kt_slice *value)
{
    struct kt_cursor *cursor;
    enum kt_code code = kt_cursor_open(txn, space, &cursor);

    if (code != KT_OK)
        return code;
    code = kt_cursor_seek(cursor, from, key, value);
    if (code == KT_OK && (key->len != from.len || memcmp(key->data, from.data, prefix_len) != 0))
        code = key->len != from.len ? KT_CORRUPT : KT_NOT_FOUND;
    kt_cursor_close(cursor);
    return code;
}

/* Goes on to the next number: orders are big-endian. */
static void next_order(uint8_t order[INSTANCE_ORDER_BYTES])
{
    for (size_t i = INSTANCE_ORDER_BYTES; i > 0 && ++order[i - 1] == 0; i--)
        ;
}

/* Writes: an instance that stays where it is, for the list. Longer lists are counted only. */
static enum kt_code leave(struct stepping *stepping, uint8_t kind, const uint8_t order[INSTANCE_ORDER_BYTES],
                          struct kt_slice id, struct kt_slice state, enum migration_reason reason)
{
    struct kt_buf *record = &stepping->machine->record;
    uint8_t key[MIGRATION_ROW_BYTES];

    if (stepping->migration->left++ >= MACHINE_MIGRATION_LEFT_MAX)
        return KT_OK;
    kt_buf_clear(record);
    kt_write_varint(record, reason);
    kt_write_string(record, id);
    kt_write_string(record, state);
    if (kt_buf_code(record) != KT_OK)
        return KT_INTERNAL;
    return kt_txn_put(stepping->txn, stepping->machine->migration_left, migration_row(key, stepping->id, kind, order),
                      kt_buf_slice(record));
}

/* Writes an instance in its other version, with what follows from it. */
static enum kt_code write_instance(struct stepping *stepping, const struct instance_key *key, struct kt_slice id,
                                   const struct instance *before, const struct instance *after)
{
    struct kt_machine_change change = {
        .kind = KT_MACHINE_CHANGE_MIGRATE,
        .instance_id = id,
        .machine = after->machine,
        .version = after->version,
        .from_version = before->version,
        .from_state = before->state,
        .to_state = after->state,
        .ctx = after->ctx,
    };
    struct machine *machine = stepping->machine;
    uint8_t change_key[KT_CHANGE_KEY_BYTES];
    enum kt_code code;

    kt_buf_clear(&machine->record);
    instance_encode(after, key, id, &machine->record);
    if (kt_buf_code(&machine->record) != KT_OK)
        return KT_INTERNAL;
    code = kt_machine_change_write(&machine->changes, stepping->txn, stepping->apply, &change, &machine->change,
                                   change_key);
    if (code == KT_OK)
        code = kt_txn_put(stepping->txn, machine->instances, kt_slice(key->bytes, key->len),
                          kt_buf_slice(&machine->record));
    if (code == KT_OK)
        code = kt_change_put(&machine->changes, stepping->txn, change_key, &machine->change);
    if (code == KT_OK && after->group != before->group)
        code = instance_move(machine, stepping->txn, before, after->group);
    if (code == KT_OK)
        code = timers_replace(machine, stepping->txn, before, after, id);
    return code;
}

/* Moving. */

/* One instance of the old version. id is not borrowed from the transaction. */
static enum kt_code move(struct stepping *stepping, struct migration_plan *plan, const struct compiled *to,
                         uint64_t to_hash, const uint8_t order[INSTANCE_ORDER_BYTES], struct kt_slice id,
                         const struct instance_key *key, const struct instance *before)
{
    struct machine *machine = stepping->machine;
    struct instance after = *before;
    uint8_t row[MIGRATION_ROW_BYTES];
    enum migration_reason reason = migration_plan_state(plan, before->state, &after.state_at);
    enum kt_code code;

    stepping->migration->looked_at++;
    stepping->ctx_bytes += before->ctx.len;
    kt_buf_clear(&machine->ctx);
    if (reason == MIGRATION_MOVES) {
        migration_plan_ctx(plan, before->ctx, &machine->ctx);
        if (kt_buf_code(&machine->ctx) == KT_TOO_LARGE)
            reason = MIGRATION_CTX_TOO_LARGE;
        else if (kt_buf_code(&machine->ctx) != KT_OK)
            return KT_INTERNAL;
    }
    if (reason != MIGRATION_MOVES)
        return leave(stepping, MIGRATION_ROW_MOVE, order, id, kt_arena_dup(&machine->arena, before->state), reason);
    after.version = (uint32_t)stepping->migration->to_version;
    after.definition_hash = to_hash;
    after.state = to->definition.states[after.state_at];
    after.group = to->groups[after.state_at];
    after.ctx = kt_buf_slice(&machine->ctx);
    after.last_offset = stepping->apply->index;
    timers_set(to, &after, before->updated_ms, stepping->apply->time_ms);
    kt_buf_clear(&stepping->kept);
    kt_write_string(&stepping->kept, id);
    kt_write_varint(&stepping->kept, stepping->apply->index);
    instance_encode(before, key, id, &stepping->kept);
    if (kt_buf_code(&stepping->kept) != KT_OK)
        return KT_INTERNAL;

    code = write_instance(stepping, key, id, before, &after);
    if (code == KT_OK)
        code = kt_txn_put(stepping->txn, machine->migration_kept,
                          migration_row(row, stepping->id, MIGRATION_ROW_MOVE, order), kt_buf_slice(&stepping->kept));
    stepping->migration->moved++;
    return code;
}

/* The next instances in the order of their creation, whatever their version. */
static enum kt_code step_move(struct stepping *stepping)
{
    struct migration *migration = stepping->migration;
    struct machine *machine = stepping->machine;
    uint8_t from[4 + INSTANCE_ORDER_BYTES];
    struct migration_plan plan;
    const struct compiled *to;
    uint64_t hash = 0;
    enum kt_code code = catalog_compiled(machine, stepping->txn, (uint32_t)migration->machine_id,
                                         (uint32_t)migration->to_version, &hash, &to);

    if (code != KT_OK)
        return code == KT_NOT_FOUND ? KT_CORRUPT : code; /* versions do not go away */
    migration_plan_init(&plan, migration, &to->definition, &machine->arena);
    kt_put_be32(from, (uint32_t)migration->machine_id);
    memcpy(from + 4, migration->cursor.data, INSTANCE_ORDER_BYTES);
    for (uint64_t i = 0; i < stepping->max && stepping->ctx_bytes < MACHINE_MIGRATION_STEP_BYTES; i++) {
        uint8_t *order = from + 4;
        struct kt_slice key, value, id;
        struct instance_key instance_key;
        struct instance instance;

        code = first_row(stepping->txn, machine->by_machine, kt_slice(from, sizeof(from)), 4, &key, &value);
        if (code != KT_OK)
            break;
        memcpy(from, key.data, sizeof(from));
        code = kt_txn_get(stepping->txn, machine->created, kt_slice(order, INSTANCE_ORDER_BYTES), &id);
        if (code == KT_OK) {
            id = kt_arena_dup(&machine->arena, id);
            code = instance_find(machine, stepping->txn, id, &instance_key, &instance);
        }
        if (code == KT_NOT_FOUND)
            code = KT_CORRUPT; /* what is in one order is in the others */
        if (code == KT_OK && instance.version == migration->from_version)
            code = move(stepping, &plan, to, hash, order, id, &instance_key, &instance);
        if (code != KT_OK)
            break;
        next_order(order);
    }
    migration_plan_release(&plan);
    if (code == KT_NOT_FOUND) {
        migration->phase = MIGRATION_MOVED;
        migration->ended_ms = stepping->apply->time_ms;
        code = KT_OK;
    }
    migration->cursor = kt_arena_dup(&machine->arena, kt_slice(from + 4, INSTANCE_ORDER_BYTES));
    return code;
}

/* Undoing. */

/* What a row of machine.migration_kept holds. */
struct kept {
    struct kt_slice id;
    kt_index moved_index;
    struct instance was;
};

static enum kt_code decode_kept(struct kt_slice value, struct kept *kept)
{
    struct kt_reader reader;

    kt_reader_init(&reader, value);
    kept->id = kt_read_string(&reader);
    kept->moved_index = kt_read_varint(&reader);
    if (!kt_reader_ok(&reader))
        return KT_CORRUPT;
    return instance_decode(kt_read_bytes(&reader, kt_reader_left(&reader)), &kept->was);
}

static enum kt_code restore(struct stepping *stepping, const struct kept *kept, const struct instance_key *key,
                            const struct instance *now)
{
    struct machine *machine = stepping->machine;
    struct instance after = kept->was;
    const struct compiled *from;
    enum kt_code code =
        catalog_compiled(machine, stepping->txn, after.machine_id, after.version, &after.definition_hash, &from);

    if (code != KT_OK)
        return code == KT_NOT_FOUND ? KT_CORRUPT : code;
    if (after.state_at >= from->definition.state_count)
        return KT_CORRUPT;
    after.last_offset = stepping->apply->index;
    timers_set(from, &after, after.updated_ms, stepping->apply->time_ms);
    stepping->migration->restored++;
    return write_instance(stepping, key, kept->id, now, &after);
}

/* One row: back, if nothing happened since. The row goes in any case. */
static enum kt_code undo(struct stepping *stepping, const uint8_t row[MIGRATION_ROW_BYTES], struct kt_slice value)
{
    struct machine *machine = stepping->machine;
    const uint8_t *order = row + 9;
    uint8_t now_order[INSTANCE_ORDER_BYTES];
    struct instance_key key;
    struct instance now;
    struct kept kept;
    enum kt_code code;

    kt_buf_clear(&stepping->kept);
    kt_buf_append_slice(&stepping->kept, value); /* the writes below may move it */
    if (kt_buf_code(&stepping->kept) != KT_OK)
        return KT_INTERNAL;
    if ((code = decode_kept(kt_buf_slice(&stepping->kept), &kept)) != KT_OK)
        return code;
    stepping->ctx_bytes += kept.was.ctx.len;
    if ((code = instance_find(machine, stepping->txn, kept.id, &key, &now)) != KT_OK)
        return code == KT_NOT_FOUND ? KT_CORRUPT : code; /* records stay */
    instance_order(now_order, now.created_index, now.created_serial);
    if (now.deleted || memcmp(now_order, order, INSTANCE_ORDER_BYTES) != 0)
        code = leave(stepping, MIGRATION_ROW_UNDO, order, kept.id, kt_slice("", 0), MIGRATION_DELETED_SINCE);
    else if (now.last_offset != kept.moved_index)
        code = leave(stepping, MIGRATION_ROW_UNDO, order, kept.id, kt_arena_dup(&machine->arena, now.state),
                     MIGRATION_CHANGED_SINCE);
    else
        code = restore(stepping, &kept, &key, &now);
    if (code == KT_OK)
        code = kt_txn_delete(stepping->txn, machine->migration_kept, kt_slice(row, MIGRATION_ROW_BYTES));
    return code;
}

/* The kept rows one after the other, undone or only removed, until there are none. */
static enum kt_code step_kept(struct stepping *stepping, bool undoing)
{
    static const uint8_t first[INSTANCE_ORDER_BYTES];
    struct migration *migration = stepping->migration;
    uint8_t from[MIGRATION_ROW_BYTES], row[MIGRATION_ROW_BYTES];
    enum kt_code code = KT_OK;

    migration_row(from, stepping->id, MIGRATION_ROW_MOVE, first);
    for (uint64_t i = 0; i < stepping->max && stepping->ctx_bytes < MACHINE_MIGRATION_STEP_BYTES && code == KT_OK;
         i++) {
        struct kt_slice key, value;

        code =
            first_row(stepping->txn, stepping->machine->migration_kept, kt_slice(from, sizeof(from)), 9, &key, &value);
        if (code != KT_OK)
            break;
        memcpy(row, key.data, sizeof(row));
        if (undoing)
            code = undo(stepping, row, value);
        else
            code = kt_txn_delete(stepping->txn, stepping->machine->migration_kept, kt_slice(row, sizeof(row)));
    }
    if (code != KT_NOT_FOUND)
        return code;
    migration->phase = undoing ? MIGRATION_UNDONE : MIGRATION_CONFIRMED;
    migration->ended_ms = stepping->apply->time_ms;
    return KT_OK;
}

static void reply_step(struct kt_reply *reply, const struct migration *migration)
{
    struct kt_json_writer writer;

    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "left", migration->left);
    kt_json_put_u64_member(&writer, "moved", migration->moved);
    kt_json_put_text_member(&writer, "phase", migration_phase_text(migration->phase));
    kt_json_put_u64_member(&writer, "restored", migration->restored);
    kt_json_end_object(&writer);
}

enum kt_code machine_migration_step_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply,
                                          const void *body, struct kt_reply *reply)
{
    const struct machine_migration_step_op *op = body;
    struct machine *machine = state;
    struct migration migration;
    struct stepping stepping = {
        .machine = machine,
        .txn = txn,
        .apply = apply,
        .id = op->migration,
        .migration = &migration,
        .max = KT_MIN(op->max, (uint64_t)MACHINE_MIGRATION_STEP_MAX),
    };
    struct kt_slice record;
    uint8_t key[8];
    enum kt_code code;

    machine_begin(machine);
    kt_put_be64(key, op->migration);
    code = kt_txn_get(txn, machine->migrations, kt_slice(key, sizeof(key)), &record);
    if (code == KT_NOT_FOUND)
        return kt_reply_fail(reply, KT_NOT_FOUND, "migration %llu not found", (unsigned long long)op->migration);
    /* A copy: the writes of this step would move what is borrowed. */
    if (code == KT_OK)
        code = kt_struct_decode(&migration_struct, kt_arena_dup(&machine->arena, record), &migration);
    if (code == KT_OK && migration.phase == MIGRATION_MOVING && migration.cursor.len != INSTANCE_ORDER_BYTES)
        code = KT_CORRUPT;
    if (code != KT_OK)
        return code;
    kt_buf_init(&stepping.kept, MACHINE_RECORD_BYTES_MAX);
    switch (migration.phase) {
    case MIGRATION_MOVING:
        code = step_move(&stepping);
        break;
    case MIGRATION_UNDOING:
    case MIGRATION_CONFIRMING:
        code = step_kept(&stepping, migration.phase == MIGRATION_UNDOING);
        break;
    default: /* proposed once too often */
        kt_buf_release(&stepping.kept);
        reply_step(reply, &migration);
        return KT_OK;
    }
    kt_buf_release(&stepping.kept);
    if (code == KT_OK)
        code = migration_put(machine, txn, op->migration, &migration);
    reply_step(reply, &migration);
    return code;
}
