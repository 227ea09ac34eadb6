#include "base/random.h"
#include "support/machine_expect.h"

/* The same transitions for all: a ring of three states, and an event that stays. Machines share names of states. */
#define RING(a, b, c)                                                                                                  \
    "{\"states\":[\"" a "\",\"" b "\",\"" c "\"],\"initial\":\"" a "\",\"transitions\":["                              \
    "{\"from\":\"" a "\",\"event\":\"GO\",\"to\":\"" b "\"},{\"from\":\"" b "\",\"event\":\"GO\",\"to\":\"" c "\"},"   \
    "{\"from\":\"" c "\",\"event\":\"GO\",\"to\":\"" a "\"},{\"from\":[\"" a "\",\"" b "\",\"" c                       \
    "\"],\"event\":\"STAY\",\"to\":\"" b "\",\"guard\":\"ctx.never\"}]}"

#define MACHINES 4
#define IDS      60

static const char *const machine_names[MACHINES] = {"m", "mm", "é", "ring"};
static const char *const rings[MACHINES][3] = {{"a", "b", "c"}, {"b", "a", "c"}, {"c", "aa", "b"}, {"", "a", "日"}};
static const char *const filters[] = {"a", "b", "c", "aa", "", "日", "none"};

struct model_instance {
    bool exists, deleted;
    unsigned machine, state;
    uint64_t created_ms, updated_ms, last_offset, created_offset;
};

struct model {
    struct model_instance instances[IDS];
};

/* Some ids are too long for a key, and differ at the end only. */
static void id_text(unsigned number, char out[600])
{
    if (number % 7 == 3)
        snprintf(out, 600, "%0*u", 590, number);
    else
        snprintf(out, 600, "id-%u", number);
}

static bool matches(const struct model_instance *instance, const char *machine, const char *state)
{
    return instance->exists && !instance->deleted &&
           (!machine || strcmp(machine_names[instance->machine], machine) == 0) &&
           (!state || strcmp(rings[instance->machine][instance->state], state) == 0);
}

/* The page as the model has it. */
static void expected_page(const struct model *model, const char *machine, const char *state, uint64_t limit,
                          uint64_t offset, struct kt_buf *out)
{
    unsigned order[IDS], total = 0, listed = 0;
    char id[600];

    for (unsigned i = 0; i < IDS; i++) {
        unsigned at = total;

        if (!matches(&model->instances[i], machine, state))
            continue;
        for (; at > 0 && model->instances[order[at - 1]].created_offset > model->instances[i].created_offset; at--)
            order[at] = order[at - 1];
        order[at] = i;
        total++;
    }
    for (uint64_t at = offset; at < total && listed < limit; at++)
        listed++;
    kt_buf_printf(out, "{\"has_more\":%s,\"instances\":[", offset + listed < total ? "true" : "false");
    for (unsigned at = 0; at < listed; at++) {
        unsigned number = order[offset + at];
        const struct model_instance *instance = &model->instances[number];

        id_text(number, id);
        kt_buf_printf(out,
                      "%s{\"created_at\":%" PRIu64 ",\"id\":\"%s\",\"last_wal_offset\":%" PRIu64
                      ",\"machine\":\"%s\",\"state\":\"%s\",\"updated_at\":%" PRIu64 ",\"version\":1}",
                      at ? "," : "", instance->created_ms, id, instance->last_offset, machine_names[instance->machine],
                      rings[instance->machine][instance->state], instance->updated_ms);
    }
    kt_buf_printf(out, "],\"total\":%u}", total);
}

static void check_page(struct engine_driver *driver, const struct model *model, const char *machine, const char *state,
                       uint64_t limit, uint64_t offset)
{
    struct kt_buf params, expected;
    const struct kt_reply *reply;

    kt_buf_init(&params, 4096);
    kt_buf_init(&expected, 1u << 20);
    kt_buf_printf(&params, "{\"limit\":%" PRIu64 ",\"offset\":%" PRIu64, limit, offset);
    if (machine)
        kt_buf_printf(&params, ",\"machine\":\"%s\"", machine);
    if (state)
        kt_buf_printf(&params, ",\"state\":\"%s\"", state);
    kt_buf_append(&params, "}", 2);
    expected_page(model, machine, state, limit, offset, &expected);
    reply = engine_driver_json(driver, "machine.list_instances", (char *)params.data);
    if (reply->code != KT_OK || !kt_slice_equal(kt_buf_slice(&reply->body), kt_buf_slice(&expected)))
        fail_msg("%s:\n got      %.*s %s\n expected %.*s", (char *)params.data, (int)reply->body.len,
                 (char *)reply->body.data, reply->text, (int)expected.len, (char *)expected.data);
    kt_buf_release(&params);
    kt_buf_release(&expected);
}

