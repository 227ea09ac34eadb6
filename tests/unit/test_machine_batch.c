#include <stdlib.h>

#include "support/machine_expect.h"

#define BATCH "machine.batch"

/* An item of a batch, and what it answers. */
#define CREATE(id)                                                                                                     \
    "{\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"door\",\"version\":1,\"instance_id\":\"" id "\"}}"
#define EVENT(id, event) "{\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"" id "\",\"event\":\"" event "\"}}"
#define OK(result)       "{\"error\":null,\"result\":" result ",\"status\":\"ok\"}"
#define CREATED(id)      OK("{\"instance_id\":\"" id "\",\"state\":\"shut\",\"wal_offset\":#}")
#define FAILED(code, details, message)                                                                                 \
    "{\"error\":{\"code\":\"" code "\",\"details\":" details ",\"message\":\"" message                                 \
    "\",\"retryable\":false},\"result\":null,\"status\":\"error\"}"
#define OPEN_REFUSED                                                                                                   \
    FAILED("GUARD_FAILED", "{\"guard\":\"ctx.key\"}", "guard failed for transition 'shut' -> 'open' on event 'OPEN'")

static int door_setup(void **state)
{
    machine_setup(state);
    put_door(*state);
    return 0;
}

static void batch__best_effort__each_for_itself(void **state)
{
    expect_ok(*state, BATCH, "{\"ops\":[" CREATE("a") "," EVENT("a", "OPEN") "," CREATE("a") "," CREATE("b") "]}",
              "{\"results\":[" CREATED("a") "," OPEN_REFUSED "," FAILED(
                  "INSTANCE_EXISTS", "{\"instance_id\":\"a\"}",
                  "instance already exists: 'a'") "," CREATED("b") "],\"wal_offset\":#}");
    run_ok(*state, "machine.get_instance", "{\"instance_id\":\"b\"}");
}

/* Each operation sees what those before it did, queries too; one entry, one offset. */
static void batch__atomic__one_entry(void **state)
{
    struct engine_driver *driver = *state;
    kt_index before = last_index(driver);

    expect_ok(driver, BATCH,
              "{\"mode\":\"atomic\",\"ops\":["
              "{\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"door\",\"version\":1,\"instance_id\":\"a\","
              "\"initial_ctx\":{\"key\":1}}}," EVENT(
                  "a", "OPEN") ","
                               "{\"op\":\"GET_INSTANCE\",\"params\":{\"instance_id\":\"a\"}}," EVENT(
                                   "a", "CLOSE") ","
                                                 "{\"op\":\"DELETE_INSTANCE\",\"params\":{\"instance_id\":\"a\"}}]}",
              "{\"results\":[" CREATED("a") "," OK(
                  "{\"applied\":true,\"ctx\":{\"key\":1},\"from_state\":\"shut\",\"to_state\":\"open\","
                  "\"wal_offset\":"
                  "#}") "," OK("{\"created_at\":1000000,\"ctx\":{\"key\":1},\"instance_id\":\"a\",\"last_"
                               "wal_offset\":#,"
                               "\"machine\":\"door\",\"state\":\"open\",\"updated_at\":1000000,\"version\":"
                               "1}") "," OK("{\"applied\":true,\"ctx\":{\"key\":1},\"from_state\":\"open\","
                                            "\"to_state\":\"shut\",\"wal_offset\":"
                                            "#}") "," OK("{\"deleted\":true,\"instance_id\":\"a\",\"wal_"
                                                         "offset\":#}") "],\"wal_offset\":#}");
    assert_int_equal(last_index(driver), before + 1);
    assert_int_equal(engine_driver_json(driver, "machine.get_instance", "{\"instance_id\":\"a\"}")->code,
                     KT_INSTANCE_NOT_FOUND);
}

