/* The replicated state: exactly once, one position, one hash, through commits, crashes and repeats of any order. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"
#include "engines/kv/kv_internal.h"
#include "engines/sessions.h"
#include "support/engine_driver.h"
#include "wire/writer.h"

#define TEXT(text) kt_slice_text(text)
#define MINUTE_MS  60000

static int set_up(void **state)
{
    struct engine_driver *driver = kt_alloc(sizeof(*driver));

    engine_driver_init(driver);
    engine_driver_open(driver);
    *state = driver;
    return 0;
}

static int tear_down(void **state)
{
    struct engine_driver *driver = *state;

    kt_log_sink(NULL, NULL);
    engine_driver_release(driver);
    kt_free(driver);
    return 0;
}

/* A put of a byte under a key, as the log carries it. */
static void build_put(struct kt_buf *op, const char *key, uint8_t byte, int64_t expires_at_ns)
{
    uint8_t value[] = {2, byte};
    struct kt_kv_params body = {
        .given = KT_KV_GIVEN_SET | (expires_at_ns ? KT_KV_EXPIRES_AT : 0),
        .database = TEXT("system"),
        .collection = TEXT("kv_test"),
        .key = TEXT(key),
        .value = kt_slice(value, sizeof(value)),
        .expires_at_ns = expires_at_ns,
    };

    kt_buf_clear(op);
    kt_op_begin(op, KT_KV_OP_PUT);
    kt_struct_encode(&kt_kv_put_body, &body, op);
    assert_int_equal(kt_buf_code(op), KT_OK);
}

/* Applies driver->op as the next entry, without commit; the reply is in the driver. */
static void apply_next(struct engine_driver *driver)
{
    struct kt_error error;

    if (kt_state_apply(driver->state, kt_state_applied(driver->state).index + 1, 1, kt_buf_slice(&driver->op),
                       &driver->reply, &error))
        fail_msg("%s", error.text);
}

static void put_as(struct engine_driver *driver, uint64_t origin, uint64_t sequence, uint64_t done_below,
                   const char *key, uint8_t byte)
{
    build_put(&driver->op, key, byte, 0);
    kt_op_stamp_time(driver->op.data, driver->now_ms);
    kt_op_stamp_origin(driver->op.data, origin, sequence, done_below);
    apply_next(driver);
}

static void commit(struct engine_driver *driver)
{
    assert_int_equal(kt_state_commit(driver->state), KT_OK);
}

/* The byte under a key, or -1; of what is committed. */
static int look(struct engine_driver *driver, const char *key)
{
    struct kt_kv_params params = {
        .given = KT_KV_GIVEN_KEY, .database = TEXT("system"), .collection = TEXT("kv_test"), .key = TEXT(key)};
    const struct kt_reply *reply = engine_driver_run(driver, "kv.get", &params);

    if (reply->code == KT_NOT_FOUND)
        return -1;
    assert_int_equal(reply->code, KT_OK);
    assert_int_equal(reply->body.len, 2);
    return reply->body.data[1];
}

/* Rows of the sessions' keyspaces, of what is committed. */
static void session_rows(struct engine_driver *driver, uint64_t *records, uint64_t *idle)
{
    struct kt_store *store = kt_state_store(driver->state);
    struct kt_error error;
    struct kt_txn *txn;
    kt_space space[2];

    assert_int_equal(kt_store_space(store, "session", &space[0], &error), KT_OK);
    assert_int_equal(kt_store_space(store, "session_idle", &space[1], &error), KT_OK);
    assert_int_equal(kt_txn_begin_read(store, &txn), KT_OK);
    assert_int_equal(kt_txn_count(txn, space[0], records), KT_OK);
    assert_int_equal(kt_txn_count(txn, space[1], idle), KT_OK);
    kt_txn_abort(txn);
}

static void position__of_a_new_state__is_zero(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_state_position position = kt_state_applied(driver->state);

    assert_int_equal(position.index, 0);
    assert_int_equal(position.term, 0);
    assert_int_equal(position.hash, 0);
    assert_int_equal(kt_state_visible(driver->state), 0);
    assert_int_equal(kt_state_commit(driver->state), KT_OK);
}

