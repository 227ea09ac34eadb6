#include "workload.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engines/kv/kv.h"
#include "engines/registry.h"
#include "wire/json.h"

#define BINARY 11u /* type of an encoded value: u32 length, bytes */

static const struct kt_command *command_of(const char *name, size_t *engine)
{
    const struct kt_command *command = kt_command_by_name(name, engine);
    KT_CHECK(command);
    return command;
}

static void prepare(struct kt_state *state, const char *name, const void *params, struct kt_arena *arena,
                    struct kt_buf *op)
{
    size_t engine;
    const struct kt_command *command = command_of(name, &engine);
    struct kt_call call = {.state = kt_state_engine(state, engine), .arena = arena};
    struct kt_reply reply;
    kt_reply_init(&reply);
    enum kt_code code = command->prepare(&call, params, op, &reply);
    if (code != KT_OK)
        fprintf(stderr, "%s is not prepared: %s\n", name, reply.text);
    KT_CHECK(code == KT_OK);
    kt_reply_release(&reply);
}

static void *params_of(const char *name, const char *json, struct kt_arena *arena)
{
    size_t engine;
    const struct kt_command *command = command_of(name, &engine);
    struct kt_json *tree;
    struct kt_error error;
    void *params = kt_arena_zalloc(arena, command->params.size);
    KT_CHECK(kt_json_parse_in(arena, kt_slice_text(json), &tree, &error) == KT_OK);
    KT_CHECK(kt_struct_from_json(&command->params, tree, arena, params, &error) == KT_OK);
    return params;
}

static void prepare_json(struct kt_state *state, const char *name, const char *json, struct kt_buf *op)
{
    struct kt_arena arena;
    kt_arena_init(&arena);
    prepare(state, name, params_of(name, json, &arena), &arena, op);
    kt_arena_release(&arena);
}

static void kv_params(struct kt_kv_params *params, const char *key)
{
    memset(params, 0, sizeof(*params));
    params->given = KT_KV_GIVEN_KEY;
    params->database = kt_slice_text("system");
    params->collection = kt_slice_text("kv_test");
    params->key = kt_slice_text(key);
}

