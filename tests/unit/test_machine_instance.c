#include "base/random.h"
#include "support/machine_expect.h"

static void create__without_context__empty_object(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"a\"}");
    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"b\",\"initial_ctx\":null}");
    expect_ok(driver, "machine.get_instance", "{\"instance_id\":\"a\"}",
              "{\"created_at\":1000000,\"ctx\":{},\"instance_id\":\"a\",\"last_wal_offset\":2,\"machine\":\"door\","
              "\"state\":\"shut\",\"updated_at\":1000000,\"version\":1}");
    expect_ok(driver, "machine.get_instance", "{\"instance_id\":\"b\"}",
              "{\"created_at\":1000000,\"ctx\":{},\"instance_id\":\"b\",\"last_wal_offset\":3,\"machine\":\"door\","
              "\"state\":\"shut\",\"updated_at\":1000000,\"version\":1}");
}

static void create__bad_parameters__refused(void **state)
{
    struct engine_driver *driver = *state;
    static const struct {
        const char *params, *words;
    } rows[] = {
        {"{\"version\":1}", "missing field 'machine'"},
        {"{\"machine\":\"door\"}", "missing field 'version'"},
        {"{\"machine\":\"\",\"version\":1}", "field 'machine' must not be empty"},
        {"{\"machine\":\"door\",\"version\":\"1\"}", "field 'version' must be a non-negative integer"},
        {"{\"machine\":\"door\",\"version\":1,\"instance_id\":\"\"}", "field 'instance_id' must not be empty"},
        {"{\"machine\":\"door\",\"version\":1,\"instance_id\":5}", "field 'instance_id' must be a string"},
        {"{\"machine\":\"door\",\"version\":1,\"initial_ctx\":[]}", "field 'initial_ctx' must be an object"},
        {"{\"machine\":\"door\",\"version\":1,\"initial_ctx\":\"{}\"}", "field 'initial_ctx' must be an object"},
        {"{\"machine\":\"door\",\"version\":1,\"idempotency_key\":1}", "field 'idempotency_key' must be a string"},
    };

    put_door(driver);
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        expect_fail(driver, "machine.create_instance", rows[i].params, KT_BAD_REQUEST, rows[i].words, "");
    assert_int_equal(last_index(driver), 1);
}

static void create__unknown_machine__not_found(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    expect_fail(driver, "machine.create_instance", "{\"machine\":\"window\",\"version\":1}", KT_MACHINE_NOT_FOUND,
                "machine not found: 'window' version 1", "{\"machine\":\"window\",\"version\":1}");
    expect_fail(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":2}", KT_MACHINE_NOT_FOUND,
                "machine not found: 'door' version 2", "{\"machine\":\"door\",\"version\":2}");
}

/* The id is looked at before the machine. */
static void create__id_in_use__exists(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\"}");
    expect_fail(driver, "machine.create_instance", "{\"machine\":\"window\",\"version\":1,\"instance_id\":\"d\"}",
                KT_INSTANCE_EXISTS, "instance already exists: 'd'", "{\"instance_id\":\"d\"}");
}

static void create__without_id__random_uuids(void **state)
{
    struct engine_driver *driver = *state;
    char first[256], params[256];
    const char *id;

    put_door(driver);
    for (unsigned round = 0; round < 2; round++) {
        run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":null}");
        assert_int_equal(driver->reply.body.len,
                         strlen("{\"instance_id\":\"\",\"state\":\"shut\",\"wal_offset\":2}") + 36);
        id = (const char *)driver->reply.body.data + strlen("{\"instance_id\":\"");
        for (unsigned i = 0; i < 36; i++) {
            if (i == 8 || i == 13 || i == 18 || i == 23)
                assert_int_equal(id[i], '-');
            else
                assert_true((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'f'));
        }
        assert_int_equal(id[14], '4');
        if (round == 0)
            memcpy(first, id, 36);
        else
            assert_memory_not_equal(first, id, 36);
    }
    snprintf(params, sizeof(params), "{\"instance_id\":\"%.36s\"}", first);
    run_ok(driver, "machine.get_instance", params);
}

