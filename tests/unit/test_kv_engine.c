/* The key-value engine through prepare, apply and query, with a clock that is moved by hand. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "engines/kv/kv_internal.h"
#include "support/engine_driver.h"
#include "wire/writer.h"

#define NS_PER_MS 1000000

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

    engine_driver_release(driver);
    kt_free(driver);
    return 0;
}

static struct kt_kv_params params_of(const char *collection, struct kt_slice key)
{
    return (struct kt_kv_params){
        .given = KT_KV_GIVEN_KEY,
        .database = kt_slice_text("system"),
        .collection = kt_slice_text(collection),
        .key = key,
    };
}

static enum kt_code put(struct engine_driver *driver, struct kt_slice key, struct kt_slice value)
{
    struct kt_kv_params params = params_of("kv_test", key);

    params.given = KT_KV_GIVEN_SET;
    params.value = value;
    return engine_driver_run(driver, "kv.set", &params)->code;
}

static enum kt_code put_ttl(struct engine_driver *driver, struct kt_slice key, struct kt_slice value, int64_t at_ns)
{
    struct kt_kv_params params = params_of("kv_test", key);

    params.given = KT_KV_GIVEN_SET_TTL;
    params.value = value;
    params.expires_at_ns = at_ns;
    return engine_driver_run(driver, "kv.set_ttl", &params)->code;
}

static enum kt_code on_key(struct engine_driver *driver, const char *command, struct kt_slice key)
{
    struct kt_kv_params params = params_of("kv_test", key);

    return engine_driver_run(driver, command, &params)->code;
}

static enum kt_code list_keys(struct engine_driver *driver, const char *collection)
{
    struct kt_kv_params params = params_of(collection, kt_slice(NULL, 0));

    params.given = KT_KV_GIVEN_KEYS;
    return engine_driver_run(driver, "kv.keys", &params)->code;
}

static void expect_body(const struct engine_driver *driver, struct kt_slice bytes)
{
    assert_int_equal(driver->reply.body.len, bytes.len);
    if (bytes.len > 0)
        assert_memory_equal(driver->reply.body.data, bytes.data, bytes.len);
}

static void expect_get(struct engine_driver *driver, struct kt_slice key, struct kt_slice value)
{
    assert_int_equal(on_key(driver, "kv.get", key), KT_OK);
    expect_body(driver, value);
}

#define TEXT(text)   kt_slice_text(text)
#define BYTES(bytes) kt_slice((bytes), sizeof(bytes) - 1)

/* Rows in the store, expired ones too. */
static void expect_rows(struct engine_driver *driver, uint64_t entries, uint64_t expiring)
{
    const struct kt_kv *kv = kt_state_engine(driver->state, 0);
    struct kt_txn *txn;
    uint64_t count;

    assert_string_equal(kt_engines[0]->name, "kv");
    assert_int_equal(kt_txn_begin_read(kt_state_store(driver->state), &txn), KT_OK);
    assert_int_equal(kt_txn_count(txn, kv->table.entries, &count), KT_OK);
    assert_int_equal(count, entries);
    assert_int_equal(kt_txn_count(txn, kv->table.expiry, &count), KT_OK);
    assert_int_equal(count, expiring);
    kt_txn_abort(txn);
}

static void get__of_a_set_key__returns_the_value(void **state)
{
    struct engine_driver *driver = *state;

    assert_int_equal(on_key(driver, "kv.get", TEXT("a")), KT_NOT_FOUND);
    assert_int_equal(on_key(driver, "kv.exists", TEXT("a")), KT_NOT_FOUND);
    assert_int_equal(put(driver, TEXT("a"), BYTES("\x07\0\0\0\x2a")), KT_OK);
    assert_int_equal(driver->reply.body.len, 0);
    assert_int_equal(driver->reply.offset, 1);
    expect_get(driver, TEXT("a"), BYTES("\x07\0\0\0\x2a"));
    assert_int_equal(driver->reply.offset, 1);
    assert_int_equal(on_key(driver, "kv.exists", TEXT("a")), KT_OK);
    assert_int_equal(driver->reply.body.len, 0);
    assert_int_equal(put(driver, TEXT("a"), BYTES("\0")), KT_OK);
    expect_get(driver, TEXT("a"), BYTES("\0"));
}