static void entries__applied__are_visible_after_the_commit(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_state_position position;
    struct kt_error error;
    struct kt_txn *txn;

    put_as(driver, 0, 0, 0, "a", 1);
    assert_int_equal(driver->reply.offset, 1);
    assert_int_equal(kt_state_apply(driver->state, 2, 5, kt_slice(NULL, 0), NULL, &error), KT_OK);
    assert_int_equal(kt_state_applied(driver->state).index, 2);
    assert_int_equal(kt_state_applied(driver->state).term, 5);
    assert_int_equal(kt_state_visible(driver->state), 0);
    assert_int_equal(look(driver, "a"), -1);
    commit(driver);
    assert_int_equal(kt_state_visible(driver->state), 2);
    assert_int_equal(look(driver, "a"), 1);
    assert_int_equal(kt_txn_begin_read(kt_state_store(driver->state), &txn), KT_OK);
    assert_int_equal(kt_state_position_of(driver->state, txn, &position), KT_OK);
    kt_txn_abort(txn);
    assert_int_equal(position.index, 2);
    assert_int_equal(position.term, 5);
    assert_int_equal(position.time_ms, driver->now_ms);
    assert_true(position.hash == kt_state_applied(driver->state).hash);
}

static void time__of_entries__never_goes_back(void **state)
{
    struct engine_driver *driver = *state;

    put_as(driver, 0, 0, 0, "a", 1);
    driver->now_ms -= 500;
    build_put(&driver->op, "b", 2, (int64_t)(driver->now_ms + 400) * 1000000);
    kt_op_stamp_time(driver->op.data, driver->now_ms);
    apply_next(driver);
    assert_int_equal(driver->reply.code, KT_BAD_REQUEST); /* judged by the first entry's time */
    assert_int_equal(kt_state_applied(driver->state).time_ms, driver->now_ms + 500);
}

static void failure__of_an_operation__leaves_no_writes_and_is_replied(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t hash;

    put_as(driver, 0, 0, 0, "a", 1);
    hash = kt_state_applied(driver->state).hash;
    build_put(&driver->op, "a", 2, 1);
    kt_op_stamp_time(driver->op.data, driver->now_ms);
    apply_next(driver);
    assert_int_equal(driver->reply.code, KT_BAD_REQUEST);
    assert_true(kt_state_applied(driver->state).hash == hash);
    commit(driver);
    assert_int_equal(look(driver, "a"), 1);
}

static void request__applied_twice__answers_its_first_result(void **state)
{
    struct engine_driver *driver = *state;

    put_as(driver, 7, 1, 1, "a", 1);
    assert_int_equal(driver->reply.offset, 1);
    put_as(driver, 7, 2, 1, "a", 2);
    put_as(driver, 7, 1, 1, "a", 1);
    assert_int_equal(driver->reply.code, KT_OK);
    assert_int_equal(driver->reply.offset, 1);
    commit(driver);
    assert_int_equal(look(driver, "a"), 2);
    /* The same numbers of another origin are another request. */
    put_as(driver, 8, 1, 1, "a", 3);
    assert_int_equal(driver->reply.offset, 4);
    commit(driver);
    assert_int_equal(look(driver, "a"), 3);
}

static void request__behind_which_another_was_carried_out__is_not_done(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t hash;

    put_as(driver, 7, 1, 1, "a", 1);
    put_as(driver, 7, 3, 1, "a", 3);
    hash = kt_state_applied(driver->state).hash;
    put_as(driver, 7, 2, 1, "a", 2);
    assert_int_equal(driver->reply.code, KT_UNAVAILABLE);
    assert_int_equal(driver->reply.offset, 0);
    assert_true(kt_state_applied(driver->state).hash == hash);
    commit(driver);
    assert_int_equal(look(driver, "a"), 3);
    /* What comes behind is as ever, and so are repetitions. */
    put_as(driver, 7, 3, 1, "a", 3);
    assert_int_equal(driver->reply.offset, 2);
    put_as(driver, 7, 4, 1, "a", 4);
    assert_int_equal(driver->reply.code, KT_OK);
    commit(driver);
    assert_int_equal(look(driver, "a"), 4);
}

