/* Looking at migrations: how far they are, what they left behind, and what one would do (the dry run). */
#include "engines/machine/catalog.h"
#include "engines/machine/migration.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* A page of a list that is counted as a whole. */
struct page {
    uint64_t offset, limit;
    uint64_t total; /* so far */
    struct kt_json_writer *writer;
};

static struct page page_of(bool has_limit, uint64_t limit, uint64_t offset, struct kt_json_writer *writer)
{
    return (struct page){
        .offset = offset,
        .limit = has_limit ? KT_MIN(limit, (uint64_t)MACHINE_LIST_MAX) : MACHINE_LIST_DEFAULT,
        .writer = writer,
    };
}

/* Counts an entry; true if it is on the page. */
static bool on_page(struct page *page)
{
    uint64_t at = page->total++;

    return at >= page->offset && at - page->offset < page->limit;
}

static void put_left(struct page *page, struct kt_slice id, struct kt_slice state, struct kt_slice target,
                     uint64_t reason)
{
    if (!on_page(page))
        return;
    kt_json_begin_object(page->writer);
    kt_json_put_string_member(page->writer, "instance_id", id);
    kt_json_put_text_member(page->writer, "reason", migration_reason_text(reason));
    kt_json_put_string_member(page->writer, "state", state);
    if (reason == MIGRATION_UNKNOWN_TARGET)
        kt_json_put_string_member(page->writer, "target", target);
    kt_json_end_object(page->writer);
}

static bool has_more(const struct page *page)
{
    return page->total > page->offset && page->total - page->offset > page->limit;
}

/* One migration. */

/* What this stage left behind: of the moving, or, once it is undone, of the undoing. */
static enum kt_code put_left_rows(const struct kt_call *call, uint64_t id, bool undone, struct page *page)
{
    static const uint8_t first[INSTANCE_ORDER_BYTES];
    const struct machine *machine = call->state;
    struct kt_slice key, value;
    uint8_t from[MIGRATION_ROW_BYTES];
    struct kt_cursor *cursor;
    enum kt_code code = kt_cursor_open(call->txn, machine->migration_left, &cursor);

    if (code != KT_OK)
        return code;
    migration_row(from, id, undone ? MIGRATION_ROW_UNDO : MIGRATION_ROW_MOVE, first);
    code = kt_cursor_seek(cursor, kt_slice(from, sizeof(from)), &key, &value);
    for (; code == KT_OK && key.len == sizeof(from) && memcmp(key.data, from, 9) == 0;
         code = kt_cursor_next(cursor, &key, &value)) {
        struct kt_slice instance_id, state;
        struct kt_reader reader;
        uint64_t reason;

        kt_reader_init(&reader, value);
        reason = kt_read_varint(&reader);
        instance_id = kt_read_string(&reader);
        state = kt_read_string(&reader);
        if (!kt_reader_done(&reader)) {
            code = KT_CORRUPT;
            break;
        }
        put_left(page, instance_id, state, kt_slice("", 0), reason);
    }
    kt_cursor_close(cursor);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

/* Members without the object's ends, sorted by name up to "looked_at". */
static void put_migration(struct kt_json_writer *writer, uint64_t id, const struct migration *migration)
{
    kt_json_put_u64_member(writer, "left", migration->left);
    kt_json_put_u64_member(writer, "looked_at", migration->looked_at);
    kt_json_put_string_member(writer, "machine", migration->machine);
    kt_json_put_u64_member(writer, "migration_id", id);
    kt_json_put_u64_member(writer, "moved", migration->moved);
    kt_json_put_text_member(writer, "phase", migration_phase_text(migration->phase));
    kt_json_put_u64_member(writer, "restored", migration->restored);
    kt_json_put_u64_member(writer, "started_at", migration->started_ms);
}

enum kt_code machine_migration_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_migration_params *params = parameters;
    struct migration migration;
    struct kt_json_writer writer;
    struct page page;
    bool undone;
    enum kt_code code = migration_find(call->state, call->txn, params->migration_id, &migration);