static void keys__binary_and_empty_and_of_any_length__are_apart(void **state)
{
    struct engine_driver *driver = *state;
    static const size_t lengths[] = {
        0, 1, 255, KT_KV_SHORT_MAX, KT_KV_SHORT_MAX + 1, KT_KV_SHORT_MAX + 2, 511, 512, 4096, 65534, 65535};
    uint8_t *key = kt_zalloc(65536), value[5] = {4};

    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < KT_COUNT(lengths); i++) {
            kt_put_be32(value + 1, (uint32_t)(i + 100 * round));
            assert_int_equal(put(driver, kt_slice(key, lengths[i]), kt_slice(value, 5)), KT_OK);
        }
        for (size_t i = 0; i < KT_COUNT(lengths); i++) {
            kt_put_be32(value + 1, (uint32_t)(i + 100 * round));
            expect_get(driver, kt_slice(key, lengths[i]), kt_slice(value, 5));
        }
    }
    expect_rows(driver, KT_COUNT(lengths), 0);
    assert_int_equal(put(driver, kt_slice(key, 65536), kt_slice(value, 5)), KT_BAD_REQUEST);
    assert_int_equal(on_key(driver, "kv.get", kt_slice(key, 2)), KT_NOT_FOUND);
    for (size_t i = 0; i < KT_COUNT(lengths); i++) {
        assert_int_equal(on_key(driver, "kv.delete", kt_slice(key, lengths[i])), KT_OK);
        assert_int_equal(on_key(driver, "kv.get", kt_slice(key, lengths[i])), KT_NOT_FOUND);
    }
    expect_rows(driver, 0, 0);
    kt_free(key);
}

static void delete__of_a_missing_key__is_fine(void **state)
{
    struct engine_driver *driver = *state;

    assert_int_equal(on_key(driver, "kv.delete", TEXT("nobody")), KT_OK);
    assert_int_equal(put(driver, TEXT("a"), BYTES("\0")), KT_OK);
    assert_int_equal(on_key(driver, "kv.delete", TEXT("a")), KT_OK);
    assert_int_equal(on_key(driver, "kv.delete", TEXT("a")), KT_OK);
    assert_int_equal(on_key(driver, "kv.get", TEXT("a")), KT_NOT_FOUND);
}

static void collections__unknown_or_of_another_engine__are_refused(void **state)
{
    static const char *const commands[] = {"kv.get", "kv.set", "kv.set_ttl", "kv.delete", "kv.exists", "kv.keys"};
    struct engine_driver *driver = *state;

    for (size_t i = 0; i < KT_COUNT(commands); i++) {
        struct kt_kv_params params = params_of("nope", TEXT("k"));

        assert_int_equal(engine_driver_run(driver, commands[i], &params)->code, KT_COLLECTION_NOT_FOUND);
        params = params_of("obj_test", TEXT("k"));
        assert_int_equal(engine_driver_run(driver, commands[i], &params)->code, KT_WRONG_ENGINE);
        params = params_of("broker_test", TEXT("k"));
        assert_int_equal(engine_driver_run(driver, commands[i], &params)->code, KT_WRONG_ENGINE);
        params = params_of("test", TEXT("k"));
        params.database = TEXT("system_kv");
        assert_int_equal(engine_driver_run(driver, commands[i], &params)->code, KT_COLLECTION_NOT_FOUND);
        params.database = params.collection = kt_slice(NULL, 0);
        assert_int_equal(engine_driver_run(driver, commands[i], &params)->code, KT_COLLECTION_NOT_FOUND);
    }
    assert_int_equal(kt_kv_collection_check(TEXT("system"), TEXT("databases")), KT_OK);
    assert_int_equal(kt_kv_collection_check(TEXT("System"), TEXT("databases")), KT_COLLECTION_NOT_FOUND);
}