/* Nothing stays of a failed atomic batch: not its instances, machines or kept answers (the hash says so). */
static void batch__atomic_fails__leaves_nothing(void **state)
{
    struct engine_driver *driver = *state;

    expect_fail(
        driver, BATCH,
        "{\"mode\":\"atomic\",\"idempotency_key\":\"whole\",\"ops\":["
        "{\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"door\",\"version\":1,\"instance_id\":\"a\","
        "\"idempotency_key\":\"k\"}},"
        "{\"op\":\"PUT_MACHINE\",\"params\":{\"machine\":\"new\",\"version\":1,\"definition\":" DOOR "}},"
        "{\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"new\",\"version\":1,\"instance_id\":\"n\"}}," EVENT(
            "n", "OPEN") "]}",
        KT_BAD_REQUEST, "batch failed at operation 3: guard failed for transition 'shut' -> 'open' on event 'OPEN'",
        "{\"code\":\"GUARD_FAILED\",\"details\":{\"guard\":\"ctx.key\"},\"index\":3,\"message\":\"guard failed "
        "for transition 'shut' -> 'open' on event 'OPEN'\"}");
    assert_int_equal(engine_driver_json(driver, "machine.get", "{\"machine\":\"new\"}")->code, KT_MACHINE_NOT_FOUND);
    /* The same keys again: carried out, since nothing was kept. */
    expect_ok(driver, BATCH,
              "{\"mode\":\"atomic\",\"idempotency_key\":\"whole\",\"ops\":["
              "{\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"door\",\"version\":1,\"instance_id\":\"a\","
              "\"idempotency_key\":\"k\"}}]}",
              "{\"results\":[" CREATED("a") "],\"wal_offset\":#}");
    /* A machine that was undone may come in another shape: nothing of the first is remembered. */
    put_machine(driver, "new", 1, "{\"states\":[\"x\"],\"initial\":\"x\",\"transitions\":[]}");
    expect_ok(driver, "machine.create_instance", "{\"machine\":\"new\",\"version\":1,\"instance_id\":\"n\"}",
              "{\"instance_id\":\"n\",\"state\":\"x\",\"wal_offset\":#}");
}

static void batch__own_key_repeated__first_answer(void **state)
{
    struct engine_driver *driver = *state;
    const char *params = "{\"mode\":\"atomic\",\"idempotency_key\":\"k\",\"ops\":["
                         "{\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"door\",\"version\":1}}]}";
    char first[256];
    struct kt_slice body;
    kt_index offset;

    run_ok(driver, BATCH, params);
    offset = driver->reply.offset;
    body = kt_buf_slice(&driver->reply.body);
    assert_true(body.len < sizeof(first));
    memcpy(first, body.data, body.len);
    body.data = first;
    /* Across a restart; and another mode and other operations do not matter. */
    engine_driver_close(driver);
    engine_driver_open(driver);
    run_ok(driver, BATCH, params);
    assert_true(kt_slice_equal(kt_buf_slice(&driver->reply.body), body));
    assert_int_equal(driver->reply.offset, offset);
    run_ok(driver, BATCH, "{\"idempotency_key\":\"k\",\"ops\":[]}");
    assert_true(kt_slice_equal(kt_buf_slice(&driver->reply.body), body));
    driver->now_ms += UINT64_C(86400000);
    run_ok(driver, BATCH, "{\"idempotency_key\":\"k\",\"ops\":[]}");
    assert_true(kt_slice_is(kt_buf_slice(&driver->reply.body), "{\"results\":[],\"wal_offset\":5}"));
}

/* A key of an item is the key of the same operation alone. */
static void batch__item_keys__shared_with_single_operations(void **state)
{
    struct engine_driver *driver = *state;
    const char *create = "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"a\",\"idempotency_key\":\"k\"}";
    char batch[512];

    snprintf(batch, sizeof(batch),
             "{\"ops\":[{\"op\":\"CREATE_INSTANCE\",\"params\":%s},{\"op\":\"CREATE_INSTANCE\",\"params\":%s}]}",
             create, create);
    run_ok(driver, "machine.create_instance", create);
    expect_ok(driver, BATCH, batch,
              "{\"results\":[" OK("{\"instance_id\":\"a\",\"state\":\"shut\",\"wal_offset\":2}") "," OK(
                  "{\"instance_id\":\"a\",\"state\":\"shut\",\"wal_offset\":2}") "],\"wal_offset\":#}");
}