/* Every filter, whole. */
static void check_all(struct engine_driver *driver, const struct model *model)
{
    for (unsigned machine = 0; machine <= MACHINES; machine++)
        for (size_t state = 0; state <= KT_COUNT(filters); state++)
            check_page(driver, model, machine < MACHINES ? machine_names[machine] : NULL,
                       state < KT_COUNT(filters) ? filters[state] : NULL, 1000, 0);
}

static void check_some_page(struct engine_driver *driver, const struct model *model, struct kt_random *random)
{
    uint64_t machine = kt_random_below(random, MACHINES + 2), state = kt_random_below(random, KT_COUNT(filters) + 3);

    check_page(driver, model,
               machine < MACHINES    ? machine_names[machine]
               : machine == MACHINES ? "unknown"
                                     : NULL,
               state < KT_COUNT(filters) ? filters[state] : NULL, kt_random_below(random, 20),
               kt_random_below(random, IDS));
}

static void model_create(struct engine_driver *driver, struct model *model, unsigned number, unsigned machine)
{
    struct model_instance *instance = &model->instances[number];
    bool free_id = !instance->exists || instance->deleted;
    const struct kt_reply *reply;
    char id[600], params[900];

    id_text(number, id);
    snprintf(params, sizeof(params), "{\"machine\":\"%s\",\"version\":1,\"instance_id\":\"%s\"}",
             machine_names[machine], id);
    reply = engine_driver_json(driver, "machine.create_instance", params);
    assert_int_equal(reply->code, free_id ? KT_OK : KT_INSTANCE_EXISTS);
    if (free_id)
        *instance = (struct model_instance){
            .exists = true,
            .machine = machine,
            .created_ms = driver->now_ms,
            .updated_ms = driver->now_ms,
            .last_offset = last_index(driver),
            .created_offset = last_index(driver),
        };
}

static void model_delete(struct engine_driver *driver, struct model *model, unsigned number)
{
    struct model_instance *instance = &model->instances[number];
    char id[600], params[900];

    id_text(number, id);
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    assert_int_equal(engine_driver_json(driver, "machine.delete_instance", params)->code,
                     instance->exists ? KT_OK : KT_INSTANCE_NOT_FOUND);
    instance->deleted = instance->exists;
}

static void model_event(struct engine_driver *driver, struct model *model, unsigned number, bool go)
{
    struct model_instance *instance = &model->instances[number];
    bool alive = instance->exists && !instance->deleted;
    const struct kt_reply *reply;
    char id[600], params[900];

    id_text(number, id);
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\",\"event\":\"%s\"}", id, go ? "GO" : "STAY");
    reply = engine_driver_json(driver, "machine.apply_event", params);
    assert_int_equal(reply->code, !alive ? KT_INSTANCE_NOT_FOUND : go ? KT_OK : KT_GUARD_FAILED);
    if (!alive || !go)
        return;
    instance->state = (instance->state + 1) % 3;
    instance->updated_ms = driver->now_ms;
    instance->last_offset = last_index(driver);
}

/*
 * A second state is fed the same operations; it commits now and then and is opened again in between, so that it begins
 * with nothing compiled and nothing of the first one's history in memory. Both must hold the same.
 */
struct twin {
    struct engine_driver driver;
};

static void twin_follow(struct twin *twin, struct engine_driver *leader, struct kt_random *random)
{
    struct kt_state *state = twin->driver.state;
    struct kt_error error;

    if (kt_state_applied(leader->state).index == kt_state_applied(state).index)
        return;
    assert_int_equal(
        kt_state_apply(state, kt_state_applied(state).index + 1, 1, kt_buf_slice(&leader->op), NULL, &error), KT_OK);
    assert_true(kt_state_applied(state).hash == kt_state_applied(leader->state).hash);
    if (kt_random_below(random, 4) == 0)
        assert_int_equal(kt_state_commit(state), KT_OK);
    if (kt_random_below(random, 100) == 0) {
        assert_int_equal(kt_state_commit(state), KT_OK);
        engine_driver_close(&twin->driver);
        engine_driver_open(&twin->driver);
    }
}

static void list__random_operations__as_the_model_has_it(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_random random;
    struct model model;
    struct twin twin;

    memset(&model, 0, sizeof(model));
    engine_driver_init(&twin.driver);
    engine_driver_open(&twin.driver);
    kt_random_seed(&random, 7);
    put_machine(driver, "m", 1, RING("a", "b", "c"));
    twin_follow(&twin, driver, &random);
    put_machine(driver, "mm", 1, RING("b", "a", "c"));
    twin_follow(&twin, driver, &random);
    put_machine(driver, "é", 1, RING("c", "aa", "b"));
    twin_follow(&twin, driver, &random);
    put_machine(driver, "ring", 1, RING("", "a", "日"));
    twin_follow(&twin, driver, &random);
    for (unsigned round = 0; round < 3000; round++) {
        unsigned number = (unsigned)kt_random_below(&random, IDS);
        uint64_t choice = kt_random_below(&random, 20);

        driver->now_ms += kt_random_below(&random, 3);
        if (choice < 5)
            model_create(driver, &model, number, (unsigned)kt_random_below(&random, MACHINES));
        else if (choice < 7)
            model_delete(driver, &model, number);
        else
            model_event(driver, &model, number, choice < 18);
        twin_follow(&twin, driver, &random);
        if (round % 5 == 0)
            check_some_page(driver, &model, &random);
        if (round % 300 == 0)
            check_all(driver, &model);
    }
    check_all(driver, &model);
    assert_int_equal(kt_state_commit(twin.driver.state), KT_OK);
    check_all(&twin.driver, &model);
    engine_driver_release(&twin.driver);
}

