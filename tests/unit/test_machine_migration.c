#include <stdlib.h>

#include "base/buf.h"
#include "engines/machine/machine_limits.h"
#include "support/machine_expect.h"

#define V1                                                                                                             \
    "{\"states\":[\"new\",\"open\",\"on hold\",\"done\"],\"initial\":\"new\",\"transitions\":["                        \
    "{\"from\":\"new\",\"event\":\"OPEN\",\"to\":\"open\"},"                                                           \
    "{\"from\":\"open\",\"event\":\"HOLD\",\"to\":\"on hold\"},"                                                       \
    "{\"from\":[\"open\",\"on hold\"],\"event\":\"DONE\",\"to\":\"done\"}]}"
#define V2                                                                                                             \
    "{\"states\":[\"new\",\"active\",\"done\"],\"initial\":\"new\",\"transitions\":["                                  \
    "{\"from\":\"new\",\"event\":\"OPEN\",\"to\":\"active\"},"                                                         \
    "{\"from\":\"active\",\"event\":\"FINISH\",\"to\":\"done\",\"guard\":\"ctx.team\"},"                               \
    "{\"from\":\"active\",\"event\":\"ESCALATE\",\"to\":\"active\",\"after_ms\":60000}]}"

#define MAPPING                                                                                                        \
    "\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,\"states\":{\"open\":\"active\"},"                     \
    "\"ctx_defaults\":{\"team\":\"first\",\"n\":0},\"ctx_renames\":{\"who\":\"owner\"},\"ctx_removed\":[\"old\"]"

static void create(struct engine_driver *driver, const char *id, const char *ctx)
{
    char params[512];

    snprintf(params, sizeof(params), "{\"machine\":\"ticket\",\"version\":1,\"instance_id\":\"%s\",\"initial_ctx\":%s}",
             id, ctx);
    run_ok(driver, "machine.create_instance", params);
}

static void send(struct engine_driver *driver, const char *id, const char *event)
{
    char params[256];

    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\",\"event\":\"%s\"}", id, event);
    run_ok(driver, "machine.apply_event", params);
}

/* Four instances of version 1 in four states, and one of version 2. */
static int tickets_setup(void **state)
{
    struct engine_driver *driver;

    machine_setup(state);
    driver = *state;
    put_machine(driver, "ticket", 1, V1);
    put_machine(driver, "ticket", 2, V2);
    create(driver, "a", "{\"who\":\"ann\",\"old\":1,\"n\":7}");
    create(driver, "b", "{\"old\":[1,2]}");
    create(driver, "c", "{}");
    create(driver, "d", "{\"owner\":\"x\",\"who\":\"dan\",\"team\":null}");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"ticket\",\"version\":2,\"instance_id\":\"two\"}");
    send(driver, "b", "OPEN");
    send(driver, "c", "OPEN");
    send(driver, "c", "HOLD");
    send(driver, "d", "OPEN");
    send(driver, "d", "DONE");
    return 0;
}

/* Version, state and context of an instance as one text: "2 active {...}". */
static void assert_instance(struct engine_driver *driver, const char *id, const char *wanted)
{
    char params[128], got[512], instance_state[64];
    const char *ctx, *ctx_end, *at;
    unsigned version;

    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    run_ok(driver, "machine.get_instance", params);
    kt_buf_append_u8(&driver->reply.body, '\0');
    at = (char *)driver->reply.body.data;
    ctx = strstr(at, "\"ctx\":") + 6;
    ctx_end = strstr(ctx, ",\"instance_id\"");
    assert_int_equal(sscanf(strstr(at, "\"version\":"), "\"version\":%u", &version), 1);
    assert_int_equal(sscanf(strstr(at, "\"state\":"), "\"state\":\"%63[^\"]", instance_state), 1);
    snprintf(got, sizeof(got), "%u %s %.*s", version, instance_state, (int)(ctx_end - ctx), ctx);
    assert_string_equal(got, wanted);
}

static unsigned tick_all(struct engine_driver *driver)
{
    unsigned count = 0;

    while (engine_driver_tick(driver))
        count++;
    return count;
}

static uint64_t migrate(struct engine_driver *driver, const char *params)
{
    run_ok(driver, "machine.migrate", params);
    return driver->reply.offset;
}

static void ask(struct engine_driver *driver, const char *command, uint64_t id)
{
    char params[64];

    snprintf(params, sizeof(params), "{\"migration_id\":%" PRIu64 "}", id);
    run_ok(driver, command, params);
}

