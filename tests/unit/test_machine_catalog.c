#include "support/machine_expect.h"

#define TINY "{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[]}"

static void put__new_definition__created(void **state)
{
    struct engine_driver *driver = *state;

    expect_ok(driver, "machine.put", "{\"machine\":\"door\",\"version\":1,\"definition\":" DOOR "}",
              "{\"created\":true,\"machine\":\"door\",\"stored_checksum\":\"d6840009\",\"version\":1}");
    assert_int_equal(driver->reply.offset, 1);
    expect_ok(driver, "machine.get", "{\"machine\":\"door\",\"version\":1}",
              "{\"checksum\":\"d6840009\",\"definition\":" DOOR ",\"machine\":\"door\",\"version\":1}");
}

static void put__equal_definition__changes_nothing(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t hash;

    put_door(driver);
    hash = kt_state_applied(driver->state).hash;
    expect_ok(driver, "machine.put",
              "{\"machine\":\"door\",\"version\":1,\"checksum\":\"nonsense\",\"idempotency_key\":\"k\",\"definition\":{"
              "\"transitions\":[{\"to\":\"open\",\"guard\":\"ctx.key\",\"from\":\"shut\",\"event\":\"OPEN\"},{\"from\":"
              "\"open\",\"event\":\"CLOSE\",\"to\":\"shut\",\"guard\":null}],\"initial\":\"shut\",\"states\":[\"shut\","
              "\"open\",\"shut\"],\"meta\":null,\"comment\":1}}",
              "{\"created\":false,\"machine\":\"door\",\"stored_checksum\":\"d6840009\",\"version\":1}");
    assert_true(kt_state_applied(driver->state).hash == hash);
}

static void put__other_definition__refused(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    expect_fail(driver, "machine.put", "{\"machine\":\"door\",\"version\":1,\"definition\":" TINY "}",
                KT_MACHINE_EXISTS, "version 1 exists with another definition: machine 'door'",
                "{\"machine\":\"door\",\"version\":1}");
    run_ok(driver, "machine.put", "{\"machine\":\"door\",\"version\":2,\"definition\":" TINY "}");
}

static void put__bad_parameters__refused(void **state)
{
    struct engine_driver *driver = *state;
    static const struct {
        const char *params, *words, *details;
    } rows[] = {
        {"{\"version\":1,\"definition\":" TINY "}", "missing field 'machine'", ""},
        {"{\"machine\":\"\",\"version\":1,\"definition\":" TINY "}", "field 'machine' must not be empty", ""},
        {"{\"machine\":\"m\",\"definition\":" TINY "}", "missing field 'version'", ""},
        {"{\"machine\":\"m\",\"version\":\"1\",\"definition\":" TINY "}",
         "field 'version' must be a non-negative integer", ""},
        {"{\"machine\":\"m\",\"version\":1.0,\"definition\":" TINY "}",
         "field 'version' must be a non-negative integer", ""},
        {"{\"machine\":\"m\",\"version\":-1,\"definition\":" TINY "}", "field 'version' must be a non-negative integer",
         ""},
        {"{\"machine\":\"m\",\"version\":2147483648,\"definition\":" TINY "}",
         "field 'version' is 2147483648, the limit is 2147483647", ""},
        {"{\"machine\":\"m\",\"version\":1}", "missing field 'definition'", ""},
        {"{\"machine\":\"m\",\"version\":1,\"definition\":null}", "missing field 'definition'", ""},
        {"{\"machine\":\"m\",\"version\":1,\"definition\":[]}", "field 'definition' must be an object", ""},
        {"{\"machine\":\"m\",\"version\":1,\"definition\":{}}", "JSON error: missing field `states`",
         "{\"field\":\"states\"}"},
        {"{\"machine\":\"m\",\"version\":1,\"definition\":{\"states\":[],\"initial\":\"X\",\"transitions\":[]}}",
         "invalid machine definition: initial state 'X' not in states list", "{\"field\":\"initial\",\"state\":\"X\"}"},
        {"{\"machine\":\"m\",\"version\":1,\"definition\":{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[{"
         "\"from\":"
         "\"a\",\"event\":\"E\",\"to\":\"b\"}]}}",
         "invalid machine definition: transition target 'b' not in states list (transitions[0])",
         "{\"event\":\"E\",\"field\":\"to\",\"state\":\"b\",\"transition\":0}"},
    };

    for (size_t i = 0; i < KT_COUNT(rows); i++)
        expect_fail(driver, "machine.put", rows[i].params, KT_BAD_REQUEST, rows[i].words, rows[i].details);
    assert_int_equal(last_index(driver), 0);
    /* An invalid definition is refused as such also where a version exists. */
    put_machine(driver, "m", 1, TINY);
    expect_fail(driver, "machine.put", rows[11].params, KT_BAD_REQUEST, rows[11].words, rows[11].details);
}

