/* The migrations themselves: their records, beginning one, and asking for its end. */
#include "engines/machine/migration.h"

#include "engines/machine/catalog.h"
#include "engines/machine/idempotency.h"
#include "engines/machine/text.h"
#include "wire/writer.h"

#define MEMBER(member) offsetof(struct migration, member)

/* A format on disk: rows are appended. */
static const struct kt_field rows[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(machine), KT_FIELD_REQUIRED, 0, "Name of the machine."},
    {"machine_id", KT_FIELD_U64, MEMBER(machine_id), KT_FIELD_REQUIRED, 0, "Its number."},
    {"from_version", KT_FIELD_U64, MEMBER(from_version), KT_FIELD_REQUIRED, 0, "The version that instances leave."},
    {"to_version", KT_FIELD_U64, MEMBER(to_version), KT_FIELD_REQUIRED, 0, "The version that they move to."},
    {"states", KT_FIELD_JSON, MEMBER(states), KT_FIELD_REQUIRED, 0, "The mapping of states."},
    {"ctx_defaults", KT_FIELD_JSON, MEMBER(ctx_defaults), KT_FIELD_REQUIRED, 0, "Members added where missing."},
    {"ctx_renames", KT_FIELD_JSON, MEMBER(ctx_renames), KT_FIELD_REQUIRED, 0, "Members that get new names."},
    {"ctx_removed", KT_FIELD_JSON, MEMBER(ctx_removed), KT_FIELD_REQUIRED, 0, "Members that go."},
    {"phase", KT_FIELD_U64, MEMBER(phase), KT_FIELD_REQUIRED, 0, "How far it is."},
    {"cursor", KT_FIELD_BYTES, MEMBER(cursor), KT_FIELD_REQUIRED, INSTANCE_ORDER_BYTES, "Where the next step begins."},
    {"looked_at", KT_FIELD_U64, MEMBER(looked_at), KT_FIELD_REQUIRED, 0, "Instances of the version that it came to."},
    {"moved", KT_FIELD_U64, MEMBER(moved), KT_FIELD_REQUIRED, 0, "Instances that moved."},
    {"left", KT_FIELD_U64, MEMBER(left), KT_FIELD_REQUIRED, 0, "Instances that could not."},
    {"restored", KT_FIELD_U64, MEMBER(restored), KT_FIELD_REQUIRED, 0, "Instances that were moved back."},
    {"started_ms", KT_FIELD_U64, MEMBER(started_ms), KT_FIELD_REQUIRED, 0, "When it began."},
    {"ended_ms", KT_FIELD_U64, MEMBER(ended_ms), KT_FIELD_REQUIRED, 0, "When its phase ended; 0: it goes on."},
};

const struct kt_struct migration_struct = KT_STRUCT(struct migration, rows);

const char *migration_phase_text(uint64_t phase)
{
    static const char *const texts[] = {"?", "moving", "moved", "undoing", "undone", "confirming", "confirmed"};

    return texts[phase < KT_COUNT(texts) ? phase : 0];
}

const char *migration_reason_text(uint64_t reason)
{
    static const char *const texts[] = {
        "?",
        "state without mapping",
        "unknown target state",
        "context too large",
        "changed since it was moved",
        "deleted since it was moved",
    };

    return texts[reason < KT_COUNT(texts) ? reason : 0];
}

static struct kt_slice id_key(uint8_t key[8], uint64_t id)
{
    kt_put_be64(key, id);
    return kt_slice(key, 8);
}

enum kt_code migration_find(const struct machine *machine, struct kt_txn *txn, uint64_t id, struct migration *migration)
{
    struct kt_slice record;
    uint8_t key[8];
    enum kt_code code = kt_txn_get(txn, machine->migrations, id_key(key, id), &record);

    return code == KT_OK ? kt_struct_decode(&migration_struct, record, migration) : code;
}

enum kt_code migration_put(struct machine *machine, struct kt_txn *txn, uint64_t id, const struct migration *migration)
{
    uint8_t key[8];

    kt_buf_clear(&machine->record);
    kt_struct_encode(&migration_struct, migration, &machine->record);
    if (kt_buf_code(&machine->record) != KT_OK)
        return KT_INTERNAL; /* the mapping is bounded: only memory can be wanting */
    return kt_txn_put(txn, machine->migrations, id_key(key, id), kt_buf_slice(&machine->record));
}

