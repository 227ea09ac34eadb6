/* What operations leave in the change log, its pages, compaction, retention and FLUSH_ALL, on a state without a
 * cluster. */
#include "engines/machine/change.h"
#include "engines/machine/machine.h"
#include "support/machine_expect.h"

#define LAMP                                                                                                           \
    "{\"states\":[\"off\",\"on\"],\"initial\":\"off\",\"transitions\":[{\"from\":[\"off\"],\"event\":\"SWITCH\","      \
    "\"to\":\"on\"},{\"from\":[\"on\"],\"event\":\"SWITCH\",\"to\":\"off\"}]}"

static uint64_t hash_of(struct engine_driver *driver)
{
    return kt_state_applied(driver->state).hash;
}

static void wal(struct engine_driver *driver, const char *params, const char *body)
{
    expect_ok(driver, "machine.wal_read", params, body);
}

/* Records in the change log. */
static struct kt_changes_summary summary(struct engine_driver *driver)
{
    struct kt_changes_summary found;
    struct kt_txn *txn;

    assert_int_equal(kt_txn_begin_read(kt_state_store(driver->state), &txn), KT_OK);
    assert_int_equal(kt_changes_summary(kt_state_changes(driver->state), txn, &found), KT_OK);
    kt_txn_abort(txn);
    return found;
}

static void operation__that_changes__leaves_one_record_and_others_none(void **state)
{
    struct engine_driver *driver = *state;

    put_machine(driver, "lamp", 1, LAMP);
    put_machine(driver, "lamp", 1, LAMP);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"lamp\",\"version\":1,\"instance_id\":\"a\"}");
    engine_driver_json(driver, "machine.create_instance", "{\"machine\":\"lamp\",\"version\":1,\"instance_id\":\"a\"}");
    engine_driver_json(driver, "machine.apply_event", "{\"instance_id\":\"a\",\"event\":\"NO\"}");
    run_ok(driver, "machine.apply_event",
           "{\"instance_id\":\"a\",\"event\":\"SWITCH\",\"payload\":{\"\\u00e9\\n\":1},\"idempotency_key\":\"k\"}");
    run_ok(driver, "machine.apply_event",
           "{\"instance_id\":\"a\",\"event\":\"SWITCH\",\"payload\":{\"\\u00e9\\n\":1},\"idempotency_key\":\"k\"}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"a\"}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"a\"}");
    assert_int_equal(summary(driver).sequence, 4);
    wal(driver, "{\"from_offset\":2}",
        "{\"records\":[{\"entry\":{\"initial_ctx\":{},\"initial_state\":\"off\",\"instance_id\":\"a\",\"machine\":"
        "\"lamp\",\"timestamp\":1000000,\"type\":\"create_instance\",\"version\":1},\"offset\":3,\"sequence\":2},"
        "{\"entry\":{\"ctx\":{\"\u00e9\\n\":1},\"event\":\"SWITCH\",\"from_state\":\"off\",\"idempotency_key\":\"k\","
        "\"instance_id\":\"a\",\"machine\":\"lamp\",\"payload\":{\"\u00e9\\n\":1},\"timestamp\":1000000,\"to_state\":"
        "\"on\",\"type\":\"apply_event\",\"version\":1},\"offset\":6,\"sequence\":3},{\"entry\":{\"instance_id\":\"a\","
        "\"machine\":\"lamp\",\"timestamp\":1000000,\"type\":\"delete_instance\",\"version\":1},\"offset\":8,"
        "\"sequence\":4}],\"next_offset\":9}");
    wal(driver, "{\"from_offset\":9}", "{\"records\":[]}");
}