static void put__versions_at_the_borders__stored(void **state)
{
    struct engine_driver *driver = *state;

    put_machine(driver, "m", 2147483647, TINY);
    put_machine(driver, "m", 0, TINY);
    expect_ok(driver, "machine.list", "{}",
              "{\"has_more\":false,\"items\":[{\"machine\":\"m\",\"versions\":[0,2147483647]}],\"total\":1}");
}

static void put__version_limit__new_ones_refused(void **state)
{
    struct engine_driver *driver = *state;

    engine_driver_close(driver);
    driver->options.engines.machine_versions_max = 2;
    engine_driver_open(driver);
    put_machine(driver, "m", 5, TINY);
    put_machine(driver, "m", 3, TINY);
    expect_fail(driver, "machine.put", "{\"machine\":\"m\",\"version\":4,\"definition\":" TINY "}", KT_MACHINE_LIMIT,
                "machine 'm' already has 2 versions (limit: 2)", "{\"limit\":2}");
    /* Not for what is there, and not for other machines. */
    put_machine(driver, "m", 5, TINY);
    put_machine(driver, "n", 1, TINY);
    expect_fail(driver, "machine.put", "{\"machine\":\"m\",\"version\":5,\"definition\":" DOOR "}", KT_MACHINE_EXISTS,
                "version 5 exists with another definition: machine 'm'", "{\"machine\":\"m\",\"version\":5}");
}

/* The limit of the node that proposed holds on every node that applies. */
static void put__limit_of_another_node__as_the_operation_says(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_error error;
    struct kt_buf op;

    put_machine(driver, "m", 1, TINY);
    engine_driver_close(driver);
    driver->options.engines.machine_versions_max = 1;
    engine_driver_open(driver);
    expect_fail(driver, "machine.put", "{\"machine\":\"m\",\"version\":2,\"definition\":" TINY "}", KT_MACHINE_LIMIT,
                "machine 'm' already has 1 versions (limit: 1)", "{\"limit\":1}");
    kt_buf_init(&op, 1u << 20);
    kt_buf_append_slice(&op, kt_buf_slice(&driver->op));
    engine_driver_close(driver);
    driver->options.engines.machine_versions_max = 0;
    engine_driver_open(driver);
    assert_int_equal(engine_driver_apply(driver, kt_buf_slice(&op), &error), KT_OK);
    assert_int_equal(driver->reply.code, KT_MACHINE_LIMIT);
    kt_buf_release(&op);
}

static void get__without_version__the_highest(void **state)
{
    struct engine_driver *driver = *state;

    put_machine(driver, "a", 9, TINY);
    put_machine(driver, "m", 2, TINY);
    put_machine(driver, "m", 10, DOOR);
    put_machine(driver, "m", 3, TINY);
    put_machine(driver, "z", 99, TINY);
    expect_ok(driver, "machine.get", "{\"machine\":\"m\"}",
              "{\"checksum\":\"d6840009\",\"definition\":" DOOR ",\"machine\":\"m\",\"version\":10}");
    expect_ok(driver, "machine.get", "{\"machine\":\"m\",\"version\":null}",
              "{\"checksum\":\"d6840009\",\"definition\":" DOOR ",\"machine\":\"m\",\"version\":10}");
    expect_ok(driver, "machine.get", "{\"machine\":\"m\",\"version\":2}",
              "{\"checksum\":\"6b16bc3e\",\"definition\":" TINY ",\"machine\":\"m\",\"version\":2}");
}

