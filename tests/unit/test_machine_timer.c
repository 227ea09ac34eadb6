#include "engines/machine/machine_limits.h"
#include "support/machine_expect.h"

/* Begins in "new"; START waits a second for TIMEOUT; a reminder is due when the context says so. */
#define TASK                                                                                                           \
    "{\"states\":[\"new\",\"waiting\",\"late\",\"done\"],\"initial\":\"new\",\"transitions\":["                        \
    "{\"from\":\"new\",\"event\":\"START\",\"to\":\"waiting\"},"                                                       \
    "{\"from\":\"waiting\",\"event\":\"DONE\",\"to\":\"done\"},"                                                       \
    "{\"from\":\"waiting\",\"event\":\"PING\",\"to\":\"waiting\"},"                                                    \
    "{\"from\":\"waiting\",\"event\":\"TIMEOUT\",\"to\":\"late\",\"after_ms\":1000},"                                  \
    "{\"from\":\"late\",\"event\":\"REMIND\",\"to\":\"late\",\"after_ctx\":\"remind.at\"},"                            \
    "{\"from\":\"late\",\"event\":\"DONE\",\"to\":\"done\"}]}"

static int task_setup(void **state)
{
    machine_setup(state);
    put_machine(*state, "task", 1, TASK);
    run_ok(*state, "machine.create_instance", "{\"machine\":\"task\",\"version\":1,\"instance_id\":\"t\"}");
    return 0;
}

static void send(struct engine_driver *driver, const char *id, const char *event, const char *payload)
{
    char params[512];

    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\",\"event\":\"%s\",\"payload\":%s}", id, event, payload);
    run_ok(driver, "machine.apply_event", params);
}

/* State and timers (as the instance shows them, "" for none). */
static void assert_instance(struct engine_driver *driver, const char *id, const char *instance_state,
                            const char *timers)
{
    char params[128], wanted[512];
    const char *found, *end;

    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    run_ok(driver, "machine.get_instance", params);
    kt_buf_append_u8(&driver->reply.body, '\0');
    snprintf(wanted, sizeof(wanted), "\"state\":\"%s\"", instance_state);
    if (!strstr((char *)driver->reply.body.data, wanted))
        fail_msg("not in state %s: %s", instance_state, (char *)driver->reply.body.data);
    found = strstr((char *)driver->reply.body.data, "\"timers\":");
    if (*timers == '\0') {
        assert_null(found);
        return;
    }
    if (!found)
        fail_msg("no timers: %s", (char *)driver->reply.body.data);
    found += strlen("\"timers\":");
    end = strchr(found, ']');
    assert_non_null(end);
    snprintf(wanted, sizeof(wanted), "%.*s", (int)(end + 1 - found), found);
    assert_string_equal(wanted, timers);
}

/* All that the engines propose at the driver's time; how many operations. */
static unsigned tick_all(struct engine_driver *driver)
{
    unsigned count = 0;

    while (engine_driver_tick(driver))
        count++;
    return count;
}

static void timer__due__taken_once(void **state)
{
    struct engine_driver *driver = *state;

    assert_instance(driver, "t", "new", "");
    send(driver, "t", "START", "{}");
    assert_instance(driver, "t", "waiting", "[{\"due\":1001000,\"event\":\"TIMEOUT\"}]");
    driver->now_ms += 999;
    assert_int_equal(tick_all(driver), 0);
    assert_int_equal(driver->next_ms, 1001000);
    driver->now_ms++;
    assert_int_equal(tick_all(driver), 1);
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), "{\"fired\":1,\"passed\":0}"));
    expect_ok(driver, "machine.get_instance", "{\"instance_id\":\"t\"}",
              "{\"created_at\":1000000,\"ctx\":{},\"instance_id\":\"t\",\"last_wal_offset\":#,\"machine\":\"task\","
              "\"state\":\"late\",\"updated_at\":1001000,\"version\":1}");
    driver->now_ms += 100000;
    assert_int_equal(tick_all(driver), 0);
}

