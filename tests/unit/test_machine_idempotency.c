#include "engines/machine/idempotency.h"
#include "support/machine_expect.h"

#define DAY_MS UINT64_C(86400000)

#define COUNTER                                                                                                        \
    "{\"states\":[\"s\"],\"initial\":\"s\",\"transitions\":[{\"from\":\"s\",\"event\":\"E\",\"to\":\"s\",\"guard\":"   \
    "\"!ctx.stop\"}]}"

static int counter_setup(void **state)
{
    machine_setup(state);
    put_machine(*state, "counter", 1, COUNTER);
    run_ok(*state, "machine.create_instance", "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"i\"}");
    run_ok(*state, "machine.create_instance", "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"j\"}");
    return 0;
}

#define APPLIED(ctx, rest)                                                                                             \
    "{\"applied\":true,\"ctx\":" ctx "," rest "\"from_state\":\"s\",\"to_state\":\"s\",\"wal_offset\":"

static void event__repeated__first_answer_word_for_word(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t hash;

    expect_ok(
        driver, "machine.apply_event",
        "{\"instance_id\":\"i\",\"event\":\"E\",\"payload\":{\"n\":1},\"event_id\":\"e1\",\"idempotency_key\":\"k\"}",
        APPLIED("{\"n\":1}", "\"event_id\":\"e1\",") "4}");
    assert_int_equal(driver->reply.offset, 4);
    hash = kt_state_applied(driver->state).hash;
    /* Nothing else of the repetition is looked at: not what it expects, not its event. */
    expect_ok(
        driver, "machine.apply_event",
        "{\"instance_id\":\"i\",\"event\":\"NO\",\"payload\":{\"n\":2},\"event_id\":\"e2\",\"idempotency_key\":\"k\","
        "\"expected_state\":\"x\",\"expected_wal_offset\":0}",
        APPLIED("{\"n\":1}", "\"event_id\":\"e1\",") "4}");
    assert_int_equal(driver->reply.offset, 4);
    assert_true(kt_state_applied(driver->state).hash == hash);
    expect_ok(
        driver, "machine.get_instance", "{\"instance_id\":\"i\"}",
        "{\"created_at\":1000000,\"ctx\":{\"n\":1},\"instance_id\":\"i\",\"last_event_id\":\"e1\",\"last_wal_offset\":"
        "4,\"machine\":\"counter\",\"state\":\"s\",\"updated_at\":1000000,\"version\":1}");
}

static void event__same_key_elsewhere__carried_out(void **state)
{
    struct engine_driver *driver = *state;

    run_ok(driver, "machine.apply_event",
           "{\"instance_id\":\"i\",\"event\":\"E\",\"payload\":{\"n\":1},\"idempotency_key\":\"k\"}");
    expect_ok(driver, "machine.apply_event",
              "{\"instance_id\":\"j\",\"event\":\"E\",\"payload\":{\"n\":2},\"idempotency_key\":\"k\"}",
              APPLIED("{\"n\":2}", "") "#}");
    expect_ok(driver, "machine.delete_instance", "{\"instance_id\":\"i\",\"idempotency_key\":\"k\"}",
              "{\"deleted\":true,\"instance_id\":\"i\",\"wal_offset\":#}");
    expect_ok(driver, "machine.create_instance",
              "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"i\",\"idempotency_key\":\"k\"}",
              "{\"instance_id\":\"i\",\"state\":\"s\",\"wal_offset\":#}");
    expect_ok(driver, "machine.create_instance",
              "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"l\",\"idempotency_key\":\"k\"}",
              "{\"instance_id\":\"l\",\"state\":\"s\",\"wal_offset\":#}");
}

/* Neither the end of one name nor the beginning of the next can be mistaken for the other. */
static void event__names_that_join_alike__kept_apart(void **state)
{
    struct engine_driver *driver = *state;

    run_ok(driver, "machine.create_instance", "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"ik\"}");
    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"kk\"}");
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"ik\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
              APPLIED("{}", "") "#}");
}

static void event__empty_key__no_key(void **state)
{
    struct engine_driver *driver = *state;

    for (unsigned i = 0; i < 2; i++)
        expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"\"}",
                  APPLIED("{}", "") "#}");
}

static void event__failure__not_kept(void **state)
{
    struct engine_driver *driver = *state;

    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"payload\":{\"stop\":1}}");
    expect_fail(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
                KT_GUARD_FAILED, "guard failed for transition 's' -> 's' on event 'E'", "{\"guard\":\"!ctx.stop\"}");
    expect_fail(driver, "machine.apply_event", "{\"instance_id\":\"j\",\"event\":\"X\",\"idempotency_key\":\"k\"}",
                KT_INVALID_TRANSITION, "invalid transition: cannot apply 'X' in state 's'",
                "{\"current_state\":\"s\",\"event\":\"X\"}");
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"j\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
              APPLIED("{}", "") "#}");
}