static void request__that_failed__fails_again_alike(void **state)
{
    struct engine_driver *driver = *state;

    build_put(&driver->op, "a", 2, 5);
    kt_op_stamp_time(driver->op.data, driver->now_ms);
    kt_op_stamp_origin(driver->op.data, 7, 1, 1);
    apply_next(driver);
    assert_int_equal(driver->reply.code, KT_BAD_REQUEST);
    kt_reply_clear(&driver->reply);
    apply_next(driver);
    assert_int_equal(driver->reply.code, KT_BAD_REQUEST);
    assert_int_equal(driver->reply.offset, 1);
    assert_string_equal(driver->reply.text, "invalid TTL: expiresAt must be a future timestamp in nanoseconds");
}

static void request__below_what_its_origin_has__is_stale(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t records, idle;

    for (uint64_t i = 1; i <= 100; i++)
        put_as(driver, 7, i, i, "a", (uint8_t)i);
    put_as(driver, 7, 1, 1, "a", 200);
    assert_int_equal(driver->reply.code, KT_STALE);
    assert_int_equal(driver->reply.offset, 101);
    put_as(driver, 7, 100, 100, "a", 201);
    assert_int_equal(driver->reply.code, KT_OK);
    assert_int_equal(driver->reply.offset, 100);
    commit(driver);
    assert_int_equal(look(driver, "a"), 100);
    session_rows(driver, &records, &idle);
    assert_in_range(records, 2, 2 + KT_SESSION_STEP);
    assert_int_equal(idle, 1);
}

static void request__that_knows_less_than_an_earlier_one__reopens_nothing(void **state)
{
    struct engine_driver *driver = *state;

    for (uint64_t i = 1; i <= 100; i++)
        put_as(driver, 7, i, i, "a", 1);
    driver->now_ms += MINUTE_MS;
    put_as(driver, 7, 101, 10, "a", 2); /* written with the new minute */
    put_as(driver, 7, 20, 10, "a", 3);
    assert_int_equal(driver->reply.code, KT_STALE);
    put_as(driver, 7, 101, 10, "a", 4);
    assert_int_equal(driver->reply.offset, 101);
    commit(driver);
    assert_int_equal(look(driver, "a"), 2);
}

static void request__with_nonsense_for_done__keeps_its_own_record(void **state)
{
    struct engine_driver *driver = *state;

    put_as(driver, 7, 1, 1, "a", 1);
    put_as(driver, 7, 50, UINT64_MAX, "a", 2);
    put_as(driver, 7, 50, UINT64_MAX, "a", 3);
    assert_int_equal(driver->reply.code, KT_OK);
    assert_int_equal(driver->reply.offset, 2);
    put_as(driver, 7, 1, 1, "a", 4);
    assert_int_equal(driver->reply.code, KT_STALE);
    put_as(driver, 7, 51, 0, "a", 5);
    assert_int_equal(driver->reply.offset, 5);
    commit(driver);
    assert_int_equal(look(driver, "a"), 5);
}

static void records__many_done_at_once__go_a_bounded_number_per_operation(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t records, idle, before;
    unsigned i;

    for (uint64_t sequence = 1; sequence <= 1000; sequence++)
        put_as(driver, 7, sequence, 1, "a", 1);
    commit(driver);
    session_rows(driver, &before, &idle);
    assert_int_equal(before, 1001);
    for (i = 1; i <= 100; i++) {
        put_as(driver, 7, 1000 + i, 1001, "a", 1);
        commit(driver);
        session_rows(driver, &records, &idle);
        assert_in_range(before + 1 - records, 0, KT_SESSION_REMOVE_MAX);
        before = records;
    }
    assert_int_equal(records, 101); /* the session's, and of 1001 to 1100 */
    put_as(driver, 7, 1000, 1, "a", 1);
    assert_int_equal(driver->reply.code, KT_STALE);
}

