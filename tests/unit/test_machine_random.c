/*
 * Random commands on few instances: creations, deletions, events, batches of both modes, timers that come due,
 * migrations back and forth. What must always hold is looked at now and then, and every entry is applied a second time
 * to another state, which commits at other moments and is opened anew: both must come to the same. KONTIKI_SEED.
 */
#include <stdlib.h>

#include "base/random.h"
#include "support/machine_expect.h"

#define STEPS     4000
#define INSTANCES 24

#define V1                                                                                                             \
    "{\"states\":[\"a\",\"b\",\"c\"],\"initial\":\"a\",\"transitions\":["                                              \
    "{\"from\":\"a\",\"event\":\"GO\",\"to\":\"b\"},{\"from\":\"b\",\"event\":\"GO\",\"to\":\"c\",\"guard\":\"ctx.n "  \
    "> 3\"},"                                                                                                          \
    "{\"from\":[\"b\",\"c\"],\"event\":\"BACK\",\"to\":\"a\",\"after_ms\":5000},"                                      \
    "{\"from\":\"b\",\"event\":\"LATE\",\"to\":\"c\",\"after_ctx\":\"due\",\"guard\":\"!ctx.calm\"}]}"
#define V2                                                                                                             \
    "{\"states\":[\"a\",\"x\"],\"initial\":\"a\",\"transitions\":["                                                    \
    "{\"from\":\"a\",\"event\":\"GO\",\"to\":\"x\",\"after_ms\":7000},{\"from\":\"x\",\"event\":\"GO\",\"to\":\"x\"}," \
    "{\"from\":\"x\",\"event\":\"BACK\",\"to\":\"a\",\"guard\":\"ctx.m\"}]}"

struct fixture {
    struct engine_driver *driver, second;
    struct kt_random chance;
    kt_space timers, created, kept;
    uint64_t migration; /* the last one; 0: none */
    unsigned ok, refused;
};

static uint64_t draw(struct fixture *fixture, uint64_t below)
{
    return kt_random_below(&fixture->chance, below);
}

/* The entry that the first state has just applied, for the second one, which commits seldom. */
static void repeat(struct fixture *fixture)
{
    struct engine_driver *second = &fixture->second;
    struct kt_state_position one = kt_state_applied(fixture->driver->state), two;
    struct kt_error error;

    if (kt_state_applied(second->state).index == one.index)
        return; /* prepare refused it: there was no entry */
    if (kt_state_apply(second->state, one.index, 1, kt_buf_slice(&fixture->driver->op), NULL, &error) != KT_OK)
        fail_msg("%s", error.text);
    if (draw(fixture, 20) == 0)
        assert_int_equal(kt_state_commit(second->state), KT_OK);
    two = kt_state_applied(second->state);
    assert_int_equal(two.index, one.index);
    assert_true(two.hash == one.hash);
}

static void run(struct fixture *fixture, const char *command, const char *params)
{
    const struct kt_reply *reply = engine_driver_json(fixture->driver, command, params);

    if (reply->code != KT_OK && kt_code_class(reply->code) != KT_CLIENT)
        fail_msg("%s %s: %s", command, params, reply->text);
    if (reply->code == KT_OK)
        fixture->ok++;
    else
        fixture->refused++;
    repeat(fixture);
}

/* One operation as an item of a batch, and alone. */
static void make_item(struct fixture *fixture, const char **op, char *params, size_t size)
{
    static const char *const events[] = {"GO", "GO", "GO", "BACK", "LATE", "NONE"};
    unsigned id = (unsigned)draw(fixture, INSTANCES);
    char key[40] = "";

    if (draw(fixture, 4) == 0)
        snprintf(key, sizeof(key), ",\"idempotency_key\":\"k%u\"", (unsigned)draw(fixture, 40));
    switch (draw(fixture, 8)) {
    case 0:
    case 1:
        *op = "CREATE_INSTANCE";
        snprintf(params, size,
                 "{\"machine\":\"m\",\"version\":%u,\"instance_id\":\"i%u\",\"initial_ctx\":{\"n\":%u,\"calm\":%u}%s}",
                 1 + (unsigned)draw(fixture, 2), id, (unsigned)draw(fixture, 8), (unsigned)draw(fixture, 2), key);
        break;
    case 2:
        *op = "DELETE_INSTANCE";
        snprintf(params, size, "{\"instance_id\":\"i%u\"%s}", id, key);
        break;
    default:
        *op = "APPLY_EVENT";
        snprintf(params, size, "{\"instance_id\":\"i%u\",\"event\":\"%s\",\"payload\":{\"due\":%llu,\"m\":%u}%s}", id,
                 events[draw(fixture, KT_COUNT(events))],
                 (unsigned long long)(fixture->driver->now_ms + draw(fixture, 9000)), (unsigned)draw(fixture, 2), key);
    }
}