static void get__unknown__not_found(void **state)
{
    struct engine_driver *driver = *state;
    char params[700], words[400];

    put_door(driver);
    expect_fail(driver, "machine.get", "{\"machine\":\"window\"}", KT_MACHINE_NOT_FOUND, "machine not found: 'window'",
                "{\"machine\":\"window\"}");
    expect_fail(driver, "machine.get", "{\"machine\":\"door\",\"version\":2}", KT_MACHINE_NOT_FOUND,
                "machine not found: 'door' version 2", "{\"machine\":\"door\",\"version\":2}");
    expect_fail(driver, "machine.get", "{\"machine\":\"door\",\"version\":18446744073709551615}", KT_MACHINE_NOT_FOUND,
                "machine not found: 'door' version 18446744073709551615",
                "{\"machine\":\"door\",\"version\":18446744073709551615}");
    snprintf(params, sizeof(params), "{\"machine\":\"%0600d\"}", 0);
    assert_int_equal(engine_driver_json(driver, "machine.get", params)->code, KT_MACHINE_NOT_FOUND);
    snprintf(words, sizeof(words), "machine not found: '%0300d", 0);
    words[KT_ERROR_TEXT_MAX - 1] = '\0';
    assert_string_equal(driver->reply.text, words);
}

static void list__machines__by_name_in_pages(void **state)
{
    struct engine_driver *driver = *state;

    expect_ok(driver, "machine.list", "{}", "{\"has_more\":false,\"items\":[],\"total\":0}");
    put_machine(driver, "b", 2, TINY);
    put_machine(driver, "ab", 1, TINY);
    put_machine(driver, "b", 10, TINY);
    put_machine(driver, "a", 7, TINY);
    put_machine(driver, "é", 1, TINY);
    expect_ok(
        driver, "machine.list", "{\"cursor\":\"ignored\"}",
        "{\"has_more\":false,\"items\":[{\"machine\":\"a\",\"versions\":[7]},{\"machine\":\"ab\",\"versions\":[1]},"
        "{\"machine\":\"b\",\"versions\":[2,10]},{\"machine\":\"é\",\"versions\":[1]}],\"total\":4}");
    expect_ok(
        driver, "machine.list", "{\"limit\":2,\"offset\":1}",
        "{\"has_more\":true,\"items\":[{\"machine\":\"ab\",\"versions\":[1]},{\"machine\":\"b\",\"versions\":[2,10]}"
        "],\"total\":4}");
    expect_ok(driver, "machine.list", "{\"offset\":3}",
              "{\"has_more\":false,\"items\":[{\"machine\":\"é\",\"versions\":[1]}],\"total\":4}");
    expect_ok(driver, "machine.list", "{\"limit\":0}", "{\"has_more\":true,\"items\":[],\"total\":4}");
    expect_ok(driver, "machine.list", "{\"offset\":18446744073709551615,\"limit\":18446744073709551615}",
              "{\"has_more\":false,\"items\":[],\"total\":4}");
}

static void list__more_than_a_hundred__all(void **state)
{
    struct engine_driver *driver = *state;
    char name[16];

    for (unsigned i = 0; i < 150; i++) {
        snprintf(name, sizeof(name), "m%03u", i);
        put_machine(driver, name, 1, TINY);
    }
    run_ok(driver, "machine.list", "{}");
    kt_buf_append_u8(&driver->reply.body, '\0');
    assert_non_null(strstr((char *)driver->reply.body.data, "\"has_more\":false"));
    assert_non_null(strstr((char *)driver->reply.body.data, "{\"machine\":\"m149\",\"versions\":[1]}],\"total\":150}"));
}