static void session__idle_for_an_hour__goes_in_pieces(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t records, idle, before;

    for (uint64_t sequence = 1; sequence <= 200; sequence++)
        put_as(driver, 7, sequence, 1, "a", 1);
    driver->now_ms += (KT_SESSION_IDLE_MINUTES - 1) * MINUTE_MS;
    put_as(driver, 8, 1, 1, "a", 1);
    commit(driver);
    session_rows(driver, &before, &idle);
    assert_int_equal(before, 201 + 2);
    assert_int_equal(idle, 2);
    driver->now_ms += MINUTE_MS;
    for (unsigned i = 0; i < 4; i++) {
        build_put(&driver->op, "b", 1, 0);
        kt_op_stamp_time(driver->op.data, driver->now_ms);
        apply_next(driver);
        commit(driver);
        session_rows(driver, &records, &idle);
        assert_in_range(before - records, 8, KT_SESSION_REMOVE_MAX + 1);
        before = records;
    }
    assert_int_equal(records, 2);
    assert_int_equal(idle, 1);
    /* The one that was used meanwhile is still known. */
    put_as(driver, 8, 1, 1, "a", 9);
    assert_int_equal(driver->reply.offset, 201);
}

static void session__in_use__stays_however_long(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t records, idle;

    for (uint64_t i = 1; i <= 300; i++) {
        driver->now_ms += MINUTE_MS;
        put_as(driver, 7, i, i, "a", 1);
        put_as(driver, 0, 0, 0, "b", 1);
    }
    put_as(driver, 7, 299, 299, "a", 2);
    assert_int_equal(driver->reply.code, KT_STALE);
    put_as(driver, 7, 300, 300, "a", 2);
    assert_int_equal(driver->reply.offset, 599);
    commit(driver);
    session_rows(driver, &records, &idle);
    assert_int_equal(idle, 1);
}

static void expect_fatal(struct engine_driver *driver, struct kt_slice entry, const char *words)
{
    struct kt_state_position before = kt_state_applied(driver->state);
    struct kt_error error;

    assert_int_equal(kt_state_apply(driver->state, before.index + 1, 1, entry, NULL, &error), KT_CORRUPT);
    if (!strstr(error.text, words))
        fail_msg("'%s' does not say '%s'", error.text, words);
}

static void entry__that_this_version_cannot_know__stops_with_its_index_and_code(void **state)
{
    struct engine_driver *driver = *state;

    put_as(driver, 0, 0, 0, "a", 1);
    commit(driver);
    expect_fatal(driver, TEXT("x"), "entry 2 (1 bytes)");
    kt_buf_clear(&driver->op);
    kt_op_begin(&driver->op, 0xfe01);
    expect_fatal(driver, kt_buf_slice(&driver->op), "entry 2 carries operation 0xfe01");
    kt_buf_clear(&driver->op);
    kt_op_begin(&driver->op, KT_KV_OP_PUT);
    expect_fatal(driver, kt_buf_slice(&driver->op), "entry 2 carries a damaged kv.put (0x0101)");
    /* What was committed is there, and the state can go on. */
    put_as(driver, 0, 0, 0, "b", 2);
    assert_int_equal(driver->reply.offset, 2);
    commit(driver);
    assert_int_equal(look(driver, "a"), 1);
    assert_int_equal(look(driver, "b"), 2);
}

static void entry__that_stops_the_state__takes_back_what_was_not_committed(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_state_position committed;

    put_as(driver, 0, 0, 0, "a", 1);
    commit(driver);
    committed = kt_state_applied(driver->state);
    put_as(driver, 0, 0, 0, "b", 2);
    kt_buf_clear(&driver->op);
    kt_op_begin(&driver->op, 0xfe01);
    expect_fatal(driver, kt_buf_slice(&driver->op), "entry 3");
    assert_int_equal(kt_state_applied(driver->state).index, 1);
    assert_true(kt_state_applied(driver->state).hash == committed.hash);
    assert_int_equal(look(driver, "b"), -1);
}

/* One long random history; every run of it must end alike. */
#define HISTORY 1500