static void assert_migration(struct engine_driver *driver, uint64_t id, const char *phase, unsigned moved,
                             unsigned left, unsigned restored)
{
    char wanted[256];

    ask(driver, "machine.get_migration", id);
    kt_buf_append_u8(&driver->reply.body, '\0');
    snprintf(wanted, sizeof(wanted), "\"moved\":%u,\"phase\":\"%s\",\"restored\":%u,", moved, phase, restored);
    if (!strstr((char *)driver->reply.body.data, wanted))
        fail_msg("not %s: %s", wanted, (char *)driver->reply.body.data);
    snprintf(wanted, sizeof(wanted), "\"left\":%u,", left);
    if (!strstr((char *)driver->reply.body.data, wanted))
        fail_msg("not %s: %s", wanted, (char *)driver->reply.body.data);
}

static void dry_run__told__and_nothing_changed(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_state_position before = kt_state_applied(driver->state);

    expect_ok(driver, "machine.migrate", "{" MAPPING ",\"dry_run\":true}",
              "{\"dry_run\":true,\"instances\":[{\"instance_id\":\"c\",\"reason\":\"state without mapping\",\"state\":"
              "\"on hold\"}],\"has_more\":false,\"left\":1,\"looked_at\":4,\"moved\":3}");
    expect_ok(driver, "machine.migrate",
              "{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,\"states\":{\"open\":\"nowhere\",\"new\":"
              "\"gone\"},\"dry_run\":true,\"limit\":2}",
              "{\"dry_run\":true,\"instances\":[{\"instance_id\":\"a\",\"reason\":\"unknown target state\",\"state\":"
              "\"new\",\"target\":\"gone\"},{\"instance_id\":\"b\",\"reason\":\"unknown target state\",\"state\":"
              "\"open\",\"target\":\"nowhere\"}],\"has_more\":true,\"left\":3,\"looked_at\":4,\"moved\":1}");
    expect_ok(driver, "machine.migrate",
              "{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,\"states\":{\"open\":\"nowhere\",\"new\":"
              "\"gone\"},\"dry_run\":true,\"limit\":2,\"offset\":2}",
              "{\"dry_run\":true,\"instances\":[{\"instance_id\":\"c\",\"reason\":\"state without mapping\",\"state\":"
              "\"on hold\"}],\"has_more\":false,\"left\":3,\"looked_at\":4,\"moved\":1}");
    assert_int_equal(kt_state_applied(driver->state).index, before.index);
    assert_true(kt_state_applied(driver->state).hash == before.hash);
    assert_int_equal(tick_all(driver), 0);
}

static void migrate__moved__states_and_contexts(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t id;

    expect_ok(driver, "machine.migrate", "{" MAPPING "}",
              "{\"machine\":\"ticket\",\"migration_id\":#,\"phase\":\"moving\",\"wal_offset\":#}");
    id = driver->reply.offset;
    /* Until its turn an instance behaves by its old version. */
    send(driver, "b", "HOLD");
    assert_int_equal(tick_all(driver), 1);
    assert_instance(driver, "a", "2 new {\"owner\":\"ann\",\"n\":7,\"team\":\"first\"}");
    assert_instance(driver, "b", "1 on hold {\"old\":[1,2]}");
    assert_instance(driver, "c", "1 on hold {}");
    assert_instance(driver, "d", "2 done {\"owner\":\"dan\",\"team\":null,\"n\":0}");
    assert_instance(driver, "two", "2 new {}");
    assert_migration(driver, id, "moved", 2, 2, 0);
    /* By the new version from now on; lists know it in its new state. */
    send(driver, "a", "OPEN");
    expect_ok(driver, "machine.list_instances", "{\"machine\":\"ticket\",\"state\":\"active\",\"limit\":0}",
              "{\"has_more\":true,\"instances\":[],\"total\":1}");
    send(driver, "a", "FINISH");
    assert_int_equal(
        engine_driver_json(driver, "machine.apply_event", "{\"instance_id\":\"d\",\"event\":\"DONE\"}")->code,
        KT_INVALID_TRANSITION);
}