static void get__unknown__not_found(void **state)
{
    struct engine_driver *driver = *state;

    expect_fail(driver, "machine.get_instance", "{\"instance_id\":\"nobody\"}", KT_INSTANCE_NOT_FOUND,
                "instance not found: 'nobody'", "{\"instance_id\":\"nobody\"}");
    expect_fail(driver, "machine.get_instance", "{}", KT_BAD_REQUEST, "missing field 'instance_id'", "");
}

static void delete__twice__first_offset(void **state)
{
    struct engine_driver *driver = *state;
    uint64_t hash;

    put_door(driver);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\"}");
    expect_ok(driver, "machine.delete_instance", "{\"instance_id\":\"d\"}",
              "{\"deleted\":true,\"instance_id\":\"d\",\"wal_offset\":3}");
    assert_int_equal(driver->reply.offset, 3);
    hash = kt_state_applied(driver->state).hash;
    expect_ok(driver, "machine.delete_instance", "{\"instance_id\":\"d\"}",
              "{\"deleted\":true,\"instance_id\":\"d\",\"wal_offset\":3}");
    assert_int_equal(driver->reply.offset, 3);
    assert_true(kt_state_applied(driver->state).hash == hash);
    expect_fail(driver, "machine.delete_instance", "{\"instance_id\":\"e\"}", KT_INSTANCE_NOT_FOUND,
                "instance not found: 'e'", "{\"instance_id\":\"e\"}");
}

static void delete__instance__hidden_everywhere(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\"}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"d\"}");
    expect_fail(driver, "machine.get_instance", "{\"instance_id\":\"d\"}", KT_INSTANCE_NOT_FOUND,
                "instance not found: 'd'", "{\"instance_id\":\"d\"}");
    expect_fail(driver, "machine.apply_event", "{\"instance_id\":\"d\",\"event\":\"OPEN\"}", KT_INSTANCE_NOT_FOUND,
                "instance not found: 'd'", "{\"instance_id\":\"d\"}");
    expect_ok(driver, "machine.list_instances", "{}", "{\"has_more\":false,\"instances\":[],\"total\":0}");
    expect_ok(driver, "machine.list_instances", "{\"machine\":\"door\"}",
              "{\"has_more\":false,\"instances\":[],\"total\":0}");
    expect_ok(driver, "machine.list_instances", "{\"state\":\"shut\"}",
              "{\"has_more\":false,\"instances\":[],\"total\":0}");
}

static void create__deleted_id__an_entirely_new_instance(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    put_machine(driver, "lamp", 7, "{\"states\":[\"off\"],\"initial\":\"off\",\"transitions\":[]}");
    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\",\"initial_ctx\":{\"key\":1}}");
    run_ok(driver, "machine.apply_event", "{\"instance_id\":\"d\",\"event\":\"OPEN\",\"event_id\":\"x\"}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"d\"}");
    driver->now_ms = 1000777;
    expect_ok(driver, "machine.create_instance", "{\"machine\":\"lamp\",\"version\":7,\"instance_id\":\"d\"}",
              "{\"instance_id\":\"d\",\"state\":\"off\",\"wal_offset\":#}");
    expect_ok(driver, "machine.get_instance", "{\"instance_id\":\"d\"}",
              "{\"created_at\":1000777,\"ctx\":{},\"instance_id\":\"d\",\"last_wal_offset\":#,\"machine\":\"lamp\","
              "\"state\":\"off\",\"updated_at\":1000777,\"version\":7}");
    /* Its deletion is its own too. */
    expect_ok(driver, "machine.delete_instance", "{\"instance_id\":\"d\"}",
              "{\"deleted\":true,\"instance_id\":\"d\",\"wal_offset\":#}");
}