struct kt_slice migration_row(uint8_t key[MIGRATION_ROW_BYTES], uint64_t id, uint8_t kind,
                              const uint8_t order[INSTANCE_ORDER_BYTES])
{
    kt_put_be64(key, id);
    key[8] = kind;
    memcpy(key + 9, order, INSTANCE_ORDER_BYTES);
    return kt_slice(key, MIGRATION_ROW_BYTES);
}

/* Preparing. */

/* Every value is a string, and there are not too many. */
static bool is_names(struct kt_slice object, uint32_t max)
{
    struct kt_slice key, value;
    struct kt_json_iter iter;
    uint32_t count = 0;

    kt_json_iter_init(&iter, object);
    while (kt_json_iter_next(&iter, &key, &value))
        if (kt_json_text_kind(value) != KT_JSON_STRING || ++count > max)
            return false;
    return true;
}

enum kt_code machine_migrate_check(const struct kt_machine_migrate_params *params, struct kt_reply *reply)
{
    struct kt_slice key, value;
    struct kt_json_iter iter;
    uint32_t count = 0;

    if (params->from_version == params->to_version)
        return kt_reply_fail(reply, KT_BAD_REQUEST, "from_version and to_version are the same");
    if (!is_names(params->states, MACHINE_STATES_MAX))
        return kt_reply_fail(reply, KT_BAD_REQUEST, "field 'states' must map names of states to names of states");
    if (!is_names(params->ctx_renames, MACHINE_MIGRATION_MEMBERS_MAX))
        return kt_reply_fail(reply, KT_BAD_REQUEST, "field 'ctx_renames' must map names to names, at most %u",
                             MACHINE_MIGRATION_MEMBERS_MAX);
    if ((KT_GIVEN(params, KT_MACHINE_MIGRATE_CTX_REMOVED) && kt_json_text_kind(params->ctx_removed) != KT_JSON_ARRAY) ||
        !is_names(params->ctx_removed, MACHINE_MIGRATION_MEMBERS_MAX))
        return kt_reply_fail(reply, KT_BAD_REQUEST, "field 'ctx_removed' must be an array of names, at most %u",
                             MACHINE_MIGRATION_MEMBERS_MAX);
    kt_json_iter_init(&iter, params->ctx_defaults);
    while (kt_json_iter_next(&iter, &key, &value))
        if (++count > MACHINE_MIGRATION_MEMBERS_MAX)
            return kt_reply_fail(reply, KT_BAD_REQUEST, "field 'ctx_defaults' has more than %u members",
                                 MACHINE_MIGRATION_MEMBERS_MAX);
    return KT_OK;
}

static struct kt_slice or_empty(struct kt_slice json, const char *empty)
{
    return json.len > 0 ? json : kt_slice_text(empty);
}

void migration_from_params(const struct kt_machine_migrate_params *params, struct migration *migration)
{
    *migration = (struct migration){
        .given = (UINT64_C(1) << KT_COUNT(rows)) - 1,
        .machine = params->machine,
        .from_version = params->from_version,
        .to_version = params->to_version,
        .states = or_empty(params->states, "{}"),
        .ctx_defaults = or_empty(params->ctx_defaults, "{}"),
        .ctx_renames = or_empty(params->ctx_renames, "{}"),
        .ctx_removed = or_empty(params->ctx_removed, "[]"),
    };
}

enum kt_code machine_migrate_prepare(const struct kt_call *call, const void *parameters, struct kt_buf *op,
                                     struct kt_reply *reply)
{
    const struct kt_machine_migrate_params *params = parameters;
    struct machine_migrate_op body = {.given = 3};
    struct migration migration;
    struct kt_buf mapping;
    enum kt_code code = machine_migrate_check(params, reply);

    (void)call;
    if (code != KT_OK)
        return code;
    migration_from_params(params, &migration);
    kt_buf_init(&mapping, MACHINE_MIGRATION_BYTES_MAX);
    kt_struct_encode(&migration_struct, &migration, &mapping);
    if ((code = kt_buf_code(&mapping)) == KT_OK) {
        body.migration = kt_buf_slice(&mapping);
        body.idempotency_key = params->idempotency_key;
        kt_op_begin(op, machine_op_migrate.code);
        kt_struct_encode(&machine_op_migrate.body, &body, op);
        code = kt_buf_code(op);
    }
    if (code != KT_OK)
        kt_reply_fail(reply, code, "the mapping is larger than %u bytes", MACHINE_MIGRATION_BYTES_MAX);
    kt_buf_release(&mapping);
    return code;
}