/* The operation names no timer: proposed twice, or by two leaders one after the other, it finds nothing the second
 * time. */
static void timer__firing_proposed_again__nothing_more(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_error error;
    uint64_t hash;

    send(driver, "t", "START", "{}");
    driver->now_ms += 1000;
    assert_true(engine_driver_tick(driver));
    hash = kt_state_applied(driver->state).hash;
    assert_int_equal(engine_driver_apply(driver, kt_buf_slice(&driver->op), &error), KT_OK);
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), "{\"fired\":0,\"passed\":0}"));
    assert_true(kt_state_applied(driver->state).hash == hash);
}

static void timer__proposed_too_early__not_fired(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_error error;

    send(driver, "t", "START", "{}");
    driver->now_ms += 1000;
    assert_true(engine_driver_tick(driver)); /* to have the operation */
    send(driver, "t", "DONE", "{}");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"task\",\"version\":1,\"instance_id\":\"u\"}");
    send(driver, "u", "START", "{}");
    kt_buf_clear(&driver->op);
    driver->now_ms += 1000;
    assert_int_equal(kt_state_tick(driver->state, driver->now_ms, &driver->op, &driver->next_ms), KT_OK);
    assert_true(driver->op.len > 0);
    /* A leader whose clock is behind stamps an earlier time. */
    kt_op_stamp_time(driver->op.data, driver->now_ms - 1);
    assert_int_equal(engine_driver_apply(driver, kt_buf_slice(&driver->op), &error), KT_OK);
    assert_instance(driver, "u", "waiting", "[{\"due\":1002000,\"event\":\"TIMEOUT\"}]");
    assert_int_equal(tick_all(driver), 1);
    assert_instance(driver, "u", "late", "");
}

static void timer__state_left__ended(void **state)
{
    struct engine_driver *driver = *state;

    send(driver, "t", "START", "{}");
    send(driver, "t", "DONE", "{}");
    assert_instance(driver, "t", "done", "");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"task\",\"version\":1,\"instance_id\":\"u\"}");
    send(driver, "u", "START", "{}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"u\"}");
    driver->now_ms += 10000;
    assert_int_equal(tick_all(driver), 0);
    /* The same id again is another instance. */
    run_ok(driver, "machine.create_instance", "{\"machine\":\"task\",\"version\":1,\"instance_id\":\"u\"}");
    assert_instance(driver, "u", "new", "");
}

static void timer__state_entered_again__begins_anew(void **state)
{
    struct engine_driver *driver = *state;

    send(driver, "t", "START", "{}");
    for (unsigned i = 0; i < 5; i++) {
        driver->now_ms += 900;
        send(driver, "t", "PING", "{}");
        assert_int_equal(tick_all(driver), 0);
    }
    assert_instance(driver, "t", "waiting", "[{\"due\":1005500,\"event\":\"TIMEOUT\"}]");
    driver->now_ms += 1000;
    assert_int_equal(tick_all(driver), 1);
    assert_instance(driver, "t", "late", "");
}

static void timer__time_in_the_context__after_the_merge(void **state)
{
    static const struct {
        const char *payload, *timers;
    } rows[] = {
        {"{\"remind\":{\"at\":1100000}}", "[{\"due\":1100000,\"event\":\"REMIND\"}]"},
        {"{\"remind\":{\"at\":1100000.9}}", "[{\"due\":1100000,\"event\":\"REMIND\"}]"},
        {"{\"remind\":{\"at\":0}}", "[{\"due\":1001100,\"event\":\"REMIND\"}]"}, /* long ago: soon */
        {"{\"remind\":{\"at\":9007199254740992}}", "[{\"due\":9007199254740992,\"event\":\"REMIND\"}]"},
        {"{\"remind\":{\"at\":9007199254740994}}", ""},
        {"{\"remind\":{\"at\":-1}}", ""},
        {"{\"remind\":{\"at\":\"1100000\"}}", ""},
        {"{\"remind\":{\"at\":null}}", ""},
        {"{\"remind\":1100000}", ""},
        {"{}", ""},
    };
    struct engine_driver *driver = *state;

    for (unsigned i = 0; i < KT_COUNT(rows); i++) {
        char id[16], params[128];

        driver->now_ms = 1000000;
        snprintf(id, sizeof(id), "c%u", i);
        snprintf(params, sizeof(params), "{\"machine\":\"task\",\"version\":1,\"instance_id\":\"%s\"}", id);
        engine_driver_release(driver);
        task_setup(state);
        run_ok(driver, "machine.create_instance", params);
        send(driver, id, "START", rows[i].payload);
        driver->now_ms += 1000;
        assert_int_equal(tick_all(driver), 1);
        assert_instance(driver, id, "late", rows[i].timers);
    }
}