static void create__deleted_id_where_that_is_off__exists(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_error error;
    struct kt_buf op;

    put_door(driver);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\"}");
    run_ok(driver, "machine.delete_instance", "{\"instance_id\":\"d\"}");
    engine_driver_close(driver);
    driver->options.engines.instance_recreate = false;
    engine_driver_open(driver);
    expect_fail(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\"}",
                KT_INSTANCE_EXISTS, "instance already exists: 'd'", "{\"instance_id\":\"d\"}");
    /* The proposer's setting counts, not that of the node which applies. */
    kt_buf_init(&op, 1u << 20);
    kt_buf_append_slice(&op, kt_buf_slice(&driver->op));
    engine_driver_close(driver);
    driver->options.engines.instance_recreate = true;
    engine_driver_open(driver);
    assert_int_equal(engine_driver_apply(driver, kt_buf_slice(&op), &error), KT_OK);
    assert_int_equal(driver->reply.code, KT_INSTANCE_EXISTS);
    run_ok(driver, "machine.create_instance", "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\"}");
    kt_buf_release(&op);
}

/* Ids around the length from which only their hash is a key, and one that has the look of a hashed one. */
static void ids__of_every_length__stored_apart(void **state)
{
    struct engine_driver *driver = *state;
    static const int lengths[] = {1, 17, 255, 509, 510, 511, 512, 1023, 1024};
    char params[1200], total[64];

    put_door(driver);
    for (size_t i = 0; i < KT_COUNT(lengths); i++) {
        snprintf(params, sizeof(params), "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"%0*d\"}", lengths[i],
                 7);
        run_ok(driver, "machine.create_instance", params);
        assert_int_equal(engine_driver_json(driver, "machine.create_instance", params)->code, KT_INSTANCE_EXISTS);
        snprintf(params, sizeof(params), "{\"instance_id\":\"%0*d\"}", lengths[i], 7);
        run_ok(driver, "machine.get_instance", params);
        snprintf(total, sizeof(total), "{\"has_more\":true,\"instances\":[],\"total\":%zu}", i + 1);
        expect_ok(driver, "machine.list_instances", "{\"limit\":0}", total);
    }
}

static void long_id__whole_life__as_any(void **state)
{
    struct engine_driver *driver = *state;
    char params[2200], body[2400], id[1025];

    memset(id, 'x', 1024);
    id[1024] = '\0';
    put_door(driver);
    for (unsigned i = 0; i < 3; i++) {
        id[1023] = (char)('0' + i);
        snprintf(params, sizeof(params), "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"%s\"}", id);
        snprintf(body, sizeof(body), "{\"instance_id\":\"%s\",\"state\":\"shut\",\"wal_offset\":#}", id);
        expect_ok(driver, "machine.create_instance", params, body);
        assert_int_equal(engine_driver_json(driver, "machine.create_instance", params)->code, KT_INSTANCE_EXISTS);
    }
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\",\"event\":\"CLOSE\"}", id);
    assert_int_equal(engine_driver_json(driver, "machine.apply_event", params)->code, KT_INVALID_TRANSITION);
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    run_ok(driver, "machine.delete_instance", params);
    assert_int_equal(engine_driver_json(driver, "machine.get_instance", params)->code, KT_INSTANCE_NOT_FOUND);
    id[1023] = '0';
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    run_ok(driver, "machine.get_instance", params);
    snprintf(params, sizeof(params), "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"%s1\"}", id);
    expect_fail(driver, "machine.create_instance", params, KT_BAD_REQUEST,
                "field 'instance_id' is 1025 bytes, the limit is 1024", "");
}

/* Creates an instance with an id of 600 characters and copies its key and record out of the store. */
static size_t create_long(struct engine_driver *driver, char digit, uint8_t key[18], uint8_t record[2048])
{
    struct kt_store *store = kt_state_store(driver->state);
    struct kt_slice found, value;
    struct kt_cursor *cursor;
    struct kt_txn *txn;
    kt_space instances;
    char params[900], id[601];
    size_t len = 0;
    enum kt_code code;

    memset(id, digit, 600);
    id[600] = '\0';
    snprintf(params, sizeof(params),
             "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"%s\",\"initial_ctx\":{\"who\":\"%c\"}}", id, digit);
    run_ok(driver, "machine.create_instance", params);
    assert_int_equal(kt_store_space(store, "machine.instance", &instances, NULL), KT_OK);
    assert_int_equal(kt_txn_begin_read(store, &txn), KT_OK);
    assert_int_equal(kt_cursor_open(txn, instances, &cursor), KT_OK);
    for (code = kt_cursor_seek(cursor, kt_slice("", 0), &found, &value); code == KT_OK;
         code = kt_cursor_next(cursor, &found, &value)) {
        if (!memmem(value.data, value.len, id, 600))
            continue;
        assert_int_equal(found.len, 18);
        assert_true(value.len <= 2048);
        memcpy(key, found.data, 18);
        memcpy(record, value.data, value.len);
        len = value.len;
    }
    assert_true(len > 0);
    kt_cursor_close(cursor);
    kt_txn_abort(txn);
    return len;
}