static void collections__with_equal_keys__do_not_mix(void **state)
{
    static const char *const names[] = {"databases", "collections", "kv_test"};
    struct engine_driver *driver = *state;
    uint8_t value[] = {2, 0};

    for (uint8_t i = 0; i < KT_COUNT(names); i++) {
        struct kt_kv_params params = params_of(names[i], TEXT("k"));

        params.given = KT_KV_GIVEN_SET;
        params.value = kt_slice(value, sizeof(value));
        value[1] = i;
        assert_int_equal(engine_driver_run(driver, "kv.set", &params)->code, KT_OK);
    }
    for (uint8_t i = 0; i < KT_COUNT(names); i++) {
        struct kt_kv_params params = params_of(names[i], TEXT("k"));

        value[1] = i;
        assert_int_equal(engine_driver_run(driver, "kv.get", &params)->code, KT_OK);
        expect_body(driver, kt_slice(value, sizeof(value)));
        assert_int_equal(list_keys(driver, names[i]), KT_OK);
        expect_body(driver, BYTES("\x0d\x0c\0\x01\0\0\0\x06\x0c\0\0\0\x01k"));
    }
}

static void set__of_an_invalid_value__is_refused_before_the_log(void **state)
{
    struct engine_driver *driver = *state;

    assert_int_equal(put(driver, TEXT("a"), kt_slice(NULL, 0)), KT_BAD_REQUEST);
    assert_string_equal(driver->reply.text, "invalid value encoding: payload too short");
    assert_int_equal(put(driver, TEXT("a"), BYTES("\x0f")), KT_BAD_REQUEST);
    assert_string_equal(driver->reply.text, "invalid value encoding: invalid type");
    assert_int_equal(put(driver, TEXT("a"), BYTES("\0\0")), KT_BAD_REQUEST);
    assert_int_equal(driver->op.len, 0);
    assert_int_equal(kt_state_applied(driver->state).index, 0);
}

static void set__of_a_missing_parameter__names_it(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_kv_params params = params_of("kv_test", TEXT("k"));

    assert_int_equal(engine_driver_run(driver, "kv.set", &params)->code, KT_BAD_REQUEST);
    assert_string_equal(driver->reply.text, "missing field 'value'");
    params.given = KT_KV_GIVEN_SET;
    params.value = BYTES("\0");
    assert_int_equal(engine_driver_run(driver, "kv.set_ttl", &params)->code, KT_BAD_REQUEST);
    assert_string_equal(driver->reply.text, "missing field 'expires_at_ns'");
}

static void set__of_a_sloppy_value__stores_the_canonical_one(void **state)
{
    struct engine_driver *driver = *state;

    assert_int_equal(put(driver, TEXT("a"), BYTES("\x01\xff")), KT_OK);
    expect_get(driver, TEXT("a"), BYTES("\x01\0"));
    /* A map with one key twice and payload length too small by one. */
    assert_int_equal(put(driver, TEXT("a"),
                         BYTES("\x0e\x02\0\x02\0\0\0\x0f"
                               "\x0c\0\0\0\x01k\x02\x07"
                               "\x0c\0\0\0\x01k\x02\x08")),
                     KT_OK);
    expect_get(driver, TEXT("a"), BYTES("\x0e\x02\0\x01\0\0\0\x08\x0c\0\0\0\x01k\x02\x08"));
}

static void set_ttl__not_in_the_future__leaves_the_entry_alone(void **state)
{
    struct engine_driver *driver = *state;
    int64_t now_ns = (int64_t)driver->now_ms * NS_PER_MS;
    const int64_t past[] = {INT64_MIN, -1, 0, 1, now_ns - 1, now_ns};

    assert_int_equal(put_ttl(driver, TEXT("a"), BYTES("\x02\x01"), now_ns + NS_PER_MS), KT_OK);
    for (size_t i = 0; i < KT_COUNT(past); i++) {
        assert_int_equal(put_ttl(driver, TEXT("a"), BYTES("\x02\x02"), past[i]), KT_BAD_REQUEST);
        assert_string_equal(driver->reply.text, "invalid TTL: expiresAt must be a future timestamp in nanoseconds");
    }
    expect_get(driver, TEXT("a"), BYTES("\x02\x01"));
    expect_rows(driver, 1, 1);
    assert_int_equal(put_ttl(driver, TEXT("a"), BYTES("\x02\x02"), now_ns + 1), KT_OK);
    assert_int_equal(put_ttl(driver, TEXT("b"), BYTES("\x02\x02"), INT64_MAX), KT_OK);
    expect_rows(driver, 2, 2);
}