static void migrate__details__listed(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t id = migrate(driver, "{" MAPPING "}");
    char wanted[1024];

    tick_all(driver);
    ask(driver, "machine.get_migration", id);
    snprintf(wanted, sizeof(wanted),
             "{\"ctx_defaults\":{\"team\":\"first\",\"n\":0},\"ctx_removed\":[\"old\"],\"ctx_renames\":{\"who\":"
             "\"owner\"},\"ended_at\":1000000,\"from_version\":1,\"instances\":[{\"instance_id\":\"c\",\"reason\":"
             "\"state without mapping\",\"state\":\"on hold\"}],\"has_more\":false,\"left\":1,\"looked_at\":4,"
             "\"machine\":\"ticket\",\"migration_id\":%" PRIu64 ",\"moved\":3,\"phase\":\"moved\",\"restored\":0,"
             "\"started_at\":1000000,\"states\":{\"open\":\"active\"},\"to_version\":2,\"total\":1}",
             id);
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), wanted));
    snprintf(wanted, sizeof(wanted),
             "{\"migrations\":[{\"ended_at\":1000000,\"from_version\":1,\"left\":1,\"looked_at\":4,\"machine\":"
             "\"ticket\",\"migration_id\":%" PRIu64 ",\"moved\":3,\"phase\":\"moved\",\"restored\":0,\"started_at\":"
             "1000000,\"to_version\":2}]}",
             id);
    expect_ok(driver, "machine.list_migrations", "{}", wanted);
    expect_ok(driver, "machine.list_migrations", "{\"machine\":\"other\"}", "{\"migrations\":[]}");
}

/* A moved instance has another offset, and timers that count from its last event. */
static void migrate__offsets_and_timers__as_documented(void **state)
{
    struct engine_driver *driver = *state;
    char params[256];
    kt_index before;

    run_ok(driver, "machine.get_instance", "{\"instance_id\":\"b\"}");
    kt_buf_append_u8(&driver->reply.body, '\0');
    before = strtoull(strstr((char *)driver->reply.body.data, "\"last_wal_offset\":") + 18, NULL, 10);
    driver->now_ms += 20000;
    migrate(driver, "{" MAPPING "}");
    tick_all(driver);
    snprintf(params, sizeof(params), "{\"instance_id\":\"b\",\"event\":\"FINISH\",\"expected_wal_offset\":%" PRIu64 "}",
             before);
    assert_int_equal(engine_driver_json(driver, "machine.apply_event", params)->code, KT_CONFLICT);
    run_ok(driver, "machine.get_instance", "{\"instance_id\":\"b\"}");
    kt_buf_append_u8(&driver->reply.body, '\0');
    assert_non_null(strstr((char *)driver->reply.body.data,
                           "\"timers\":[{\"due\":1060000,\"event\":\"ESCALATE\"}],\"updated_at\":1000000"));
    driver->now_ms = 1060000;
    assert_int_equal(tick_all(driver), 1);
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), "{\"fired\":1,\"passed\":0}"));
}

/* Whoever follows the log learns of every instance that moved, and of every one that moved back. */
static void migrate__change_log__one_record_each(void **state)
{
    struct engine_driver *driver = *state;
    kt_index from = last_index(driver) + 1;
    uint64_t id = migrate(driver, "{" MAPPING "}");
    char params[64];

    tick_all(driver);
    ask(driver, "machine.undo_migration", id);
    tick_all(driver);
    snprintf(params, sizeof(params), "{\"from_offset\":%" PRIu64 "}", from);
    run_ok(driver, "machine.wal_read", params);
    kt_buf_append_u8(&driver->reply.body, '\0');
    assert_non_null(strstr((char *)driver->reply.body.data,
                           "\"entry\":{\"ctx\":{\"owner\":\"ann\",\"n\":7,\"team\":\"first\"},\"from_state\":\"new\","
                           "\"from_version\":1,\"instance_id\":\"a\",\"machine\":\"ticket\",\"timestamp\":1000000,"
                           "\"to_state\":\"new\",\"type\":\"migrate_instance\",\"version\":2}"));
    assert_non_null(strstr((char *)driver->reply.body.data,
                           "\"entry\":{\"ctx\":{\"old\":[1,2]},\"from_state\":\"active\",\"from_version\":2,"
                           "\"instance_id\":\"b\",\"machine\":\"ticket\",\"timestamp\":1000000,\"to_state\":\"open\","
                           "\"type\":\"migrate_instance\",\"version\":1}"));
}