/* The instance comes before the key; the key comes before everything else. */
static void event__repeated_after_deletion__not_found(void **state)
{
    struct engine_driver *driver = *state;

    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"i\"}");
    expect_fail(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
                KT_INSTANCE_NOT_FOUND, "instance not found: 'i'", "{\"instance_id\":\"i\"}");
    /* Created again, the old key still has its old answer. */
    run_ok(driver, "machine.create_instance", "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"i\"}");
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
              APPLIED("{}", "") "4}");
}

static void create__repeated__first_answer(void **state)
{
    struct engine_driver *driver = *state;

    expect_ok(driver, "machine.create_instance",
              "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"n\",\"idempotency_key\":\"k\"}",
              "{\"instance_id\":\"n\",\"state\":\"s\",\"wal_offset\":4}");
    expect_ok(driver, "machine.create_instance",
              "{\"machine\":\"none\",\"version\":9,\"instance_id\":\"n\",\"idempotency_key\":\"k\"}",
              "{\"instance_id\":\"n\",\"state\":\"s\",\"wal_offset\":4}");
    assert_int_equal(driver->reply.offset, 4);
    /* A late retry gets the old answer also when the instance is gone, and makes no new one. */
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"n\"}");
    expect_ok(driver, "machine.create_instance",
              "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"n\",\"idempotency_key\":\"k\"}",
              "{\"instance_id\":\"n\",\"state\":\"s\",\"wal_offset\":4}");
    assert_int_equal(engine_driver_json(driver, "machine.get_instance", "{\"instance_id\":\"n\"}")->code,
                     KT_INSTANCE_NOT_FOUND);
    /* Another key: the id is free or not, as it is. */
    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"n\",\"idempotency_key\":\"k2\"}");
    assert_int_equal(engine_driver_json(driver, "machine.create_instance",
                                        "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"n\","
                                        "\"idempotency_key\":\"k3\"}")
                         ->code,
                     KT_INSTANCE_EXISTS);
}

static void create__generated_id_repeated__same_id(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_slice answer;
    char first[256];

    run_ok(driver, "machine.create_instance", "{\"machine\":\"counter\",\"version\":1,\"idempotency_key\":\"k\"}");
    answer = kt_buf_slice(&driver->reply.body);
    assert_true(answer.len < sizeof(first));
    memcpy(first, answer.data, answer.len);
    first[answer.len] = '\0';
    expect_ok(driver, "machine.create_instance", "{\"machine\":\"counter\",\"version\":1,\"idempotency_key\":\"k\"}",
              first);
    expect_ok(driver, "machine.list_instances", "{\"limit\":0}", "{\"has_more\":true,\"instances\":[],\"total\":3}");
}

static void delete__repeated__first_answer(void **state)
{
    struct engine_driver *driver = *state;

    expect_ok(driver, "machine.delete_instance", "{\"instance_id\":\"i\",\"idempotency_key\":\"k\"}",
              "{\"deleted\":true,\"instance_id\":\"i\",\"wal_offset\":4}");
    run_ok(driver, "machine.create_instance", "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"i\"}");
    /* The repetition does not delete the instance that has the id now. */
    expect_ok(driver, "machine.delete_instance", "{\"instance_id\":\"i\",\"idempotency_key\":\"k\"}",
              "{\"deleted\":true,\"instance_id\":\"i\",\"wal_offset\":4}");
    run_ok(driver, "machine.get_instance", "{\"instance_id\":\"i\"}");
}

static void keys__state_opened_again__still_known(void **state)
{
    struct engine_driver *driver = *state;

    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}");
    engine_driver_close(driver);
    engine_driver_open(driver);
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
              APPLIED("{}", "") "4}");
}

static void key__after_a_day__new(void **state)
{
    struct engine_driver *driver = *state;

    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}");
    driver->now_ms = 1000000 + DAY_MS - 1;
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
              APPLIED("{}", "") "4}");
    /* A day counts from the first success, not from the last repetition. */
    driver->now_ms = 1000000 + DAY_MS;
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
              APPLIED("{}", "") "6}");
    driver->now_ms = 1000000 + 2 * DAY_MS - 1;
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
              APPLIED("{}", "") "6}");
}

/* Entries in a keyspace of the engine. */
static uint64_t count_entries(struct engine_driver *driver, const char *name)
{
    struct kt_txn *txn;
    kt_space space;
    uint64_t count;

    assert_int_equal(kt_store_space(kt_state_store(driver->state), name, &space, NULL), KT_OK);
    assert_int_equal(kt_txn_begin_read(kt_state_store(driver->state), &txn), KT_OK);
    assert_int_equal(kt_txn_count(txn, space, &count), KT_OK);
    kt_txn_abort(txn);
    return count;
}

