#include "engines/machine/machine_limits.h"
#include "support/machine_expect.h"

static void apply__whole_conversation__as_specified(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    driver->now_ms = 2000000;
    expect_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d1\"}",
              "{\"instance_id\":\"d1\",\"state\":\"shut\",\"wal_offset\":2}");
    /* The guard sees the context before the merge, and a refusal stores nothing. */
    expect_fail(driver, "machine.apply_event", "{\"instance_id\":\"d1\",\"event\":\"OPEN\",\"payload\":{\"key\":true}}",
                KT_GUARD_FAILED, "guard failed for transition 'shut' -> 'open' on event 'OPEN'",
                "{\"guard\":\"ctx.key\"}");
    expect_ok(driver, "machine.delete_instance", "{\"instance_id\":\"d1\"}",
              "{\"deleted\":true,\"instance_id\":\"d1\",\"wal_offset\":#}");
    driver->now_ms = 3000000;
    expect_ok(driver, "machine.create_instance",
              "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d1\",\"initial_ctx\":{\"key\":true},"
              "\"idempotency_key\":\"k1\"}",
              "{\"instance_id\":\"d1\",\"state\":\"shut\",\"wal_offset\":#}");
    driver->now_ms = 3000500;
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"d1\",\"event\":\"OPEN\",\"event_id\":\"e-9\"}",
              "{\"applied\":true,\"ctx\":{\"key\":true},\"event_id\":\"e-9\",\"from_state\":\"shut\",\"to_state\":"
              "\"open\",\"wal_offset\":#}");
    expect_ok(driver, "machine.get_instance", "{\"instance_id\":\"d1\"}",
              "{\"created_at\":3000000,\"ctx\":{\"key\":true},\"instance_id\":\"d1\",\"last_event_id\":\"e-9\","
              "\"last_wal_offset\":#,\"machine\":\"door\",\"state\":\"open\",\"updated_at\":3000500,\"version\":1}");
    /* An event without id clears it. */
    expect_ok(
        driver, "machine.apply_event", "{\"instance_id\":\"d1\",\"event\":\"CLOSE\",\"payload\":null}",
        "{\"applied\":true,\"ctx\":{\"key\":true},\"from_state\":\"open\",\"to_state\":\"shut\",\"wal_offset\":#}");
    expect_ok(driver, "machine.get_instance", "{\"instance_id\":\"d1\"}",
              "{\"created_at\":3000000,\"ctx\":{\"key\":true},\"instance_id\":\"d1\",\"last_wal_offset\":#,\"machine\":"
              "\"door\",\"state\":\"shut\",\"updated_at\":3000500,\"version\":1}");
    assert_int_equal(driver->reply.offset, last_index(driver));
}

static void apply__bad_parameters__refused(void **state)
{
    struct engine_driver *driver = *state;
    static const struct {
        const char *params, *words;
    } rows[] = {
        {"{\"event\":\"E\"}", "missing field 'instance_id'"},
        {"{\"instance_id\":\"\",\"event\":\"E\"}", "field 'instance_id' must not be empty"},
        {"{\"instance_id\":7,\"event\":\"E\"}", "field 'instance_id' must be a string"},
        {"{\"instance_id\":\"i\"}", "missing field 'event'"},
        {"{\"instance_id\":\"i\",\"event\":null}", "missing field 'event'"},
        {"{\"instance_id\":\"i\",\"event\":\"E\",\"payload\":5}", "field 'payload' must be an object"},
        {"{\"instance_id\":\"i\",\"event\":\"E\",\"payload\":[]}", "field 'payload' must be an object"},
        {"{\"instance_id\":\"i\",\"event\":\"E\",\"payload\":\"{}\"}", "field 'payload' must be an object"},
        {"{\"instance_id\":\"i\",\"event\":\"E\",\"expected_state\":1}", "field 'expected_state' must be a string"},
        {"{\"instance_id\":\"i\",\"event\":\"E\",\"expected_wal_offset\":-1}",
         "field 'expected_wal_offset' must be a non-negative integer"},
        {"{\"instance_id\":\"i\",\"event\":\"E\",\"expected_wal_offset\":\"1\"}",
         "field 'expected_wal_offset' must be a non-negative integer"},
        {"{\"instance_id\":\"i\",\"event\":\"E\",\"event_id\":1}", "field 'event_id' must be a string"},
        {"{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":{}}", "field 'idempotency_key' must be a string"},
    };

    for (size_t i = 0; i < KT_COUNT(rows); i++)
        expect_fail(driver, "machine.apply_event", rows[i].params, KT_BAD_REQUEST, rows[i].words, "");
    assert_int_equal(last_index(driver), 0);
}