static enum kt_code prepare_end(const struct kt_machine_migration_params *params, bool undo, struct kt_buf *op,
                                struct kt_reply *reply)
{
    struct machine_migration_end_op body = {.given = 3, .migration = params->migration_id, .undo = undo};

    kt_op_begin(op, machine_op_migration_end.code);
    kt_struct_encode(&machine_op_migration_end.body, &body, op);
    return kt_buf_code(op) == KT_OK ? KT_OK : kt_reply_fail(reply, kt_buf_code(op), "no memory for the operation");
}

enum kt_code machine_undo_prepare(const struct kt_call *call, const void *params, struct kt_buf *op,
                                  struct kt_reply *reply)
{
    (void)call;
    return prepare_end(params, true, op, reply);
}

enum kt_code machine_confirm_prepare(const struct kt_call *call, const void *params, struct kt_buf *op,
                                     struct kt_reply *reply)
{
    (void)call;
    return prepare_end(params, false, op, reply);
}

/* Beginning. */

static bool goes_on(const struct migration *migration)
{
    return migration->phase == MIGRATION_MOVING || migration->phase == MIGRATION_UNDOING ||
           migration->phase == MIGRATION_CONFIRMING;
}

static bool is_over(const struct migration *migration)
{
    return migration->phase == MIGRATION_UNDONE || migration->phase == MIGRATION_CONFIRMED;
}

/* What the other migrations mean for a new one. */
struct others {
    uint64_t count;
    uint64_t running; /* the one of the same machine that is under way; 0: none */
    uint64_t oldest;  /* that is over; 0: none */
};

static enum kt_code look_at_others(const struct machine *machine, struct kt_txn *txn, uint64_t machine_id,
                                   struct others *others)
{
    struct kt_slice key, record;
    struct kt_cursor *cursor;
    enum kt_code code = kt_cursor_open(txn, machine->migrations, &cursor);

    *others = (struct others){0};
    if (code != KT_OK)
        return code;
    code = kt_cursor_seek(cursor, kt_slice("", 0), &key, &record);
    for (; code == KT_OK; code = kt_cursor_next(cursor, &key, &record)) {
        struct migration migration;

        if (key.len != 8 || kt_struct_decode(&migration_struct, record, &migration) != KT_OK) {
            code = KT_CORRUPT;
            break;
        }
        others->count++;
        if (goes_on(&migration) && migration.machine_id == machine_id)
            others->running = kt_get_be64(key.data);
        if (is_over(&migration) && others->oldest == 0)
            others->oldest = kt_get_be64(key.data);
    }
    kt_cursor_close(cursor);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

/* Writes: a migration that is over goes, with the list of what it left behind. */
static enum kt_code forget_migration(struct machine *machine, struct kt_txn *txn, uint64_t id)
{
    uint8_t prefix[8], row[MIGRATION_ROW_BYTES];
    enum kt_code code = kt_txn_delete(txn, machine->migrations, id_key(prefix, id));

    while (code == KT_OK) {
        struct kt_slice key, value;
        struct kt_cursor *cursor;

        if ((code = kt_cursor_open(txn, machine->migration_left, &cursor)) != KT_OK)
            return code;
        code = kt_cursor_seek(cursor, kt_slice(prefix, sizeof(prefix)), &key, &value);
        if (code == KT_OK && (key.len != sizeof(row) || memcmp(key.data, prefix, sizeof(prefix)) != 0))
            code = KT_NOT_FOUND;
        if (code == KT_OK)
            memcpy(row, key.data, sizeof(row));
        kt_cursor_close(cursor);
        if (code == KT_OK)
            code = kt_txn_delete(txn, machine->migration_left, kt_slice(row, sizeof(row)));
    }
    return code == KT_NOT_FOUND ? KT_OK : code;
}

static void reply_migration(struct kt_reply *reply, uint64_t id, const struct migration *migration)
{
    struct kt_json_writer writer;

    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_string_member(&writer, "machine", migration->machine);
    kt_json_put_u64_member(&writer, "migration_id", id);
    kt_json_put_text_member(&writer, "phase", migration_phase_text(migration->phase));
    kt_json_put_u64_member(&writer, "wal_offset", reply->offset);
    kt_json_end_object(&writer);
}

static enum kt_code fail_running(struct kt_reply *reply, uint64_t id)
{
    struct kt_json_writer writer;