static void apply_with_keys(struct engine_driver *driver, unsigned from, unsigned to)
{
    char params[128];

    for (unsigned i = from; i < to; i++) {
        snprintf(params, sizeof(params), "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k%u\"}", i);
        run_ok(driver, "machine.apply_event", params);
    }
}

static void forget__expired_answers__removed_in_steps(void **state)
{
    struct engine_driver *driver = *state;

    apply_with_keys(driver, 0, 1500);
    driver->now_ms += DAY_MS / 2;
    apply_with_keys(driver, 1500, 1600);
    assert_int_equal(count_entries(driver, "machine.reply"), 1600);
    assert_int_equal(count_entries(driver, "machine.reply_key"), 1600);
    assert_false(engine_driver_tick(driver));
    driver->now_ms += DAY_MS / 2 - 1;
    assert_false(engine_driver_tick(driver));
    driver->now_ms += 1;
    assert_true(engine_driver_tick(driver));
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), "{\"forgotten\":1000}"));
    assert_int_equal(count_entries(driver, "machine.reply"), 600);
    assert_true(engine_driver_tick(driver));
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), "{\"forgotten\":500}"));
    assert_false(engine_driver_tick(driver));
    assert_int_equal(count_entries(driver, "machine.reply"), 100);
    assert_int_equal(count_entries(driver, "machine.reply_key"), 100);
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k1500\"}",
              APPLIED("{}", "") "1504}");
}

/* Without a tick too the number of expired answers falls with every new one. */
static void forget__new_answers__take_old_ones_along(void **state)
{
    struct engine_driver *driver = *state;

    apply_with_keys(driver, 0, 100);
    driver->now_ms += DAY_MS;
    apply_with_keys(driver, 100, 140);
    assert_int_equal(count_entries(driver, "machine.reply"), 100 + 40 - 80);
    assert_int_equal(count_entries(driver, "machine.reply_key"), 60);
    /* A key among the oldest, used again when it has expired: its old answer goes once. */
    apply_with_keys(driver, 80, 100);
    assert_int_equal(count_entries(driver, "machine.reply"), 60);
    assert_int_equal(count_entries(driver, "machine.reply_key"), 60);
    assert_false(engine_driver_tick(driver));
    /* Not among the oldest: its old answer goes, and two others. */
    driver->now_ms += DAY_MS;
    apply_with_keys(driver, 99, 100);
    assert_int_equal(count_entries(driver, "machine.reply"), 60 + 1 - 1 - 2);
    assert_int_equal(count_entries(driver, "machine.reply_key"), 60 - 2);
}

/* An operation says how many to forget; what it may ask for is bounded. */
static void forget__any_number__bounded(void **state)
{
    struct engine_driver *driver = *state;
    const struct kt_op_kind *kind = kt_op_kind(KT_OP_CODE(KT_ENGINE_MACHINE, 5), NULL);
    struct machine_forget_op body = {.given = 1, .max = UINT64_MAX};
    struct kt_error error;
    struct kt_buf op;

    apply_with_keys(driver, 0, 1100);
    driver->now_ms += DAY_MS;
    kt_buf_init(&op, 4096);
    kt_op_begin(&op, kind->code);
    kt_struct_encode(&kind->body, &body, &op);
    kt_op_stamp_time(op.data, driver->now_ms);
    assert_int_equal(engine_driver_apply(driver, kt_buf_slice(&op), &error), KT_OK);
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), "{\"forgotten\":1000}"));
    kt_buf_release(&op);
}

/* Writes a bucket by hand; commits. */
static void write_bucket(struct engine_driver *driver, const uint8_t hash[16], const uint8_t *answers, unsigned count)
{
    struct kt_store *store = kt_state_store(driver->state);
    struct kt_txn *txn;
    kt_space keys;

    assert_int_equal(kt_store_space(store, "machine.reply_key", &keys, NULL), KT_OK);
    assert_int_equal(kt_txn_begin_write(store, &txn), KT_OK);
    assert_int_equal(kt_txn_put(txn, keys, kt_slice(hash, 16), kt_slice(answers, count * IDEMPOTENCY_ANSWER_KEY_BYTES)),
                     KT_OK);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
}