static void entry__at_its_expiry__is_gone_for_every_command(void **state)
{
    struct engine_driver *driver = *state;

    assert_int_equal(put_ttl(driver, TEXT("a"), BYTES("\0"), (int64_t)(driver->now_ms + 500) * NS_PER_MS), KT_OK);
    driver->now_ms += 499;
    expect_get(driver, TEXT("a"), BYTES("\0"));
    assert_int_equal(list_keys(driver, "kv_test"), KT_OK);
    expect_body(driver, BYTES("\x0d\x0c\0\x01\0\0\0\x06\x0c\0\0\0\x01"
                              "a"));
    driver->now_ms += 1;
    assert_int_equal(on_key(driver, "kv.get", TEXT("a")), KT_NOT_FOUND);
    assert_int_equal(on_key(driver, "kv.exists", TEXT("a")), KT_NOT_FOUND);
    assert_int_equal(list_keys(driver, "kv_test"), KT_OK);
    expect_body(driver, BYTES("\x0d\0\0\0\0\0\0\0"));
    expect_rows(driver, 1, 1); /* its bytes are still there */
    assert_int_equal(on_key(driver, "kv.delete", TEXT("a")), KT_OK);
    expect_rows(driver, 0, 0);
}

static void set__of_a_key_with_expiry__removes_the_expiry(void **state)
{
    struct engine_driver *driver = *state;
    int64_t soon_ns = (int64_t)(driver->now_ms + 10) * NS_PER_MS;

    assert_int_equal(put_ttl(driver, TEXT("a"), BYTES("\x02\x01"), soon_ns), KT_OK);
    assert_int_equal(put(driver, TEXT("a"), BYTES("\x02\x02")), KT_OK);
    expect_rows(driver, 1, 0);
    driver->now_ms += 1000;
    assert_false(engine_driver_tick(driver));
    expect_get(driver, TEXT("a"), BYTES("\x02\x02"));
    /* And the other way, also over what has expired. */
    assert_int_equal(put_ttl(driver, TEXT("a"), BYTES("\x02\x03"), (int64_t)(driver->now_ms + 10) * NS_PER_MS), KT_OK);
    assert_int_equal(put_ttl(driver, TEXT("a"), BYTES("\x02\x04"), (int64_t)(driver->now_ms + 20) * NS_PER_MS), KT_OK);
    expect_rows(driver, 1, 1);
    driver->now_ms += 100;
    assert_int_equal(on_key(driver, "kv.get", TEXT("a")), KT_NOT_FOUND);
    assert_int_equal(put(driver, TEXT("a"), BYTES("\x02\x05")), KT_OK);
    expect_get(driver, TEXT("a"), BYTES("\x02\x05"));
    expect_rows(driver, 1, 0);
}

static void tick__with_expired_entries__removes_them_a_bounded_number_at_a_time(void **state)
{
    struct engine_driver *driver = *state;
    char key[32];

    for (unsigned i = 0; i < KT_KV_EXPIRE_MAX + 10; i++) {
        snprintf(key, sizeof(key), "key%u", i);
        assert_int_equal(put_ttl(driver, TEXT(key), BYTES("\0"), (int64_t)(driver->now_ms + 1 + i) * NS_PER_MS), KT_OK);
    }
    assert_int_equal(put(driver, TEXT("stays"), BYTES("\0")), KT_OK);
    assert_int_equal(put_ttl(driver, TEXT("later"), BYTES("\0"), (int64_t)(driver->now_ms + 1000000) * NS_PER_MS),
                     KT_OK);
    assert_false(engine_driver_tick(driver));
    driver->now_ms += 10000;
    assert_true(engine_driver_tick(driver));
    expect_rows(driver, 12, 11);
    assert_true(engine_driver_tick(driver));
    expect_rows(driver, 2, 1);
    assert_false(engine_driver_tick(driver));
    assert_int_equal(on_key(driver, "kv.get", TEXT("stays")), KT_OK);
    assert_int_equal(on_key(driver, "kv.get", TEXT("later")), KT_OK);
}