static void undo__untouched_ones__as_they_were(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t id = migrate(driver, "{" MAPPING "}");

    tick_all(driver);
    send(driver, "a", "OPEN");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"d\"}");
    ask(driver, "machine.undo_migration", id);
    assert_non_null(memmem(driver->reply.body.data, driver->reply.body.len, "undoing", 7));
    assert_true(tick_all(driver) >= 1);
    assert_instance(driver, "a", "2 active {\"owner\":\"ann\",\"n\":7,\"team\":\"first\"}");
    assert_instance(driver, "b", "1 open {\"old\":[1,2]}");
    assert_instance(driver, "c", "1 on hold {}");
    assert_migration(driver, id, "undone", 3, 3, 1);
    assert_non_null(strstr((char *)driver->reply.body.data,
                           "\"instances\":[{\"instance_id\":\"a\",\"reason\":\"changed since it was moved\",\"state\":"
                           "\"active\"},{\"instance_id\":\"d\",\"reason\":\"deleted since it was moved\",\"state\":"
                           "\"\"}]"));
    send(driver, "b", "HOLD");
    /* No timer of the new version is left with it. */
    driver->now_ms += 59999;
    assert_int_equal(tick_all(driver), 0);
    /* Asked again: it is undone. */
    ask(driver, "machine.undo_migration", id);
    assert_non_null(memmem(driver->reply.body.data, driver->reply.body.len, "undone", 6));
}

static void confirm__over__cannot_be_undone(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t id = migrate(driver, "{" MAPPING "}");
    char params[64], text[64];

    snprintf(params, sizeof(params), "{\"migration_id\":%" PRIu64 "}", id);
    snprintf(text, sizeof(text), "migration %" PRIu64 " is still moving instances", id);
    expect_fail(driver, "machine.confirm_migration", params, KT_CONFLICT, text, "");
    tick_all(driver);
    ask(driver, "machine.confirm_migration", id);
    assert_true(tick_all(driver) >= 1);
    assert_migration(driver, id, "confirmed", 3, 1, 0);
    snprintf(text, sizeof(text), "migration %" PRIu64 " is confirmed", id);
    expect_fail(driver, "machine.undo_migration", params, KT_CONFLICT, text, "");
    assert_instance(driver, "b", "2 active {\"team\":\"first\",\"n\":0}");
}

/* What was is kept for a week and no longer. */
static void moved__a_week_later__confirmed(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t id = migrate(driver, "{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2}");

    tick_all(driver);
    assert_migration(driver, id, "moved", 2, 2, 0);
    driver->now_ms += MACHINE_MIGRATION_KEPT_MS - 1;
    tick_all(driver);
    assert_migration(driver, id, "moved", 2, 2, 0);
    driver->now_ms++;
    assert_true(tick_all(driver) >= 2);
    assert_migration(driver, id, "confirmed", 2, 2, 0);
}

/* More than a step takes; a restart in between; instances made meanwhile come too; and back again. */
static void migrate__many__in_steps_across_a_restart(void **state)
{
    struct engine_driver *driver = *state;
    unsigned count = 2 * MACHINE_MIGRATION_STEP_MAX + 50, steps = 0;
    uint64_t id;

    for (unsigned i = 0; i < count; i++) {
        char name[16];

        snprintf(name, sizeof(name), "m%u", i);
        create(driver, name, "{\"who\":1}");
    }
    id = migrate(driver, "{" MAPPING "}");
    assert_true(engine_driver_tick(driver));
    assert_true(driver->next_ms <= driver->now_ms);
    assert_instance(driver, "m0", "2 new {\"owner\":1,\"team\":\"first\",\"n\":0}");
    assert_instance(driver, "m449", "1 new {\"who\":1}");
    send(driver, "m449", "OPEN");
    create(driver, "late", "{}");
    engine_driver_close(driver);
    engine_driver_open(driver);
    while (engine_driver_tick(driver))
        steps++;
    assert_int_equal(steps, 2);
    assert_migration(driver, id, "moved", count + 4, 1, 0);
    assert_instance(driver, "m449", "2 active {\"owner\":1,\"team\":\"first\",\"n\":0}");
    assert_instance(driver, "late", "2 new {\"team\":\"first\",\"n\":0}");
    ask(driver, "machine.undo_migration", id);
    assert_true(engine_driver_tick(driver));
    engine_driver_close(driver);
    engine_driver_open(driver);
    tick_all(driver);
    assert_migration(driver, id, "undone", count + 4, 1, count + 4);
    assert_instance(driver, "m0", "1 new {\"who\":1}");
    assert_instance(driver, "m449", "1 open {\"who\":1}");
    expect_ok(driver, "machine.list_instances", "{\"machine\":\"ticket\",\"state\":\"active\",\"limit\":0}",
              "{\"has_more\":false,\"instances\":[],\"total\":0}");
    expect_ok(driver, "machine.list_instances", "{\"machine\":\"ticket\",\"state\":\"open\",\"limit\":0}",
              "{\"has_more\":true,\"instances\":[],\"total\":2}");
}