/* Twice in one batch: the second gets the first one's answer. */
static void batch__same_key_twice__applied_once(void **state)
{
    struct engine_driver *driver = *state;

    run_ok(driver, "machine.create_instance",
           "{\"machine\":\"door\",\"version\":1,\"instance_id\":\"a\",\"initial_ctx\":{\"key\":true}}");
    expect_ok(
        driver, BATCH,
        "{\"mode\":\"atomic\",\"ops\":["
        "{\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"a\",\"event\":\"OPEN\",\"idempotency_key\":\"k\"}},"
        "{\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":\"a\",\"event\":\"OPEN\",\"idempotency_key\":\"k\"}}"
        "]}",
        "{\"results\":[" OK(
            "{\"applied\":true,\"ctx\":{\"key\":true},\"from_state\":\"shut\",\"to_state\":"
            "\"open\",\"wal_offset\":#}") "," OK("{\"applied\":true,\"ctx\":{\"key\":true},\"from_state\":\"shut\","
                                                 "\"to_state\":\"open\",\"wal_offset\":"
                                                 "#}") "],\"wal_offset\":#}");
}

/* Parameters that prepare refuses are one item's failure where each stands for itself, and the batch's where not. */
static void batch__bad_parameters__refused_in_its_place(void **state)
{
    const char *ops = CREATE(
        "a") ",{\"op\":\"APPLY_EVENT\"},"
             "{\"op\":\"PUT_MACHINE\",\"params\":{\"machine\":\"m\",\"version\":1,\"definition\":{}}}," CREATE("b");
    char batch[1024];

    snprintf(batch, sizeof(batch), "{\"mode\":\"atomic\",\"ops\":[%s]}", ops);
    expect_fail(*state, BATCH, batch, KT_BAD_REQUEST, "batch failed at operation 1: missing field 'instance_id'",
                "{\"code\":\"BAD_REQUEST\",\"index\":1,\"message\":\"missing field 'instance_id'\"}");
    snprintf(batch, sizeof(batch), "{\"mode\":\"best_effort\",\"ops\":[%s]}", ops);
    run_ok(*state, BATCH, batch);
    run_ok(*state, "machine.get_instance", "{\"instance_id\":\"a\"}");
    run_ok(*state, "machine.get_instance", "{\"instance_id\":\"b\"}");
}

/* Wrongly built batches are refused before anything is done, in both modes. */
static void batch__wrongly_built__refused(void **state)
{
    static const struct {
        const char *ops, *text;
        unsigned index;
    } rows[] = {
        {"{\"params\":{}}", "missing field 'op'", 1},
        {"{\"op\":7}", "field 'op' must be a string", 1},
        {"[]", "an operation must be an object", 1},
        {"{\"op\":\"NO_SUCH\"}", "operation 'NO_SUCH' cannot be in a batch", 1},
        {"{\"op\":\"BATCH\",\"params\":{\"ops\":[]}}", "operation 'BATCH' cannot be in a batch", 1},
        {"{\"op\":\"HELLO\"}", "operation 'HELLO' cannot be in a batch", 1},
        {"{\"op\":\"AUTH\"}", "operation 'AUTH' cannot be in a batch", 1},
        {"{\"op\":\"BYE\"}", "operation 'BYE' cannot be in a batch", 1},
        {"{\"op\":\"WATCH_ALL\"}", "operation 'WATCH_ALL' cannot be in a batch", 1},
        {"{\"op\":\"WATCH_INSTANCE\"}", "operation 'WATCH_INSTANCE' cannot be in a batch", 1},
        {"{\"op\":\"UNWATCH\"}", "operation 'UNWATCH' cannot be in a batch", 1},
        {"{\"op\":\"COMPACT\"}", "operation 'COMPACT' cannot be in a batch", 1},
        {"{\"op\":\"FLUSH_ALL\"}", "operation 'FLUSH_ALL' cannot be in a batch", 1},
        {"{\"op\":\"create_instance\"}", "operation 'create_instance' cannot be in a batch", 1},
    };

    for (size_t i = 0; i < 2 * KT_COUNT(rows); i++) {
        char params[512], text[256], details[512];

        snprintf(params, sizeof(params), "{\"mode\":\"%s\",\"ops\":[" CREATE("a") ",%s]}",
                 i % 2 ? "atomic" : "best_effort", rows[i / 2].ops);
        snprintf(text, sizeof(text), "batch failed at operation %u: %s", rows[i / 2].index, rows[i / 2].text);
        snprintf(details, sizeof(details), "{\"code\":\"BAD_REQUEST\",\"index\":%u,\"message\":\"%s\"}",
                 rows[i / 2].index, rows[i / 2].text);
        expect_fail(*state, BATCH, params, KT_BAD_REQUEST, text, details);
    }
    expect_fail(*state, BATCH, "{}", KT_BAD_REQUEST, "missing ops array", "");
    expect_fail(*state, BATCH, "{\"operations\":[]}", KT_BAD_REQUEST, "missing ops array", "");
    expect_fail(*state, BATCH, "{\"ops\":{}}", KT_BAD_REQUEST, "field 'ops' must be an array", "");
    expect_fail(*state, BATCH, "{\"mode\":\"ATOMIC\",\"ops\":[]}", KT_BAD_REQUEST,
                "field 'mode' must be \"atomic\" or \"best_effort\"", "");
}