    if (code == KT_NOT_FOUND)
        return kt_reply_fail(reply, KT_NOT_FOUND, "migration %llu not found", (unsigned long long)params->migration_id);
    if (code != KT_OK)
        return machine_query_end(code, reply);
    undone = migration.phase == MIGRATION_UNDOING || migration.phase == MIGRATION_UNDONE;
    kt_json_writer_init(&writer, &reply->body);
    page = page_of(KT_GIVEN(params, KT_MACHINE_MIGRATION_LIMIT), params->limit, params->offset, &writer);
    kt_json_begin_object(&writer);
    kt_json_put_raw_member(&writer, "ctx_defaults", migration.ctx_defaults);
    kt_json_put_raw_member(&writer, "ctx_removed", migration.ctx_removed);
    kt_json_put_raw_member(&writer, "ctx_renames", migration.ctx_renames);
    if (migration.ended_ms > 0)
        kt_json_put_u64_member(&writer, "ended_at", migration.ended_ms);
    kt_json_put_u64_member(&writer, "from_version", migration.from_version);
    kt_json_put_key(&writer, "instances");
    kt_json_begin_array(&writer);
    code = put_left_rows(call, params->migration_id, undone, &page);
    kt_json_end_array(&writer);
    kt_json_put_bool_member(&writer, "has_more", has_more(&page));
    put_migration(&writer, params->migration_id, &migration);
    kt_json_put_raw_member(&writer, "states", migration.states);
    kt_json_put_u64_member(&writer, "to_version", migration.to_version);
    kt_json_put_u64_member(&writer, "total", page.total);
    kt_json_end_object(&writer);
    return machine_query_end(code, reply);
}

enum kt_code machine_migrations_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_migrations_params *params = parameters;
    const struct machine *machine = call->state;
    struct kt_json_writer writer;
    struct kt_slice key, record;
    struct kt_cursor *cursor;
    enum kt_code code = kt_cursor_open(call->txn, machine->migrations, &cursor);

    if (code != KT_OK)
        return machine_query_end(code, reply);
    kt_json_writer_init(&writer, &reply->body);
    kt_json_begin_object(&writer);
    kt_json_put_key(&writer, "migrations");
    kt_json_begin_array(&writer);
    code = kt_cursor_seek(cursor, kt_slice("", 0), &key, &record);
    for (; code == KT_OK; code = kt_cursor_next(cursor, &key, &record)) {
        struct migration migration;

        if (key.len != 8 || kt_struct_decode(&migration_struct, record, &migration) != KT_OK) {
            code = KT_CORRUPT;
            break;
        }
        if (KT_GIVEN(params, KT_MACHINE_MIGRATIONS_MACHINE) && !kt_slice_equal(params->machine, migration.machine))
            continue;
        kt_json_begin_object(&writer);
        if (migration.ended_ms > 0)
            kt_json_put_u64_member(&writer, "ended_at", migration.ended_ms);
        kt_json_put_u64_member(&writer, "from_version", migration.from_version);
        put_migration(&writer, kt_get_be64(key.data), &migration);
        kt_json_put_u64_member(&writer, "to_version", migration.to_version);
        kt_json_end_object(&writer);
    }
    kt_json_end_array(&writer);
    kt_json_end_object(&writer);
    kt_cursor_close(cursor);
    return machine_query_end(code == KT_NOT_FOUND ? KT_OK : code, reply);
}

/* The dry run. */

struct dry_run {
    const struct kt_call *call;
    const struct migration *migration;
    struct migration_plan plan;
    uint64_t looked_at;
    struct page page; /* of those that would be left behind */
};

/* Whether the context would still fit, which only a large one makes a question. */
static enum kt_code fits(struct dry_run *run, struct kt_slice ctx, bool *does)
{
    struct kt_buf out;
    enum kt_code code;

    *does = true;
    if (ctx.len + MACHINE_MIGRATION_BYTES_MAX <= MACHINE_CTX_BYTES_MAX)
        return KT_OK;
    kt_buf_init(&out, MACHINE_CTX_BYTES_MAX);
    migration_plan_ctx(&run->plan, ctx, &out);
    code = kt_buf_code(&out);
    kt_buf_release(&out);
    *does = code != KT_TOO_LARGE;
    return *does ? code : KT_OK;
}