/* Long ids that share a hash, made by moving a record behind another one's by hand. */
static void ids__sharing_a_hash__told_apart(void **state)
{
    struct engine_driver *driver = *state;
    uint8_t key_a[18], key_b[18], record_a[2048], record_b[2048];
    size_t len_a, len_b;
    char params[900], id[601];
    struct kt_txn *txn;
    kt_space instances;

    put_door(driver);
    len_a = create_long(driver, 'a', key_a, record_a);
    len_b = create_long(driver, 'b', key_b, record_b);
    assert_memory_not_equal(key_a, key_b, 17);
    assert_int_equal(kt_store_space(kt_state_store(driver->state), "machine.instance", &instances, NULL), KT_OK);
    assert_int_equal(kt_txn_begin_write(kt_state_store(driver->state), &txn), KT_OK);
    assert_int_equal(kt_txn_put(txn, instances, kt_slice(key_b, 18), kt_slice(record_a, len_a)), KT_OK);
    key_b[17]++;
    assert_int_equal(kt_txn_put(txn, instances, kt_slice(key_b, 18), kt_slice(record_b, len_b)), KT_OK);
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    memset(id, 'b', 600);
    id[600] = '\0';
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    run_ok(driver, "machine.get_instance", params);
    kt_buf_append_u8(&driver->reply.body, '\0');
    assert_non_null(strstr((char *)driver->reply.body.data, "\"ctx\":{\"who\":\"b\"}"));
    /* What is written goes back to its own place. */
    run_ok(driver, "machine.delete_instance", params);
    assert_int_equal(engine_driver_json(driver, "machine.get_instance", params)->code, KT_INSTANCE_NOT_FOUND);
    memset(id, 'a', 600);
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    run_ok(driver, "machine.get_instance", params);
    /* Every place taken: one more is refused, and looking it up finds nothing. */
    assert_int_equal(kt_txn_begin_write(kt_state_store(driver->state), &txn), KT_OK);
    for (unsigned probe = 0; probe < 256; probe++) {
        key_b[17] = (uint8_t)probe;
        assert_int_equal(kt_txn_put(txn, instances, kt_slice(key_b, 18), kt_slice(record_a, len_a)), KT_OK);
    }
    assert_int_equal(kt_txn_commit(txn), KT_OK);
    memset(id, 'b', 600);
    snprintf(params, sizeof(params), "{\"instance_id\":\"%s\"}", id);
    assert_int_equal(engine_driver_json(driver, "machine.get_instance", params)->code, KT_INSTANCE_NOT_FOUND);
    snprintf(params, sizeof(params), "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"%s\"}", id);
    expect_fail(driver, "machine.create_instance", params, KT_TOO_LARGE, "too many instance ids share one hash", "");
}

static void ids__any_characters__kept(void **state)
{
    struct engine_driver *driver = *state;

    put_door(driver);
    expect_ok(driver, "machine.create_instance",
              "{\"machine\":\"door\",\"version\":1,\"instance_id\":\" \\u0000\\n\\\"/日\\ud83d\\ude80\"}",
              "{\"instance_id\":\" \\u0000\\n\\\"/日🚀\",\"state\":\"shut\",\"wal_offset\":#}");
    expect_ok(driver, "machine.list_instances", "{}",
              "{\"has_more\":false,\"instances\":[{\"created_at\":1000000,\"id\":\" \\u0000\\n\\\"/日🚀\","
              "\"last_wal_offset\":#,\"machine\":\"door\",\"state\":\"shut\",\"updated_at\":1000000,\"version\":1}],"
              "\"total\":1}");
}