static const char *many(char *params, size_t size, unsigned count, const char *mode)
{
    size_t len = (size_t)snprintf(params, size, "{\"mode\":\"%s\",\"ops\":[", mode);

    for (unsigned i = 0; i < count; i++)
        len += (size_t)snprintf(params + len, size - len,
                                "%s{\"op\":\"CREATE_INSTANCE\",\"params\":{\"machine\":\"door\",\"version\":1,"
                                "\"instance_id\":\"%s-%u\"}}",
                                i ? "," : "", mode, i);
    snprintf(params + len, size - len, "]}");
    return params;
}

static void batch__sizes__hundred_and_no_more(void **state)
{
    struct engine_driver *driver = *state;
    char params[16384];

    expect_ok(driver, BATCH, "{\"ops\":[]}", "{\"results\":[],\"wal_offset\":#}");
    expect_ok(driver, BATCH, "{\"mode\":\"atomic\",\"ops\":[]}", "{\"results\":[],\"wal_offset\":#}");
    run_ok(driver, BATCH, many(params, sizeof(params), 100, "atomic"));
    run_ok(driver, BATCH, many(params, sizeof(params), 100, "best_effort"));
    expect_fail(driver, BATCH, many(params, sizeof(params), 101, "atomic"), KT_BAD_REQUEST,
                "batch size 101 exceeds limit 100", "");
    /* In the order of their creation, although all of one entry have one offset. */
    run_ok(driver, "machine.list_instances", "{\"limit\":1000}");
    kt_buf_append_u8(&driver->reply.body, '\0');
    assert_non_null(strstr((char *)driver->reply.body.data, "\"total\":200"));
    assert_true(strstr((char *)driver->reply.body.data, "\"atomic-9\"") <
                strstr((char *)driver->reply.body.data, "\"atomic-10\""));
}

static void batch__lists__bounded(void **state)
{
    static const struct {
        const char *op, *text;
    } rows[] = {
        {"{\"op\":\"LIST_MACHINES\"}", "LIST_MACHINES in a batch needs a limit"},
        {"{\"op\":\"LIST_INSTANCES\",\"params\":{\"state\":\"shut\"}}",
         "LIST_INSTANCES by state in a batch needs a machine"},
        {"{\"op\":\"LIST_INSTANCES\",\"params\":{\"offset\":901}}",
         "the lists of a batch look at more than 1000 entries"},
        {"{\"op\":\"LIST_INSTANCES\",\"params\":{\"offset\":18446744073709551615,\"limit\":0}}",
         "the lists of a batch look at more than 1000 entries"},
    };

    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        char params[256], text[256], details[256];

        snprintf(params, sizeof(params), "{\"mode\":\"atomic\",\"ops\":[%s]}", rows[i].op);
        snprintf(text, sizeof(text), "batch failed at operation 0: %s", rows[i].text);
        snprintf(details, sizeof(details), "{\"code\":\"BAD_REQUEST\",\"index\":0,\"message\":\"%s\"}", rows[i].text);
        expect_fail(*state, BATCH, params, KT_BAD_REQUEST, text, details);
    }
    expect_ok(*state, BATCH,
              "{\"mode\":\"atomic\",\"ops\":[{\"op\":\"LIST_MACHINES\",\"params\":{\"limit\":10}},"
              "{\"op\":\"GET_MACHINE\",\"params\":{\"machine\":\"door\"}},"
              "{\"op\":\"LIST_INSTANCES\",\"params\":{\"machine\":\"door\",\"state\":\"shut\",\"limit\":900,\"offset\":"
              "90}}]}",
              "{\"results\":[" OK(
                  "{\"has_more\":false,\"items\":[{\"machine\":\"door\",\"versions\":[1]}],\"total\":"
                  "1}") "," OK("{\"checksum\":\"d6840009\",\"definition\":" DOOR
                               ",\"machine\":\"door\",\"version\":1}") "," OK("{\"has_more\":false,\"instances\":[],"
                                                                              "\"total\":0}") "],\"wal_offset\":#}");
}