static void writes_with_expiry__after_others_expired__take_them_away(void **state)
{
    struct engine_driver *driver = *state;
    char key[32];

    for (unsigned i = 0; i < 10; i++) {
        snprintf(key, sizeof(key), "key%u", i);
        assert_int_equal(put_ttl(driver, TEXT(key), BYTES("\0"), (int64_t)(driver->now_ms + 100) * NS_PER_MS), KT_OK);
    }
    driver->now_ms += 100;
    assert_int_equal(put(driver, TEXT("plain"), BYTES("\0")), KT_OK);
    expect_rows(driver, 11, 10);
    for (unsigned i = 0; i < 5; i++) {
        expect_rows(driver, 11 - i, 10 - i);
        snprintf(key, sizeof(key), "new%u", i);
        assert_int_equal(put_ttl(driver, TEXT(key), BYTES("\0"), (int64_t)(driver->now_ms + 100) * NS_PER_MS), KT_OK);
    }
    assert_int_equal(put_ttl(driver, TEXT("more"), BYTES("\0"), (int64_t)(driver->now_ms + 100) * NS_PER_MS), KT_OK);
    expect_rows(driver, 7, 6); /* none of the living went */
}

static void expire__with_a_cutoff_ahead_of_the_entries_time__keeps_what_is_alive(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_kv_expire body = {.given = 1, .cutoff_ms = driver->now_ms + 1000000};
    struct kt_error error;

    assert_int_equal(put_ttl(driver, TEXT("a"), BYTES("\0"), (int64_t)(driver->now_ms + 500) * NS_PER_MS), KT_OK);
    kt_buf_clear(&driver->op);
    kt_op_begin(&driver->op, KT_KV_OP_EXPIRE);
    kt_struct_encode(&kt_kv_expire_body, &body, &driver->op);
    kt_op_stamp_time(driver->op.data, driver->now_ms + 499);
    assert_int_equal(engine_driver_apply(driver, kt_buf_slice(&driver->op), &error), KT_OK);
    expect_rows(driver, 1, 1);
    kt_op_stamp_time(driver->op.data, driver->now_ms + 500);
    assert_int_equal(engine_driver_apply(driver, kt_buf_slice(&driver->op), &error), KT_OK);
    expect_rows(driver, 0, 0);
}

static void keys__of_many__are_one_list(void **state)
{
    struct engine_driver *driver = *state;
    uint8_t *long_key = kt_zalloc(600);

    memset(long_key, 'z', 600);
    assert_int_equal(put(driver, kt_slice(long_key, 600), BYTES("\0")), KT_OK);
    assert_int_equal(put(driver, TEXT("b"), BYTES("\0")), KT_OK);
    assert_int_equal(put(driver, TEXT(""), BYTES("\0")), KT_OK);
    assert_int_equal(put(driver, TEXT("a"), BYTES("\0")), KT_OK);
    assert_int_equal(list_keys(driver, "kv_test"), KT_OK);
    assert_int_equal(driver->reply.body.len, 8 + 5 + 6 + 6 + 605);
    assert_memory_equal(driver->reply.body.data,
                        "\x0d\x0c\0\x04\0\0\x02\x6e\x0c\0\0\0\0\x0c\0\0\0\x01"
                        "a\x0c\0\0\0\x01"
                        "b\x0c\0\0\x02\x58zzz",
                        8 + 5 + 6 + 6 + 5 + 3);
    kt_free(long_key);
}

static void keys__past_what_a_frame_holds__are_too_large(void **state)
{
    struct engine_driver *driver = *state;
    uint8_t *key = kt_zalloc(65535);

    for (uint32_t i = 0; i < 256; i++) {
        kt_put_be32(key, i);
        assert_int_equal(put(driver, kt_slice(key, 65535), BYTES("\0")), KT_OK);
    }
    assert_int_equal(list_keys(driver, "kv_test"), KT_TOO_LARGE);
    assert_string_equal(driver->reply.text, "response too large");
    assert_int_equal(driver->reply.body.len, 0);
    assert_int_equal(on_key(driver, "kv.delete", kt_slice(key, 65535)), KT_OK);
    assert_int_equal(list_keys(driver, "kv_test"), KT_OK);
    assert_int_equal(driver->reply.body.len, 8 + 255 * (5 + 65535));
    kt_free(key);
}