static void history_op(struct kt_random *random, struct kt_buf *op, kt_time_ms *now_ms)
{
    static uint64_t sequences[3]; /* restarted by entry 1 of each run */
    unsigned origin = (unsigned)kt_random_below(random, 3);
    char key[700];

    if (*now_ms == 0) {
        *now_ms = 1000000;
        memset(sequences, 0, sizeof(sequences));
    }
    *now_ms += kt_random_below(random, 20000);
    memset(key, 'k', sizeof(key));
    snprintf(key + (kt_random_below(random, 4) ? 0 : 600), 20, "%u", (unsigned)kt_random_below(random, 40));
    switch (kt_random_below(random, 8)) {
    case 0:
        kt_buf_clear(op); /* an entry without operation */
        return;
    case 1: {
        struct kt_kv_expire body = {.given = 1, .cutoff_ms = *now_ms};

        kt_buf_clear(op);
        kt_op_begin(op, KT_KV_OP_EXPIRE);
        kt_struct_encode(&kt_kv_expire_body, &body, op);
        break;
    }
    case 2: {
        struct kt_kv_params body = {
            .given = KT_KV_GIVEN_KEY, .database = TEXT("system"), .collection = TEXT("kv_test"), .key = TEXT(key)};

        kt_buf_clear(op);
        kt_op_begin(op, KT_KV_OP_DELETE);
        kt_struct_encode(&kt_kv_delete_body, &body, op);
        break;
    }
    case 3:
    case 4:
        build_put(op, key, (uint8_t)kt_random_next(random),
                  (int64_t)(*now_ms - 20000 + kt_random_below(random, 200000)) * 1000000);
        break;
    default:
        build_put(op, key, (uint8_t)kt_random_next(random), 0);
    }
    kt_op_stamp_time(op->data, *now_ms);
    if (kt_random_below(random, 4) > 0) {
        /* A quarter of the requests comes again, some of them too late. */
        uint64_t repeat = kt_random_below(random, 4) == 0 ? kt_random_below(random, 60) : 0;
        uint64_t sequence = repeat < sequences[origin] && repeat > 0 ? sequences[origin] - repeat : ++sequences[origin];
        uint64_t done = kt_random_below(random, 80);

        kt_op_stamp_origin(op->data, 1000 + origin, sequence, sequence > done ? sequence - done : 0);
    }
}

static struct kt_buf *make_history(uint64_t seed)
{
    struct kt_buf *history = kt_zalloc(HISTORY * sizeof(*history));
    struct kt_random random;
    kt_time_ms now_ms = 0;

    kt_random_seed(&random, seed);
    for (unsigned i = 0; i < HISTORY; i++) {
        kt_buf_init(&history[i], 4096);
        history_op(&random, &history[i], &now_ms);
    }
    return history;
}

static void free_history(struct kt_buf *history)
{
    for (unsigned i = 0; i < HISTORY; i++)
        kt_buf_release(&history[i]);
    kt_free(history);
}

/* Every row of every keyspace but the position, folded: contents, not the way to them. */
static uint64_t digest(struct engine_driver *driver)
{
    static const char *const names[] = {"kv", "kv_expiry", "session", "session_idle"};
    struct kt_txn *txn = NULL;
    uint64_t hash = 0;

    for (size_t i = 0; i < KT_COUNT(names); i++) {
        struct kt_slice key, value;
        struct kt_cursor *cursor;
        struct kt_error error;
        kt_space space;
        enum kt_code code;

        assert_int_equal(kt_store_space(kt_state_store(driver->state), names[i], &space, &error), KT_OK);
        assert_int_equal(kt_txn_begin_read(kt_state_store(driver->state), &txn), KT_OK);
        assert_int_equal(kt_cursor_open(txn, space, &cursor), KT_OK);
        code = kt_cursor_seek(cursor, kt_slice(NULL, 0), &key, &value);
        while (code == KT_OK) {
            hash = kt_hash64(kt_hash64(hash + i, key.data, key.len), value.data, value.len);
            code = kt_cursor_next(cursor, &key, &value);
        }
        assert_int_equal(code, KT_NOT_FOUND);
        kt_cursor_close(cursor);
        kt_txn_abort(txn);
    }
    return hash;
}

struct outcome {
    struct kt_state_position position;
    uint64_t digest;
    uint64_t replies[HISTORY]; /* hash of each reply as last given */
};

static void apply_entry(struct engine_driver *driver, struct kt_buf *history, kt_index index, struct outcome *outcome)
{
    struct kt_error error;
    struct kt_buf bytes;

    if (kt_state_apply(driver->state, index, 1 + index / 100, kt_buf_slice(&history[index - 1]), &driver->reply,
                       &error))
        fail_msg("%s", error.text);
    kt_buf_init(&bytes, 1u << 20);
    kt_reply_encode(&driver->reply, &bytes);
    outcome->replies[index - 1] = kt_hash64(0, bytes.data, bytes.len);
    kt_buf_release(&bytes);
}