void sim_make_set(struct kt_state *state, const char *key, uint64_t value, size_t padding, struct kt_buf *op)
{
    struct kt_kv_params params;
    struct kt_arena arena;
    size_t len = 8 + KT_MIN(padding, SIM_PADDING_MAX);
    kt_arena_init(&arena);
    uint8_t *bytes = kt_arena_zalloc(&arena, 5 + len);
    bytes[0] = BINARY;
    for (unsigned i = 0; i < 4; i++)
        bytes[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    for (unsigned i = 0; i < 8; i++)
        bytes[5 + i] = (uint8_t)(value >> (56 - 8 * i));
    memset(bytes + 13, (int)(value & 0xff), len - 8);
    kv_params(&params, key);
    params.given = KT_KV_GIVEN_SET;
    params.value = kt_slice(bytes, 5 + len);
    prepare(state, "kv.set", &params, &arena, op);
    kt_arena_release(&arena);
}

void sim_make_machine(struct kt_state *state, struct kt_buf *op)
{
    struct kt_buf json;
    kt_buf_init(&json, 1u << 20);
    kt_buf_append_text(&json, "{\"machine\":\"ring\",\"version\":1,\"definition\":{\"initial\":\"0\",\"states\":[");
    for (unsigned i = 0; i < SIM_RING; i++)
        kt_buf_printf(&json, "%s\"%u\"", i ? "," : "", i);
    kt_buf_append_text(&json, "],\"transitions\":[");
    for (unsigned i = 0; i < SIM_RING; i++)
        kt_buf_printf(&json, "%s{\"from\":\"%u\",\"event\":\"STEP\",\"to\":\"%u\"}", i ? "," : "", i,
                      (i + 1) % SIM_RING);
    kt_buf_append_text(&json, "]}}");
    kt_buf_append_u8(&json, 0);
    KT_CHECK(kt_buf_code(&json) == KT_OK);
    prepare_json(state, "machine.put", (const char *)json.data, op);
    kt_buf_release(&json);
}

void sim_make_counter(struct kt_state *state, const char *name, struct kt_buf *op)
{
    char json[160];
    snprintf(json, sizeof(json), "{\"machine\":\"ring\",\"version\":1,\"instance_id\":\"%s\"}", name);
    prepare_json(state, "machine.create_instance", json, op);
}

void sim_make_step(struct kt_state *state, const char *name, uint64_t number, struct kt_buf *op)
{
    char json[160];
    snprintf(json, sizeof(json), "{\"instance_id\":\"%s\",\"event\":\"STEP\",\"payload\":{\"number\":%llu}}", name,
             (unsigned long long)number);
    prepare_json(state, "machine.apply_event", json, op);
}

/* "12" -> 12 */
static bool ring_state(struct kt_slice body, const char *member, uint64_t *count)
{
    struct kt_slice value;
    if (!kt_json_member(body, kt_slice_text(member), &value) || value.len < 3 || value.len > 8)
        return false;
    char text[8] = {0};
    memcpy(text, (const char *)value.data + 1, value.len - 2);
    char *end;
    *count = strtoull(text, &end, 10);
    return *end == 0;
}

bool sim_step_count(const struct kt_reply *reply, uint64_t *count)
{
    uint64_t from;
    struct kt_slice body = kt_buf_slice(&reply->body);
    return ring_state(body, "from_state", &from) && ring_state(body, "to_state", count) &&
           *count == (from + 1) % SIM_RING;
}

static enum kt_code query(struct kt_state *state, const char *name, const void *params, struct kt_arena *arena,
                          kt_time_ms wall_ms, struct kt_reply *reply)
{
    size_t engine;
    const struct kt_command *command = command_of(name, &engine);
    struct kt_txn *txn;
    enum kt_code code = kt_txn_begin_read(kt_state_store(state), &txn);
    if (code != KT_OK)
        return code;
    struct kt_call call = {.state = kt_state_engine(state, engine),
                           .arena = arena,
                           .txn = txn,
                           .now_ms = wall_ms,
                           .index = kt_state_visible(state)};
    code = command->query(&call, params, reply);
    kt_txn_abort(txn);
    return code;
}

enum kt_code sim_look_register(struct kt_state *state, const char *key, kt_time_ms wall_ms, uint64_t *value)
{
    struct kt_kv_params params;
    struct kt_arena arena;
    struct kt_reply reply;
    *value = 0;
    kv_params(&params, key);
    kt_arena_init(&arena);
    kt_reply_init(&reply);
    enum kt_code code = query(state, "kv.get", &params, &arena, wall_ms, &reply);
    if (code == KT_OK && reply.body.len >= 13 && reply.body.data[0] == BINARY) {
        for (unsigned i = 5; i < 13; i++)
            *value = *value << 8 | reply.body.data[i];
    } else if (code == KT_OK) {
        code = KT_CORRUPT;
    }
    kt_reply_release(&reply);
    kt_arena_release(&arena);
    return code == KT_NOT_FOUND ? KT_OK : code;
}

enum kt_code sim_look_counter(struct kt_state *state, const char *name, kt_time_ms wall_ms, uint64_t *count,
                              bool *found)
{
    struct kt_arena arena;
    struct kt_reply reply;
    char json[160];
    *count = 0;
    kt_arena_init(&arena);
    kt_reply_init(&reply);
    snprintf(json, sizeof(json), "{\"instance_id\":\"%s\"}", name);
    const void *params = params_of("machine.get_instance", json, &arena);
    enum kt_code code = query(state, "machine.get_instance", params, &arena, wall_ms, &reply);
    *found = code == KT_OK;
    if (code == KT_OK && !ring_state(kt_buf_slice(&reply.body), "state", count))
        code = KT_CORRUPT;
    kt_reply_release(&reply);
    kt_arena_release(&arena);
    return code == KT_INSTANCE_NOT_FOUND ? KT_OK : code;
}