/* Undone while it still moves. */
static void undo__while_moving__all_back(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t id;

    for (unsigned i = 0; i < MACHINE_MIGRATION_STEP_MAX; i++) {
        char name[16];

        snprintf(name, sizeof(name), "m%u", i);
        create(driver, name, "{}");
    }
    id = migrate(driver, "{" MAPPING "}");
    assert_true(engine_driver_tick(driver));
    ask(driver, "machine.undo_migration", id);
    tick_all(driver);
    assert_instance(driver, "m0", "1 new {}");
    assert_instance(driver, "a", "1 new {\"who\":\"ann\",\"old\":1,\"n\":7}");
    /* A step came to one of another version and one that could not be moved. */
    assert_migration(driver, id, "undone", MACHINE_MIGRATION_STEP_MAX - 2, 1, MACHINE_MIGRATION_STEP_MAX - 2);
}

static void migrate__refused(void **state)
{
    struct engine_driver *driver = *state;
    static const struct {
        const char *params;
        enum kt_code code;
        const char *text, *details;
    } rows[] = {
        {"{\"machine\":\"ticket\",\"from_version\":1}", KT_BAD_REQUEST, "missing field 'to_version'", ""},
        {"{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":1}", KT_BAD_REQUEST,
         "from_version and to_version are the same", ""},
        {"{\"machine\":\"none\",\"from_version\":1,\"to_version\":2}", KT_MACHINE_NOT_FOUND,
         "machine not found: 'none'", "{\"machine\":\"none\"}"},
        {"{\"machine\":\"ticket\",\"from_version\":3,\"to_version\":2}", KT_MACHINE_NOT_FOUND,
         "machine not found: 'ticket' version 3", "{\"machine\":\"ticket\",\"version\":3}"},
        {"{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":9}", KT_MACHINE_NOT_FOUND,
         "machine not found: 'ticket' version 9", "{\"machine\":\"ticket\",\"version\":9}"},
        {"{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,\"states\":{\"open\":1}}", KT_BAD_REQUEST,
         "field 'states' must map names of states to names of states", ""},
        {"{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,\"states\":[]}", KT_BAD_REQUEST,
         "field 'states' must be an object", ""},
        {"{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,\"ctx_removed\":{}}", KT_BAD_REQUEST,
         "field 'ctx_removed' must be an array of names, at most 1000", ""},
        {"{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,\"ctx_renames\":{\"a\":null}}", KT_BAD_REQUEST,
         "field 'ctx_renames' must map names to names, at most 1000", ""},
    };
    uint64_t id;
    char details[64], text[96];

    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        char params[256];

        expect_fail(driver, "machine.migrate", rows[i].params, rows[i].code, rows[i].text, rows[i].details);
        /* The dry run refuses the same. */
        snprintf(params, sizeof(params), "{\"dry_run\":true,%s", rows[i].params + 1);
        expect_fail(driver, "machine.migrate", params, rows[i].code, rows[i].text, rows[i].details);
    }
    expect_fail(driver, "machine.migrate",
                "{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,\"states\":{\"open\":\"nowhere\"}}",
                KT_BAD_REQUEST, "unknown target state \"nowhere\" in 'states': version 2 has none", "");
    id = migrate(driver, "{" MAPPING "}");
    snprintf(text, sizeof(text), "a migration of this machine is under way: %" PRIu64, id);
    snprintf(details, sizeof(details), "{\"migration_id\":%" PRIu64 "}", id);
    expect_fail(driver, "machine.migrate", "{\"machine\":\"ticket\",\"from_version\":2,\"to_version\":1}", KT_CONFLICT,
                text, details);
    expect_fail(driver, "machine.get_migration", "{\"migration_id\":1}", KT_NOT_FOUND, "migration 1 not found", "");
    expect_fail(driver, "machine.undo_migration", "{\"migration_id\":1}", KT_NOT_FOUND, "migration 1 not found", "");
}

/* The same key again: the same migration, and no second one. */
static void migrate__repeated_with_its_key__one_migration(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t id = migrate(driver, "{" MAPPING ",\"idempotency_key\":\"k\"}");

    assert_int_equal(migrate(driver, "{" MAPPING ",\"idempotency_key\":\"k\"}"), id);
    tick_all(driver);
    assert_int_equal(migrate(driver, "{" MAPPING ",\"idempotency_key\":\"k\"}"), id);
    assert_int_equal(tick_all(driver), 0);
}

