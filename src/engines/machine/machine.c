#include "engines/machine/machine.h"

#include "base/alloc.h"
#include "engines/machine/catalog.h"
#include "engines/machine/idempotency.h"
#include "engines/machine/migration.h"
#include "engines/machine/timer.h"

/* Memory that a large operation took is given back at the next one. */
#define SCRATCH_BYTES_KEPT (1u << 20)

static void begin_buf(struct kt_buf *buf, size_t max)
{
    if (buf->cap > SCRATCH_BYTES_KEPT) {
        kt_buf_release(buf);
        kt_buf_init(buf, max);
    } else {
        kt_buf_clear(buf);
    }
}

void machine_begin(struct machine *machine)
{
    kt_arena_release(&machine->arena);
    begin_buf(&machine->record, MACHINE_RECORD_BYTES_MAX);
    begin_buf(&machine->ctx, MACHINE_CTX_BYTES_MAX);
    begin_buf(&machine->change, MACHINE_RECORD_BYTES_MAX);
}

enum kt_code machine_buf_failed(const struct kt_buf *buf, struct kt_reply *reply)
{
    if (kt_buf_code(buf) == KT_TOO_LARGE)
        return kt_reply_fail(reply, KT_TOO_LARGE, "the result is larger than %zu bytes", buf->max);
    return KT_INTERNAL;
}

enum kt_code machine_query_end(enum kt_code code, struct kt_reply *reply)
{
    if (code == KT_OK)
        code = kt_buf_code(&reply->body);
    if (code == KT_OK)
        return KT_OK;
    if (code == KT_TOO_LARGE)
        return kt_reply_fail(reply, code, "the result is larger than %zu bytes: ask for a page of it", reply->body.max);
    return kt_reply_fail(reply, code, "%s", kt_code_text(code));
}

kt_space *machine_space(struct machine *machine, size_t i, const char **name)
{
    const struct {
        const char *name;
        kt_space *space;
    } spaces[] = {
        {"machine.name", &machine->names},
        {"machine.definition", &machine->definitions},
        {"machine.group", &machine->groups},
        {"machine.state", &machine->states},
        {"machine.count", &machine->counts},
        {"machine.instance", &machine->instances},
        {"machine.created", &machine->created},
        {"machine.by_machine", &machine->by_machine},
        {"machine.by_group", &machine->by_group},
        {"machine.reply", &machine->replies},
        {"machine.reply_key", &machine->reply_keys},
        {"machine.timer", &machine->timers},
        {"machine.migration", &machine->migrations},
        {"machine.migration_kept", &machine->migration_kept},
        {"machine.migration_left", &machine->migration_left},
    };

    _Static_assert(KT_COUNT(spaces) == MACHINE_SPACE_COUNT, "every keyspace is in the list");
    *name = spaces[i].name;
    return spaces[i].space;
}

static enum kt_code open_machine(struct kt_store *store, const struct kt_engine_options *options, void **state,
                                 struct kt_error *error)
{
    struct machine *machine = kt_zalloc(sizeof(*machine));
    enum kt_code code = kt_changes_open(store, &machine->changes, error);

    for (size_t i = 0; i < MACHINE_SPACE_COUNT && code == KT_OK; i++) {
        const char *name;
        kt_space *space = machine_space(machine, i, &name);

        code = kt_store_space(store, name, space, error);
    }
    if (code != KT_OK) {
        kt_free(machine);
        return code;
    }
    machine->options = *options;
    atomic_init(&machine->tick_turn, 0);
    compiled_cache_init(&machine->cache);
    kt_arena_init(&machine->arena);
    kt_buf_init(&machine->record, MACHINE_RECORD_BYTES_MAX);
    kt_buf_init(&machine->ctx, MACHINE_CTX_BYTES_MAX);
    kt_buf_init(&machine->change, MACHINE_RECORD_BYTES_MAX);
    *state = machine;
    return KT_OK;
}

static void close_machine(void *state)
{
    struct machine *machine = state;

    compiled_cache_release(&machine->cache);
    kt_arena_release(&machine->arena);
    kt_buf_release(&machine->record);
    kt_buf_release(&machine->ctx);
    kt_buf_release(&machine->change);
    kt_free(machine);
}

/* Answers older than a day go away in bounded steps. */
static enum kt_code tick_forget(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms, struct kt_buf *op,
                                kt_time_ms *next_ms)
{
    struct machine_forget_op body = {.given = 1, .max = MACHINE_FORGET_MAX};
    bool expired;
    enum kt_code code = idempotency_expired(machine, txn, now_ms, &expired);

    (void)next_ms;
    if (code != KT_OK || !expired)
        return code;
    kt_op_begin(op, machine_op_forget.code);
    kt_struct_encode(&machine_op_forget.body, &body, op);
    return kt_buf_code(op);
}

/* The pieces of background work take turns, so that none that always has something keeps the others waiting. */
static enum kt_code tick_machine(void *state, struct kt_txn *txn, kt_time_ms now_ms, struct kt_buf *op,
                                 kt_time_ms *next_ms)
{
    static enum kt_code (*const pieces[])(const struct machine *machine, struct kt_txn *txn, kt_time_ms now_ms,
                                          struct kt_buf *op, kt_time_ms *next_ms) = {
        tick_forget, timers_tick, machine_trim_tick, migrations_tick};
    struct machine *machine = state;
    unsigned turn = atomic_load(&machine->tick_turn);
    enum kt_code code = KT_OK;

    for (unsigned i = 0; i < KT_COUNT(pieces) && code == KT_OK && op->len == 0; i++) {
        atomic_store(&machine->tick_turn, turn + i + 1);
        code = pieces[(turn + i) % KT_COUNT(pieces)](machine, txn, now_ms, op, next_ms);
    }
    return code;
}

/* Entries are never left behind for what is gone, so the keyspaces' own counts are the numbers. */
static enum kt_code stat_machine(void *state, struct kt_txn *txn, struct kt_reply *out)
{
    const struct machine *machine = state;
    uint64_t instances, definitions;
    struct kt_json_writer writer;
    enum kt_code code = kt_txn_count(txn, machine->created, &instances);

    if (code == KT_OK)
        code = kt_txn_count(txn, machine->definitions, &definitions);
    if (code != KT_OK)
        return code;
    kt_json_writer_init(&writer, &out->body);
    writer.comma = out->body.len > 0 && out->body.data[out->body.len - 1] != '{';
    kt_json_put_u64_member(&writer, "instances", instances);
    kt_json_put_u64_member(&writer, "machines", definitions);
    return kt_buf_code(&out->body);
}

const struct kt_engine kt_machine_engine = {
    .id = KT_ENGINE_MACHINE,
    .name = "machine",
    .commands = machine_commands,
    .command_count = MACHINE_COMMAND_COUNT,
    .ops = machine_ops,
    .op_count = MACHINE_OP_COUNT,
    .open = open_machine,
    .close = close_machine,
    .tick = tick_machine,
    .stats = stat_machine,
};
