#include "support/machine_expect.h"

#define EXPLAIN "machine.explain_event"

#define ORDER                                                                                                          \
    "{\"states\":[\"new\",\"paid\",\"review\",\"shipped\"],\"initial\":\"new\",\"transitions\":["                      \
    "{\"from\":\"new\",\"event\":\"PAY\",\"to\":\"review\",\"guard\":\"ctx.amount > 1000 && !ctx.customer.trusted\"}," \
    "{\"from\":\"new\",\"event\":\"PAY\",\"to\":\"paid\",\"guard\":\"ctx.amount > 0 && ctx.amount < 5000\"},"          \
    "{\"from\":\"new\",\"event\":\"PAY\",\"to\":\"shipped\"},"                                                         \
    "{\"from\":[\"new\",\"paid\"],\"event\":\"CANCEL\",\"to\":\"new\",\"guard\":\"ctx.reason\"},"                      \
    "{\"from\":\"paid\",\"event\":\"SHIP\",\"to\":\"shipped\"}]}"

static int order_setup(void **state)
{
    machine_setup(state);
    put_machine(*state, "order", 3, ORDER);
    run_ok(*state, "machine.create_instance",
           "{\"machine\":\"order\",\"version\":3,\"instance_id\":\"o\",\"initial_ctx\":{\"amount\":20}}");
    return 0;
}

/* The answer, and that the question left no trace. */
static void assert_explained(struct engine_driver *driver, const char *params, const char *answer)
{
    struct kt_state_position before = kt_state_applied(driver->state);

    expect_ok(driver, EXPLAIN, params, answer);
    assert_int_equal(kt_state_applied(driver->state).index, before.index);
    assert_true(kt_state_applied(driver->state).hash == before.hash);
}

#define FIRST(result)                                                                                                  \
    "{\"fields\":[{\"field\":\"amount\",\"value\":20},{\"field\":\"customer.trusted\",\"value\":null}],"               \
    "\"guard\":\"ctx.amount > 1000 && !ctx.customer.trusted\",\"result\":\"" result                                    \
    "\",\"to\":\"review\",\"transition\":0}"

static void explain__applied__first_that_holds(void **state)
{
    assert_explained(
        *state, "{\"instance_id\":\"o\",\"event\":\"PAY\",\"payload\":{\"by\":\"card\"}}",
        "{\"ctx\":{\"amount\":20,\"by\":\"card\"},\"current_state\":\"new\",\"event\":\"PAY\",\"events\":[\"CANCEL\","
        "\"PAY\"],\"instance_id\":\"o\",\"last_wal_offset\":2,\"machine\":\"order\",\"outcome\":\"APPLIED\","
        "\"to_state\":\"paid\",\"transitions\":[" FIRST(
            "guard_failed") ","
                            "{\"fields\":[{\"field\":\"amount\",\"value\":20}],\"guard\":\"ctx.amount > 0 && "
                            "ctx.amount < 5000\","
                            "\"result\":\"taken\",\"to\":\"paid\",\"transition\":1},"
                            "{\"result\":\"not_tried\",\"to\":\"shipped\",\"transition\":2}],\"version\":3}");
    /* It would be so. */
    run_ok(*state, "machine.apply_event", "{\"instance_id\":\"o\",\"event\":\"PAY\",\"payload\":{\"by\":\"card\"}}");
    expect_ok(*state, "machine.get_instance", "{\"instance_id\":\"o\"}",
              "{\"created_at\":1000000,\"ctx\":{\"amount\":20,\"by\":\"card\"},\"instance_id\":\"o\","
              "\"last_wal_offset\":#,\"machine\":\"order\",\"state\":\"paid\",\"updated_at\":1000000,\"version\":3}");
}

static void explain__guards_refuse__values_told(void **state)
{
    /* The payload is not what the guard sees. */
    assert_explained(
        *state, "{\"instance_id\":\"o\",\"event\":\"CANCEL\",\"payload\":{\"reason\":\"late\"}}",
        "{\"current_state\":\"new\",\"event\":\"CANCEL\",\"events\":[\"CANCEL\",\"PAY\"],\"instance_id\":\"o\","
        "\"last_wal_offset\":2,\"machine\":\"order\",\"outcome\":\"GUARD_FAILED\",\"transitions\":["
        "{\"fields\":[{\"field\":\"reason\",\"value\":null}],\"guard\":\"ctx.reason\",\"result\":\"guard_failed\","
        "\"to\":\"new\",\"transition\":3}],\"version\":3}");
}

static void explain__no_transition__events_named(void **state)
{
    assert_explained(*state, "{\"instance_id\":\"o\",\"event\":\"SHIP\"}",
                     "{\"current_state\":\"new\",\"event\":\"SHIP\",\"events\":[\"CANCEL\",\"PAY\"],\"instance_id\":"
                     "\"o\",\"last_wal_offset\":2,\"machine\":\"order\",\"outcome\":\"INVALID_TRANSITION\","
                     "\"transitions\":[],\"version\":3}");
}

static void explain__long_value__told_by_its_size(void **state)
{
    char params[2048], value[1100];

    memset(value, 'x', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    snprintf(params, sizeof(params),
             "{\"machine\":\"order\",\"version\":3,\"instance_id\":\"long\",\"initial_ctx\":{\"reason\":\"%s\"}}",
             value);
    run_ok(*state, "machine.create_instance", params);
    run_ok(*state, EXPLAIN, "{\"instance_id\":\"long\",\"event\":\"CANCEL\"}");
    kt_buf_append_u8(&((struct engine_driver *)*state)->reply.body, '\0');
    assert_non_null(strstr((char *)((struct engine_driver *)*state)->reply.body.data,
                           "{\"fields\":[{\"bytes\":1101,\"field\":\"reason\"}],\"guard\":\"ctx.reason\",\"result\":"
                           "\"taken\""));
}

static void explain__unknown_or_deleted__refused(void **state)
{
    expect_fail(*state, EXPLAIN, "{\"instance_id\":\"none\",\"event\":\"E\"}", KT_INSTANCE_NOT_FOUND,
                "instance not found: 'none'", "{\"instance_id\":\"none\"}");
    expect_fail(*state, EXPLAIN, "{\"instance_id\":\"o\"}", KT_BAD_REQUEST, "missing field 'event'", "");
    run_ok(*state, "machine.delete_instance", "{\"instance_id\":\"o\"}");
    expect_fail(*state, EXPLAIN, "{\"instance_id\":\"o\",\"event\":\"E\"}", KT_INSTANCE_NOT_FOUND,
                "instance not found: 'o'", "{\"instance_id\":\"o\"}");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, order_setup, machine_teardown)
    const struct CMUnitTest tests[] = {
        TEST(explain__applied__first_that_holds),   TEST(explain__guards_refuse__values_told),
        TEST(explain__no_transition__events_named), TEST(explain__long_value__told_by_its_size),
        TEST(explain__unknown_or_deleted__refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