/* Each check is made to fail together with all later ones. */
static void apply__several_failures__first_in_order(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\"}");
    expect_fail(driver, "machine.apply_event",
                "{\"instance_id\":\"x\",\"event\":\"OPEN\",\"expected_state\":\"open\",\"expected_wal_offset\":99}",
                KT_INSTANCE_NOT_FOUND, "instance not found: 'x'", "{\"instance_id\":\"x\"}");
    expect_fail(driver, "machine.apply_event",
                "{\"instance_id\":\"d\",\"event\":\"NO\",\"expected_state\":\"open\",\"expected_wal_offset\":99}",
                KT_CONFLICT, "state conflict: expected 'open', actual 'shut'",
                "{\"actual_state\":\"shut\",\"expected_state\":\"open\"}");
    expect_fail(driver, "machine.apply_event",
                "{\"instance_id\":\"d\",\"event\":\"NO\",\"expected_state\":\"shut\",\"expected_wal_offset\":99}",
                KT_CONFLICT, "WAL offset conflict: expected 99, actual 2",
                "{\"actual_offset\":2,\"expected_offset\":99}");
    expect_fail(driver, "machine.apply_event",
                "{\"instance_id\":\"d\",\"event\":\"NO\",\"expected_state\":\"shut\",\"expected_wal_offset\":2}",
                KT_INVALID_TRANSITION, "invalid transition: cannot apply 'NO' in state 'shut'",
                "{\"current_state\":\"shut\",\"event\":\"NO\"}");
    expect_fail(driver, "machine.apply_event",
                "{\"instance_id\":\"d\",\"event\":\"OPEN\",\"expected_state\":\"shut\",\"expected_wal_offset\":2}",
                KT_GUARD_FAILED, "guard failed for transition 'shut' -> 'open' on event 'OPEN'",
                "{\"guard\":\"ctx.key\"}");
    /* An expected state that no machine has, and an empty one, are compared like any other. */
    expect_fail(driver, "machine.apply_event", "{\"instance_id\":\"d\",\"event\":\"OPEN\",\"expected_state\":\"\"}",
                KT_CONFLICT, "state conflict: expected '', actual 'shut'",
                "{\"actual_state\":\"shut\",\"expected_state\":\"\"}");
}

static void apply__several_transitions__first_that_holds(void **state)
{
    struct engine_driver *driver = *state;

    put_machine(driver, "m", 1,
                "{\"states\":[\"new\",\"big\",\"small\",\"odd\"],\"initial\":\"new\",\"transitions\":["
                "{\"from\":\"new\",\"event\":\"SORT\",\"to\":\"big\",\"guard\":\"ctx.n >= 100\"},"
                "{\"from\":\"new\",\"event\":\"SORT\",\"to\":\"small\",\"guard\":\"ctx.n < 100\"},"
                "{\"from\":[\"new\",\"small\"],\"event\":\"SORT\",\"to\":\"odd\"},"
                "{\"from\":[\"big\",\"odd\"],\"event\":\"SET\",\"to\":\"new\",\"guard\":\"ctx.a\"},"
                "{\"from\":[\"big\",\"odd\"],\"event\":\"SET\",\"to\":\"new\",\"guard\":\"ctx.b\"}]}");
    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"m\",\"version\":1,\"instance_id\":\"i\",\"initial_ctx\":{\"n\":100}}");
    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"m\",\"version\":1,\"instance_id\":\"j\",\"initial_ctx\":{\"n\":99}}");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"m\",\"version\":1,\"instance_id\":\"k\"}");
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"SORT\"}",
              "{\"applied\":true,\"ctx\":{\"n\":100},\"from_state\":\"new\",\"to_state\":\"big\",\"wal_offset\":#}");
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"j\",\"event\":\"SORT\"}",
              "{\"applied\":true,\"ctx\":{\"n\":99},\"from_state\":\"new\",\"to_state\":\"small\",\"wal_offset\":#}");
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"k\",\"event\":\"SORT\"}",
              "{\"applied\":true,\"ctx\":{},\"from_state\":\"new\",\"to_state\":\"odd\",\"wal_offset\":#}");
    expect_fail(driver, "machine.apply_event", "{\"instance_id\":\"k\",\"event\":\"SET\"}", KT_GUARD_FAILED,
                "guard failed for transition 'odd' -> 'new' on event 'SET'", "{\"guard\":\"ctx.a\"}");
}