    kt_reply_fail(reply, KT_CONFLICT, "a migration of this machine is under way: %llu", (unsigned long long)id);
    kt_json_writer_init(&writer, &reply->details);
    kt_json_begin_object(&writer);
    kt_json_put_u64_member(&writer, "migration_id", id);
    kt_json_end_object(&writer);
    return KT_CONFLICT;
}

/* Both versions are there, and the mapping leads to states that the new one has. */
static enum kt_code check_versions(struct machine *machine, struct kt_txn *txn, const struct migration *migration,
                                   struct kt_reply *reply)
{
    const uint64_t versions[] = {migration->from_version, migration->to_version};
    const struct compiled *compiled = NULL;
    struct migration_plan plan;
    enum kt_code code = KT_OK;
    struct kt_slice key, value;
    struct kt_json_iter iter;

    for (size_t i = 0; i < KT_COUNT(versions) && code == KT_OK; i++) {
        uint64_t hash = 0;

        code = versions[i] > MACHINE_VERSION_MAX ? KT_NOT_FOUND
                                                 : catalog_compiled(machine, txn, (uint32_t)migration->machine_id,
                                                                    (uint32_t)versions[i], &hash, &compiled);
        if (code == KT_NOT_FOUND)
            return fail_machine_not_found(reply, migration->machine, &versions[i]);
    }
    if (code != KT_OK)
        return code;
    migration_plan_init(&plan, migration, &compiled->definition, &machine->arena);
    kt_json_iter_init(&iter, migration->states);
    while (code == KT_OK && kt_json_iter_next(&iter, &key, &value)) {
        struct kt_slice name;

        if (!text_of_string(value, &machine->arena, &name) || !kt_map_get(&plan.targets, name))
            code = kt_reply_fail(reply, KT_BAD_REQUEST, "unknown target state %.*s in 'states': version %llu has none",
                                 (int)KT_MIN(value.len, (size_t)128), (const char *)value.data,
                                 (unsigned long long)migration->to_version);
    }
    migration_plan_release(&plan);
    return code;
}

enum kt_code machine_migrate_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply, const void *body,
                                   struct kt_reply *reply)
{
    static const uint8_t first[INSTANCE_ORDER_BYTES];
    const struct machine_migrate_op *op = body;
    struct machine *machine = state;
    struct idempotency_key once = {.operation = IDEMPOTENCY_MIGRATE, .key = op->idempotency_key};
    struct idempotency_slot slot;
    struct catalog_machine found;
    struct migration migration;
    struct others others;
    struct kt_error error;
    enum kt_code code;

    machine_begin(machine);
    if (kt_struct_check(&machine_op_migrate.body, op, &error) != KT_OK)
        return kt_reply_fail_error(reply, &error);
    if (kt_struct_decode(&migration_struct, op->migration, &migration) != KT_OK)
        return kt_reply_fail(reply, KT_BAD_REQUEST, "damaged mapping");
    code = idempotency_find(machine, txn, apply, &once, &slot, reply);
    if (code != KT_NOT_FOUND)
        return code;
    code = catalog_find(machine, txn, migration.machine, &found);
    if (code == KT_NOT_FOUND)
        return fail_machine_not_found(reply, migration.machine, NULL);
    if (code != KT_OK)
        return code;
    migration.machine_id = found.id;
    if ((code = check_versions(machine, txn, &migration, reply)) != KT_OK)
        return code;
    if ((code = look_at_others(machine, txn, found.id, &others)) != KT_OK)
        return code;
    if (others.running != 0)
        return fail_running(reply, others.running);
    if (others.count >= MACHINE_MIGRATIONS_MAX && others.oldest == 0)
        return kt_reply_fail(reply, KT_CONFLICT, "%u migrations wait to be confirmed or undone",
                             MACHINE_MIGRATIONS_MAX);
    migration.phase = MIGRATION_MOVING;
    migration.cursor = kt_slice(first, sizeof(first));
    migration.looked_at = migration.moved = migration.left = migration.restored = migration.ended_ms = 0;
    migration.started_ms = apply->time_ms;
    reply_migration(reply, apply->index, &migration);
    if (kt_buf_code(&reply->body) != KT_OK)
        return machine_buf_failed(&reply->body, reply);