static void names__longest__stored(void **state)
{
    struct engine_driver *driver = *state;
    char params[1200], definition[1600];

    snprintf(definition, sizeof(definition), "{\"states\":[\"%0480d\"],\"initial\":\"%0480d\",\"transitions\":[]}", 0,
             0);
    snprintf(params, sizeof(params), "%0480d", 0);
    put_machine(driver, params, 1, definition);
    snprintf(params, sizeof(params), "{\"machine\":\"%0480d\",\"version\":1,\"instance_id\":\"i\"}", 0);
    run_ok(driver, "machine.create_instance", params);
    snprintf(params, sizeof(params), "{\"machine\":\"%0480d\",\"state\":\"%0480d\",\"limit\":0}", 0, 0);
    expect_ok(driver, "machine.list_instances", params, "{\"has_more\":true,\"instances\":[],\"total\":1}");
    snprintf(params, sizeof(params), "{\"state\":\"%0480d\",\"limit\":0}", 0);
    expect_ok(driver, "machine.list_instances", params, "{\"has_more\":true,\"instances\":[],\"total\":1}");
    snprintf(params, sizeof(params), "{\"state\":\"%0481d\"}", 0);
    expect_ok(driver, "machine.list_instances", params, "{\"has_more\":false,\"instances\":[],\"total\":0}");
    snprintf(params, sizeof(params), "{\"machine\":\"%0481d\",\"version\":1,\"definition\":" TINY "}", 0);
    expect_fail(driver, "machine.put", params, KT_BAD_REQUEST, "field 'machine' is 481 bytes, the limit is 480", "");
}

static void stats__counts__definitions_and_living_instances(void **state)
{
    struct engine_driver *driver = *state;
    const struct kt_engine *engine = NULL;
    struct kt_reply stats;
    struct kt_txn *txn;
    size_t at = 0;

    put_door(driver);
    put_machine(driver, "door", 2, TINY);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"x\"}");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"y\"}");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":2}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"x\"}");
    for (; at < kt_engine_count; at++) {
        engine = kt_engines[at];
        if (engine->id == KT_ENGINE_MACHINE)
            break;
    }
    assert_true(at < kt_engine_count);
    kt_reply_init(&stats);
    assert_int_equal(kt_txn_begin_read(kt_state_store(driver->state), &txn), KT_OK);
    kt_buf_append_text(&stats.body, "{");
    assert_int_equal(engine->stats(kt_state_engine(driver->state, at), txn, &stats), KT_OK);
    assert_int_equal(engine->stats(kt_state_engine(driver->state, at), txn, &stats), KT_OK);
    assert_true(
        kt_slice_is(kt_buf_slice(&stats.body), "{\"instances\":2,\"machines\":2,\"instances\":2,\"machines\":2"));
    kt_txn_abort(txn);
    kt_reply_release(&stats);
}

/* More definitions than memory holds compiled, used in turn, some larger than is kept at all. */
static void compiled__more_than_fit__all_work(void **state)
{
    struct engine_driver *driver = *state;
    char params[256], definition[256];

    for (unsigned i = 0; i < 1100; i++) {
        snprintf(definition, sizeof(definition),
                 "{\"states\":[\"s%u\",\"t%u\"],\"initial\":\"s%u\",\"transitions\":[{\"from\":\"s%u\",\"event\":\"E\","
                 "\"to\":\"t%u\"}]}",
                 i, i, i, i, i);
        put_machine(driver, "m", i, definition);
        snprintf(params, sizeof(params), "{\"machine\":\"m\",\"version\":%u,\"instance_id\":\"i%u\"}", i, i);
        run_ok(driver, "machine.create_instance", params);
    }
    for (unsigned i = 0; i < 1100; i += 50) {
        char body[256];

        snprintf(params, sizeof(params), "{\"instance_id\":\"i%u\",\"event\":\"E\"}", i);
        snprintf(body, sizeof(body),
                 "{\"applied\":true,\"ctx\":{},\"from_state\":\"s%u\",\"to_state\":\"t%u\",\"wal_offset\":#}", i, i);
        expect_ok(driver, "machine.apply_event", params, body);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(put__new_definition__created),
        TEST(put__equal_definition__changes_nothing),
        TEST(put__other_definition__refused),
        TEST(put__bad_parameters__refused),
        TEST(put__versions_at_the_borders__stored),
        TEST(put__version_limit__new_ones_refused),
        TEST(put__limit_of_another_node__as_the_operation_says),
        TEST(get__without_version__the_highest),
        TEST(get__unknown__not_found),
        TEST(list__machines__by_name_in_pages),
        TEST(list__more_than_a_hundred__all),
        TEST(names__longest__stored),
        TEST(stats__counts__definitions_and_living_instances),
        TEST(compiled__more_than_fit__all_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