/* A time that has passed fires at once, but a machine that goes round by itself does so slowly. */
static void timer__goes_round_by_itself__at_most_ten_times_a_second(void **state)
{
    struct engine_driver *driver = *state;
    unsigned fired = 0;

    send(driver, "t", "START", "{\"remind\":{\"at\":5}}");
    driver->now_ms += 1000;
    assert_int_equal(tick_all(driver), 1);
    for (unsigned i = 0; i < 1000; i++) {
        driver->now_ms++;
        fired += tick_all(driver);
    }
    assert_int_equal(fired, 10);
}

#define GUARDED                                                                                                        \
    "{\"states\":[\"w\",\"a\",\"b\"],\"initial\":\"w\",\"transitions\":["                                              \
    "{\"from\":\"w\",\"event\":\"T\",\"to\":\"a\",\"guard\":\"ctx.vip\",\"after_ms\":1000},"                           \
    "{\"from\":[\"w\"],\"event\":\"T\",\"to\":\"b\",\"after_ms\":5000},"                                               \
    "{\"from\":\"a\",\"event\":\"BACK\",\"to\":\"w\"}]}"

/* Each timer is its own transition's: when the guard says no, the timer goes and the instance stays. */
static void timer__guard_says_no__passed_over(void **state)
{
    struct engine_driver *driver = *state;
    kt_index offset;

    put_machine(driver, "g", 1, GUARDED);
    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"g\",\"version\":1,\"instance_id\":\"vip\",\"initial_ctx\":{\"vip\":1}}");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"g\",\"version\":1,\"instance_id\":\"not\"}");
    offset = last_index(driver);
    assert_instance(driver, "not", "w", "[{\"due\":1001000,\"event\":\"T\"},{\"due\":1005000,\"event\":\"T\"}]");
    driver->now_ms += 1000;
    assert_int_equal(tick_all(driver), 1);
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), "{\"fired\":1,\"passed\":1}"));
    assert_instance(driver, "vip", "a", "");
    assert_instance(driver, "not", "w", "[{\"due\":1005000,\"event\":\"T\"}]");
    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"vip\",\"event\":\"BACK\",\"payload\":{\"vip\":0}}");
    assert_instance(driver, "vip", "w", "[{\"due\":1002000,\"event\":\"T\"},{\"due\":1006000,\"event\":\"T\"}]");
    driver->now_ms = 1005000;
    assert_int_equal(tick_all(driver), 1);
    assert_instance(driver, "not", "b", "");
    assert_instance(driver, "vip", "w", "[{\"due\":1006000,\"event\":\"T\"}]");
    assert_true(offset < last_index(driver));
}