#define LOOP "{\"states\":[\"s\"],\"initial\":\"s\",\"transitions\":[{\"from\":\"s\",\"event\":\"E\",\"to\":\"s\"}]}"

/* An instance of a machine that stays where it is, with a context. */
static void loop(struct engine_driver *driver, const char *id, const char *ctx)
{
    char params[4096];

    put_machine(driver, "loop", 1, LOOP);
    snprintf(params, sizeof(params), "{\"machine\":\"loop\",\"version\":1,\"instance_id\":\"%s\",\"initial_ctx\":%s}",
             id, ctx);
    run_ok(driver, "machine.create_instance", params);
}

static void merge__payload__shallow_and_in_order(void **state)
{
    struct engine_driver *driver = *state;
    static const struct {
        const char *ctx, *payload, *merged;
    } rows[] = {
        {"{}", "{\"b\":1,\"a\":2}", "{\"b\":1,\"a\":2}"},
        {"{\"b\":1,\"a\":2}", "{}", "{\"b\":1,\"a\":2}"},
        {"{\"b\":1,\"a\":2,\"c\":3}", "{\"c\":30,\"z\":0,\"b\":10}", "{\"b\":10,\"a\":2,\"c\":30,\"z\":0}"},
        {"{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"y\":3}}", "{\"a\":{\"y\":3}}"},
        {"{\"a\":1}", "{\"a\":null}", "{\"a\":null}"},
        {"{\"a\":null}", "{\"b\":null}", "{\"a\":null,\"b\":null}"},
        {"{\"a\":[1,2]}", "{\"a\":[3]}", "{\"a\":[3]}"},
        {"{\"\\u0061\":1}", "{\"a\":2}", "{\"a\":2}"},
        {"{\"a\\u0000\\n\\\"\":1}", "{\"a\\u0000\\u000a\\u0022\":2,\"\":3}", "{\"a\\u0000\\n\\\"\":2,\"\":3}"},
        {"{\"é\":1,\"/\":2}", "{\"\\u00e9\":\"日\",\"\\/\":\"\\ud83d\\ude80\"}", "{\"é\":\"日\",\"/\":\"🚀\"}"},
        {"{\"a\":1,\"a\":2}", "{\"b\":1,\"b\":{\"c\":1,\"c\":2}}", "{\"a\":2,\"b\":{\"c\":2}}"},
        {"{\"n\":9007199254740993,\"i\":-9223372036854775808,\"u\":18446744073709551615}",
         "{\"one\":1.0,\"hundred\":1e2,\"zero\":-0.0,\"big\":18446744073709551616,\"tiny\":5e-324}",
         "{\"n\":9007199254740993,\"i\":-9223372036854775808,\"u\":18446744073709551615,\"one\":1.0,\"hundred\":100.0,"
         "\"zero\":-0.0,\"big\":1.8446744073709552e19,\"tiny\":5e-324}"},
        /* Enough members to be looked up by key. */
        {"{\"a\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,\"i\":0,\"j\":0}",
         "{\"j\":1,\"x\":1,\"i\":2,\"w\":1,\"h\":3,\"g\":4,\"v\":1,\"f\":5,\"c\":6,\"b\":7,\"u\":1}",
         "{\"a\":0,\"b\":7,\"c\":6,\"d\":0,\"e\":0,\"f\":5,\"g\":4,\"h\":3,\"i\":2,\"j\":1,\"x\":1,\"w\":1,\"v\":1,"
         "\"u\":"
         "1}"},
    };

    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        char id[16], params[1024], body[1024];

        snprintf(id, sizeof(id), "i%zu", i);
        loop(driver, id, rows[i].ctx);
        snprintf(params, sizeof(params), "{\"instance_id\":\"%s\",\"event\":\"E\",\"payload\":%s}", id,
                 rows[i].payload);
        snprintf(body, sizeof(body),
                 "{\"applied\":true,\"ctx\":%s,\"from_state\":\"s\",\"to_state\":\"s\",\"wal_offset\":#}",
                 rows[i].merged);
        expect_ok(driver, "machine.apply_event", params, body);
        snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
        snprintf(body, sizeof(body),
                 "{\"created_at\":1000000,\"ctx\":%s,\"instance_id\":\"%s\",\"last_wal_offset\":#,\"machine\":\"loop\","
                 "\"state\":\"s\",\"updated_at\":1000000,\"version\":1}",
                 rows[i].merged, id);
        expect_ok(driver, "machine.get_instance", params, body);
    }
}