static enum kt_code try_instance(struct dry_run *run, struct kt_slice id)
{
    enum migration_reason reason;
    struct instance_key key;
    struct instance instance;
    uint32_t target;
    bool does;
    enum kt_code code = instance_find(run->call->state, run->call->txn, id, &key, &instance);

    if (code != KT_OK)
        return code == KT_NOT_FOUND ? KT_CORRUPT : code;
    if (instance.version != run->migration->from_version)
        return KT_OK;
    run->looked_at++;
    reason = migration_plan_state(&run->plan, instance.state, &target);
    if (reason == MIGRATION_MOVES) {
        if ((code = fits(run, instance.ctx, &does)) != KT_OK)
            return code;
        if (!does)
            reason = MIGRATION_CTX_TOO_LARGE;
    }
    if (reason != MIGRATION_MOVES)
        put_left(&run->page, id, instance.state, migration_plan_name(&run->plan, instance.state), reason);
    return KT_OK;
}

static enum kt_code try_all(struct dry_run *run, uint32_t machine_id)
{
    const struct machine *machine = run->call->state;
    struct kt_slice key, value, id;
    struct kt_cursor *cursor;
    uint8_t from[4];
    enum kt_code code = kt_cursor_open(run->call->txn, machine->by_machine, &cursor);

    if (code != KT_OK)
        return code;
    kt_put_be32(from, machine_id);
    code = kt_cursor_seek(cursor, kt_slice(from, sizeof(from)), &key, &value);
    while (code == KT_OK && key.len == 4 + INSTANCE_ORDER_BYTES && memcmp(key.data, from, sizeof(from)) == 0) {
        code = kt_txn_get(run->call->txn, machine->created, kt_slice((const char *)key.data + 4, INSTANCE_ORDER_BYTES),
                          &id);
        code = code == KT_NOT_FOUND ? KT_CORRUPT : code == KT_OK ? try_instance(run, id) : code;
        if (code == KT_OK)
            code = kt_cursor_next(cursor, &key, &value);
    }
    kt_cursor_close(cursor);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

enum kt_code machine_migrate_query(const struct kt_call *call, const void *parameters, struct kt_reply *reply)
{
    const struct kt_machine_migrate_params *params = parameters;
    struct catalog_machine found;
    struct definition definition;
    struct migration migration;
    struct kt_json_writer writer;
    struct dry_run run = {.call = call, .migration = &migration};
    const uint64_t versions[] = {params->from_version, params->to_version};
    enum kt_code code = machine_migrate_check(params, reply);

    if (code != KT_OK)
        return code;
    code = catalog_find(call->state, call->txn, params->machine, &found);
    if (code == KT_NOT_FOUND)
        return fail_machine_not_found(reply, params->machine, NULL);
    for (size_t i = 0; i < KT_COUNT(versions) && code == KT_OK; i++) {
        code = versions[i] > MACHINE_VERSION_MAX ? KT_NOT_FOUND
                                                 : catalog_definition(call->state, call->txn, found.id,
                                                                      (uint32_t)versions[i], call->arena, &definition);
        if (code == KT_NOT_FOUND)
            return fail_machine_not_found(reply, params->machine, &versions[i]);
    }
    if (code != KT_OK)
        return machine_query_end(code, reply);
    migration_from_params(params, &migration);
    migration_plan_init(&run.plan, &migration, &definition, call->arena);
    kt_json_writer_init(&writer, &reply->body);
    run.page = page_of(KT_GIVEN(params, KT_MACHINE_MIGRATE_LIMIT), params->limit, params->offset, &writer);
    kt_json_begin_object(&writer);
    kt_json_put_bool_member(&writer, "dry_run", true);
    kt_json_put_key(&writer, "instances");
    kt_json_begin_array(&writer);
    code = try_all(&run, found.id);
    kt_json_end_array(&writer);
    kt_json_put_bool_member(&writer, "has_more", has_more(&run.page));
    kt_json_put_u64_member(&writer, "left", run.page.total);
    kt_json_put_u64_member(&writer, "looked_at", run.looked_at);
    kt_json_put_u64_member(&writer, "moved", run.looked_at - run.page.total);
    kt_json_end_object(&writer);
    migration_plan_release(&run.plan);
    return machine_query_end(code, reply);
}