/* The records of migrations have a ceiling: the oldest that is over goes, with its list. */
static void migrations__many__oldest_forgotten(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t first = 0, id = 0;
    char params[64];

    for (unsigned i = 0; i < MACHINE_MIGRATIONS_MAX + 1; i++) {
        id = migrate(driver, i % 2
                                 ? "{\"machine\":\"ticket\",\"from_version\":2,\"to_version\":1,\"states\":{\"active\":"
                                   "\"open\"}}"
                                 : "{" MAPPING "}");
        if (i == 0)
            first = id;
        tick_all(driver);
        if (i + 1 < MACHINE_MIGRATIONS_MAX + 1) {
            ask(driver, "machine.confirm_migration", id);
            tick_all(driver);
        }
    }
    snprintf(params, sizeof(params), "{\"migration_id\":%" PRIu64 "}", first);
    assert_int_equal(engine_driver_json(driver, "machine.get_migration", params)->code, KT_NOT_FOUND);
    assert_migration(driver, id, "moved", 4, 1, 0);
}

/* What becomes of members that are removed, renamed onto each other, and given defaults. */
static void ctx__all_rules__in_their_order(void **state)
{
    static const struct {
        const char *rules, *ctx, *wanted;
    } rows[] = {
        {"\"ctx_renames\":{\"a\":\"b\",\"b\":\"a\"}", "{\"a\":1,\"b\":2}", "{\"b\":1,\"a\":2}"},
        {"\"ctx_renames\":{\"a\":\"b\"}", "{\"b\":2,\"a\":1}", "{\"b\":1}"},
        {"\"ctx_renames\":{\"a\":\"b\"}", "{\"b\":2}", "{\"b\":2}"},
        {"\"ctx_renames\":{\"a\":\"c\",\"b\":\"c\"}", "{\"a\":1,\"b\":2}", "{\"c\":2}"},
        {"\"ctx_renames\":{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":1}", "{\"b\":1}"},
        {"\"ctx_removed\":[\"a\"],\"ctx_defaults\":{\"a\":0}", "{\"a\":1,\"x\":{}}", "{\"x\":{},\"a\":0}"},
        {"\"ctx_removed\":[\"a\"],\"ctx_renames\":{\"a\":\"b\"}", "{\"a\":1,\"b\":2}", "{\"b\":2}"},
        {"\"ctx_renames\":{\"a\":\"b\"},\"ctx_defaults\":{\"a\":0,\"b\":9,\"c\":{\"d\":[]}}", "{\"a\":1}",
         "{\"b\":1,\"a\":0,\"c\":{\"d\":[]}}"},
        {"\"ctx_defaults\":{\"a\":null}", "{\"a\":5}", "{\"a\":5}"},
        {"\"ctx_defaults\":{\"a\":null}", "{}", "{\"a\":null}"},
        {"\"ctx_renames\":{\"\\\"q\":\"\\u00e4\\n\"}", "{\"\\\"q\":1}", "{\"\xc3\xa4\\n\":1}"},
        {"\"ctx_removed\":[\"a.b\"]", "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"},
    };
    struct engine_driver *driver = *state;

    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        char id[16], params[512], wanted[256];

        snprintf(id, sizeof(id), "x%zu", i);
        create(driver, id, rows[i].ctx);
        snprintf(params, sizeof(params), "{\"machine\":\"ticket\",\"from_version\":1,\"to_version\":2,%s}",
                 rows[i].rules);
        migrate(driver, params);
        tick_all(driver);
        snprintf(wanted, sizeof(wanted), "2 new %s", rows[i].wanted);
        assert_instance(driver, id, wanted);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, tickets_setup, machine_teardown)
    const struct CMUnitTest tests[] = {
        TEST(dry_run__told__and_nothing_changed),
        TEST(migrate__moved__states_and_contexts),
        TEST(migrate__details__listed),
        TEST(migrate__offsets_and_timers__as_documented),
        TEST(migrate__change_log__one_record_each),
        TEST(undo__untouched_ones__as_they_were),
        TEST(confirm__over__cannot_be_undone),
        TEST(moved__a_week_later__confirmed),
        TEST(migrate__many__in_steps_across_a_restart),
        TEST(undo__while_moving__all_back),
        TEST(migrate__refused),
        TEST(migrate__repeated_with_its_key__one_migration),
        TEST(migrations__many__oldest_forgotten),
        TEST(ctx__all_rules__in_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