/*
 * Operations as the log might hold them after damage that no checksum caught, or from a hand that is not prepare:
 * fields missing, too long, of no sense. Each is answered or stops the state with words; nothing else happens.
 */
static void apply__operations_that_prepare_never_writes__clean_errors(void **state)
{
    struct engine_driver *driver = *state;
    static const uint16_t codes[] = {KT_OP_CODE(2, 1), KT_OP_CODE(2, 2), KT_OP_CODE(2, 3), KT_OP_CODE(2, 4),
                                     KT_OP_CODE(2, 5)};
    static const char *const pieces[] = {
        "",     "door", "{}",      "{\"a\":1}",    "{\"",
        "[1,2", "null", "d",       "ctx",          "{\"a\":{\"b\":",
        DOOR,   "OPEN", "\"\\u00", "{\"key\":tru", "{\"states\":[\"x\"],\"initial\":\"x\",\"transitions\":[]}",
    };
    struct kt_random random;
    unsigned results = 0, stops = 0;

    put_door(driver);
    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"d\",\"initial_ctx\":{\"key\":1}}");
    kt_random_seed(&random, 42);
    for (unsigned round = 0; round < 4000; round++) {
        const struct kt_op_kind *kind = kt_op_kind(codes[kt_random_below(&random, KT_COUNT(codes))], NULL);
        uint8_t *body = kt_arena_zalloc(&driver->arena, kind->body.size);
        struct kt_error error;
        struct kt_buf op;
        uint64_t given = kt_random_below(&random, 4) ? UINT64_MAX : kt_random_next(&random);

        given &= (UINT64_C(1) << kind->body.count) - 1;
        memcpy(body, &given, sizeof(given));
        for (size_t i = 0; i < kind->body.count; i++) {
            const struct kt_field *field = &kind->body.fields[i];
            const char *piece = pieces[kt_random_below(&random, KT_COUNT(pieces))];
            uint64_t number = kt_random_below(&random, 3) ? 1 : kt_random_next(&random);
            struct kt_slice text = kt_slice_text(piece);
            bool flag = number & 1;

            if (field->type == KT_FIELD_U64)
                memcpy(body + field->offset, &number, sizeof(number));
            else if (field->type == KT_FIELD_BOOL)
                memcpy(body + field->offset, &flag, sizeof(flag));
            else
                memcpy(body + field->offset, &text, sizeof(text));
        }
        kt_buf_init(&op, 1u << 20);
        kt_op_begin(&op, kind->code);
        kt_struct_encode(&kind->body, body, &op);
        kt_op_stamp_time(op.data, driver->now_ms);
        if (engine_driver_apply(driver, kt_buf_slice(&op), &error) == KT_OK)
            results++;
        else
            stops += strstr(error.text, "damaged") != NULL;
        kt_buf_release(&op);
        kt_arena_release(&driver->arena);
        (void)engine_driver_json(driver, "machine.list_instances", "{\"state\":\"shut\"}");
    }
    assert_true(results > 3000);
    assert_int_equal(results + stops, 4000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(create__without_context__empty_object),
        TEST(create__bad_parameters__refused),
        TEST(create__unknown_machine__not_found),
        TEST(create__id_in_use__exists),
        TEST(create__without_id__random_uuids),
        TEST(get__unknown__not_found),
        TEST(delete__twice__first_offset),
        TEST(delete__instance__hidden_everywhere),
        TEST(create__deleted_id__an_entirely_new_instance),
        TEST(create__deleted_id_where_that_is_off__exists),
        TEST(ids__of_every_length__stored_apart),
        TEST(long_id__whole_life__as_any),
        TEST(ids__sharing_a_hash__told_apart),
        TEST(ids__any_characters__kept),
        TEST(apply__operations_that_prepare_never_writes__clean_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