/* A batch whose answer would be too large: the item that no room is left for is not done. */
static void batch__answers_too_large__not_done(void **state)
{
    struct engine_driver *driver = *state;
    static const char definition[] = "{\"states\":[\"s\"],\"initial\":\"s\",\"transitions\":[{\"from\":\"s\",\"event\":"
                                     "\"E\",\"to\":\"s\"}]}";
    size_t ctx_bytes = 6u << 20;
    char *params = malloc(ctx_bytes + 256);
    size_t len;

    assert_non_null(params);
    put_machine(driver, "loop", 1, definition);
    len = (size_t)snprintf(params, ctx_bytes + 256,
                           "{\"machine\":\"loop\",\"version\":1,\"instance_id\":\"i\",\"initial_ctx\":{\"x\":\"");
    memset(params + len, 'x', ctx_bytes);
    memcpy(params + len + ctx_bytes, "\"}}", 4);
    run_ok(driver, "machine.create_instance", params);
    free(params);

    expect_fail(driver, BATCH,
                "{\"mode\":\"atomic\",\"ops\":[" EVENT("i", "E") "," EVENT("i", "E") "," EVENT("i", "E") "]}",
                KT_BAD_REQUEST,
                "batch failed at operation 2: the answer of the batch would be larger than 15728640 "
                "bytes",
                "{\"code\":\"BAD_REQUEST\",\"index\":2,\"message\":\"the answer of the batch would be larger than "
                "15728640 bytes\"}");
    run_ok(driver, BATCH,
           "{\"ops\":[" EVENT("i", "E") "," EVENT("i", "E") ",{\"op\":\"APPLY_EVENT\",\"params\":{\"instance_id\":"
                                                            "\"i\",\"event\":\"E\",\"event_id\":\"third\"}}," CREATE(
                                                                "after") "]}");
    assert_true(driver->reply.body.len > 2 * ctx_bytes);
    assert_true(driver->reply.body.len < 2 * ctx_bytes + 4096);
    run_ok(driver, "machine.get_instance", "{\"instance_id\":\"after\"}");
    run_ok(driver, "machine.get_instance", "{\"instance_id\":\"i\"}");
    kt_buf_append_u8(&driver->reply.body, '\0');
    assert_null(strstr((char *)driver->reply.body.data, "third"));
}

/* Bytes that prepare did not write are refused, whole. */
static void batch__damaged_entry__refused(void **state)
{
    struct engine_driver *driver = *state;
    struct kt_error error;
    uint64_t hash;
    size_t len;

    run_ok(driver, BATCH, "{\"ops\":[" CREATE("a") "]}");
    hash = kt_state_applied(driver->state).hash;
    len = driver->op.len;
    driver->op.data[KT_OP_HEADER_BYTES + 3] ^= 0x40; /* the code of the only item */
    assert_int_equal(engine_driver_apply(driver, kt_slice(driver->op.data, len), &error), KT_OK);
    assert_int_equal(driver->reply.code, KT_BAD_REQUEST);
    assert_string_equal(driver->reply.text, "damaged batch");
    assert_true(kt_state_applied(driver->state).hash == hash);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, door_setup, machine_teardown)
    const struct CMUnitTest tests[] = {
        TEST(batch__best_effort__each_for_itself),
        TEST(batch__atomic__one_entry),
        TEST(batch__atomic_fails__leaves_nothing),
        TEST(batch__own_key_repeated__first_answer),
        TEST(batch__item_keys__shared_with_single_operations),
        TEST(batch__same_key_twice__applied_once),
        TEST(batch__bad_parameters__refused_in_its_place),
        TEST(batch__wrongly_built__refused),
        TEST(batch__sizes__hundred_and_no_more),
        TEST(batch__lists__bounded),
        TEST(batch__answers_too_large__not_done),
        TEST(batch__damaged_entry__refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