static void list__limits__default_and_clamped(void **state)
{
    struct engine_driver *driver = *state;
    const char *body;
    char params[128];

    put_machine(driver, "m", 1, RING("a", "b", "c"));
    for (unsigned i = 0; i < 1100; i++) {
        snprintf(params, sizeof(params), "{\"machine\":\"m\",\"version\":1,\"instance_id\":\"i%u\"}", i);
        run_ok(driver, "machine.create_instance", params);
    }
    static const struct {
        const char *params;
        unsigned listed;
        bool more;
    } rows[] = {
        {"{}", 100, true},
        {"{\"limit\":null}", 100, true},
        {"{\"limit\":0}", 0, true},
        {"{\"limit\":1000}", 1000, true},
        {"{\"limit\":5000}", 1000, true},
        {"{\"limit\":18446744073709551615,\"offset\":100}", 1000, false},
        {"{\"offset\":1099}", 1, false},
        {"{\"offset\":1100}", 0, false},
        {"{\"offset\":18446744073709551615}", 0, false},
        {"{\"state\":\"a\",\"limit\":2000,\"offset\":99}", 1000, true},
    };
    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        unsigned listed = 0;

        run_ok(driver, "machine.list_instances", rows[i].params);
        kt_buf_append_u8(&driver->reply.body, '\0');
        body = (char *)driver->reply.body.data;
        for (const char *at = body; (at = strstr(at, "\"id\":")) != NULL; at++)
            listed++;
        assert_int_equal(listed, rows[i].listed);
        assert_int_equal(strncmp(body, "{\"has_more\":true", 16) == 0, rows[i].more);
        assert_non_null(strstr(body, "\"total\":1100}"));
    }
}

static void list__bad_parameters__refused(void **state)
{
    struct engine_driver *driver = *state;

    expect_fail(driver, "machine.list_instances", "{\"limit\":-1}", KT_BAD_REQUEST,
                "field 'limit' must be a non-negative integer", "");
    expect_fail(driver, "machine.list_instances", "{\"limit\":\"5\"}", KT_BAD_REQUEST,
                "field 'limit' must be a non-negative integer", "");
    expect_fail(driver, "machine.list_instances", "{\"offset\":1.5}", KT_BAD_REQUEST,
                "field 'offset' must be a non-negative integer", "");
    expect_fail(driver, "machine.list_instances", "{\"machine\":1}", KT_BAD_REQUEST, "field 'machine' must be a string",
                "");
    expect_fail(driver, "machine.list_instances", "{\"state\":[]}", KT_BAD_REQUEST, "field 'state' must be a string",
                "");
}

/* Groups are of a machine's name: versions share them, and a list by machine spans the versions. */
static void list__several_versions__together(void **state)
{
    struct engine_driver *driver = *state;

    put_machine(driver, "m", 1, RING("a", "b", "c"));
    put_machine(driver, "m", 2, RING("b", "c", "d"));
    run_ok(driver, "machine.create_instance", "{\"machine\":\"m\",\"version\":2,\"instance_id\":\"x\"}");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"m\",\"version\":1,\"instance_id\":\"y\"}");
    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"y\",\"event\":\"GO\"}");
    expect_ok(
        driver, "machine.list_instances", "{\"machine\":\"m\",\"state\":\"b\"}",
        "{\"has_more\":false,\"instances\":[{\"created_at\":1000000,\"id\":\"x\",\"last_wal_offset\":3,\"machine\":"
        "\"m\",\"state\":\"b\",\"updated_at\":1000000,\"version\":2},{\"created_at\":1000000,\"id\":\"y\","
        "\"last_wal_offset\":5,\"machine\":\"m\",\"state\":\"b\",\"updated_at\":1000000,\"version\":1}],\"total\":2}");
    expect_ok(driver, "machine.list_instances", "{\"machine\":\"m\",\"limit\":0}",
              "{\"has_more\":true,\"instances\":[],\"total\":2}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(list__random_operations__as_the_model_has_it),
        TEST(list__limits__default_and_clamped),
        TEST(list__bad_parameters__refused),
        TEST(list__several_versions__together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