static void run_one(struct fixture *fixture)
{
    char params[512];
    const char *op;

    make_item(fixture, &op, params, sizeof(params));
    run(fixture,
        *op == 'C'   ? "machine.create_instance"
        : *op == 'D' ? "machine.delete_instance"
                     : "machine.apply_event",
        params);
}

static void run_batch(struct fixture *fixture)
{
    char batch[8192], params[512];
    unsigned count = (unsigned)draw(fixture, 7);
    size_t len = (size_t)snprintf(batch, sizeof(batch), "{\"mode\":\"%s\",\"ops\":[",
                                  draw(fixture, 2) ? "atomic" : "best_effort");

    for (unsigned i = 0; i < count; i++) {
        const char *op;

        make_item(fixture, &op, params, sizeof(params));
        len += (size_t)snprintf(batch + len, sizeof(batch) - len, "%s{\"op\":\"%s\",\"params\":%s}", i ? "," : "", op,
                                params);
    }
    snprintf(batch + len, sizeof(batch) - len, "]%s}", draw(fixture, 5) ? "" : ",\"idempotency_key\":\"whole\"");
    run(fixture, "machine.batch", batch);
}

static void run_migration(struct fixture *fixture)
{
    char params[512];
    bool forth = draw(fixture, 2);

    switch (draw(fixture, 4)) {
    case 0:
    case 1:
        snprintf(params, sizeof(params),
                 "{\"machine\":\"m\",\"from_version\":%d,\"to_version\":%d,\"states\":%s,\"ctx_renames\":{\"n\":\"m\"},"
                 "\"ctx_defaults\":{\"n\":5}}",
                 forth ? 1 : 2, forth ? 2 : 1, forth ? "{\"b\":\"x\"}" : "{\"x\":\"b\"}");
        run(fixture, "machine.migrate", params);
        if (fixture->driver->reply.code == KT_OK)
            fixture->migration = fixture->driver->reply.offset;
        break;
    default:
        if (fixture->migration == 0)
            return;
        snprintf(params, sizeof(params), "{\"migration_id\":%" PRIu64 "}", fixture->migration);
        run(fixture, draw(fixture, 2) ? "machine.undo_migration" : "machine.confirm_migration", params);
    }
}

static void tick(struct fixture *fixture, bool all)
{
    while (engine_driver_tick(fixture->driver)) {
        repeat(fixture);
        if (!all && draw(fixture, 2))
            return;
    }
}

static uint64_t count_rows(struct fixture *fixture, kt_space space)
{
    struct kt_txn *txn;
    uint64_t count;

    assert_int_equal(kt_txn_begin_read(kt_state_store(fixture->driver->state), &txn), KT_OK);
    assert_int_equal(kt_txn_count(txn, space, &count), KT_OK);
    kt_txn_abort(txn);
    return count;
}

/* The number behind a member's name in the last answer. */
static uint64_t number_of(struct fixture *fixture, const char *member)
{
    struct kt_buf *body = &fixture->driver->reply.body;
    const char *found;

    kt_buf_append_u8(body, '\0');
    found = strstr((char *)body->data, member);
    assert_non_null(found);
    return strtoull(found + strlen(member), NULL, 10);
}

static uint64_t count_listed(struct fixture *fixture, const char *filter)
{
    char params[128];

    snprintf(params, sizeof(params), "{\"limit\":0%s}", filter);
    run_ok(fixture->driver, "machine.list_instances", params);
    return number_of(fixture, "\"total\":");
}