static void filter__names__select_events_alone(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_slice machines[] = {kt_slice_text("x"), kt_slice_text("lamp")}, other = kt_slice_text("other");
    struct kt_machine_filter filters[] = {
        {.machine_count = 0},
        {.machines = machines, .machine_count = 2},
        {.instance_id = kt_slice_text("a")},
        {.machines = &other, .machine_count = 1},
        {.events = &other, .event_count = 1},
        {.from_states = &other, .from_state_count = 1},
        {.to_states = &other, .to_state_count = 1},
        {.instance_id = other},
    };
    unsigned wanted[KT_COUNT(filters)] = {0};
    struct kt_change_walk walk;
    struct kt_change change;
    struct kt_txn *txn;

    put_machine(driver, "lamp", 1, LAMP);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"lamp\",\"version\":1,\"instance_id\":\"a\"}");
    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"a\",\"event\":\"SWITCH\"}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"a\"}");
    assert_int_equal(kt_txn_begin_read(kt_state_store(driver->state), &txn), KT_OK);
    assert_int_equal(kt_change_walk_begin(&walk, kt_state_changes(driver->state), txn, 0, 0), KT_OK);
    while (kt_change_walk_next(&walk, &change) == KT_OK) {
        for (size_t i = 0; i < KT_COUNT(filters); i++) {
            struct kt_machine_change event;

            wanted[i] += kt_machine_filter_wants(&filters[i], &change, &event);
        }
    }
    kt_change_walk_end(&walk);
    kt_txn_abort(txn);
    for (size_t i = 0; i < KT_COUNT(filters); i++)
        assert_int_equal(wanted[i], i < 3);
}

static void compact__keeps_what_is_young_and_all_state(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_changes_summary before, after;

    put_machine(driver, "lamp", 1, LAMP);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"lamp\",\"version\":1,\"instance_id\":\"a\"}");
    driver->now_ms += 61000;
    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"a\",\"event\":\"SWITCH\"}");
    before = summary(driver);
    run_ok(driver, "machine.compact", "{}");
    after = summary(driver);
    assert_int_equal(after.count, 1);
    assert_int_equal(after.oldest, 3);
    assert_true(after.bytes < before.bytes);
    expect_ok(driver, "machine.compact", "{}",
              "{\"bytes_reclaimed\":0,\"records_removed\":0,\"segments_deleted\":0,\"snapshots_created\":0,"
              "\"total_snapshots\":0,\"wal_segments\":1}");
    driver->now_ms += 3000;
    run_ok(driver, "machine.compact", "{\"force_snapshot\":true}");
    assert_int_equal(summary(driver).count, 0);
    wal(driver, "{\"from_offset\":0}", "{\"records\":[]}");
    engine_driver_close(driver);
    engine_driver_open(driver);
    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"a\",\"event\":\"SWITCH\",\"expected_state\":\"on\"}");
    assert_int_equal(summary(driver).sequence, 4);
    assert_int_equal(summary(driver).count, 1);
}

static void retention__by_size_and_age__is_proposed_until_nothing_is_left_to_do(void **state)
{
    struct engine_driver *driver = *state;
    unsigned ticks = 0;

    engine_driver_close(driver);
    driver->options.engines.change_log_bytes = 2000;
    driver->options.engines.change_log_ms = 3600000;
    engine_driver_open(driver);
    put_machine(driver, "lamp", 1, LAMP);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"lamp\",\"version\":1,\"instance_id\":\"a\"}");
    assert_false(engine_driver_tick(driver));
    for (unsigned i = 0; i < 100; i++)
        run_ok(driver, "machine.apply_event", "{\"instance_id\":\"a\",\"event\":\"SWITCH\",\"payload\":{\"n\":12345}}");
    while (engine_driver_tick(driver))
        assert_true(++ticks < 100);
    assert_true(ticks > 0);
    assert_in_range(summary(driver).bytes, 1800, 2000);
    assert_false(summary(driver).untidy);
    driver->now_ms += 3600001;
    while (engine_driver_tick(driver))
        assert_true(++ticks < 100);
    assert_int_equal(summary(driver).count, 0);
    assert_int_equal(summary(driver).sequence, 102);
}