static void apply__self_transition__a_transition_like_any(void **state)
{
    struct engine_driver *driver = *state;

    loop(driver, "i", "{}");
    driver->now_ms += 5;
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"expected_wal_offset\":2}",
              "{\"applied\":true,\"ctx\":{},\"from_state\":\"s\",\"to_state\":\"s\",\"wal_offset\":3}");
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"expected_wal_offset\":3}",
              "{\"applied\":true,\"ctx\":{},\"from_state\":\"s\",\"to_state\":\"s\",\"wal_offset\":4}");
    expect_ok(
        driver, "machine.list_instances", "{\"machine\":\"loop\",\"state\":\"s\"}",
        "{\"has_more\":false,\"instances\":[{\"created_at\":1000000,\"id\":\"i\",\"last_wal_offset\":4,\"machine\":"
        "\"loop\",\"state\":\"s\",\"updated_at\":1000005,\"version\":1}],\"total\":1}");
}

static void apply__empty_event_and_event_id__ordinary(void **state)
{
    struct engine_driver *driver = *state;

    put_machine(driver, "m", 0,
                "{\"states\":[\"\"],\"initial\":\"\",\"transitions\":[{\"from\":\"\",\"event\":\"\",\"to\":\"\"}]}");
    expect_ok(driver, "machine.create_instance", "{\"machine\":\"m\",\"version\":0,\"instance_id\":\"i\"}",
              "{\"instance_id\":\"i\",\"state\":\"\",\"wal_offset\":#}");
    expect_ok(driver, "machine.apply_event",
              "{\"instance_id\":\"i\",\"event\":\"\",\"event_id\":\"\",\"expected_state\":\"\"}",
              "{\"applied\":true,\"ctx\":{},\"event_id\":\"\",\"from_state\":\"\",\"to_state\":\"\",\"wal_offset\":#}");
    expect_ok(driver, "machine.get_instance", "{\"instance_id\":\"i\"}",
              "{\"created_at\":1000000,\"ctx\":{},\"instance_id\":\"i\",\"last_event_id\":\"\",\"last_wal_offset\":#,"
              "\"machine\":\"m\",\"state\":\"\",\"updated_at\":1000000,\"version\":0}");
    expect_ok(driver, "machine.list_instances", "{\"state\":\"\",\"limit\":0}",
              "{\"has_more\":true,\"instances\":[],\"total\":1}");
}

/* {"<key>":"xxx..."} of so many bytes. */
static void append_object(struct kt_buf *buf, const char *key, size_t bytes)
{
    size_t text = bytes - strlen(key) - 7;
    uint8_t *room;

    kt_buf_printf(buf, "{\"%s\":\"", key);
    room = kt_buf_reserve(buf, text);
    assert_non_null(room);
    memset(room, 'x', text);
    buf->len += text;
    kt_buf_append_text(buf, "\"}");
}

static const struct kt_reply *apply_large(struct engine_driver *driver, const char *key, size_t bytes)
{
    const struct kt_reply *reply;
    struct kt_buf params;

    kt_buf_init(&params, 32u << 20);
    kt_buf_append_text(&params, "{\"instance_id\":\"i\",\"event\":\"E\",\"payload\":");
    append_object(&params, key, bytes);
    kt_buf_append(&params, "}", 2);
    assert_int_equal(kt_buf_code(&params), KT_OK);
    reply = engine_driver_json(driver, "machine.apply_event", (char *)params.data);
    kt_buf_release(&params);
    return reply;
}