/* Applies the history, committing and crashing at random; crash_in 0: never, then one commit at the end. */
static void run_history(struct kt_buf *history, uint64_t seed, unsigned commit_in, unsigned crash_in,
                        struct outcome *outcome)
{
    struct engine_driver driver;
    struct kt_random random;

    kt_random_seed(&random, seed);
    engine_driver_init(&driver);
    engine_driver_open(&driver);
    for (;;) {
        kt_index index = kt_state_applied(driver.state).index + 1;

        if (index > HISTORY)
            break;
        apply_entry(&driver, history, index, outcome);
        if (commit_in && kt_random_below(&random, commit_in) == 0)
            commit(&driver);
        if (crash_in && kt_random_below(&random, crash_in) == 0) {
            kt_index visible = kt_state_visible(driver.state);

            engine_driver_close(&driver);
            engine_driver_open(&driver);
            assert_int_equal(kt_state_applied(driver.state).index, visible);
            assert_int_equal(kt_state_visible(driver.state), visible);
        }
    }
    commit(&driver);
    outcome->position = kt_state_applied(driver.state);
    outcome->digest = digest(&driver);
    engine_driver_release(&driver);
}

static void history__with_commits_and_crashes_anywhere__ends_alike(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct kt_buf *history = make_history(seed);
        struct outcome *straight = kt_zalloc(sizeof(*straight)), *other = kt_zalloc(sizeof(*other));

        run_history(history, seed, 0, 0, straight);
        run_history(history, seed, 1, 0, other);
        assert_memory_equal(other, straight, sizeof(*other));
        run_history(history, seed, 10, 40, other);
        assert_memory_equal(other, straight, sizeof(*other));
        run_history(history, seed + 100, 60, 90, other);
        assert_memory_equal(other, straight, sizeof(*other));
        kt_free(straight);
        kt_free(other);
        free_history(history);
    }
}

static void request__repeated_after_a_crash__happened_once(void **state)
{
    struct engine_driver *driver = *state;

    put_as(driver, 7, 1, 1, "a", 1);
    commit(driver);
    put_as(driver, 7, 2, 1, "a", 2); /* lost with the crash */
    engine_driver_close(driver);
    engine_driver_open(driver);
    assert_int_equal(kt_state_applied(driver->state).index, 1);
    put_as(driver, 7, 2, 1, "a", 2);
    assert_int_equal(driver->reply.offset, 2);
    put_as(driver, 7, 1, 1, "a", 1);
    assert_int_equal(driver->reply.offset, 1);
    put_as(driver, 7, 2, 1, "a", 3);
    assert_int_equal(driver->reply.offset, 2);
    commit(driver);
    assert_int_equal(look(driver, "a"), 2);
}

static void quiet(void *data, const char *line)
{
    (void)data;
    (void)line;
}

static void commit__without_room__keeps_the_last_good_state(void **state)
{
    struct engine_driver *driver = *state;
    uint8_t *value = kt_zalloc(8u << 20);
    struct kt_kv_params body = {
        .given = KT_KV_GIVEN_SET, .database = TEXT("system"), .collection = TEXT("kv_test"), .key = TEXT("big")};
    struct kt_state_position good;
    struct kt_error error;
    enum kt_code code = KT_OK;
    uint8_t key[4];

    engine_driver_close(driver);
    driver->options.store.bytes_max = 1; /* as small as a map can be */
    engine_driver_open(driver);
    kt_log_sink(quiet, NULL);
    put_as(driver, 0, 0, 0, "a", 1);
    commit(driver);
    value[0] = 0x0b;
    kt_put_be32(value + 1, (8u << 20) - 5);
    body.value = kt_slice(value, 8u << 20);
    for (uint32_t i = 0; code == KT_OK; i++) {
        assert_true(i < 20);
        good = kt_state_applied(driver->state);
        kt_put_be32(key, i);
        body.key = kt_slice(key, sizeof(key));
        kt_buf_clear(&driver->op);
        kt_op_begin(&driver->op, KT_KV_OP_PUT);
        kt_struct_encode(&kt_kv_put_body, &body, &driver->op);
        code = kt_state_apply(driver->state, good.index + 1, 1, kt_buf_slice(&driver->op), NULL, &error);
        if (code == KT_OK)
            code = kt_state_commit(driver->state);
    }
    assert_int_equal(code, KT_DISK_FULL);
    assert_int_equal(kt_state_applied(driver->state).index, good.index);
    assert_int_equal(kt_state_visible(driver->state), good.index);
    assert_true(good.index >= 4);
    assert_int_equal(look(driver, "a"), 1);
    kt_free(value);
}