/* Timers that run, and how many of them should have fired by now. */
static uint64_t count_timers(struct fixture *fixture, unsigned *overdue)
{
    uint64_t count = 0;

    *overdue = 0;
    for (unsigned i = 0; i < INSTANCES; i++) {
        char params[64];
        const char *at;

        snprintf(params, sizeof(params), "{\"instance_id\":\"i%u\"}", i);
        if (engine_driver_json(fixture->driver, "machine.get_instance", params)->code != KT_OK)
            continue;
        kt_buf_append_u8(&fixture->driver->reply.body, '\0');
        at = strstr((char *)fixture->driver->reply.body.data, "\"timers\":");
        for (; at && (at = strstr(at, "{\"due\":")) != NULL; at++) {
            count++;
            *overdue += strtoull(at + 7, NULL, 10) <= fixture->driver->now_ms;
        }
    }
    return count;
}

static void check(struct fixture *fixture)
{
    uint64_t total;
    unsigned overdue;

    tick(fixture, true);
    total = count_rows(fixture, fixture->created);
    assert_int_equal(count_listed(fixture, ""), total);
    assert_int_equal(count_listed(fixture, ",\"machine\":\"m\""), total);
    assert_int_equal(count_listed(fixture, ",\"state\":\"a\"") + count_listed(fixture, ",\"state\":\"b\"") +
                         count_listed(fixture, ",\"state\":\"c\"") + count_listed(fixture, ",\"state\":\"x\""),
                     total);
    assert_int_equal(count_timers(fixture, &overdue), count_rows(fixture, fixture->timers));
    assert_int_equal(overdue, 0);
}

static void setup(struct fixture *fixture, uint64_t seed)
{
    void *state;
    struct kt_error error;

    memset(fixture, 0, sizeof(*fixture));
    kt_random_seed(&fixture->chance, seed);
    machine_setup(&state);
    fixture->driver = state;
    engine_driver_init(&fixture->second);
    fixture->second.options.engines = fixture->driver->options.engines;
    engine_driver_open(&fixture->second);
    assert_int_equal(kt_store_space(kt_state_store(fixture->driver->state), "machine.timer", &fixture->timers, &error),
                     KT_OK);
    assert_int_equal(
        kt_store_space(kt_state_store(fixture->driver->state), "machine.created", &fixture->created, &error), KT_OK);
    assert_int_equal(
        kt_store_space(kt_state_store(fixture->driver->state), "machine.migration_kept", &fixture->kept, &error),
        KT_OK);
    run(fixture, "machine.put", "{\"machine\":\"m\",\"version\":1,\"definition\":" V1 "}");
    run(fixture, "machine.put", "{\"machine\":\"m\",\"version\":2,\"definition\":" V2 "}");
}

static void commands__random__nothing_comes_apart(void **state)
{
    uint64_t seed = getenv("KONTIKI_SEED") ? strtoull(getenv("KONTIKI_SEED"), NULL, 10) : 1;
    struct fixture fixture;

    (void)state;
    setup(&fixture, seed);
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t kind = draw(&fixture, 100);

        if (kind < 55)
            run_one(&fixture);
        else if (kind < 75)
            run_batch(&fixture);
        else if (kind < 79)
            run_migration(&fixture);
        else if (kind < 90)
            fixture.driver->now_ms += draw(&fixture, 3000);
        else
            tick(&fixture, false);
        if (step % 200 == 199)
            check(&fixture);
        if (step % 500 == 499) {
            assert_int_equal(kt_state_commit(fixture.second.state), KT_OK);
            engine_driver_close(&fixture.second);
            engine_driver_open(&fixture.second);
        }
    }
    /* The week after which nothing of a migration is kept. */
    for (unsigned day = 0; day < 8; day++) {
        fixture.driver->now_ms += UINT64_C(86400000);
        tick(&fixture, true);
    }
    assert_int_equal(count_rows(&fixture, fixture.kept), 0);
    print_message("seed %llu: %u commands carried out, %u refused, %llu entries\n", (unsigned long long)seed,
                  fixture.ok, fixture.refused, (unsigned long long)last_index(fixture.driver));
    assert_true(fixture.ok > STEPS / 5);
    assert_true(fixture.refused > STEPS / 10);
    assert_int_equal(kt_state_commit(fixture.second.state), KT_OK);
    engine_driver_release(&fixture.second);
    engine_driver_release(fixture.driver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands__random__nothing_comes_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