static void merge__context_too_large__refused_and_nothing_kept(void **state)
{
    struct engine_driver *driver = *state;
    size_t half = MACHINE_CTX_BYTES_MAX / 2;
    uint64_t hash;

    loop(driver, "i", "{}");
    assert_int_equal(apply_large(driver, "a", half)->code, KT_OK);
    /* The two share braces and a comma: exactly the limit, then one more. */
    hash = kt_state_applied(driver->state).hash;
    assert_int_equal(apply_large(driver, "b", half + 2)->code, KT_TOO_LARGE);
    assert_string_equal(driver->reply.text, "the context would be larger than 8388608 bytes");
    assert_true(kt_state_applied(driver->state).hash == hash);
    assert_int_equal(apply_large(driver, "b", half + 1)->code, KT_OK);
    assert_true(driver->reply.body.len > MACHINE_CTX_BYTES_MAX);
    run_ok(driver, "machine.get_instance", "{\"instance_id\":\"i\"}");
    assert_true(driver->reply.body.len > MACHINE_CTX_BYTES_MAX);
    /* A payload of its own that could never fit does not get as far as the log. */
    assert_int_equal(apply_large(driver, "c", MACHINE_CTX_BYTES_MAX + 1)->code, KT_BAD_REQUEST);
    assert_string_equal(driver->reply.text, "field 'payload' is 8388609 bytes, the limit is 8388608");
}

/* Many members on both sides: time grows with their number, not with its square. */
static void merge__many_members__still_quick(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_buf params;

    loop(driver, "i", "{}");
    for (unsigned round = 0; round < 2; round++) {
        kt_buf_init(&params, 32u << 20);
        kt_buf_append_text(&params, "{\"instance_id\":\"i\",\"event\":\"E\",\"payload\":{");
        for (unsigned i = 0; i < 100000; i++)
            kt_buf_printf(&params, "%s\"k%u\":%u", i ? "," : "", i * 7919 % 150000 + round, round);
        kt_buf_append(&params, "}}", 3);
        assert_int_equal(kt_buf_code(&params), KT_OK);
        assert_int_equal(engine_driver_json(driver, "machine.apply_event", (char *)params.data)->code, KT_OK);
        kt_buf_release(&params);
    }
}

static void guards__too_much_context__refused(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_buf definition;

    /* 40 looks at a member behind 8 MiB are more than one event may take. */
    kt_buf_init(&definition, 1u << 20);
    kt_buf_append_text(&definition, "{\"states\":[\"s\"],\"initial\":\"s\",\"transitions\":[{\"from\":\"s\",\"event\":"
                                    "\"E\",\"to\":\"s\",\"guard\":\"!ctx.z");
    for (unsigned i = 0; i < 40; i++)
        kt_buf_append_text(&definition, " && !ctx.z");
    kt_buf_append(&definition, "\"}]}", 5);
    put_machine(driver, "m", 1, (char *)definition.data);
    kt_buf_release(&definition);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"m\",\"version\":1,\"instance_id\":\"i\"}");
    assert_int_equal(apply_large(driver, "a", MACHINE_CTX_BYTES_MAX)->code, KT_OK);
    assert_int_equal(apply_large(driver, "a", 100)->code, KT_TOO_LARGE);
    assert_string_equal(driver->reply.text, "the guards look at more than 268435456 bytes of context");
}

/* Long strings beyond ASCII in a sentence: it stays valid and says what happened. */
static void failures__long_strings__cut_whole(void **state)
{
    struct engine_driver *driver = *state;
    char id[901], params[4000];

    for (unsigned i = 0; i < 300; i++)
        memcpy(id + 3 * i, "日", 3);
    id[900] = '\0';
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    assert_int_equal(engine_driver_json(driver, "machine.get_instance", params)->code, KT_INSTANCE_NOT_FOUND);
    assert_non_null(strstr(driver->reply.text, "not found"));
    assert_int_equal((strlen(driver->reply.text) - strlen("instance not found: '")) % 3, 0);
    kt_buf_append_u8(&driver->reply.details, '\0');
    assert_non_null(strstr((char *)driver->reply.details.data, id));
    loop(driver, "i", "{}");
    snprintf(params, sizeof(params), "{\"instance_id\":\"i\",\"event\":\"%s\"}", id);
    assert_int_equal(engine_driver_json(driver, "machine.apply_event", params)->code, KT_INVALID_TRANSITION);
    assert_int_equal((strlen(driver->reply.text) - strlen("invalid transition: cannot apply '")) % 3, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(apply__whole_conversation__as_specified),   TEST(apply__bad_parameters__refused),
        TEST(apply__several_failures__first_in_order),   TEST(apply__several_transitions__first_that_holds),
        TEST(merge__payload__shallow_and_in_order),      TEST(apply__self_transition__a_transition_like_any),
        TEST(apply__empty_event_and_event_id__ordinary), TEST(merge__context_too_large__refused_and_nothing_kept),
        TEST(merge__many_members__still_quick),          TEST(guards__too_much_context__refused),
        TEST(failures__long_strings__cut_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