static void flush__not_allowed__is_refused_by_prepare(void **state)
{
    struct engine_driver *driver = *state;

    put_machine(driver, "lamp", 1, LAMP);
    expect_fail(driver, "machine.flush", "{}", KT_BAD_REQUEST,
                "FLUSH_ALL is disabled: the setting storage.allow_flush_all does not allow it", "");
}

static void flush__allowed__leaves_nothing_but_the_change_log(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t first, second;

    engine_driver_close(driver);
    driver->options.engines.flush_all = true;
    engine_driver_open(driver);
    expect_ok(driver, "machine.flush", "{}", "{\"flushed\":true,\"instances_removed\":0,\"machines_removed\":0}");
    first = hash_of(driver);
    for (unsigned round = 0; round < 2; round++) {
        put_machine(driver, "lamp", 1, LAMP);
        put_machine(driver, "lamp", 2, LAMP);
        put_door(driver);
        run_ok(driver, "machine.create_instance",
               "{\"machine\":\"lamp\",\"version\":1,\"instance_id\":\"a\",\"idempotency_key\":\"k\"}");
        run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"b\"}");
        run_ok(driver, "machine.apply_event", "{\"instance_id\":\"a\",\"event\":\"SWITCH\"}");
        run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"b\"}");
        expect_ok(driver, "machine.flush", "{}", "{\"flushed\":true,\"instances_removed\":1,\"machines_removed\":3}");
        expect_fail(driver, "machine.get_instance", "{\"instance_id\":\"a\"}", KT_INSTANCE_NOT_FOUND,
                    "instance not found: 'a'", "{\"instance_id\":\"a\"}");
        expect_ok(driver, "machine.list_instances", "{}", "{\"has_more\":false,\"instances\":[],\"total\":0}");
    }
    second = hash_of(driver);
    assert_true(first != second); /* it is part of the state hash */
    assert_int_equal(summary(driver).sequence, 17);
}

static void page__of_a_batch__is_whole(void **state)
{
    struct engine_driver *driver = *state;
    const struct kt_reply *reply;

    put_machine(driver, "lamp", 1, LAMP);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"lamp\",\"version\":1,\"instance_id\":\"a\"}");
    run_ok(driver, "machine.batch",
           "{\"mode\":\"atomic\",\"ops\":[{\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"a\",\"event\":"
           "\"SWITCH\"}},{\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"a\",\"event\":\"SWITCH\"}}]}");
    reply = engine_driver_json(driver, "machine.wal_read", "{\"from_offset\":3,\"limit\":1}");
    assert_non_null(memmem(reply->body.data, reply->body.len, "\"number\":1,\"offset\":3,\"sequence\":4", 33));
    reply = engine_driver_json(driver, "machine.wal_read", "{\"from_offset\":3,\"from_number\":1,\"limit\":1}");
    assert_null(memmem(reply->body.data, reply->body.len, "\"sequence\":3", 12));
    engine_driver_json(driver, "machine.batch",
                       "{\"mode\":\"atomic\",\"ops\":[{\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"a\","
                       "\"event\":\"SWITCH\"}},{\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"a\",\"event\":"
                       "\"NO\"}}]}");
    assert_int_equal(summary(driver).sequence, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(operation__that_changes__leaves_one_record_and_others_none, machine_setup,
                                        machine_teardown),
        cmocka_unit_test_setup_teardown(filter__names__select_events_alone, machine_setup, machine_teardown),
        cmocka_unit_test_setup_teardown(compact__keeps_what_is_young_and_all_state, machine_setup, machine_teardown),
        cmocka_unit_test_setup_teardown(retention__by_size_and_age__is_proposed_until_nothing_is_left_to_do,
                                        machine_setup, machine_teardown),
        cmocka_unit_test_setup_teardown(flush__not_allowed__is_refused_by_prepare, machine_setup, machine_teardown),
        cmocka_unit_test_setup_teardown(flush__allowed__leaves_nothing_but_the_change_log, machine_setup,
                                        machine_teardown),
        cmocka_unit_test_setup_teardown(page__of_a_batch__is_whole, machine_setup, machine_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