static void keys__past_a_16_bit_count__are_too_large(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_kv_params body = params_of("kv_test", kt_slice(NULL, 0));
    kt_index index = kt_state_applied(driver->state).index;
    struct kt_error error;
    uint8_t key[4];

    body.given = KT_KV_GIVEN_SET;
    body.value = BYTES("\0");
    body.key = kt_slice(key, sizeof(key));
    for (uint32_t i = 0; i <= KT_KV_KEYS_MAX; i++) {
        kt_put_be32(key, i);
        kt_buf_clear(&driver->op);
        kt_op_begin(&driver->op, KT_KV_OP_PUT);
        kt_struct_encode(&kt_kv_put_body, &body, &driver->op);
        assert_int_equal(kt_state_apply(driver->state, ++index, 1, kt_buf_slice(&driver->op), NULL, &error), KT_OK);
    }
    assert_int_equal(kt_state_commit(driver->state), KT_OK);
    assert_int_equal(list_keys(driver, "kv_test"), KT_TOO_LARGE);
    assert_int_equal(on_key(driver, "kv.delete", kt_slice("\0\0\0\0", 4)), KT_OK);
    assert_int_equal(list_keys(driver, "kv_test"), KT_OK);
    assert_memory_equal(driver->reply.body.data, "\x0d\x0c\xff\xff", 4);
}

static void apply__of_what_prepare_would_refuse__stops_the_state(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_kv_params body = params_of("kv_test", TEXT("k"));
    struct kt_error error;

    body.given = KT_KV_GIVEN_SET;
    body.value = BYTES("\x0f");
    kt_op_begin(&driver->op, KT_KV_OP_PUT);
    kt_struct_encode(&kt_kv_put_body, &body, &driver->op);
    assert_int_equal(engine_driver_apply(driver, kt_buf_slice(&driver->op), &error), KT_CORRUPT);
    assert_non_null(strstr(error.text, "kv.put at index 1"));
}

static void stats__of_the_engine__are_members_of_an_open_object(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_reply out;
    struct kt_txn *txn;

    assert_int_equal(put(driver, TEXT("a"), BYTES("\0")), KT_OK);
    kt_reply_init(&out);
    kt_buf_append_text(&out.body, "{");
    assert_int_equal(kt_txn_begin_read(kt_state_store(driver->state), &txn), KT_OK);
    assert_int_equal(kt_kv_engine.stats(kt_state_engine(driver->state, 0), txn, &out), KT_OK);
    assert_int_equal(kt_kv_engine.stats(kt_state_engine(driver->state, 0), txn, &out), KT_OK);
    kt_txn_abort(txn);
    assert_true(
        kt_slice_is(kt_buf_slice(&out.body), "{\"kv_entries\":1,\"kv_expiring\":0,\"kv_entries\":1,\"kv_expiring\":0"));
    kt_reply_release(&out);
}

static void describe__of_a_put__names_what_it_does(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_buf out;

    kt_buf_init(&out, 4096);
    assert_int_equal(put(driver, TEXT("a\"\x01"), BYTES("\x02\x07")), KT_OK);
    kt_op_describe(kt_buf_slice(&driver->op), &out);
    assert_true(kt_slice_is(kt_buf_slice(&out), "kv.put database=\"system\" collection=\"kv_test\" "
                                                "key=\"a\\\"\\x01\" value=\"\\x02\\x07\""));
    kt_buf_release(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(get__of_a_set_key__returns_the_value),
        TEST(keys__binary_and_empty_and_of_any_length__are_apart),
        TEST(delete__of_a_missing_key__is_fine),
        TEST(collections__unknown_or_of_another_engine__are_refused),
        TEST(collections__with_equal_keys__do_not_mix),
        TEST(set__of_an_invalid_value__is_refused_before_the_log),
        TEST(set__of_a_missing_parameter__names_it),
        TEST(set__of_a_sloppy_value__stores_the_canonical_one),
        TEST(set_ttl__not_in_the_future__leaves_the_entry_alone),
        TEST(entry__at_its_expiry__is_gone_for_every_command),
        TEST(set__of_a_key_with_expiry__removes_the_expiry),
        TEST(tick__with_expired_entries__removes_them_a_bounded_number_at_a_time),
        TEST(writes_with_expiry__after_others_expired__take_them_away),
        TEST(expire__with_a_cutoff_ahead_of_the_entries_time__keeps_what_is_alive),
        TEST(keys__of_many__are_one_list),
        TEST(keys__past_what_a_frame_holds__are_too_large),
        TEST(keys__past_a_16_bit_count__are_too_large),
        TEST(apply__of_what_prepare_would_refuse__stops_the_state),
        TEST(stats__of_the_engine__are_members_of_an_open_object),
        TEST(describe__of_a_put__names_what_it_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