/* What no timer stands in is stored and summed up as ever; what one stands in keeps it. */
static void definition__with_timers__normal_form(void **state)
{
    struct engine_driver *driver = *state;

    expect_ok(driver, "machine.get", "{\"machine\":\"task\"}",
              "{\"checksum\":\"5cc82337\",\"definition\":"
              "{\"states\":[\"new\",\"waiting\",\"late\",\"done\"],\"initial\":\"new\",\"transitions\":["
              "{\"from\":[\"new\"],\"event\":\"START\",\"to\":\"waiting\"},"
              "{\"from\":[\"waiting\"],\"event\":\"DONE\",\"to\":\"done\"},"
              "{\"from\":[\"waiting\"],\"event\":\"PING\",\"to\":\"waiting\"},"
              "{\"from\":[\"waiting\"],\"event\":\"TIMEOUT\",\"to\":\"late\",\"after_ms\":1000},"
              "{\"from\":[\"late\"],\"event\":\"REMIND\",\"to\":\"late\",\"after_ctx\":\"remind.at\"},"
              "{\"from\":[\"late\"],\"event\":\"DONE\",\"to\":\"done\"}]},\"machine\":\"task\",\"version\":1}");
    put_machine(driver, "door", 1, DOOR);
    run_ok(driver, "machine.get", "{\"machine\":\"door\"}");
    kt_buf_append_u8(&driver->reply.body, '\0');
    assert_non_null(strstr((char *)driver->reply.body.data, "\"checksum\":\"d6840009\""));
    /* The same with the members as null: the same definition. */
    expect_ok(
        driver, "machine.put",
        "{\"machine\":\"door\",\"version\":1,\"definition\":{\"states\":[\"shut\",\"open\"],\"initial\":\"shut\","
        "\"transitions\":[{\"from\":[\"shut\"],\"event\":\"OPEN\",\"to\":\"open\",\"guard\":\"ctx.key\",\"after_ms\":"
        "null,\"after_ctx\":null},{\"from\":[\"open\"],\"event\":\"CLOSE\",\"to\":\"shut\"}]}}",
        "{\"created\":false,\"machine\":\"door\",\"stored_checksum\":\"d6840009\",\"version\":1}");
}

/* More than one operation takes: bounded steps, in the order of their times, and across a restart. */
static void timers__many__fired_in_steps(void **state)
{
    struct engine_driver *driver = *state;
    unsigned count = 2 * MACHINE_FIRE_MAX + 20, ops = 0;

    for (unsigned i = 0; i < count; i++) {
        char params[128], id[16];

        snprintf(id, sizeof(id), "m%u", i);
        snprintf(params, sizeof(params), "{\"machine\":\"task\",\"version\":1,\"instance_id\":\"%s\"}", id);
        run_ok(driver, "machine.create_instance", params);
        send(driver, id, "START", "{}");
        driver->now_ms++;
    }
    engine_driver_close(driver);
    engine_driver_open(driver);
    driver->now_ms += 1000;
    while (engine_driver_tick(driver)) {
        ops++;
        assert_true(driver->next_ms <= driver->now_ms); /* at once again, there may be more */
    }
    assert_int_equal(ops, 3);
    run_ok(driver, "machine.list_instances", "{\"state\":\"late\",\"limit\":0}");
    kt_buf_append_u8(&driver->reply.body, '\0');
    assert_non_null(strstr((char *)driver->reply.body.data, "\"total\":220"));
}

/* Where no definition has timers, nobody is asked more often than once a second. */
static void tick__without_timers__once_a_second(void **state)
{
    struct engine_driver *driver = *state;

    assert_int_equal(tick_all(driver), 0);
    assert_true(driver->next_ms <= driver->now_ms + 100);
    engine_driver_close(driver);
    engine_driver_release(driver);
    machine_setup(state);
    put_door(driver);
    assert_int_equal(tick_all(driver), 0);
    assert_int_equal(driver->next_ms, driver->now_ms + 1000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, task_setup, machine_teardown)
    const struct CMUnitTest tests[] = {
        TEST(timer__due__taken_once),
        TEST(timer__firing_proposed_again__nothing_more),
        TEST(timer__proposed_too_early__not_fired),
        TEST(timer__state_left__ended),
        TEST(timer__state_entered_again__begins_anew),
        TEST(timer__time_in_the_context__after_the_merge),
        TEST(timer__goes_round_by_itself__at_most_ten_times_a_second),
        TEST(timer__guard_says_no__passed_over),
        TEST(definition__with_timers__normal_form),
        TEST(timers__many__fired_in_steps),
        TEST(tick__without_timers__once_a_second),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