/* Finds the hash under which one answer is kept. */
static void find_hash(struct engine_driver *driver, const uint8_t *answer, uint8_t hash[16])
{
    struct kt_store *store = kt_state_store(driver->state);
    struct kt_slice key, value;
    struct kt_cursor *cursor;
    struct kt_txn *txn;
    kt_space keys;
    bool found = false;
    enum kt_code code;

    assert_int_equal(kt_store_space(store, "machine.reply_key", &keys, NULL), KT_OK);
    assert_int_equal(kt_txn_begin_read(store, &txn), KT_OK);
    assert_int_equal(kt_cursor_open(txn, keys, &cursor), KT_OK);
    for (code = kt_cursor_seek(cursor, kt_slice("", 0), &key, &value); code == KT_OK;
         code = kt_cursor_next(cursor, &key, &value)) {
        if (memcmp(value.data, answer, IDEMPOTENCY_ANSWER_KEY_BYTES) != 0)
            continue;
        assert_int_equal(key.len, 16);
        memcpy(hash, key.data, 16);
        found = true;
    }
    assert_true(found);
    kt_cursor_close(cursor);
    kt_txn_abort(txn);
}

/* The key under which the answer of an entry is kept. */
static void answer_key(uint8_t *out, kt_index index)
{
    memset(out, 0, IDEMPOTENCY_ANSWER_KEY_BYTES);
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(index >> (56 - 8 * i));
}

/*
 * Keys that share a hash, made by writing buckets by hand: each is found by its whole key, a full bucket refuses one
 * more, and forgetting takes each answer out of its place.
 */
static void keys__sharing_a_hash__told_apart(void **state)
{
    struct engine_driver *driver = *state;
    uint8_t answers[MACHINE_REPLY_BUCKET_MAX * IDEMPOTENCY_ANSWER_KEY_BYTES], hash[16];
    unsigned count = MACHINE_REPLY_BUCKET_MAX;

    /* k0 has entry 4, and so on; k16 is kept too, so that its hash is known. */
    apply_with_keys(driver, 0, count + 1);
    for (unsigned i = 0; i < count; i++)
        answer_key(answers + i * IDEMPOTENCY_ANSWER_KEY_BYTES, 4 + count - 1 - i);
    find_hash(driver, answers + (count - 1) * IDEMPOTENCY_ANSWER_KEY_BYTES, hash);
    write_bucket(driver, hash, answers, count);
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k0\"}",
              APPLIED("{}", "") "4}");
    /* k16 among sixteen others that are not it. */
    answer_key(answers + count * IDEMPOTENCY_ANSWER_KEY_BYTES - IDEMPOTENCY_ANSWER_KEY_BYTES, 4 + count);
    find_hash(driver, answers + (count - 1) * IDEMPOTENCY_ANSWER_KEY_BYTES, hash);
    answer_key(answers + (count - 1) * IDEMPOTENCY_ANSWER_KEY_BYTES, 4);
    write_bucket(driver, hash, answers, count);
    expect_fail(driver, "machine.apply_event", "{\"instance_id\":\"i\",\"event\":\"E\",\"idempotency_key\":\"k16\"}",
                KT_TOO_LARGE, "too many idempotency keys share one hash", "");
    driver->now_ms += DAY_MS;
    while (engine_driver_tick(driver))
        ;
    assert_int_equal(count_entries(driver, "machine.reply"), 0);
}

static void keys__sharing_a_hash__operations_told_apart(void **state)
{
    struct engine_driver *driver = *state;
    uint8_t answers[2 * IDEMPOTENCY_ANSWER_KEY_BYTES], hash[16];

    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"counter\",\"version\":1,\"instance_id\":\"n\",\"idempotency_key\":\"k\"}");
    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"n\",\"event\":\"E\",\"idempotency_key\":\"k\"}");
    answer_key(answers, 4);
    answer_key(answers + IDEMPOTENCY_ANSWER_KEY_BYTES, 5);
    find_hash(driver, answers + IDEMPOTENCY_ANSWER_KEY_BYTES, hash);
    write_bucket(driver, hash, answers, 2);
    expect_ok(driver, "machine.apply_event", "{\"instance_id\":\"n\",\"event\":\"E\",\"idempotency_key\":\"k\"}",
              APPLIED("{}", "") "5}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, counter_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(event__repeated__first_answer_word_for_word),
        TEST(event__same_key_elsewhere__carried_out),
        TEST(event__names_that_join_alike__kept_apart),
        TEST(event__empty_key__no_key),
        TEST(event__failure__not_kept),
        TEST(event__repeated_after_deletion__not_found),
        TEST(create__repeated__first_answer),
        TEST(create__generated_id_repeated__same_id),
        TEST(delete__repeated__first_answer),
        TEST(keys__state_opened_again__still_known),
        TEST(key__after_a_day__new),
        TEST(forget__expired_answers__removed_in_steps),
        TEST(forget__new_answers__take_old_ones_along),
        TEST(forget__any_number__bounded),
        TEST(keys__sharing_a_hash__told_apart),
        TEST(keys__sharing_a_hash__operations_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