static void store__of_another_format__is_refused(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_state *other;
    struct kt_error error;
    struct kt_store *store;
    struct kt_txn *txn;
    kt_space meta;

    engine_driver_close(driver);
    assert_int_equal(kt_store_open(&driver->options.store, &store, &error), KT_OK);
    assert_int_equal(kt_store_space(store, "meta", &meta, &error), KT_OK);
    assert_int_equal(kt_txn_begin_write(store, &txn), KT_OK);
    assert_int_equal(kt_txn_put(txn, meta, TEXT("format"), kt_slice("\2\0\0\0", 4)), KT_OK);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    kt_store_close(store);
    assert_int_equal(kt_state_open(&driver->options, &other, &error), KT_CORRUPT);
    assert_null(other);
    assert_non_null(strstr(error.text, "format"));
}

static void describe__of_anything__is_words(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_buf out;

    kt_buf_init(&out, 4096);
    kt_op_describe(kt_slice(NULL, 0), &out);
    assert_true(kt_slice_is(kt_buf_slice(&out), "nothing"));
    kt_buf_clear(&out);
    kt_op_describe(TEXT("xyz"), &out);
    assert_true(kt_slice_is(kt_buf_slice(&out), "no known operation, 3 bytes"));
    kt_buf_clear(&out);
    kt_op_begin(&driver->op, 0xfe01);
    kt_op_describe(kt_buf_slice(&driver->op), &out);
    assert_true(kt_slice_is(kt_buf_slice(&out), "unknown operation 0xfe01, 0 bytes"));
    kt_buf_clear(&out);
    kt_buf_clear(&driver->op);
    kt_op_begin(&driver->op, KT_KV_OP_PUT);
    kt_buf_append_u8(&driver->op, 0xff);
    kt_op_describe(kt_buf_slice(&driver->op), &out);
    assert_true(kt_slice_is(kt_buf_slice(&out), "kv.put damaged, 1 bytes"));
    kt_buf_clear(&out);
    build_put(&driver->op, "k", 1, 0);
    kt_op_describe(kt_buf_slice(&driver->op), &out);
    assert_memory_equal(out.data, "kv.put database=", 16);
    kt_buf_release(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(position__of_a_new_state__is_zero),
        TEST(entries__applied__are_visible_after_the_commit),
        TEST(time__of_entries__never_goes_back),
        TEST(failure__of_an_operation__leaves_no_writes_and_is_replied),
        TEST(request__applied_twice__answers_its_first_result),
        TEST(request__behind_which_another_was_carried_out__is_not_done),
        TEST(request__that_failed__fails_again_alike),
        TEST(request__below_what_its_origin_has__is_stale),
        TEST(request__that_knows_less_than_an_earlier_one__reopens_nothing),
        TEST(request__with_nonsense_for_done__keeps_its_own_record),
        TEST(records__many_done_at_once__go_a_bounded_number_per_operation),
        TEST(session__idle_for_an_hour__goes_in_pieces),
        TEST(session__in_use__stays_however_long),
        TEST(entry__that_this_version_cannot_know__stops_with_its_index_and_code),
        TEST(entry__that_stops_the_state__takes_back_what_was_not_committed),
        cmocka_unit_test(history__with_commits_and_crashes_anywhere__ends_alike),
        TEST(request__repeated_after_a_crash__happened_once),
        TEST(commit__without_room__keeps_the_last_good_state),
        TEST(store__of_another_format__is_refused),
        TEST(describe__of_anything__is_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