    if (others.count >= MACHINE_MIGRATIONS_MAX)
        code = forget_migration(machine, txn, others.oldest);
    if (code == KT_OK)
        code = migration_put(machine, txn, apply->index, &migration);
    if (code == KT_OK)
        code = idempotency_keep(machine, txn, apply, &once, &slot, reply);
    return code;
}

/* Ending. */

enum kt_code machine_migration_end_apply(void *state, struct kt_txn *txn, const struct kt_apply *apply,
                                         const void *body, struct kt_reply *reply)
{
    const struct machine_migration_end_op *op = body;
    enum migration_phase wanted = op->undo ? MIGRATION_UNDOING : MIGRATION_CONFIRMING;
    struct machine *machine = state;
    struct migration migration;
    enum kt_code code;

    (void)apply;
    machine_begin(machine);
    code = migration_find(machine, txn, op->migration, &migration);
    if (code == KT_NOT_FOUND)
        return kt_reply_fail(reply, KT_NOT_FOUND, "migration %llu not found", (unsigned long long)op->migration);
    if (code != KT_OK)
        return code;
    /* Asked again: the same answer as long as it goes on, or its end. */
    if (migration.phase != (uint64_t)wanted && migration.phase != (uint64_t)wanted + 1) {
        if (migration.phase == MIGRATION_MOVING && !op->undo)
            return kt_reply_fail(reply, KT_CONFLICT, "migration %llu is still moving instances",
                                 (unsigned long long)op->migration);
        if (migration.phase != MIGRATION_MOVING && migration.phase != MIGRATION_MOVED)
            return kt_reply_fail(reply, KT_CONFLICT, "migration %llu is %s", (unsigned long long)op->migration,
                                 migration_phase_text(migration.phase));
        migration.phase = wanted;
        migration.ended_ms = 0;
        reply_migration(reply, op->migration, &migration);
        return migration_put(machine, txn, op->migration, &migration);
    }
    reply_migration(reply, op->migration, &migration);
    return KT_OK;
}

/* Background. */

static void propose_step(uint64_t id, struct kt_buf *op)
{
    struct machine_migration_step_op body = {.given = 3, .migration = id, .max = MACHINE_MIGRATION_STEP_MAX};

    kt_op_begin(op, machine_op_migration_step.code);
    kt_struct_encode(&machine_op_migration_step.body, &body, op);
}

static void propose_confirm(uint64_t id, struct kt_buf *op)
{
    struct machine_migration_end_op body = {.given = 3, .migration = id, .undo = false};

    kt_op_begin(op, machine_op_migration_end.code);
    kt_struct_encode(&machine_op_migration_end.body, &body, op);
}

enum kt_code migrations_tick(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms, struct kt_buf *op,
                             kt_time_ms *next_ms)
{
    struct kt_slice key, record;
    struct kt_cursor *cursor;
    uint64_t count;
    enum kt_code code = kt_txn_count(txn, machine->migrations, &count);

    if (code != KT_OK || count == 0)
        return code;
    if ((code = kt_cursor_open(txn, machine->migrations, &cursor)) != KT_OK)
        return code;
    code = kt_cursor_seek(cursor, kt_slice("", 0), &key, &record);
    for (; code == KT_OK && op->len == 0; code = kt_cursor_next(cursor, &key, &record)) {
        struct migration migration;

        if (key.len != 8 || kt_struct_decode(&migration_struct, record, &migration) != KT_OK) {
            code = KT_CORRUPT;
            break;
        }
        if (goes_on(&migration))
            propose_step(kt_get_be64(key.data), op);
        else if (migration.phase == MIGRATION_MOVED && now_ms >= migration.ended_ms + MACHINE_MIGRATION_KEPT_MS)
            propose_confirm(kt_get_be64(key.data), op);
    }
    kt_cursor_close(cursor);
    if (op->len > 0)
        *next_ms = now_ms;
    return code == KT_NOT_FOUND || code == KT_OK ? kt_buf_code(op) : code;
}
